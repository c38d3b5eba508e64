"""The embedded rewind ledger: a table beside that of the erasures, and all of its rows in memory."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Self

from lorestream.adapters.in_process.known_rewinds import KnownRewinds, merged
from lorestream.ports import RewindState
from lorestream.rewinds import Rewind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from lorestream.adapters.sqlite.database import Database
    from lorestream.memories import Memory

_COLUMNS = "id, tenant, server, since, accepted_at, undone_at, done"


class SqliteRewinds:
    """A RewindLedger (lorestream.ports.rewinds)."""

    def __init__(self, database: Database, known: KnownRewinds) -> None:
        self._database = database
        self._known = known

    @classmethod
    async def open(cls, database: Database) -> Self:
        """The rewinds in `database`. Raises Unavailable."""
        return cls(database, KnownRewinds(await database.read(rewinds)))

    async def put(self, rewind: Rewind) -> None:
        """Store a rewind, or its undoing, durably. Raises Unavailable."""
        await self._write(RewindState(rewind, done=False))

    def covers(self, memory: Memory) -> bool:
        """Whether any rewind hides this memory."""
        return self._known.covers(memory)

    def knows(self, tenant: str, server: str) -> bool:
        """Whether that server was ever rewound."""
        return self._known.knows(tenant, server)

    def changed_since(self, since: int) -> Sequence[Rewind]:
        """The changes after the ledger was opened, in order, without the first `since` of them."""
        return self._known.changed_since(since)

    async def mark_done(self, rewind: Rewind) -> None:
        """Note durably that this change was applied. Raises Unavailable."""
        state = self._known.get(rewind.id)
        if state is not None and state.rewind == rewind:
            await self._write(RewindState(rewind, done=True))

    async def state(self, rewind_id: str) -> RewindState | None:
        """The rewind of that id, or None."""
        return self._known.get(rewind_id)

    async def states(self, tenant: str) -> Sequence[RewindState]:
        """All rewinds of a tenant, the newest first."""
        return self._known.of_tenant(tenant)

    async def _write(self, state: RewindState) -> None:
        written = self._database.submit(partial(_store, state=state))
        # In a callback: what is durable must count even when the caller is cancelled meanwhile.
        written.add_done_callback(self._remember)
        await asyncio.shield(written)

    def _remember(self, written: asyncio.Future[RewindState]) -> None:
        if not written.cancelled() and written.exception() is None:
            self._known.put(written.result())


def rewinds(connection: sqlite3.Connection) -> list[RewindState]:
    """All rewinds in a database of the present schema."""
    return [_state(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM rewinds")]  # noqa: S608 (a constant)


def _store(connection: sqlite3.Connection, state: RewindState) -> RewindState:
    """Merge the state with what is stored; return the result."""
    rewind = state.rewind
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM rewinds WHERE id = ?",  # noqa: S608 (a constant)
        (rewind.id,),
    ).fetchone()
    after = merged(None if row is None else _state(row), state)
    one = after.rewind
    connection.execute(
        "INSERT OR REPLACE INTO rewinds VALUES (?, ?, ?, ?, ?, ?, ?)",
        (one.id, one.tenant, one.server, one.to, one.accepted_at, one.undone_at, after.done),
    )
    return after


def _state(row: tuple[str, str, str, float, float, float | None, int]) -> RewindState:
    id_, tenant, server, to, accepted_at, undone_at, done = row
    return RewindState(Rewind(id_, tenant, server, to, accepted_at, undone_at), done=bool(done))
