"""A copy of an embedded Lorestream at one moment: its store, its log and ledger, and its own key for player names.

    store/          the directory of the searched collection, without its lock
    log.sqlite3     log, ledger and dead letters
    player.key      where the data directory has one

The copy is consistent: writes to the store wait while its files are copied, and before they continue a read
transaction on the log is opened, from which the log is copied. So the copied log is as new as the copied store, and
every record below the offset that it has committed is in the copied store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lorestream import os_support
from lorestream.adapters.qdrant.edge.shard import StoreMetadata
from lorestream.adapters.sqlite.pinned_copy import PinnedDatabase
from lorestream.adapters.sqlite.segments import PARTITION
from lorestream.admin import snapshot_files
from lorestream.admin.snapshots import CopyInfo
from lorestream.free_space import FreeSpace

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.edge.store import EdgeStore
    from lorestream.ports import EventLog

LOG = "log.sqlite3"
STORE = "store"
PLAYER_KEY = "player.key"

_LOCKS = ("lock",)


class EmbeddedSnapshotSource:
    """A SnapshotSource: the active collection and the log, from which it is filled."""

    def __init__(
        self,
        active: Callable[[], tuple[EdgeStore, str, str]],
        log: EventLog,
        database: Path,
        *,
        player_key: Path | None,
        group: str,
        min_free_bytes: int | None = 0,
    ) -> None:
        """`active`: returns the store that is searched, the name of its collection, and the group that fills it.

        `database`: the log's file. `group`: the group under which the copied log has the offsets committed, because
        the restored collection is filled by it. `player_key`: its file, None where it is a setting. `min_free_bytes`:
        how much space the copy must leave free.
        """
        self._active = active
        self._log = log
        self._database = database
        self._player_key = player_key
        self._group = group
        self._min_free_bytes = min_free_bytes

    async def copy(self, into: Path) -> CopyInfo:
        """Copy store, log and player key to the empty directory `into`. Raises Unavailable, OSError."""
        store, collection, group = self._active()
        async with contextlib.AsyncExitStack() as stack:
            async with store.without_writes() as directory:
                await snapshot_files.run_in_thread(
                    lambda cancelled: self._copy_store(directory, into, cancelled)
                )
                offsets = await self._log.committed(group)
                pinned = await stack.enter_async_context(PinnedDatabase.open(self._database))
            commits = {self._group: offsets[PARTITION]} if offsets else {}
            await pinned.copy(into / LOG, commits)
        if self._player_key is not None:
            key = self._player_key
            await snapshot_files.run_in_thread(
                lambda cancelled: snapshot_files.copy(key, into / PLAYER_KEY, cancelled)
            )
        metadata = msgspec.json.decode((into / STORE / "store.json").read_bytes(), type=StoreMetadata)
        return CopyInfo(
            collection=collection,
            model_id=metadata.model_id,
            dim=metadata.dim,
            log="embedded",
            offsets=offsets,
            player_key="setting" if self._player_key is None else "file",
            store="edge",
        )

    def _copy_store(self, directory: Path, into: Path, cancelled: snapshot_files.Cancelled) -> None:
        needed = os_support.used_bytes(directory) + self._database.stat().st_size
        FreeSpace(into, self._min_free_bytes).require(needed)
        snapshot_files.copy_tree(directory, into / STORE, cancelled, exclude=_LOCKS)
