"""The collections that a process has open, each with the model that fills it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import structlog

from lorestream import supervision
from lorestream.collections.catalogue import Model
from lorestream.collections.watermarks import lowest
from lorestream.errors import LorestreamError, Misconfigured

if TYPE_CHECKING:
    from lorestream.collections.catalogue import Catalogue, Collection
    from lorestream.ports import Embedder, VectorStore, WatermarkPublisher, WatermarkReader

_log = structlog.get_logger("lorestream")

POLL_INTERVAL_S = 0.5
"""How often the list of collections is read from the catalogue."""

CLOSE_REPLACED_AFTER_S = 75.0
"""Longer than any query takes: at most 60 s of waiting for a write token, and 10 s of work."""


class GroupWatermarks(NamedTuple):
    """The watermarks of one consumer group: to wait for them, and to publish them."""

    reader: WatermarkReader
    publisher: WatermarkPublisher | None
    """None where the committed offsets are the watermarks."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenCollection:
    """One collection with its store and its model: a query is embedded by that model and searched in that store."""

    collection: Collection
    """As it was listed when it was opened."""
    store: VectorStore
    embedder: Embedder
    group: str
    """The consumer group of its indexers."""
    watermarks: WatermarkReader
    publisher: WatermarkPublisher | None
    """Where its indexer publishes watermarks; None where the committed offsets are the watermarks."""

    @property
    def name(self) -> str:
        """The name of the collection."""
        return self.collection.name


class OpenCollections:
    """The collections that this process has open, and the active one."""

    def __init__(
        self,
        catalogue: Catalogue,
        embedder: Embedder,
        *,
        load: Callable[[Model], AbstractAsyncContextManager[Embedder]],
        watch: Callable[[str], AbstractAsyncContextManager[GroupWatermarks]],
        group_of: Callable[[Collection], str],
        only_active: bool = False,
    ) -> None:
        """Use `open`."""
        self.catalogue = catalogue
        self.current: OpenCollection
        """The active collection. A query that begins with it must end with it."""
        self.listed: Sequence[Collection]
        """All collections as of the last poll, the active one first."""
        self.group_of = group_of
        """The name of the consumer group of a collection."""
        self._load = load
        self._watch = watch
        self._open: dict[str, OpenCollection] = {}
        self._watching: dict[str, contextlib.AsyncExitStack] = {}
        """Closes the watermarks of each collection that is open, by its name."""
        self.default_embedder = embedder
        """The model of the settings; the active collection may have another one."""
        self._embedders = {embedder.model_id: embedder}
        self._loaded: dict[str, contextlib.AsyncExitStack] = {}
        """Closes each embedder that was loaded here, by model id."""
        self._only_active = only_active
        self._replaced_at: dict[str, float] = {}
        self._opening = asyncio.Lock()
        self._refreshing = asyncio.Lock()
        self._problem: str | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        catalogue: Catalogue,
        embedder: Embedder,
        *,
        load: Callable[[Model], AbstractAsyncContextManager[Embedder]],
        watch: Callable[[str], AbstractAsyncContextManager[GroupWatermarks]],
        group_of: Callable[[Collection], str],
        only_active: bool = False,
    ) -> AsyncGenerator[Self]:
        """Open the active collection and follow the catalogue until the context ends; then close all stores.

        If there is no collection, the first one is created for the model of `embedder`. `load` loads another model,
        `watch` opens the watermarks of a consumer group. `only_active`: this process uses no other collection than
        the active one, so one that was replaced is closed. Raises Misconfigured and Unavailable.
        """
        self = cls(catalogue, embedder, load=load, watch=watch, group_of=group_of, only_active=only_active)
        active = await catalogue.ensure_active(Model(embedder.model_id, embedder.dim))
        self.current = await self.ensure_open(active)
        self.listed = (self.current.collection,)
        try:
            async with supervision.restarting(self._follow, "collections"):
                yield self
        finally:
            for watching in self._watching.values():
                await watching.aclose()
            for name in list(self._open):
                await self.catalogue.close(name)
            for loaded in self._loaded.values():
                await loaded.aclose()

    async def ensure_open(self, collection: Collection) -> OpenCollection:
        """The collection, opened unless it is open already. Raises Unavailable, Misconfigured."""
        async with self._opening:
            found = self._open.get(collection.name)
            if found is None or found.collection.run != collection.run:
                found = self._open[collection.name] = await self._open_now(collection)
        return found

    async def close(self, name: str) -> None:
        """Close a collection that is not used any more in this process, and its model if no other one has it."""
        async with self._opening:
            self._open.pop(name, None)
            self._replaced_at.pop(name, None)
            await self._watching.pop(name, contextlib.AsyncExitStack()).aclose()
            await self.catalogue.close(name)
            await self._close_unused_models()

    async def close_unused_models(self) -> None:
        """Close the models that were loaded for no collection that is open."""
        async with self._opening:
            await self._close_unused_models()

    async def _close_unused_models(self) -> None:
        used = {one.collection.model.model_id for one in self._open.values()}
        for model_id in self._loaded.keys() - used:
            del self._embedders[model_id]
            await self._loaded.pop(model_id).aclose()

    async def size(self, name: str, *, now: float) -> int:
        """`StoreMaintenance.size` of a listed collection, whose model may not be installed here. Raises Unavailable."""
        async with self._opening:
            store = await self.catalogue.open(name)
            try:
                return await store.size(now=now)
            finally:
                if name not in self._open:
                    await self.catalogue.close(name)

    def is_open(self, name: str) -> bool:
        """Whether this process has the collection open."""
        return name in self._open

    def same_model(self, collection: OpenCollection) -> OpenCollection | None:
        """Another open and complete collection with the same model: its vectors can be reused."""
        return next(
            (
                self._open[one.name]
                for one in self.listed
                if one.complete
                and one.name != collection.name
                and one.name in self._open
                and one.model.model_id == collection.collection.model.model_id
            ),
            None,
        )

    def is_switching(self, collection: OpenCollection) -> bool:
        """Whether the alias is about to be switched from it or to it."""
        return any(one.switching and one.name == collection.name for one in self.listed)

    def must_finish(self, collection: OpenCollection) -> bool:
        """Whether a write counts as finished only when it is in this collection.

        True for the active collection, and during a switch of the alias for both collections.
        """
        return collection is self.current or self.is_switching(collection)

    def serving(self) -> list[OpenCollection]:
        """The collections in which a write has to be finished: the active one, and those that are switching."""
        switching = [self._open[one.name] for one in self.listed if one.switching and one.name in self._open]
        return [self.current, *(one for one in switching if one is not self.current)]

    async def reached(self, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is finished in every collection of `serving`.

        Waits at most `timeout_s`. This makes it the WatermarkReader of a process that has the store open.
        """
        deadline = time.monotonic() + timeout_s
        reached: set[OpenCollection] = set()
        # In a loop: a switch may be announced while this waits.
        while missing := [one for one in self.serving() if one not in reached]:
            for collection in missing:
                if not await collection.watermarks.reached(offsets, max(0.0, deadline - time.monotonic())):
                    return False
                reached.add(collection)
        return True

    async def finished(self) -> Mapping[int, int]:
        """The watermarks of the collections of `serving`, for each partition the lowest of them."""
        return lowest([await one.watermarks.finished() for one in self.serving()])

    async def embedder_of(self, model: Model) -> Embedder:
        """The embedder of a collection's model, loaded once. Raises Misconfigured."""
        if model.model_id not in self._embedders:
            if model.kind is None:
                raise Misconfigured(
                    f"a collection was filled by the model {model.model_id}, and only LORESTREAM_EMBEDDER__… says how"
                    " to load it: set them back to that model, or `lorestream drop` the collection"
                )
            embedder = await self._load_model(model)
            if embedder.model_id != model.model_id:
                raise Misconfigured(
                    f"the model {model.name} is {embedder.model_id} here, and the collection was filled by"
                    f" {model.model_id}: prepare that one with `lorestream model prepare`"
                )
        return self._embedders[model.model_id]

    async def load_embedder(self, model: Model) -> Embedder:
        """The embedder of a model whose `model_id` is not known yet, by `kind`, `name` and `dim` (0 = its own).

        It is closed with the last collection that uses it, or by `close_unused_models`. Raises Misconfigured.
        """
        return await self._load_model(model)

    async def _load_model(self, model: Model) -> Embedder:
        """Load a model, unless the same one is open already: then that one is returned, and the new one closed."""
        async with contextlib.AsyncExitStack() as stack:
            embedder = await stack.enter_async_context(self._load(model))
            model_id = embedder.model_id
            if model_id not in self._embedders:
                self._embedders[model_id] = embedder
                self._loaded[model_id] = stack.pop_all()
            return self._embedders[model_id]

    async def refresh(self) -> Sequence[Collection]:
        """Read the list from the catalogue, and make the active collection current. Raises Unavailable, Misconfigured."""
        async with self._refreshing:  # of two lists, the one that was read later is kept
            self.listed = await self.catalogue.list_all()
            active = next((one for one in self.listed if one.active), None)
            if active is not None and (active.name, active.run) != (
                self.current.name,
                self.current.collection.run,
            ):
                opened = await self.ensure_open(active)
                _log.info(
                    "the active collection has changed", collection=active.name, before=self.current.name
                )
                self.current = opened
            if self._only_active:
                await self._close_replaced()
            return self.listed

    async def _close_replaced(self) -> None:
        """Close collections that were replaced as the active one, when no query that began with them runs any more."""
        now = time.monotonic()
        for name in [name for name in self._open if name != self.current.name]:
            if now - self._replaced_at.setdefault(name, now) > CLOSE_REPLACED_AFTER_S:
                await self.close(name)

    async def _open_now(self, collection: Collection) -> OpenCollection:
        embedder, group = await self.embedder_of(collection.model), self.group_of(collection)
        store = await self.catalogue.open(collection.name)
        async with contextlib.AsyncExitStack() as stack:
            watermarks = await stack.enter_async_context(self._watch(group))
            if (earlier_run := self._watching.pop(collection.name, None)) is not None:
                await earlier_run.aclose()
            self._watching[collection.name] = stack.pop_all()
        return OpenCollection(collection, store, embedder, group, watermarks.reader, watermarks.publisher)

    async def _follow(self) -> None:
        """Refresh at intervals, until cancelled. A problem is logged once, and the last list is used meanwhile."""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                await self.refresh()
            except LorestreamError as error:
                if self._problem != str(error):
                    _log.warning(
                        "reading the list of collections failed, the last one stays in use", error=str(error)
                    )
                self._problem = str(error)
            else:
                self._problem = None
