"""The composition root: from settings to running parts, each adapter imported where it is chosen.

Everything opened here is closed in the opposite order when the context ends. All openers raise Misconfigured
with one line that says what to do.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from lorestream.admin.dead_letters import DeadLetterCleanup, DeadLetters
from lorestream.collections.open_collections import GroupWatermarks, OpenCollection, OpenCollections
from lorestream.collections.watermarks import ActiveWatermarks, CurrentWatermarks
from lorestream.errors import Misconfigured
from lorestream.settings import Settings, warn_of_unread
from lorestream.settings.backends import KafkaLog, QdrantStore
from lorestream.telemetry import Metrics
from lorestream.wiring import data_directory, openers
from lorestream.wiring.parts import (
    GatewayParts,
    Parts,
    QueryParts,
    Runtime,
    StoreParts,
    SystemClock,
    WorkerParts,
)

if TYPE_CHECKING:
    from lorestream.adapters.redis.client import RedisClient
    from lorestream.collections.catalogue import Model
    from lorestream.ports import Embedder, WatermarkReader

__all__ = [
    "GatewayParts",
    "OpenCollection",
    "OpenCollections",
    "Parts",
    "QueryParts",
    "Runtime",
    "SystemClock",
    "WorkerParts",
    "open_gateway",
    "open_query",
    "open_runtime",
    "open_worker",
]

_log = structlog.get_logger("lorestream")

AnyParts = TypeVar("AnyParts", bound=Parts)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What is opened first, whatever comes after."""

    settings: Settings
    clock: SystemClock
    metrics: Metrics
    stack: contextlib.AsyncExitStack


@contextlib.asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncGenerator[Runtime]:
    """Every part that the settings ask for, in this process."""
    async with _ground(settings) as ground:
        stack = ground.stack
        state = directory = data_directory.ensure_writable(settings.data_dir)
        if settings.store.kind == "memory":
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lorestream-")))
        elif not settings.distributed:
            stack.enter_context(data_directory.exclusive_use(directory))
        log, redis, collections = await _index(ground, state)
        cleanup = DeadLetterCleanup(
            DeadLetters(log.events, log.ledger, lambda: collections.current.store), ground.clock
        )

        async def trim() -> int:
            return await cleanup() + (await log.trim() if log.trim else 0)

        yield _announced(
            Runtime(
                settings=settings,
                log=log.events,
                ledger=log.ledger,
                collections=collections,
                cache=openers.new_cache(settings, redis),
                watermarks=CurrentWatermarks(collections),
                pseudonyms=openers.pseudonyms(settings, directory),
                authenticator=await openers.open_authenticator(settings, ground.clock, stack),
                limits=openers.new_limits(settings, redis),
                metrics=ground.metrics,
                clock=ground.clock,
                trim=None if settings.distributed else trim,
                last_accepted_at=log.last_accepted_at,
            )
        )


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncGenerator[GatewayParts]:
    """The parts of a gateway of the distributed shape: it neither embeds nor searches."""
    _require_distributed(settings, "gateway")
    async with _ground(settings) as ground:
        pseudonyms = openers.pseudonyms(settings)
        log = await openers.open_log(settings, settings.data_dir, ground.clock, ground.stack)
        redis = await openers.open_redis(settings, ground.stack)
        yield _announced(
            GatewayParts(
                settings=settings,
                log=log.events,
                ledger=log.ledger,
                watermarks=await _active_watermarks(ground, log, redis),
                pseudonyms=pseudonyms,
                authenticator=await openers.open_authenticator(settings, ground.clock, ground.stack),
                limits=openers.new_limits(settings, redis),
                metrics=ground.metrics,
                clock=ground.clock,
                last_accepted_at=log.last_accepted_at,
            )
        )


@contextlib.asynccontextmanager
async def open_worker(settings: Settings) -> AsyncGenerator[WorkerParts]:
    """The parts of a stream worker of the distributed shape."""
    _require_distributed(settings, "worker")
    async with _ground(settings) as ground:
        log, redis, collections = await _index(ground, settings.data_dir)
        yield _announced(
            WorkerParts(
                settings=settings,
                log=log.events,
                ledger=log.ledger,
                collections=collections,
                cache=openers.new_cache(settings, redis),
                watermarks=CurrentWatermarks(collections),
                metrics=ground.metrics,
                clock=ground.clock,
                trim=log.trim,
            )
        )


@contextlib.asynccontextmanager
async def open_query(settings: Settings) -> AsyncGenerator[QueryParts]:
    """The parts of a query service of the distributed shape."""
    _require_distributed(settings, "query")
    async with _ground(settings) as ground:
        pseudonyms = openers.pseudonyms(settings)
        log, redis, collections = await _index(ground, settings.data_dir)
        yield _announced(
            QueryParts(
                settings=settings,
                log=log.events,
                ledger=log.ledger,
                collections=collections,
                cache=openers.new_cache(settings, redis),
                watermarks=CurrentWatermarks(collections),
                pseudonyms=pseudonyms,
                authenticator=await openers.open_authenticator(settings, ground.clock, ground.stack),
                limits=openers.new_limits(settings, redis),
                metrics=ground.metrics,
                clock=ground.clock,
            )
        )


@contextlib.asynccontextmanager
async def _ground(settings: Settings) -> AsyncGenerator[_Ground]:
    async with contextlib.AsyncExitStack() as stack:
        yield _Ground(settings, SystemClock(), Metrics(), stack)


async def _index(ground: _Ground, state: Path) -> tuple[openers.OpenLog, RedisClient | None, OpenCollections]:
    """What whoever embeds has open: the log, the cache's server, the collections."""
    embedder = await _embedder(ground)
    log = await openers.open_log(ground.settings, state, ground.clock, ground.stack)
    redis = await openers.open_redis(ground.settings, ground.stack)
    return log, redis, await _open_collections(ground, state, embedder, log, redis)


async def _embedder(ground: _Ground) -> Embedder:
    chosen = ground.settings.embedder
    embedder = await openers.open_embedder(chosen, ground.settings.models_dir, ground.metrics, ground.stack)
    if chosen.dim not in {None, embedder.dim}:
        raise Misconfigured(
            f"EMBEDDING_DIM is {chosen.dim}, but {embedder.model_id} has {embedder.dim}:"
            f" set it to {embedder.dim} or leave it out"
        )
    return embedder


async def _open_collections(
    ground: _Ground, state: Path, embedder: Embedder, log: openers.OpenLog, redis: RedisClient | None
) -> OpenCollections:
    """The collections, that which is searched open."""
    settings, stack = ground.settings, ground.stack

    async def load(model: Model) -> Embedder:
        chosen = settings.embedder.model_copy(
            update={"kind": model.kind, "model": model.name, "dim": model.dim or None}
        )
        return await openers.open_embedder(chosen, settings.models_dir, ground.metrics, stack)

    async def watch(group: str) -> GroupWatermarks:
        return await openers.open_watermarks(settings, log, group, redis, stack)

    return await stack.enter_async_context(
        OpenCollections.open(
            await openers.open_catalogue(settings, state, log.events, stack),
            embedder,
            load=load,
            watch=watch,
            group_of=lambda one: openers.group_of(settings.log, one.name, one.run),
        )
    )


async def _active_watermarks(
    ground: _Ground, log: openers.OpenLog, redis: RedisClient | None
) -> WatermarkReader:
    settings, stack = ground.settings, ground.stack
    assert isinstance(settings.store, QdrantStore), "the settings see to it"
    assert isinstance(settings.log, KafkaLog), "the settings see to it"

    searched = await openers.searched_collections(settings.store, stack)

    async def groups() -> list[str]:
        return [openers.group_of(settings.log, *one) for one in await searched()]

    async def of_group(name: str) -> WatermarkReader:
        return (await openers.open_watermarks(settings, log, name, redis, stack)).reader

    return ActiveWatermarks(groups, of_group)


def _require_distributed(settings: Settings, service: str) -> None:
    if not settings.distributed:
        raise Misconfigured(
            f"lorestream {service} is one of several processes that share a Kafka log: set"
            " LORESTREAM_LOG__BOOTSTRAP=HOST:9092, or run everything in one process with `lorestream up`"
        )


def _announced(parts: AnyParts) -> AnyParts:
    """One line that names the mode of each part."""
    settings = parts.settings
    forgets = settings.store.kind == "memory"
    modes = {"log": "memory" if forgets else settings.log.kind}
    if isinstance(parts, StoreParts):
        modes |= {
            "store": settings.store.kind,
            "cache": settings.cache.kind,
            "embedder": parts.embedder.model_id,
        }
    if isinstance(parts, GatewayParts | QueryParts):
        modes["keys"] = str(settings.api_keys_file) if settings.api_keys_file else "none"
    _log.info("open", **modes, data=str(settings.data_dir))
    warn_of_unread()
    if forgets:
        _log.warning("the log and the store forget everything at exit: LORESTREAM_STORE__KIND=edge keeps it")
    return parts
