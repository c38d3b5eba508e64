"""A copy of an embedded Lorestream at one moment: its store, its log and ledger, and its own key for player names.

    store/          as it lies in the data directory, without its lock
    log.sqlite3     log, ledger and dead letters
    player.key      where the data directory has one

The store's writes wait while its files are copied, and the log is pinned before they go on: so the log's copy is as
new as the store's, and what the indexer has committed in it lies in the store's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lorestream.adapters.qdrant.edge.shard import About
from lorestream.adapters.sqlite.pinned_copy import PinnedDatabase
from lorestream.adapters.sqlite.segments import PARTITION
from lorestream.admin import snapshot_files
from lorestream.admin.snapshots import Copied

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.edge.store import EdgeStore
    from lorestream.ports import EventLog

LOG = "log.sqlite3"
STORE = "store"
PLAYER_KEY = "player.key"

_LOCKS = ("lock",)


class EmbeddedCopy:
    """A Source: the store that is searched at present, as the log knows it."""

    def __init__(
        self,
        active: Callable[[], tuple[EdgeStore, str, str]],
        log: EventLog,
        database: Path,
        *,
        player_key: Path | None,
        group: str,
    ) -> None:
        """`active`: the store, the name of its collection, and the group that feeds it.

        `group`: the one that has committed its offsets in the copy. `player_key`: None where it is a setting.
        """
        self._active = active
        self._log = log
        self._database = database
        self._player_key = player_key
        self._group = group

    async def copy(self, into: Path) -> Copied:
        """Copy all of it."""
        store, collection, group = self._active()
        async with contextlib.AsyncExitStack() as stack:
            async with store.paused() as directory:
                await snapshot_files.in_thread(
                    lambda stopped: snapshot_files.copy_tree(directory, into / STORE, stopped, without=_LOCKS)
                )
                offsets = await self._log.committed(group)
                pinned = await stack.enter_async_context(PinnedDatabase.open(self._database))
            commits = {self._group: offsets[PARTITION]} if offsets else {}
            await pinned.copy(into / LOG, commits)
        if self._player_key is not None:
            key = self._player_key
            await snapshot_files.in_thread(
                lambda stopped: snapshot_files.copy(key, into / PLAYER_KEY, stopped)
            )
        about = msgspec.json.decode((into / STORE / "store.json").read_bytes(), type=About)
        return Copied(
            collection=collection,
            model_id=about.model_id,
            dim=about.dim,
            log="embedded",
            offsets=offsets,
            player_key="setting" if self._player_key is None else "file",
            store="edge",
        )
