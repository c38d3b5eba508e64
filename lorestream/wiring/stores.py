"""Opens the vector store with its collections: Qdrant Edge, or a Qdrant server."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorestream.settings import Settings
from lorestream.settings.backends import QdrantStore, plain
from lorestream.wiring.data_directory import free_space
from lorestream.wiring.logs import group_of

if TYPE_CHECKING:
    from lorestream.collections.catalogue import Catalogue
    from lorestream.ports import EventLog, RowReader


async def open_catalogue(
    settings: Settings, state: Path, log: EventLog, stack: contextlib.AsyncExitStack
) -> Catalogue:
    """Open the catalogue of the collections in the store, which are filled from `log`.

    `state` is the directory of the embedded store.
    """
    from lorestream.adapters.qdrant.words import layout_of  # noqa: PLC0415

    chosen = settings.store
    words = layout_of(settings.keyword.languages)

    async def has_checkpoint(collection: str, run: str) -> bool:
        return any((await log.committed(group_of(settings.log, collection, run))).values())

    if isinstance(chosen, QdrantStore):
        from lorestream.adapters.qdrant.server.catalogue import ServerCatalogue  # noqa: PLC0415
        from lorestream.adapters.qdrant.server.collection import CollectionOptions  # noqa: PLC0415

        options = CollectionOptions(
            chosen.shards,
            chosen.replication,
            chosen.write_consistency,
            chosen.on_disk_payload,
            chosen.quantization == "scalar",
            chosen.vectors == "float16",
            chosen.shard_keys,
        )
        return await stack.enter_async_context(
            ServerCatalogue.open_on(
                chosen.url,
                alias=chosen.collection,
                grpc_port=chosen.grpc_port,
                api_key=plain(chosen.api_key),
                timeout_s=chosen.timeout_s,
                options=options,
                has_checkpoint=has_checkpoint,
                words=words,
            )
        )
    from lorestream.adapters.qdrant.edge.catalogue import EdgeCatalogue  # noqa: PLC0415

    catalogue = EdgeCatalogue(
        state / "store",
        chosen.collection,
        complete_log_size=partial(_complete_log_size, log),
        has_checkpoint=has_checkpoint,
        require_space=free_space(settings, state).require,
        words=words,
        vectors=chosen.vectors,
    )
    stack.push_async_callback(catalogue.close_all)
    return catalogue


@dataclass(frozen=True, slots=True)
class WordLayout:
    """How the words of the searched collection are stored, and what the settings say, in words for people."""

    found: str
    wanted: str
    remedy: str
    """What to do where the two differ."""


def _word_layout(settings: Settings, layout: str | None) -> WordLayout | None:
    from lorestream.adapters.qdrant.words import REMEDY, describe, layout_of  # noqa: PLC0415

    return (
        None
        if layout is None
        else WordLayout(describe(layout), describe(layout_of(settings.keyword.languages)), REMEDY)
    )


def embedded_word_layout(settings: Settings) -> WordLayout | None:
    """That of the embedded store, which another process may have open; None where there is no store.

    Raises Misconfigured when its catalogue cannot be read.
    """
    from lorestream.adapters.qdrant.edge.catalogue import searched_layout  # noqa: PLC0415

    return _word_layout(settings, searched_layout(settings.data_dir / "store", settings.store.collection))


async def served_word_layout(settings: Settings, chosen: QdrantStore) -> WordLayout | None:
    """That of the collection on the server; None where there is none. Raises Unavailable, Misconfigured."""
    from lorestream.adapters.qdrant.server.collection import find_collection, resolve_alias  # noqa: PLC0415
    from lorestream.adapters.qdrant.server.connection import Connection  # noqa: PLC0415

    async with Connection.open(
        chosen.url,
        grpc_port=chosen.grpc_port,
        api_key=plain(chosen.api_key),
        timeout_s=chosen.timeout_s,
    ) as connection:
        searched = await resolve_alias(connection, chosen.collection)
        if searched is None:
            return None
        found = await find_collection(connection, chosen.collection, searched)
    return _word_layout(settings, found.metadata.words)


async def _complete_log_size(log: EventLog) -> int | None:
    """The number of records of the log; None when its oldest ones were deleted. Raises Unavailable."""
    first, end = await log.offsets_for_time(0.0), await log.end()
    if any(first.get(partition, (offset, 0.0))[0] for partition, offset in end.items()):
        return None
    return sum(end.values())


@dataclass(frozen=True, slots=True)
class SearchedCollections:
    """What a service without a store knows of the collections on the server."""

    read_alias: Callable[[], Awaitable[Sequence[tuple[str, str]]]]
    """Reads which collection the alias points to: a list of (name, run), empty if none.

    During a switch of the alias, the collections taking part in it follow in the list. Raises Unavailable and
    Misconfigured.
    """
    rows: RowReader
    """The rows of the collection to which the alias points at the time of each call."""


async def searched_collections(chosen: QdrantStore, stack: contextlib.AsyncExitStack) -> SearchedCollections:
    """Connect to the server, to read its alias and the rows of the collection behind it."""
    from lorestream.adapters.qdrant.server.collection import find_collection, list_aliases, markers  # noqa: PLC0415
    from lorestream.adapters.qdrant.server.connection import Connection  # noqa: PLC0415
    from lorestream.adapters.qdrant.server.store import rows_behind  # noqa: PLC0415

    connection = await stack.enter_async_context(
        Connection.open(
            chosen.url,
            grpc_port=chosen.grpc_port,
            api_key=plain(chosen.api_key),
            timeout_s=chosen.timeout_s,
        )
    )

    async def read_alias() -> Sequence[tuple[str, str]]:
        aliases = await list_aliases(connection)
        searched = aliases.get(chosen.collection)
        if searched is None:
            return []
        names = dict.fromkeys([searched, *markers(aliases, chosen.collection, "switching").values()])
        found = [await find_collection(connection, chosen.collection, name) for name in names]
        return [(one.name, one.metadata.run) for one in found]

    return SearchedCollections(read_alias, rows_behind(connection, chosen.collection))
