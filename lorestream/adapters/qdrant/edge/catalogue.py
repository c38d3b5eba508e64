"""The catalogue of the embedded collections: a directory for each, and a file that says which one is searched.

    ALIAS/        the first collection, under the name of the alias (see shard.py)
    NAME/         a collection that a replay or a compaction made
    ALIAS.json    the collections; missing while there is only the first, and it was never filled again

A collection of an older schema is emptied at the start and filled again from the log, where the log still holds all
that was ever appended to it; otherwise it is used as it is, if that is possible. A collection whose shard is gone (moved away, lost) is filled again as far as the log
goes: its checkpoint must not outlive it.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog

from lorestream import durable, os_support
from lorestream.adapters.qdrant.edge import catalogue_file, shard
from lorestream.adapters.qdrant.edge.catalogue_file import Entry, State
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.adapters.qdrant.payload import READABLE_SCHEMAS, SCHEMA_VERSION
from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT, warn_of_other_layout
from lorestream.collections.catalogue import (
    CREATION_TIMEOUT_S,
    CheckpointOf,
    Collection,
    Model,
    no_checkpoint,
    refilled_run,
)
from lorestream.errors import Misconfigured, ModelMismatch, OperationRefused, Unavailable

_log = structlog.get_logger("lorestream.store")


async def _no_log() -> None:
    return None


def searched_layout(directory: Path, alias: str) -> str | None:
    """The layout of the words of the collection that is searched; None if there is none. Another process may have it open.

    Raises Misconfigured when the file cannot be read.
    """
    state = catalogue_file.read(directory / f"{alias}.json")
    return shard.layout_of_shard(directory / (alias if state is None else state.active))


class EdgeCatalogue:
    """A Catalogue in one directory, which only this process uses."""

    def __init__(
        self,
        directory: Path,
        alias: str,
        *,
        complete_log_size: Callable[[], Awaitable[int | None]] = _no_log,
        has_checkpoint: CheckpointOf = no_checkpoint,
        require_space: Callable[[int], None] = lambda _needed_bytes: None,
        words: str = DEFAULT_LAYOUT,
        vectors: shard.VectorType = "float32",
    ) -> None:
        """`complete_log_size`: the number of records of the log if it holds every record since its first, else None.

        `words`, `vectors`: how collections that are created store words and vectors.
        `require_space` raises Unavailable when the disk is nearly full, or will be after so many bytes: then nothing is
        written, and no collection
        created. Raises Misconfigured when the file cannot be read.
        """
        self._directory = directory
        self._alias = alias
        self._file = directory / f"{alias}.json"
        self._complete_log_size = complete_log_size
        self._has_checkpoint = has_checkpoint
        self._require_space = require_space
        self._words = words
        self._vectors: shard.VectorType = vectors
        self._open: dict[str, EdgeStore] = {}
        self._switching: frozenset[str] = frozenset()
        self._creating: set[str] = set()
        self._opening = asyncio.Lock()
        self._changing = asyncio.Lock()
        self._state = catalogue_file.read(self._file)

    async def ensure_active(self, model: Model) -> Collection:
        """The collection that is searched, created for `model` when there is none.

        Raises ModelMismatch, and Misconfigured when the directory cannot be written, or when a collection has an older
        schema and cannot be filled again.
        """
        try:
            durable.private_directory(self._directory)
            durable.remove_temporaries(self._directory)
        except OSError as error:
            raise Misconfigured(str(durable.unavailable(self._directory, error))) from error
        first = Entry(model.model_id, model.dim, model.kind, model.name)
        state = self._state or State(self._alias, {self._alias: first})
        active = state.collections[state.active]
        if active.kind is None and not shard.exists(self._directory / state.active):
            active.model_id, active.dim = model.model_id, model.dim  # it holds nothing of another model
        if active.kind is None and active.model_id != model.model_id:
            raise ModelMismatch(
                f"{self._directory / state.active} was filled by {active.model_id}, not by {model.model_id}:"
                " start with that model, or with another --data"
            )
        await self._empty_outdated(state)
        await self._refill_lost(state)
        if self._state is None:
            # Creates the directory where it is missing, and refuses another model.
            self._open[self._alias] = self._load(self._alias, model)
            self._state = state
        return (await self.list_all())[0]

    async def list_all(self) -> Sequence[Collection]:
        """All collections, the one that is searched first, then by name."""
        state = self._known
        found = [
            Collection(
                name,
                Model(one.model_id, one.dim, one.kind, one.model),
                one.run,
                active=name == state.active,
                complete=one.complete,
                replaced_at=one.replaced_at,
                switching=name in self._switching,
            )
            for name, one in state.collections.items()
        ]
        return sorted(found, key=lambda one: (not one.active, one.name))

    async def create(self, name: str, model: Model, run: str) -> None:
        """Create an empty collection. Raises OperationRefused when the name is taken."""
        state = self._known
        if name in state.collections:
            raise OperationRefused(
                f"there is a collection {name} already: choose another name, or drop it first"
            )
        if name in state.pending_deletions or name in self._creating:
            raise OperationRefused(f"{name} is just being created or dropped: try again in some minutes")
        if (self._directory / name).exists():
            raise OperationRefused(
                f"there is a {self._directory / name} already: choose another name, or remove it"
            )
        self._creating.add(name)
        try:
            # It will hold what the active one holds, without what was removed there.
            active = self._directory / state.active
            with durable.translated(active):
                used = await durable.in_thread(lambda: os_support.used_bytes(active))
            self._require_space(int(used * await (await self.open(state.active)).live_share()))
            await self._change(lambda state: state.pending_deletions.update({name: 0.0}))
            await shard.create_in_subprocess(
                self._directory / name,
                model_id=model.model_id,
                dim=model.dim,
                words=self._words,
                vectors=self._vectors,
            )

            def add(state: State) -> None:
                del state.pending_deletions[name]
                state.collections[name] = Entry(
                    model.model_id, model.dim, model.kind, model.name, run, complete=False
                )

            await self._change(add)
        finally:
            self._creating.discard(name)

    async def open(self, name: str) -> EdgeStore:
        """The store of a collection, loaded once, in a thread.

        Raises Misconfigured, and Unavailable when it was dropped after the caller had read the list.
        """
        async with self._opening:
            if name not in self._open:
                entry = self._known.collections.get(name)
                if entry is None:
                    raise Unavailable(f"there is no collection {name} any more")

                def load() -> None:
                    self._open[name] = self._load(name, Model(entry.model_id, entry.dim))

                await durable.in_thread(load)
            return self._open[name]

    async def close(self, name: str) -> None:
        """Close the store of a collection, if it is open."""
        if store := self._open.pop(name, None):
            await store.close()

    async def close_all(self) -> None:
        """Close every store."""
        for name in list(self._open):
            await self.close(name)

    async def mark_complete(self, name: str) -> None:
        """Note that the collection holds everything that it should."""

        def complete(state: State) -> None:
            state.collections[name].complete = True

        await self._change(complete)

    async def announce_switch(self, names: Sequence[str]) -> None:
        """Mark these collections, and no others, as the ones between which the alias is about to switch."""
        self._switching = frozenset(names)

    async def swap(self, name: str, at: float) -> None:
        """Search this collection from now on; it is complete. `at`: the Unix time at which the other one was replaced."""

        def switch(state: State) -> None:
            for one in state.collections.values():
                one.replaced_at = None
            state.collections[state.active].replaced_at = at
            state.collections[name].replaced_at = None
            state.collections[name].complete = True
            state.active = name

        await self._change(switch)

    async def mark_deleted(self, name: str, at: float) -> None:
        """Remove the collection from the list, and note since when it is to be deleted."""

        def withdraw(state: State) -> None:
            del state.collections[name]
            state.pending_deletions[name] = at

        if name in self._known.collections:
            await self._change(withdraw)

    async def pending_deletions(self) -> Mapping[str, float]:
        """The names to delete, each with the Unix time since when; all 0 after a restart."""
        pending = {name: at or 0.0 for name, at in self._known.pending_deletions.items()}
        return pending | dict.fromkeys(self._creating, time.time() + CREATION_TIMEOUT_S)

    async def delete(self, name: str) -> None:
        """Delete the directory of a collection that was marked as deleted. Raises Unavailable."""
        if name not in self._known.pending_deletions or name in self._creating:
            return
        await self.close(name)
        with durable.translated(self._directory / name):
            await durable.in_thread(lambda: durable.remove_tree(self._directory / name))
        await self._change(lambda state: state.pending_deletions.pop(name, None))

    async def _empty_outdated(self, state: State) -> None:
        """Empty the collections of an older schema. Each gets a new run, whose group reads the log from its beginning.

        Where the log does not hold all that one of them may hold, that one stays as it is. Raises Misconfigured, with
        nothing changed, when it cannot be used like this.
        """
        outdated = {
            name: metadata.schema
            for name, entry in state.collections.items()
            if (metadata := shard.find_outdated(self._directory / name, entry.model_id, entry.dim))
        }
        if not outdated:
            return
        records = await self._complete_log_size()
        for name, schema in list(outdated.items()):
            # A record makes one point at most: more points than records came from another log.
            if records is None or shard.count_points(self._directory / name) > records:
                if schema in READABLE_SCHEMAS:
                    del outdated[name]
                    continue
                raise Misconfigured(
                    f"{self._directory / name} has the older schema {schema} (this lorestream writes {SCHEMA_VERSION}),"
                    " and the log no longer holds all of its memories: start the version that wrote it and"
                    " `lorestream export` them, then start this one with another --data and `lorestream import` them"
                )
        if not outdated:
            return
        for name in outdated:
            entry = state.collections[name]
            entry.run = refilled_run(entry.run)
        # Before emptying: after a crash the old group would continue at its commit, and skip all earlier records.
        catalogue_file.write(self._file, state)
        self._state = state
        for name, schema in outdated.items():
            shard.empty(self._directory / name)
            _log.warning(
                "the store has an older schema: it is filled again from the log, and until that is done searches"
                " find only a part",
                collection=name,
                schema=schema,
                new_schema=SCHEMA_VERSION,
                records=records,
            )

    async def _refill_lost(self, state: State) -> None:
        """Give a new run to collections without a shard whose group has committed: the commits are of a store that is gone.

        Raises Unavailable.
        """
        lost = [
            name
            for name, entry in state.collections.items()
            if not shard.exists(self._directory / name) and await self._has_checkpoint(name, entry.run)
        ]
        if not lost:
            return
        for name in lost:
            state.collections[name].run = refilled_run(state.collections[name].run)
        catalogue_file.write(
            self._file, state
        )  # before the shards are created: after a crash the old groups would be continued
        self._state = state
        complete = await self._complete_log_size() is not None
        _log.warning(
            "the store is new and the log is not: the store is filled from the log, and until that is done searches"
            " find only a part"
            + ("" if complete else "; what is older than the log is only in snapshots and exports"),
            collections=lost,
        )

    @property
    def _known(self) -> State:
        assert self._state is not None, "call ensure_active first"
        return self._state

    def _load(self, name: str, model: Model) -> EdgeStore:
        """Open the store of a collection, or create it. Blocks. Raises Misconfigured, ModelMismatch, Unavailable."""
        if not shard.exists(self._directory / name):
            self._require_space(0)
        store = EdgeStore.open(
            self._directory / name,
            model_id=model.model_id,
            dim=model.dim,
            words=self._words,
            vectors=self._vectors,
            require_space=partial(self._require_space, 0),
        )
        warn_of_other_layout(name, store.words.layout, self._words)
        return store

    async def _change(self, edit: Callable[[State], object]) -> None:
        """Edit the state: durably in the file first, then in memory. Raises Unavailable, with nothing changed.

        After an error of the last fsync the file may hold the new state already. That is harmless: each state is
        one that a crash may leave, and the next change replaces it.
        """
        async with self._changing:
            state = copy.deepcopy(self._known)
            edit(state)

            def write() -> None:
                catalogue_file.write(self._file, state)
                self._state = state

            await durable.in_thread(write)
