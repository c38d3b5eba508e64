"""Openers: for each port, from the settings of a backend to an open adapter.

Adapters are imported where they are chosen, so that a process loads only what it uses. Everything opened is closed by
the exit stack that is passed in. All openers raise Misconfigured with one line that says what to do, and Unavailable
if a server does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorestream.collections.open_collections import GroupWatermarks
from lorestream.errors import InvalidEvent, Misconfigured
from lorestream.free_space import FreeSpace
from lorestream.settings import DAY_S, Settings
from lorestream.settings.backends import EmbeddedLog, EmbedderSettings, KafkaLog, QdrantStore, RedisCache

if TYPE_CHECKING:
    from pydantic import SecretStr

    from lorestream.access.authentication import Authenticator
    from lorestream.access.rate_limits import RateLimits
    from lorestream.adapters.kafka.connection import KafkaConnection
    from lorestream.adapters.redis.client import RedisClient
    from lorestream.collections.catalogue import Catalogue
    from lorestream.ports import Cache, Clock, Embedder, ErasureLedger, EventLog, OnLost
    from lorestream.telemetry import Metrics

INDEXER = "indexer"
"""The consumer group of the embedded store."""


@dataclass(frozen=True, slots=True)
class OpenLog:
    """An open event log, and what belongs to it."""

    events: EventLog
    ledger: ErasureLedger
    trim: Callable[[], Awaitable[int]] | None
    """Removes records past their retention and returns their number. None: the log does that itself."""
    last_accepted_at: float = 0.0
    """The newest acceptance time in the log, Unix seconds; new events are never accepted earlier."""
    identity: str = ""
    """Identifies this log across deletions. A new log starts at offset 0, and must not find the old watermarks."""


async def open_embedder(
    chosen: EmbedderSettings, models_dir: Path, metrics: Metrics, stack: contextlib.AsyncExitStack
) -> Embedder:
    """Load the embedding model, in a thread: it takes half a second and more. Counts its texts in `metrics`."""

    def count(source: str, texts: int) -> None:
        metrics.embed_texts.labels(source).inc(texts)

    match chosen.kind:
        case "auto" | "openvino":
            from lorestream.adapters.embedders import model_files  # noqa: PLC0415
            from lorestream.adapters.embedders.openvino import OpenVinoEmbedder  # noqa: PLC0415

            def load() -> OpenVinoEmbedder:
                model = model_files.find(chosen.model, models_dir)
                return OpenVinoEmbedder.open(
                    model.directory, threads=chosen.threads, device=chosen.device or "CPU", on_texts=count
                )

            return await stack.enter_async_context(await asyncio.to_thread(load))
        case "torch":
            from lorestream.adapters.embedders.torch import TorchEmbedder  # noqa: PLC0415

            torch = await asyncio.to_thread(
                TorchEmbedder.open,
                chosen.model,
                device=chosen.device,
                threads=chosen.threads,
                on_texts=count,
            )
            return await stack.enter_async_context(torch)
        case "http":
            from lorestream.adapters.embedders.http import HttpEmbedder  # noqa: PLC0415

            if chosen.url is None:
                raise Misconfigured(
                    "LORESTREAM_EMBEDDER__URL: kind http needs the address of the server, such as http://127.0.0.1:8000/v1"
                )
            remote = HttpEmbedder.open(
                url=chosen.url,
                model=chosen.model,
                api_key=_secret(chosen.api_key),
                dim=chosen.dim,
                on_texts=count,
            )
            return await stack.enter_async_context(remote)
        case "hash":
            from lorestream.adapters.embedders.hash import HashEmbedder  # noqa: PLC0415

            return await stack.enter_async_context(HashEmbedder(chosen.dim or 384, on_texts=count))


async def open_log(
    settings: Settings,
    state: Path,
    clock: Clock,
    stack: contextlib.AsyncExitStack,
    on_lost: OnLost | None = None,
) -> OpenLog:
    """Open the event log and the ledger of erasures. `state` is the directory of the embedded log.

    `on_lost` counts records that were deleted before they were read.
    """
    match settings.log:
        case EmbeddedLog() as embedded:
            return await _open_embedded_log(
                embedded, state, clock, stack, on_lost=on_lost, space=free_space(settings, state)
            )
        case KafkaLog() as kafka:
            return await _open_kafka_log(kafka, clock, stack, on_lost)


async def _open_embedded_log(
    chosen: EmbeddedLog,
    state: Path,
    clock: Clock,
    stack: contextlib.AsyncExitStack,
    *,
    on_lost: OnLost | None,
    space: FreeSpace,
) -> OpenLog:
    from lorestream import events  # noqa: PLC0415
    from lorestream.adapters.sqlite.database import Database  # noqa: PLC0415
    from lorestream.adapters.sqlite.erasure_ledger import SqliteErasureLedger  # noqa: PLC0415
    from lorestream.adapters.sqlite.log import SqliteLog  # noqa: PLC0415

    database = await stack.enter_async_context(Database.open(state / "log.sqlite3"))
    ledger = await SqliteErasureLedger.open(database, clock=clock)
    log = await stack.enter_async_context(
        SqliteLog.open(
            database,
            retention_s=chosen.retention_days * DAY_S,
            max_bytes=chosen.max_bytes,
            clock=clock,
            on_lost=on_lost,
            require_space=space.require,
        )
    )
    last = await log.last()
    floor = 0.0
    if last is not None:
        # Imported events were accepted long ago, and a retried record may be undecodable: use the time of the append too.
        floor = last.appended_at
        with contextlib.suppress(InvalidEvent):
            floor = max(floor, events.decode(last).accepted_at)

    async def trim() -> int:
        return await log.trim() + await ledger.trim()

    return OpenLog(log, ledger, trim, floor)


def kafka_connection(chosen: KafkaLog) -> KafkaConnection:
    """The connection settings of the brokers. Does not connect."""
    from lorestream.adapters.kafka.connection import KafkaConnection  # noqa: PLC0415

    return KafkaConnection(
        bootstrap=chosen.bootstrap,
        security_protocol=chosen.security_protocol,
        sasl_mechanism=chosen.sasl_mechanism,
        sasl_username=chosen.sasl_username,
        sasl_password=_secret(chosen.sasl_password),
        ssl_cafile=chosen.ssl_cafile,
        ssl_certfile=chosen.ssl_certfile,
        ssl_keyfile=chosen.ssl_keyfile,
    )


async def _open_kafka_log(
    chosen: KafkaLog, clock: Clock, stack: contextlib.AsyncExitStack, on_lost: OnLost | None
) -> OpenLog:
    from lorestream.adapters.kafka.consumer import ConsumerConfig  # noqa: PLC0415
    from lorestream.adapters.kafka.erasure_ledger import KafkaErasureLedger  # noqa: PLC0415
    from lorestream.adapters.kafka.log import KafkaLog as Log  # noqa: PLC0415
    from lorestream.adapters.kafka.topics import cluster_id  # noqa: PLC0415

    connection = kafka_connection(chosen)
    log = await stack.enter_async_context(
        Log.open(
            connection,
            topic=chosen.topic,
            dlq_topic=chosen.dlq_topic,
            retention_s=chosen.retention_days * DAY_S,
            clock=clock,
            partitions=chosen.partitions,
            replication=chosen.replication,
            consumer_config=ConsumerConfig(
                session_timeout_s=chosen.session_timeout_s, static_member=chosen.member
            ),
            on_lost=on_lost,
        )
    )
    ledger = await stack.enter_async_context(
        KafkaErasureLedger.open(connection, topic=chosen.erasures_topic, replication=chosen.replication)
    )
    identity = f"{await cluster_id(connection)}/{chosen.topic}"
    return OpenLog(log, ledger, trim=None, identity=identity)


async def open_catalogue(
    settings: Settings, state: Path, log: EventLog, stack: contextlib.AsyncExitStack
) -> Catalogue:
    """Open the catalogue of the collections in the store, which are filled from `log`.

    `state` is the directory of the embedded store.
    """
    chosen = settings.store

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
        )
        return await stack.enter_async_context(
            ServerCatalogue.open_on(
                chosen.url,
                alias=chosen.collection,
                grpc_port=chosen.grpc_port,
                api_key=_secret(chosen.api_key),
                timeout_s=chosen.timeout_s,
                options=options,
                has_checkpoint=has_checkpoint,
            )
        )
    from lorestream.adapters.qdrant.edge.catalogue import EdgeCatalogue  # noqa: PLC0415

    catalogue = EdgeCatalogue(
        state / "store",
        chosen.collection,
        complete_log_size=partial(_complete_log_size, log),
        has_checkpoint=has_checkpoint,
        require_space=free_space(settings, state).require,
    )
    stack.push_async_callback(catalogue.close_all)
    return catalogue


def free_space(settings: Settings, state: Path) -> FreeSpace:
    """The free space on the disk of `state`, the directory of the embedded log and store."""
    return FreeSpace(state, settings.min_free_bytes)


async def _complete_log_size(log: EventLog) -> int | None:
    """The number of records of the log; None when its oldest ones were deleted. Raises Unavailable."""
    first, end = await log.offsets_for_time(0.0), await log.end()
    if any(first.get(partition, (offset, 0.0))[0] for partition, offset in end.items()):
        return None
    return sum(end.values())


async def searched_collections(
    chosen: QdrantStore, stack: contextlib.AsyncExitStack
) -> Callable[[], Awaitable[Sequence[tuple[str, str]]]]:
    """Return a function that reads which collection the alias points to: a list of (name, run), empty if none.

    During a switch of the alias, the collections taking part in it follow in the list. The function raises Unavailable
    and Misconfigured.
    """
    from lorestream.adapters.qdrant.server.collection import find_collection, list_aliases, markers  # noqa: PLC0415
    from lorestream.adapters.qdrant.server.connection import Connection  # noqa: PLC0415

    connection = await stack.enter_async_context(
        Connection.open(
            chosen.url,
            grpc_port=chosen.grpc_port,
            api_key=_secret(chosen.api_key),
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

    return read_alias


async def open_redis(settings: Settings, stack: contextlib.AsyncExitStack) -> RedisClient | None:
    """Open the Redis connection for cache, watermarks and rate limits. None without Redis in the settings."""
    chosen = settings.cache
    if not isinstance(chosen, RedisCache):
        return None
    from lorestream.adapters.redis.client import RedisClient  # noqa: PLC0415

    return await stack.enter_async_context(
        RedisClient.open(chosen.url.get_secret_value(), prefix=chosen.prefix)
    )


def new_cache(settings: Settings, redis: RedisClient | None) -> Cache | None:
    """The answer cache: in Redis, in the process, or None."""
    chosen = settings.cache
    if redis is not None:
        from lorestream.adapters.redis.cache import RedisCache as Shared  # noqa: PLC0415

        return Shared(redis)
    if isinstance(chosen, RedisCache) or chosen.kind == "off":
        return None
    from lorestream.adapters.in_process.cache import LocalCache  # noqa: PLC0415

    return LocalCache(max_entries=chosen.max_entries, max_bytes=chosen.max_bytes)


def new_limits(settings: Settings, redis: RedisClient | None) -> RateLimits:
    """The rate limits. With Redis, all services share the counts."""
    from lorestream.access.rate_limits import RateLimits  # noqa: PLC0415

    shared = None
    if redis is not None:
        from lorestream.adapters.redis.token_buckets import RedisTokenBuckets  # noqa: PLC0415

        shared = RedisTokenBuckets(redis)
    return RateLimits(**settings.limits.model_dump(), shared=shared)


async def open_watermarks(
    settings: Settings, log: OpenLog, group: str, redis: RedisClient | None, stack: contextlib.AsyncExitStack
) -> GroupWatermarks:
    """The watermarks of a consumer group: published in Redis where there is one, else the committed offsets."""
    if not settings.distributed:
        from lorestream.adapters.in_process.watermarks import LocalWatermarks  # noqa: PLC0415

        local = LocalWatermarks()
        return GroupWatermarks(local, local)
    if redis is not None:
        from lorestream.adapters.redis.watermarks import RedisWatermarks  # noqa: PLC0415

        shared = await stack.enter_async_context(
            RedisWatermarks.open(
                redis, group=group, identity=log.identity, committed=lambda: log.events.committed(group)
            )
        )
        return GroupWatermarks(shared, shared)
    from lorestream.adapters.kafka.watermarks import KafkaWatermarks  # noqa: PLC0415

    return GroupWatermarks(KafkaWatermarks(log.events, group=group), None)


async def open_authenticator(
    settings: Settings, clock: Clock, stack: contextlib.AsyncExitStack
) -> Authenticator:
    """The authenticator: API keys from the file in the settings; without a file, every caller is allowed."""
    from lorestream.access.authentication import NO_AUTHENTICATION  # noqa: PLC0415

    if settings.api_keys_file is None:
        return NO_AUTHENTICATION
    from lorestream.access.authentication import ApiKeyAuthenticator  # noqa: PLC0415

    return await stack.enter_async_context(ApiKeyAuthenticator.open(settings.api_keys_file, clock))


def group_of(log: EmbeddedLog | KafkaLog, collection: str, run: str) -> str:
    """The name of the consumer group of a collection. Each collection has its own, and so its own position in the log.

    `run` identifies the replay that created the collection: a name that is used again starts at the beginning.
    """
    if isinstance(log, EmbeddedLog):
        return f"{INDEXER}.{collection}.{run}" if run else INDEXER
    return ".".join([log.group_prefix, collection, *([run] if run else [])])


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None
