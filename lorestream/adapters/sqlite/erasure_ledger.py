"""The embedded erasure ledger: tables beside the log, which outlive the log's records, and a dictionary."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Self

import msgspec

from lorestream.adapters.in_process.erased_subjects import ErasedSubjects
from lorestream.adapters.sqlite.rewind_ledger import SqliteRewinds
from lorestream.adapters.sqlite.webhooks import SqliteWebhooks
from lorestream.memories import AgentKey, Erasure, SubjectKind
from lorestream.ports import ErasureState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from lorestream.adapters.in_process.erased_subjects import Subject
    from lorestream.adapters.sqlite.database import Database
    from lorestream.memories import Memory
    from lorestream.ports import Clock

STATE_RETENTION_S = 365 * 86_400.0
"""How long the state of a finished erasure is kept. Its subjects are kept for ever."""

_subjects = msgspec.json.Decoder(tuple[str, ...])


class SqliteErasureLedger:
    """An ErasureLedger that holds the newest erasure of every subject in memory."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        erased: ErasedSubjects,
        rewinds: SqliteRewinds,
        webhooks: SqliteWebhooks,
    ) -> None:
        self._database = database
        self._clock = clock
        self._erased = erased
        self.rewinds = rewinds
        self.webhooks = webhooks

    @classmethod
    async def open(cls, database: Database, *, clock: Clock) -> Self:
        """The ledger in `database`, which the log may share. Raises Unavailable."""
        erased, rewinds = ErasedSubjects(await database.read(_load)), await SqliteRewinds.open(database)
        webhooks = await SqliteWebhooks.open(database)
        return cls(database, clock=clock, erased=erased, rewinds=rewinds, webhooks=webhooks)

    async def add(self, erasure: Erasure) -> None:
        """Store the erasure durably, as running. Adding it again changes nothing. Raises Unavailable."""
        written = self._database.submit(partial(_insert, erasure=erasure))
        # In a callback: what is durable must count even when the caller is cancelled meanwhile.
        written.add_done_callback(partial(self._remember, erasure))
        await asyncio.shield(written)

    def covers(self, memory: Memory) -> bool:
        """Whether an erasure covers this memory."""
        return self._erased.covers(memory)

    def strip(self, memory: Memory) -> Memory:
        """What stays of a memory that no erasure covers. In memory; never blocks."""
        return self._erased.strip(memory)

    def covers_state(self, agent: AgentKey, player: str | None, since: float) -> bool:
        """Whether an erasure covers state of this agent. In memory; never blocks."""
        return self._erased.covers_state(agent, player, since)

    def added_since(self, since: int) -> Sequence[Erasure]:
        """The erasures that were added after the ledger was opened, in order, without the first `since` of them."""
        return self._erased.added_since(since)

    async def mark_done(self, erasure_id: str) -> None:
        """Note durably that everything the erasure covers is removed. Raises Unavailable."""
        await self._database.write(partial(_mark_done, erasure_id=erasure_id))

    async def state(self, erasure_id: str) -> ErasureState | None:
        """The erasure of that id and whether it is done, or None. Raises Unavailable."""
        return await self._database.read(partial(_state, erasure_id=erasure_id))

    async def newest(self, tenant: str, limit: int) -> Sequence[ErasureState]:
        """The tenant's `limit` newest erasures, the newest first. Raises Unavailable."""
        return await self._database.read(partial(_newest, tenant=tenant, limit=limit))

    async def player_keys(self, new: Mapping[str, str]) -> Mapping[str, str]:
        """The fingerprints of the keys for player names, after adding those of unknown key ids. Raises Unavailable."""
        return await self._database.write(partial(_player_keys, new=new))

    async def trim(self) -> int:
        """Delete the states of finished erasures older than a year; return how many. Raises Unavailable."""
        return await self._database.write(partial(_trim, before=self._clock.now() - STATE_RETENTION_S))

    def _remember(self, erasure: Erasure, written: asyncio.Future[None]) -> None:
        if written.cancelled() or written.exception() is not None:
            return
        self._erased.add(erasure)


def _load(connection: sqlite3.Connection) -> dict[Subject, float]:
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


def _newest(connection: sqlite3.Connection, tenant: str, limit: int) -> list[ErasureState]:
    rows = connection.execute(
        "SELECT id, kind, subjects, accepted_at, done FROM erasures WHERE tenant = ?"
        " ORDER BY accepted_at DESC, id DESC LIMIT ?",
        (tenant, limit),
    )
    return [
        ErasureState(
            Erasure(erasure_id, tenant, SubjectKind(kind), _subjects.decode(subjects), accepted_at),
            done=bool(done),
        )
        for erasure_id, kind, subjects, accepted_at, done in rows
    ]


def _player_keys(connection: sqlite3.Connection, new: Mapping[str, str]) -> dict[str, str]:
    connection.executemany("INSERT OR IGNORE INTO player_keys VALUES (?, ?)", new.items())
    return dict(connection.execute("SELECT kid, fingerprint FROM player_keys"))


def _trim(connection: sqlite3.Connection, before: float) -> int:
    return connection.execute("DELETE FROM erasures WHERE done AND accepted_at < ?", (before,)).rowcount
