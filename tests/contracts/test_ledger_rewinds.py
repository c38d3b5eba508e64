"""Contract suite of the RewindLedger, the part of each ErasureLedger that keeps the rewinds of servers."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from lorestream.adapters.in_process.known_rewinds import KnownRewinds
from lorestream.memories import Memory
from lorestream.ports import ErasureLedger, RewindState
from lorestream.rewinds import Rewind
from tests.contracts.ledgers import MEMORY, LedgerOpener

LATE = structs.replace(MEMORY, server="survival-1")
"""Accepted at 100."""
FIRST = Rewind("r1", "default", "survival-1", 90.0, 110.0)
UNDONE = replace(FIRST, undone_at=120.0)


async def test_a_rewind_covers_its_server_after_its_time_until_its_own_acceptance(
    ledger: ErasureLedger,
) -> None:
    rewinds = ledger.rewinds
    assert not rewinds.covers(LATE)
    assert not rewinds.knows("default", "survival-1")
    await rewinds.put(FIRST)
    assert rewinds.knows("default", "survival-1")
    assert not rewinds.knows("other", "survival-1")
    for accepted_at, covered in ((90.0, False), (90.001, True), (110.0, True), (110.001, False)):
        assert rewinds.covers(structs.replace(LATE, accepted_at=accepted_at)) is covered
    assert not rewinds.covers(structs.replace(LATE, server=""))
    assert not rewinds.covers(structs.replace(LATE, tenant="other"))
    assert not ledger.covers(LATE), "nothing is erased"


async def test_an_id_can_be_given_again_while_a_rewind_hides_its_memory_whatever_comes_later(
    ledger: ErasureLedger,
) -> None:
    rewinds = ledger.rewinds

    def replaced(old_at: float, new_at: float, **fields: str) -> bool:
        old, new = (structs.replace(LATE, accepted_at=at, **fields) for at in (old_at, new_at))
        return rewinds.replaces(old, new)

    assert not replaced(100.0, 115.0)
    for change, until in ((FIRST, 1e9), (UNDONE, 120.0)):
        await rewinds.put(change)
        assert replaced(100.0, 115.0), change
        assert not replaced(100.0, 105.0), "accepted before the rewind, which hides both"
        assert not replaced(90.0, 115.0)
        assert not replaced(111.0, 115.0)
        assert not replaced(100.0, 115.0, server="")
        assert not replaced(100.0, 115.0, tenant="other")
        assert replaced(100.0, until - 1)
        assert replaced(100.0, until) is (change is FIRST)


@pytest.mark.parametrize("order", list(permutations((FIRST, UNDONE, replace(FIRST, undone_at=130.0)))))
async def test_an_undone_rewind_covers_nothing_in_any_order_of_arrival(
    ledger_opener: LedgerOpener, order: tuple[Rewind, ...]
) -> None:
    async with ledger_opener() as ledger:
        for one in order:
            await ledger.rewinds.put(one)
    for _ in range(2):
        async with ledger_opener() as ledger:
            assert not ledger.rewinds.covers(LATE)
            assert await ledger.rewinds.state("r1") == RewindState(
                replace(FIRST, undone_at=130.0), done=False
            )


async def test_only_the_last_change_of_a_rewind_can_be_done(ledger_opener: LedgerOpener) -> None:
    async with ledger_opener() as ledger:
        assert await ledger.rewinds.state("r1") is None
        await ledger.rewinds.mark_done(FIRST)
        assert await ledger.rewinds.state("r1") is None
        await ledger.rewinds.put(FIRST)
        await ledger.rewinds.mark_done(FIRST)
        await ledger.rewinds.put(FIRST)
        assert await ledger.rewinds.state("r1") == RewindState(FIRST, done=True)
        await ledger.rewinds.put(UNDONE)
        await ledger.rewinds.mark_done(FIRST)
        assert await ledger.rewinds.state("r1") == RewindState(UNDONE, done=False)
    async with ledger_opener() as ledger:
        await ledger.rewinds.mark_done(UNDONE)
    async with ledger_opener() as ledger:
        assert await ledger.rewinds.state("r1") == RewindState(UNDONE, done=True)


async def test_changes_are_returned_once_and_the_list_is_of_one_tenant(ledger: ErasureLedger) -> None:
    rewinds = ledger.rewinds
    known = len(rewinds.changed_since(0))
    second = Rewind("r2", "default", "creative", 0.0, 200.0)
    foreign = Rewind("r3", "other", "creative", 0.0, 300.0)
    for one in (FIRST, second, FIRST, UNDONE, foreign):
        await rewinds.put(one)
        await rewinds.mark_done(one)
    assert list(rewinds.changed_since(known)) == [FIRST, second, UNDONE, foreign]
    assert list(rewinds.changed_since(known + 2)) == [UNDONE, foreign]
    assert [state.rewind for state in await rewinds.states("default")] == [second, UNDONE]
    assert [state.rewind for state in await rewinds.states("nobody")] == []


times = st.integers(0, 6).map(float)
tenants, servers = st.sampled_from(["default", "other"]), st.sampled_from(["", "s"])
changes = st.builds(
    Rewind, st.sampled_from("abcd"), st.just("default"), st.just("s"), times, times, st.none() | times
)
memories = st.builds(
    Memory,
    id=st.just("m"),
    tenant=tenants,
    agent_id=st.just("a"),
    text=st.just(""),
    timestamp=times,
    accepted_at=times,
    server=servers,
)


@given(asked=st.lists(changes, max_size=8), stored=st.lists(memories, max_size=12))
def test_covers_is_true_exactly_if_one_rewind_that_counts_covers_the_memory(
    asked: list[Rewind], stored: list[Memory]
) -> None:
    known, last = KnownRewinds(), dict[str, Rewind]()
    for one in asked:
        before = last.get(one.id)
        # An id has one rewind: only its undoing changes.
        rewind = one if before is None else replace(before, undone_at=one.undone_at)
        undoings = [each.undone_at for each in (before, rewind) if each and each.undone_at is not None]
        last[one.id] = replace(rewind, undone_at=max(undoings, default=None))
        known.put(RewindState(rewind, done=False))
    assert [known.covers(one) for one in stored] == [
        any(rewind.covers(one) for rewind in last.values()) for one in stored
    ]
    assert {state.rewind for state in known.of_tenant("default")} == set(last.values())
