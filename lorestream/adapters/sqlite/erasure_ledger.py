"""The embedded erasure ledger: two tables beside the log, which outlive its records, and a dictionary."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Self

import msgspec

from lorestream.adapters.in_process.erased_subjects import ErasedSubjects
from lorestream.memories import Erasure, SubjectKind
from lorestream.ports import ErasureState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from lorestream.adapters.in_process.erased_subjects import Subject
    from lorestream.adapters.sqlite.database import Database
    from lorestream.memories import Memory
    from lorestream.ports import Clock

STATE_RETENTION_S = 365 * 86_400.0
"""How long a finished erasure can be asked for by its id. What it covers is kept for ever."""

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS erased_subjects (
        tenant TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, accepted_at REAL NOT NULL,
        PRIMARY KEY (tenant, kind, subject)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS erasures (
        id TEXT PRIMARY KEY, tenant TEXT NOT NULL, kind TEXT NOT NULL, subjects BLOB NOT NULL,
        accepted_at REAL NOT NULL, done INTEGER NOT NULL) WITHOUT ROWID""",
)

_subjects = msgspec.json.Decoder(tuple[str, ...])


class SqliteErasureLedger:
    """An ErasureLedger. Holds the newest erasure of every subject in memory."""

    def __init__(self, database: Database, *, clock: Clock, erased: ErasedSubjects) -> None:
        self._database = database
        self._clock = clock
        self._erased = erased

    @classmethod
    async def open(cls, database: Database, *, clock: Clock) -> Self:
        """The ledger in `database`, which may be the log's too. Raises Unavailable."""
        return cls(database, clock=clock, erased=ErasedSubjects(await database.write(_load)))

    async def add(self, erasure: Erasure) -> None:
        """Remember it durably, as running. Adding it again changes nothing. Raises Unavailable."""
        written = self._database.submit(partial(_insert, erasure=erasure))
        # By callback: what is durable counts even when the caller is cancelled meanwhile.
        written.add_done_callback(partial(self._remember, erasure))
        await asyncio.shield(written)

    def covers(self, memory: Memory) -> bool:
        """Whether any erasure takes this memory."""
        return self._erased.covers(memory)

    def added_since(self, since: int) -> Sequence[Erasure]:
        """The erasures that were added since the ledger was opened, in that order, without the first `since`."""
        return self._erased.added_since(since)

    async def mark_done(self, erasure_id: str) -> None:
        """Note, durably, that what it takes has gone. Raises Unavailable."""
        await self._database.write(partial(_mark_done, erasure_id=erasure_id))

    async def state(self, erasure_id: str) -> ErasureState | None:
        """The erasure of that id, or None. Raises Unavailable."""
        return await self._database.read(partial(_state, erasure_id=erasure_id))

    async def trim(self) -> int:
        """Forget the ids of erasures that were done and are older than a year; return how many. Raises Unavailable."""
        return await self._database.write(partial(_trim, before=self._clock.now() - STATE_RETENTION_S))

    def _remember(self, erasure: Erasure, written: asyncio.Future[None]) -> None:
        if written.cancelled() or written.exception() is not None:
            return
        self._erased.add(erasure)


def _load(connection: sqlite3.Connection) -> dict[Subject, float]:
    for statement in _SCHEMA:
        connection.execute(statement)
    rows = connection.execute("SELECT tenant, kind, subject, accepted_at FROM erased_subjects")
    return {(tenant, kind, subject): accepted_at for tenant, kind, subject, accepted_at in rows}


def _insert(connection: sqlite3.Connection, erasure: Erasure) -> None:
    tenant, kind, accepted_at = erasure.tenant, erasure.kind.value, erasure.accepted_at
    connection.execute(
        "INSERT OR IGNORE INTO erasures VALUES (?, ?, ?, ?, ?, 0)",
        (erasure.id, tenant, kind, msgspec.json.encode(erasure.subjects), accepted_at),
    )
    connection.executemany(
        "INSERT INTO erased_subjects VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET accepted_at = max(accepted_at, excluded.accepted_at)",
        [(tenant, kind, subject, accepted_at) for subject in erasure.subjects],
    )


def _mark_done(connection: sqlite3.Connection, erasure_id: str) -> None:
    connection.execute("UPDATE erasures SET done = 1 WHERE id = ?", (erasure_id,))


def _state(connection: sqlite3.Connection, erasure_id: str) -> ErasureState | None:
    row = connection.execute(
        "SELECT tenant, kind, subjects, accepted_at, done FROM erasures WHERE id = ?", (erasure_id,)
    ).fetchone()
    if row is None:
        return None
    tenant, kind, subjects, accepted_at, done = row
    erasure = Erasure(erasure_id, tenant, SubjectKind(kind), _subjects.decode(subjects), accepted_at)
    return ErasureState(erasure, done=bool(done))


def _trim(connection: sqlite3.Connection, before: float) -> int:
    return connection.execute("DELETE FROM erasures WHERE done AND accepted_at < ?", (before,)).rowcount
