"""The ports of rows, beside those of memories: RowReader for queries and gateways, RowWriter for folding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorestream.state.rows import Row, RowGroup, RowKey


class RowReader(Protocol):
    """Reads of rows. All methods raise Unavailable on an outage."""

    async def rows(self, keys: Sequence[RowKey]) -> Sequence[Row | None]:
        """The row of each key, in the order of the keys; None where there is none."""
        ...

    async def row_page(
        self, group: RowGroup, agent_id: str, *, after: str | None, limit: int
    ) -> tuple[Sequence[Row], str | None]:
        """At most `limit` listed rows of an agent in a group, from the cursor `after` on, and the next cursor.

        The order is the store's own and stable; the next cursor is None at the end.
        """
        ...

    async def owners(self, group: RowGroup) -> Sequence[str]:
        """The ids (stored form) of all agents with a listed row in the group, in no defined order."""
        ...


class RowWriter(RowReader, Protocol):
    """Guarded writes of rows. All methods raise Unavailable on an outage."""

    async def put_rows(self, rows: Sequence[Row]) -> None:
        """Write rows of distinct keys.

        A row in whose place one is stored by now that has the row's event (`Row.has`: the same log, and the same or a
        higher offset) is not written; any other one is replaced, whether it was read or was written meanwhile by a worker
        that was suspended. Returns once readers see the rows. After a failure some of them may have been written.
        Raises InvalidEvent for a row that cannot be stored.
        """
        ...

    async def insert_rows(self, rows: Sequence[Row]) -> None:
        """Add the rows of distinct keys that do not exist yet, of any log. Others are not changed, older ones neither."""
        ...

    async def delete_rows(self, keys: Sequence[RowKey], *, log: str, offset: int) -> None:
        """Remove rows. One that holds an event after this offset of the log stays. Unknown keys are ignored."""
        ...

    async def keep_rows(self, keys: Sequence[RowKey]) -> None:
        """Remove the expiry of rows, so that no sweep removes them. Unknown keys are ignored."""
        ...
