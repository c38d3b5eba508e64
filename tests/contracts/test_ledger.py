"""Contract suite of the ErasureLedger port, run over each adapter."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from msgspec.structs import replace as replace_struct

from lorestream import webhooks
from lorestream.adapters.kafka.erasure_ledger import KafkaErasureLedger
from lorestream.memories import AgentKey, Erasure, Memory, SubjectKind
from lorestream.ports import ErasureLedger, ErasureState
from lorestream.webhooks import Webhook
from tests.contracts.ledgers import MEMORY, LedgerOpener, kafka_ledger, sqlite_ledger

OF_SMITH = Erasure("e1", "default", SubjectKind.AGENT, ("npc:smith",), 100.0)
OF_PLAYER = Erasure("e2", "default", SubjectKind.PLAYER, ("k1:aa", "k2:bb"), 100.0)


async def test_an_empty_ledger_covers_nothing(ledger: ErasureLedger) -> None:
    assert not ledger.covers(MEMORY)


async def test_an_agents_memories_are_covered_up_to_the_erasure(ledger: ErasureLedger) -> None:
    await ledger.add(OF_SMITH)
    assert ledger.covers(structs.replace(MEMORY, accepted_at=99.0))
    assert ledger.covers(MEMORY)
    assert not ledger.covers(structs.replace(MEMORY, accepted_at=100.001))
    assert not ledger.covers(structs.replace(MEMORY, agent_id="npc:woodcutter"))
    assert not ledger.covers(structs.replace(MEMORY, tenant="other"))


async def test_a_player_is_covered_as_an_agent_and_in_the_memories_of_others(ledger: ErasureLedger) -> None:
    await ledger.add(OF_PLAYER)
    assert ledger.covers(MEMORY)
    assert ledger.covers(structs.replace(MEMORY, player="k2:bb"))
    assert ledger.covers(structs.replace(MEMORY, player=None, agent_player="k1:aa"))
    assert not ledger.covers(structs.replace(MEMORY, player=None))
    assert not ledger.covers(structs.replace(MEMORY, player="k1:cc", agent_player="k1:dd"))
    assert not ledger.covers(structs.replace(MEMORY, tenant="other"))


async def test_state_is_covered_by_its_agent_and_by_the_player_that_the_agent_is_named_after(
    ledger: ErasureLedger,
) -> None:
    smith, other = AgentKey("default", "npc:smith"), AgentKey("default", "npc:other")
    assert not ledger.covers_state(smith, "k1:aa", 0.0)
    await ledger.add(OF_SMITH)
    assert ledger.covers_state(smith, None, 100.0)
    assert not ledger.covers_state(smith, None, 100.001)
    assert not ledger.covers_state(other, "k1:aa", 100.0)
    assert not ledger.covers_state(AgentKey("other", "npc:smith"), None, 100.0)
    await ledger.add(OF_PLAYER)
    assert ledger.covers_state(other, "k2:bb", 100.0)
    assert not ledger.covers_state(other, "k2:bb", 100.001)
    assert not ledger.covers_state(other, None, 100.0)


async def test_agents_and_players_with_the_same_name_are_separate(ledger: ErasureLedger) -> None:
    await ledger.add(replace(OF_SMITH, subjects=("k1:aa",)))
    assert not ledger.covers(MEMORY)
    await ledger.add(replace(OF_PLAYER, subjects=("npc:smith",)))
    assert not ledger.covers(MEMORY)


@pytest.mark.parametrize("order", list(permutations((80.0, 100.0, 90.0))))
async def test_the_newest_erasure_applies_in_any_order_of_arrival(
    ledger_opener: LedgerOpener, order: tuple[float]
) -> None:
    async with ledger_opener() as ledger:
        for accepted_at in order:
            await ledger.add(replace(OF_SMITH, id=f"e{accepted_at}", accepted_at=accepted_at))
        assert ledger.covers(MEMORY)
        assert not ledger.covers(structs.replace(MEMORY, accepted_at=101.0))

    async with ledger_opener() as ledger:
        assert ledger.covers(MEMORY)
        assert not ledger.covers(structs.replace(MEMORY, accepted_at=101.0))


async def test_an_erasure_is_running_until_it_is_done_and_stays_done(ledger_opener: LedgerOpener) -> None:
    async with ledger_opener() as ledger:
        assert await ledger.state("e2") is None
        await ledger.add(OF_PLAYER)
        assert await ledger.state("e2") == ErasureState(OF_PLAYER, done=False)
        assert await ledger.state("e1") is None

    async with ledger_opener() as ledger:
        assert await ledger.state("e2") == ErasureState(OF_PLAYER, done=False)
        await ledger.mark_done("e2")
        await ledger.mark_done("e2")
        await ledger.add(OF_PLAYER)
        assert await ledger.state("e2") == ErasureState(OF_PLAYER, done=True)

    async with ledger_opener() as ledger:
        assert await ledger.state("e2") == ErasureState(OF_PLAYER, done=True)
        assert ledger.covers(MEMORY)


async def test_an_older_erasure_of_the_same_subject_has_its_own_state(ledger: ErasureLedger) -> None:
    older = replace(OF_SMITH, id="e0", accepted_at=50.0)
    await ledger.add(OF_SMITH)
    await ledger.add(older)
    await ledger.mark_done("e0")
    assert await ledger.state("e0") == ErasureState(older, done=True)
    assert await ledger.state("e1") == ErasureState(OF_SMITH, done=False)


async def test_the_newest_erasures_of_a_tenant_are_listed_by_acceptance(ledger_opener: LedgerOpener) -> None:
    older, other = replace(OF_SMITH, id="e0", accepted_at=50.0), replace(OF_SMITH, id="e3", tenant="other")
    async with ledger_opener() as ledger:
        for each in (OF_SMITH, older, OF_PLAYER, other):
            await ledger.add(each)
        await ledger.mark_done("e0")

    async with ledger_opener() as ledger:  # also those from before it was opened
        found = [ErasureState(OF_PLAYER, done=False), ErasureState(OF_SMITH, done=False)]
        assert list(await ledger.newest("default", 2)) == found
        assert list(await ledger.newest("default", 10)) == [*found, ErasureState(older, done=True)]
        assert list(await ledger.newest("nobody", 10)) == []


async def test_an_unknown_erasure_is_never_done(ledger: ErasureLedger) -> None:
    await ledger.mark_done("nobody asked")
    assert await ledger.state("nobody asked") is None


names = st.sampled_from(["a", "b", "c"])
times = st.integers(0, 5).map(float)
tenants = st.sampled_from(["default", "other"])
erasures = st.builds(
    Erasure,
    id=st.uuids().map(str),
    tenant=tenants,
    kind=st.sampled_from(SubjectKind),
    subjects=st.lists(names, min_size=1, max_size=2, unique=True).map(tuple),
    accepted_at=times,
)
memories = st.builds(
    Memory,
    id=st.just("m"),
    tenant=tenants,
    agent_id=names,
    text=st.just(""),
    timestamp=times,
    accepted_at=times,
    player=st.none() | names,
    agent_player=st.none() | names,
)


requested = st.lists(erasures, max_size=6)
stored = st.lists(memories, max_size=20)


@settings(max_examples=50)
@given(requested=requested, stored=stored)
async def test_covers_is_true_exactly_if_one_erasure_covers_the_memory(
    tmp_path_factory: pytest.TempPathFactory, requested: list[Erasure], stored: list[Memory]
) -> None:
    await check_covers(sqlite_ledger(tmp_path_factory.mktemp("ledger")), requested, stored)


@settings(max_examples=5)
@given(requested=requested, stored=stored)
async def test_covers_is_true_exactly_if_one_erasure_covers_the_memory_in_kafka(
    kafka: Any, requested: list[Erasure], stored: list[Memory]
) -> None:
    await check_covers(kafka_ledger(kafka.bootstrap, f"t{uuid4().hex}"), requested, stored)


async def check_covers(ledger_opener: LedgerOpener, requested: list[Erasure], stored: list[Memory]) -> None:
    expected = [any(erasure.covers(memory) for erasure in requested) for memory in stored]
    async with ledger_opener() as ledger:
        for erasure in requested:
            await ledger.add(erasure)
        assert [ledger.covers(memory) for memory in stored] == expected
    async with ledger_opener() as ledger:
        assert [ledger.covers(memory) for memory in stored] == expected


async def test_added_since_returns_each_erasure_once_and_in_order(ledger: ErasureLedger) -> None:
    known = len(ledger.added_since(0))
    first, second = (Erasure(f"e{n}", "default", SubjectKind.AGENT, (f"npc:{n}",), 100.0 + n) for n in (1, 2))
    await ledger.add(first)
    await ledger.add(second)
    await ledger.add(first)
    await ledger.mark_done("e1")
    assert list(ledger.added_since(known)) == [first, second]
    assert list(ledger.added_since(known + 1)) == [second]
    assert list(ledger.added_since(known + 2)) == []


async def test_the_fingerprint_of_a_key_for_player_names_is_kept_and_never_replaced(
    ledger_opener: LedgerOpener,
) -> None:
    async with ledger_opener() as ledger:
        assert await ledger.player_keys({}) == {}
        assert await ledger.player_keys({"k1": "aa"}) == {"k1": "aa"}
    async with ledger_opener() as ledger:
        await ledger.add(OF_PLAYER)
        assert await ledger.player_keys({"k2": "bb"}) == {"k1": "aa", "k2": "bb"}
        assert await ledger.player_keys({}) == {"k1": "aa", "k2": "bb"}
    async with ledger_opener() as ledger:
        assert await ledger.player_keys({}) == {"k1": "aa", "k2": "bb"}
        assert ledger.covers(MEMORY)


async def test_the_last_entry_of_a_webhook_and_of_its_progress_counts_also_after_opening_again(
    ledger_opener: LedgerOpener,
) -> None:
    webhook = Webhook("w", "default", "https://example.com/", "secret", 10.0, (3,), types=("chat",))
    first = webhooks.WebhookProgress("w", "default", (4,), delivered=1)
    async with (
        ledger_opener() as ledger,
        ledger_opener() if isinstance(ledger, KafkaErasureLedger) else nullcontext(ledger) as other,
    ):
        await ledger.webhooks.put(webhook)
        await ledger.webhooks.put(replace_struct(webhook, id="other", tenant="b"))
        await ledger.webhooks.note(first)
        await ledger.webhooks.note(replace_struct(first, position=(9,), failed=True))
        [state] = await other.webhooks.of_tenant("default")
        assert (state.webhook, state.position, state.failed) == (webhook, (9,), True)
    async with ledger_opener() as ledger:
        assert sorted(state.webhook.id for state in ledger.webhooks.all()) == ["other", "w"]
        resumed = replace_struct(webhook, resumes=1)
        await ledger.webhooks.put(resumed)
        [state] = await ledger.webhooks.of_tenant("default")
        assert (state.webhook, state.position, state.failed) == (resumed, (9,), False)
        await ledger.webhooks.put(replace_struct(webhook, removed=True))
        assert await ledger.webhooks.of_tenant("default") == []
        await ledger.webhooks.note(replace_struct(first, position=(10,)))  # its sender has not stopped yet
        assert not [one for one in vars(ledger.webhooks._known).values() if "w" in one]
    async with ledger_opener() as ledger:
        assert not [one for one in vars(ledger.webhooks._known).values() if "w" in one]
        assert [state.webhook.id for state in ledger.webhooks.all()] == ["other"]
