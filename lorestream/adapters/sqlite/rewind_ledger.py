"""The embedded rewind ledger: a table beside that of the erasures, and all of its rows in memory."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Self

from lorestream.adapters.in_process.known_rewinds import KnownRewinds, RewindsInMemory, merged
from lorestream.ports import RewindState
from lorestream.rewinds import Rewind

if TYPE_CHECKING:
    import sqlite3

    from lorestream.adapters.sqlite.database import Database

_COLUMNS = "id, tenant, server, since, accepted_at, undone_at, done"


class SqliteRewinds(RewindsInMemory):
    """A RewindLedger (lorestream.ports.rewinds)."""

    def __init__(self, database: Database, known: KnownRewinds) -> None:
        super().__init__(known)
        self._database = database

    @classmethod
    async def open(cls, database: Database) -> Self:
        """The rewinds in `database`. Raises Unavailable."""
        return cls(database, KnownRewinds(await database.read(rewinds)))

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
