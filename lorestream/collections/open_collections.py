"""The collections that a process has open, each with the model that fills it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import structlog

from lorestream.collections.catalogue import Model
from lorestream.errors import LorestreamError, Misconfigured

if TYPE_CHECKING:
    from lorestream.collections.catalogue import Catalogue, Collection
    from lorestream.ports import Embedder, VectorStore, WatermarkPublisher, WatermarkReader

_log = structlog.get_logger("lorestream")

FOLLOW_S = 0.5
"""How often it is asked what the alias says."""


class GroupWatermarks(NamedTuple):
    """The watermarks of one consumer group, for those who wait and for the indexer that makes progress."""

    reader: WatermarkReader
    publisher: WatermarkPublisher | None
    """None where the committed offsets are the watermarks."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenCollection:
    """One collection, open: a question is embedded by and searched in one of them."""

    collection: Collection
    store: VectorStore
    embedder: Embedder
    group: str
    """The consumers that feed it."""
    watermarks: WatermarkReader
    publisher: WatermarkPublisher | None
    """Where the indexer publishes its progress; None where the committed offsets are the watermarks."""

    @property
    def name(self) -> str:
        """The collection's."""
        return self.collection.name


class OpenCollections:
    """All that are open, and the one that is searched."""

    def __init__(
        self,
        catalogue: Catalogue,
        embedder: Embedder,
        *,
        load: Callable[[Model], Awaitable[Embedder]],
        watch: Callable[[str], Awaitable[GroupWatermarks]],
        group_of: Callable[[Collection], str],
    ) -> None:
        """Use `open`."""
        self.catalogue = catalogue
        self.current: OpenCollection
        """The one that is searched. Whoever begins with it ends with it."""
        self.listed: Sequence[Collection]
        """All collections, as they were a moment ago, the one that is searched first."""
        self.group_of = group_of
        """The consumers that feed a collection."""
        self._load = load
        self._watch = watch
        self._open: dict[str, OpenCollection] = {}
        self.default_embedder = embedder
        """The model of the settings, whatever fills the collection that is searched."""
        self._embedders = {embedder.model_id: embedder}
        self._opening = asyncio.Lock()
        self._problem: str | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        catalogue: Catalogue,
        embedder: Embedder,
        *,
        load: Callable[[Model], Awaitable[Embedder]],
        watch: Callable[[str], Awaitable[GroupWatermarks]],
        group_of: Callable[[Collection], str],
    ) -> AsyncGenerator[Self]:
        """The collection that is searched, made for the model of `embedder` where there is none.

        `load` loads another model, where a replay has chosen one; `watch` gives a group's watermarks. Raises
        Misconfigured and Unavailable.
        """
        self = cls(catalogue, embedder, load=load, watch=watch, group_of=group_of)
        self.current = await self.ensure_open(
            await catalogue.ensure_active(Model(embedder.model_id, embedder.dim))
        )
        self.listed = (self.current.collection,)
        following = asyncio.create_task(self._follow(), name="lorestream-collections")
        try:
            yield self
        finally:
            following.cancel()
            await asyncio.wait([following])
            for name in list(self._open):
                await self.catalogue.close(name)

    async def ensure_open(self, collection: Collection) -> OpenCollection:
        """A collection, opened when it is not yet. Raises Unavailable, Misconfigured."""
        async with self._opening:
            found = self._open.get(collection.name)
            if found is None or found.collection.run != collection.run:
                found = self._open[collection.name] = await self._opened(collection)
        return found

    async def close(self, name: str) -> None:
        """Close a collection that nobody uses any more."""
        async with self._opening:
            self._open.pop(name, None)
            await self.catalogue.close(name)

    def is_open(self, name: str) -> bool:
        """Whether this process has it open."""
        return name in self._open

    def same_model(self, opened: OpenCollection) -> OpenCollection | None:
        """Another one, whole, that the same model has filled."""
        return next(
            (
                self._open[one.name]
                for one in self.listed
                if one.complete
                and one.name != opened.name
                and one.name in self._open
                and one.model.model_id == opened.collection.model.model_id
            ),
            None,
        )

    def is_switching(self, opened: OpenCollection) -> bool:
        """Whether the alias is about to turn from it or to it."""
        return any(one.switching and one.name == opened.name for one in self.listed)

    def serving(self) -> list[OpenCollection]:
        """Those in which a write has to be finished: the one that is searched, and those that the alias turns between."""
        switching = [self._open[one.name] for one in self.listed if one.switching and one.name in self._open]
        return [self.current, *(one for one in switching if one is not self.current)]

    async def model(self, wanted: Model) -> Embedder:
        """The embedder of a model, loaded once. Raises Misconfigured."""
        if wanted.model_id not in self._embedders:
            if wanted.kind is None:
                raise Misconfigured(
                    f"a collection was filled by {wanted.model_id}, and only LORESTREAM_EMBEDDER__… says how to load"
                    " that: set it back, or `lorestream drop` the collection"
                )
            embedder = await self._load(wanted)
            if embedder.model_id != wanted.model_id:
                raise Misconfigured(
                    f"the model {wanted.name} is {embedder.model_id} here, and the collection was filled by"
                    f" {wanted.model_id}: prepare that one with `lorestream model prepare`"
                )
            self._embedders[wanted.model_id] = embedder
        return self._embedders[wanted.model_id]

    async def load_embedder(self, model: Model) -> Embedder:
        """The embedder for a model of which only `kind`, `name` and perhaps `dim` are known. Raises Misconfigured."""
        embedder = await self._load(model)
        return self._embedders.setdefault(embedder.model_id, embedder)

    async def refresh(self) -> Sequence[Collection]:
        """Ask what there is, and search what the alias says. Raises Unavailable, Misconfigured."""
        self.listed = await self.catalogue.list_all()
        active = next((one for one in self.listed if one.active), None)
        if active is not None and (active.name, active.run) != (
            self.current.name,
            self.current.collection.run,
        ):
            opened = await self.ensure_open(active)
            _log.info("another collection is searched", collection=active.name, before=self.current.name)
            self.current = opened
        return self.listed

    async def _opened(self, collection: Collection) -> OpenCollection:
        embedder, group = await self.model(collection.model), self.group_of(collection)
        store = await self.catalogue.open(collection.name)
        watermarks = await self._watch(group)
        return OpenCollection(collection, store, embedder, group, watermarks.reader, watermarks.publisher)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_S)
            try:
                await self.refresh()
            except LorestreamError as error:  # it goes on with what it has, and says so once
                if self._problem != str(error):
                    _log.warning("the collections cannot be followed", error=str(error))
                self._problem = str(error)
            else:
                self._problem = None
