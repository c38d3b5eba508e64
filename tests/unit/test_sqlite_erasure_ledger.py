"""The embedded erasure ledger beyond the contract: it outlives the log's records, and deletes old states."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.erasure_ledger import STATE_RETENTION_S, SqliteErasureLedger
from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.memories import Erasure, Memory, SubjectKind
from lorestream.ports import NewRecord


class SetClock:
    def __init__(self) -> None:
        self.time = 1_760_000_000.0

    def now(self) -> float:
        return self.time


def erasure(erasure_id: str, accepted_at: float) -> Erasure:
    return Erasure(erasure_id, "default", SubjectKind.AGENT, ("npc:smith",), accepted_at)


def memory(accepted_at: float) -> Memory:
    return Memory("m", "default", "npc:smith", "A sword.", accepted_at, accepted_at)


async def test_erasures_outlive_the_records_of_the_log_in_the_same_file(tmp_path: Path) -> None:
    clock = SetClock()
    async with Database.open(tmp_path / "lorestream.db") as database:
        ledger = await SqliteErasureLedger.open(database, clock=clock)
        async with SqliteLog.open(database, retention_s=60, max_bytes=0, clock=clock) as log:
            await asyncio.gather(
                ledger.add(erasure("e", clock.now())),
                *(log.append([NewRecord(b"", b"", {})]) for _ in range(9)),
            )
            clock.time += 61
            assert await log.trim() == 9
    async with Database.open(tmp_path / "lorestream.db") as database:
        ledger = await SqliteErasureLedger.open(database, clock=clock)
        assert ledger.covers(memory(clock.now() - 61))
        assert await ledger.state("e") is not None


async def test_states_of_finished_erasures_are_kept_for_a_year_and_their_subjects_for_ever(
    tmp_path: Path,
) -> None:
    clock = SetClock()
    begun = clock.now()
    async with Database.open(tmp_path / "lorestream.db") as database:
        ledger = await SqliteErasureLedger.open(database, clock=clock)
        await ledger.add(erasure("done", begun))
        await ledger.add(erasure("running", begun))
        await ledger.mark_done("done")
        clock.time = begun + STATE_RETENTION_S
        assert await ledger.trim() == 0
        clock.time += 1
        assert await ledger.trim() == 1
        assert await ledger.state("done") is None
        assert await ledger.state("running") is not None
        assert ledger.covers(memory(begun))


async def test_an_erasure_counts_even_if_its_caller_is_cancelled(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "lorestream.db") as database:
        ledger = await SqliteErasureLedger.open(database, clock=SetClock())
        adding = asyncio.ensure_future(ledger.add(erasure("e", 100.0)))
        await asyncio.sleep(0)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        # One that was added later is durable later.
        await ledger.add(Erasure("other", "default", SubjectKind.PLAYER, ("k1:aa",), 1.0))
        assert ledger.covers(memory(100.0))
