"""What the pipeline does with a batch: inserts, tombstones, erasures, dead letters, and the agents that changed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lorestream import events
from lorestream.errors import InvalidEvent
from lorestream.events import Delete, Erase
from lorestream.identity import memory_id
from lorestream.memories import AgentKey, Memory
from lorestream.ports import NewRecord
from lorestream.wiring import Runtime
from stream_workers.indexing.pipeline import Applied
from tests.parts import AGENT, Faulty, everything, open_parts, pipeline_over, put, records, texts

DELETED = b'{"op":"delete","tenant":"t","agent_id":"a","memory_id":"m","accepted_at":1}'


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_parts(tmp_path) as opened:
        yield opened


async def apply(runtime: Runtime, *envelopes: Any, store: Any = None) -> Applied:
    pipeline = pipeline_over(runtime, store)
    return await pipeline.apply(await pipeline.prepare(records(*envelopes)))


def delete(event_id: str = "e1", agent: str = "a") -> Delete:
    return Delete("default", agent, memory_id("default", "s", agent, event_id), 2000.0)


def erase(*subjects: str, at: float, kind: str = "agent") -> Erase:
    return Erase("default", f"erasure-{at}", kind, subjects, at)  # type: ignore[arg-type]


async def test_a_put_becomes_a_memory_with_all_of_its_fields(runtime: Runtime) -> None:
    await apply(
        runtime,
        put(
            "I sold wood",
            type="trade",
            data={"item": "wood", "price": 3},
            metadata={"price": 4, "outcome": "success"},
            pos={"x": 1.0, "z": -2.5},
            tick=77.0,
            importance=8.0,
            player="k1:ab",
            timestamp=900.0,
        ),
    )
    [memory] = await everything(runtime, "a")
    assert memory.text == "I sold wood"
    assert memory.metadata == {"item": "wood", "price": 4, "outcome": "success"}
    assert memory.pos == {"x": 1.0, "z": -2.5}
    assert (memory.tick, memory.importance, memory.player, memory.server) == (77.0, 8.0, "k1:ab", "s")
    assert (memory.timestamp, memory.accepted_at, memory.expires_at) == (900.0, 1000.0, None)
    assert memory.truncated is False


async def test_an_event_without_text_is_narrated(runtime: Runtime) -> None:
    await apply(
        runtime,
        put(type="dig", data={"node": "default:pine_tree"}, player="k1:ab"),
        put(type="dig", data={"node": "default:stone"}, event_id="e2"),
    )
    assert await texts(runtime) == ["a player dug pine tree", "dug stone"]


async def test_a_value_that_names_the_player_is_not_narrated(runtime: Runtime) -> None:
    await apply(
        runtime,
        put(type="punch", data={"target": "Sam"}, player="k1:ab", naming=["target"]),
        put(type="death", data={"reason": "punch", "source": "Sam"}, event_id="e2", naming=["source"]),
    )
    assert await texts(runtime) == ["a player punched a player", "died by punch from a player"]
    assert {
        memory.metadata.get("target", memory.metadata.get("source")) for memory in await everything(runtime)
    } == {"Sam"}


async def test_a_text_beyond_the_models_limit_is_kept_and_marked_as_truncated(runtime: Runtime) -> None:
    long = "tree " * 400
    await apply(runtime, put(long))
    [memory] = await everything(runtime, "a")
    assert memory.text == long
    assert memory.truncated is True


async def test_the_first_content_of_an_id_stays(runtime: Runtime) -> None:
    await apply(runtime, put("first"), put("second"))
    await apply(runtime, put("third"))
    assert await texts(runtime) == ["first"]


async def test_a_deleted_id_stays_deleted_in_any_order_of_arrival(runtime: Runtime) -> None:
    await apply(runtime, delete(), put("too late"))
    await apply(runtime, put("later still"))
    await apply(runtime, put("other", event_id="e2"))
    await apply(runtime, delete("e2"))
    assert await texts(runtime) == []


async def test_an_erasure_covers_what_was_accepted_before_it_even_if_it_arrives_later(
    runtime: Runtime,
) -> None:
    await apply(runtime, put("old"), put("of another agent", agent="b", event_id="e9"))
    erased = await apply(runtime, erase("a", at=1500.0), put("late", event_id="e2", at=1400.0))
    await apply(runtime, put("later", event_id="e3", at=1500.0), put("a new life", event_id="e4", at=1500.1))
    assert await texts(runtime) == ["a new life", "of another agent"]
    for done in (False, True):
        state = await runtime.ledger.state("erasure-1500.0")
        assert state is not None
        assert state.done is done
        await pipeline_over(runtime).finish(erased)


async def test_erasing_a_player_removes_their_memories_of_any_agent_and_their_agents(
    runtime: Runtime,
) -> None:
    await apply(
        runtime,
        put("theirs", player="k1:ab"),
        put("their agent", agent="player:k1:ab", agent_player="k1:ab", event_id="e2"),
        put("by the older key", player="k0:cd", event_id="e3"),
        put("of somebody else", player="k1:ef", event_id="e4"),
    )
    await apply(runtime, erase("k1:ab", "k0:cd", at=1500.0, kind="player"))
    assert await texts(runtime) == ["of somebody else"]


async def test_while_the_clock_is_wrong_no_event_is_left_out_as_expired(runtime: Runtime) -> None:
    """A worker whose clock was 70 days ahead for 9 s took new memories for expired, and they were lost."""
    now = runtime.clock.now()
    ahead = type("Clock", (), {"now": lambda _: now + 70 * 86_400})()
    for is_right in (True, False):
        pipeline = dataclasses.replace(pipeline_over(runtime), clock=ahead, is_clock_right=lambda: is_right)  # noqa: B023 (called before the next round)
        lasting = put("kept for a month", at=now, expires_at=now + 30 * 86_400)
        await pipeline.apply(await pipeline.prepare(records(lasting)))
        assert await texts(runtime, "a") == ([] if is_right else ["kept for a month"])


async def test_an_event_that_expired_on_its_way_is_not_stored(runtime: Runtime) -> None:
    now = runtime.clock.now()
    await apply(runtime, put("gone", expires_at=now - 1), put("here", event_id="e2", expires_at=now + 60))
    assert await texts(runtime) == ["here"]


UNDECODABLE = [
    (b"", {"schema": b"1"}, "empty"),
    (b"not json", {"schema": b"1"}, "undecodable"),
    (b"\xff\xfe", {"schema": b"1"}, "undecodable"),
    (b'{"op":"put"}', {"schema": b"1"}, "undecodable"),
    (b'{"op":5,"tenant":"default"}', {"schema": b"1"}, "undecodable"),
    (b"[" * 100_000, {"schema": b"1"}, "undecodable"),
    (b"[" * 2_000_000, {"schema": b"1"}, "too_large"),
    (DELETED, {"schema": b"99"}, "unknown_schema"),
    (DELETED, {}, "unknown_schema"),
    (DELETED, {"schema": b"1"}, "wrong_key"),
]


async def test_an_undecodable_record_becomes_a_dead_letter_and_the_others_are_stored(
    runtime: Runtime,
) -> None:
    for number, (value, headers, reason) in enumerate(UNDECODABLE):
        before, after = (put(f"{n}", event_id=f"{n}") for n in (2 * number, 2 * number + 1))
        applied = await apply(runtime, before, NewRecord(b"k", value, headers), after)
        [dead_letter] = applied.dead_letters
        record = dead_letter.record
        assert (record.offset, record.value, dead_letter.reason) == (1, value, reason)
        assert dead_letter.error
        assert {before.text, after.text} <= set(await texts(runtime))


async def test_an_operation_of_a_newer_version_is_skipped_counted_and_logged_once(runtime: Runtime) -> None:
    newer = NewRecord(b"k", b'{"op":"unheard","tenant":"default","to":1.5}', {"schema": b"1"})
    with structlog.testing.capture_logs() as lines:
        for number in range(3):
            applied = await apply(runtime, newer, put(f"good {number}", event_id=str(number)))
            assert not applied.dead_letters
    assert await texts(runtime) == ["good 0", "good 1", "good 2"]
    registry, labels = runtime.metrics.registry, {"reason": "unknown_op"}
    assert registry.get_sample_value("lorestream_skipped_records_total", labels) == 3
    [line] = lines
    assert line["log_level"] == "warning"
    assert "'unheard'" in line["error"]


async def test_memories_that_the_store_refuses_are_found_by_halving(runtime: Runtime) -> None:
    def refuse(memories: Sequence[Memory], _vectors: object, **_how: bool) -> None:
        if any("bad" in memory.text for memory in memories):
            raise InvalidEvent("the store cannot hold this")

    arrived = [put(f"{'bad' if n in {3, 11} else 'good'} {n:02}", event_id=str(n)) for n in range(16)]
    applied = await apply(runtime, *arrived, store=Faulty(runtime.store, insert=refuse))
    assert {dead_letter.record.offset for dead_letter in applied.dead_letters} == {3, 11}
    assert {dead_letter.reason for dead_letter in applied.dead_letters} == {"refused_by_store"}
    assert len(applied.memories) == 14
    assert await texts(runtime) == sorted(f"good {n:02}" for n in range(16) if n not in {3, 11})


@pytest.mark.parametrize(
    ("envelope", "changed"),
    [
        (put("more", event_id="e2"), frozenset([AGENT])),
        (delete(), frozenset([AGENT])),
        (erase("a", at=1500.0), frozenset([AGENT])),
        (erase("k1:ab", at=1500.0, kind="player"), None),
    ],
    ids=["put", "delete", "erase", "erase player"],
)
async def test_a_batch_applied_again_names_the_same_changed_agents(
    runtime: Runtime, envelope: events.Envelope, changed: frozenset[AgentKey] | None
) -> None:
    await apply(runtime, put("there", player="k1:ab"))
    for _ in range(2):  # the second time the store does not change
        assert (await apply(runtime, envelope)).changed_agents == changed


OPERATIONS = (
    put("one", event_id="1", at=1000.0),
    put("one again", event_id="1", at=1700.0),
    put("two", event_id="2", at=1200.0),
    delete("2"),
    put("three", event_id="3", at=1400.0),
    erase("a", at=1300.0),
    put("four", event_id="4", at=1600.0, agent="b"),
    delete("4", agent="b"),
    put("five", event_id="5", at=1250.0, player="k1:ab", agent="b"),
    erase("k1:ab", at=1260.0, kind="player"),
)


@given(
    order=st.lists(st.integers(0, len(OPERATIONS) - 1), max_size=12).flatmap(
        # every operation at least once, some twice or more, in any order
        lambda again: st.permutations([*range(len(OPERATIONS)), *again])
    ),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
)
@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_late_repeated_and_reordered_batches_lead_to_the_same_store(
    order: list[int], sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def play() -> list[str]:
        async with open_parts(tmp_path_factory.mktemp("parts")) as runtime:
            rest, turn = order, 0
            while rest:
                size = sizes[turn % len(sizes)]
                await apply(runtime, *(OPERATIONS[index] for index in rest[:size]))
                rest, turn = rest[size:], turn + 1
            return await texts(runtime)

    left = asyncio.run(play())
    # "one" and "one again" share an id; the erasure takes the first acceptance only, so which of the two is
    # left depends on who came first: either nothing of the id is left, or its later life.
    assert [text for text in left if not text.startswith("one")] == ["three"]
    assert [text for text in left if text.startswith("one")] in ([], ["one again"])


async def test_other_tasks_run_while_a_batch_is_decoded(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorestream.turns.HOLD_S", 0.0)
    batch = records(*(delete(f"e{number}") for number in range(100)))
    preparing = asyncio.create_task(pipeline_over(runtime).prepare(batch))
    turns = 0
    while not preparing.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(preparing.result().tombstones) == 100
    assert turns >= 100


async def test_the_stage_embed_is_measured_only_where_something_is_embedded(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        pipeline = pipeline_over(runtime)

        def measured() -> float | None:
            labels = {"stage": "embed"}
            return runtime.metrics.registry.get_sample_value(
                "lorestream_stage_duration_seconds_count", labels
            )

        await pipeline.prepare(records(put("", type="tool", recall=False)))
        assert not measured()
        await pipeline.prepare(records(put("iron", event_id="2")))
        assert measured() == 1
