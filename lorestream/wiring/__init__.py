"""The composition root: from settings to the open parts of a service.

    __init__.py        open_runtime (everything in one process), open_gateway, open_worker, open_query
    logs.py            opens the event log and the ledger of erasures
    stores.py          opens the store with its collections
    openers.py         opens the other ports: embedder, cache, watermarks, rate limits, keys
    player_keys.py     the keys for player names, compared with those that the log knows
    feeds.py           the feed of memories as they become findable
    parts.py           the parts of each service, as frozen values
    data_directory.py  the data directory of the embedded shape: checks, lock, free space, player key
    snapshots.py       the snapshots of a process, and the source that they copy
    webhooks.py        the requests to webhooks, and the process that sends them
    waiting.py         a start that waits for the servers
    restores.py        restores a snapshot into an empty data directory or to a Qdrant server

Everything is closed in reverse order when the context ends. All functions raise Misconfigured with one line that says
what to do, and Unavailable if a server does not answer.

    settings = load_settings(data_dir=Path("data"))
    async with open_runtime(settings) as parts:
        gateway = Gateway.over(parts)
        worker = Worker(parts)
        recall = CurrentRecall(parts)
        await worker.run()
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from lorestream.admin.dead_letters import DeadLetterCleanup, DeadLetters
from lorestream.collections.active_rows import ActiveRows
from lorestream.collections.open_collections import OpenCollection, OpenCollections
from lorestream.collections.watermarks import ActiveWatermarks
from lorestream.errors import Misconfigured
from lorestream.settings import Settings, warn_of_unread
from lorestream.settings.backends import KafkaLog, QdrantStore
from lorestream.steady_clock import SteadyClock
from lorestream.telemetry import Metrics
from lorestream.tracing import open_tracer
from lorestream.wiring import data_directory, logs, openers, player_keys, stores, webhooks
from lorestream.wiring.parts import (
    ACCEPTANCE_SETTLE_S,
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
    "StoreParts",
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
class _Context:
    """What every opener needs: settings, clocks, metrics, and the stack that closes what is opened."""

    settings: Settings
    clock: SystemClock
    steady_clock: SteadyClock
    """For what is written to the log."""
    metrics: Metrics
    stack: contextlib.AsyncExitStack


@contextlib.asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncGenerator[Runtime]:
    """Open all parts for one process with all services."""
    async with _open_context(settings) as context:
        stack = context.stack
        state = directory = data_directory.ensure_writable(settings.data_dir)
        if settings.store.kind == "memory":
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lorestream-")))
        elif not settings.distributed:
            stack.enter_context(data_directory.exclusive_use(directory))
        if not settings.distributed and (problem := data_directory.free_space(settings, state).check_start()):
            _log.warning("the disk is nearly full, only reads are served", problem=problem)
        # Before the log is created: a key is made only where there is none.
        pseudonyms = player_keys.open_pseudonyms(settings, directory)
        log, redis, collections = await _open_storage(context, state)
        await player_keys.require_known(pseudonyms, log.ledger, add=True)
        cleanup = DeadLetterCleanup(
            DeadLetters(log.events, log.ledger, lambda: collections.current.store), context.clock
        )

        async def trim() -> int:
            # The log first: that frees space, without which the clean-up may not be able to write.
            return (await log.trim() if log.trim else 0) + await cleanup()

        yield _log_modes(
            Runtime(
                settings=settings,
                log=log.events,
                ledger=log.ledger,
                collections=collections,
                cache=openers.new_cache(settings, redis),
                accesses=openers.new_access_times(redis),
                watermarks=collections,
                pseudonyms=pseudonyms,
                authenticator=await openers.open_authenticator(settings, context.clock, stack),
                limits=openers.new_limits(settings, redis),
                cross_encoder=await openers.open_cross_encoder(settings, stack),
                metrics=context.metrics,
                clock=context.clock,
                ping_redis=None if redis is None else redis.ping,
                trim=None if settings.distributed else trim,
                steady_clock=context.steady_clock,
                last_accepted_at=log.last_accepted_at,
                log_identity=log.identity,
                rows=ActiveRows(collections),
                webhook_post=await stack.enter_async_context(webhooks.open_post(settings)),
            )
        )


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncGenerator[GatewayParts]:
    """Open the parts of a gateway. It neither embeds nor searches, and loads no model."""
    _require_distributed(settings, "gateway")
    async with _open_context(settings) as context:
        pseudonyms = player_keys.open_pseudonyms(settings)
        log = await logs.open_log(settings, settings.data_dir, context.steady_clock, context.stack)
        await player_keys.require_known(pseudonyms, log.ledger, add=True)
        redis = await openers.open_redis(settings, context.stack)
        assert isinstance(settings.store, QdrantStore), "checked by load_settings"
        searched = await stores.searched_collections(settings.store, context.stack)
        yield _log_modes(
            GatewayParts(
                settings=settings,
                log=log.events,
                ledger=log.ledger,
                watermarks=_active_watermarks(context, log, redis, searched),
                pseudonyms=pseudonyms,
                authenticator=await openers.open_authenticator(settings, context.clock, context.stack),
                limits=openers.new_limits(settings, redis),
                metrics=context.metrics,
                clock=context.clock,
                ping_redis=None if redis is None else redis.ping,
                steady_clock=context.steady_clock,
                last_accepted_at=log.last_accepted_at,
                rows=searched.rows,
                webhook_post=await context.stack.enter_async_context(webhooks.open_post(settings)),
            )
        )


@contextlib.asynccontextmanager
async def open_worker(settings: Settings) -> AsyncGenerator[WorkerParts]:
    """Open the parts of a stream worker."""
    _require_distributed(settings, "worker")
    async with _open_context(settings) as context:
        log, redis, collections = await _open_storage(context, settings.data_dir)
        yield _log_modes(
            WorkerParts(
                settings=settings,
                log=log.events,
                ledger=log.ledger,
                collections=collections,
                cache=openers.new_cache(settings, redis),
                watermarks=collections,
                metrics=context.metrics,
                clock=context.clock,
                ping_redis=None if redis is None else redis.ping,
                log_identity=log.identity,
                trim=log.trim,
                webhook_post=await context.stack.enter_async_context(webhooks.open_post(settings)),
            )
        )


@contextlib.asynccontextmanager
async def open_query(settings: Settings) -> AsyncGenerator[QueryParts]:
    """Open the parts of a query service."""
    _require_distributed(settings, "query")
    async with _open_context(settings) as context:
        pseudonyms = player_keys.open_pseudonyms(settings)
        log, redis, collections = await _open_storage(context, settings.data_dir, only_active=True)
        await player_keys.require_known(pseudonyms, log.ledger, add=False)
        yield _log_modes(
            QueryParts(
                settings=settings,
                log=log.events,
                ledger=log.ledger,
                collections=collections,
                cache=openers.new_cache(settings, redis),
                accesses=openers.new_access_times(redis),
                watermarks=collections,
                pseudonyms=pseudonyms,
                authenticator=await openers.open_authenticator(settings, context.clock, context.stack),
                limits=openers.new_limits(settings, redis),
                cross_encoder=await openers.open_cross_encoder(settings, context.stack),
                metrics=context.metrics,
                clock=context.clock,
                ping_redis=None if redis is None else redis.ping,
            )
        )


@contextlib.asynccontextmanager
async def _open_context(settings: Settings) -> AsyncGenerator[_Context]:
    async with contextlib.AsyncExitStack() as stack:
        clock = SystemClock()
        tracer = open_tracer()
        if tracer is not None:
            stack.push_async_callback(asyncio.to_thread, tracer.close)
        steady = SteadyClock(clock, settle_s=ACCEPTANCE_SETTLE_S)
        yield _Context(settings, clock, steady, Metrics(tracer), stack)


async def _open_storage(
    context: _Context, state: Path, *, only_active: bool = False
) -> tuple[logs.OpenLog, RedisClient | None, OpenCollections]:
    """Open what services with a store need: the log, Redis if any, the collections.

    `state`: directory of embedded data. `only_active`: as in `OpenCollections.open`.
    """
    embedder = await _open_embedder(context)
    log = await logs.open_log(
        context.settings, state, context.steady_clock, context.stack, context.metrics.lost_records.inc
    )
    redis = await openers.open_redis(context.settings, context.stack)
    return log, redis, await _open_collections(context, state, embedder, log, redis, only_active=only_active)


async def _open_embedder(context: _Context) -> Embedder:
    chosen = context.settings.embedder
    embedder = await openers.open_embedder(
        chosen, context.settings.models_dir, context.metrics, context.stack
    )
    if chosen.dim not in {None, embedder.dim}:
        raise Misconfigured(
            f"LORESTREAM_EMBEDDER__DIM (or EMBEDDING_DIM) is {chosen.dim}, but {embedder.model_id} has {embedder.dim}:"
            f" set it to {embedder.dim}, or unset it"
        )
    return embedder


async def _open_collections(
    context: _Context,
    state: Path,
    embedder: Embedder,
    log: logs.OpenLog,
    redis: RedisClient | None,
    *,
    only_active: bool,
) -> OpenCollections:
    """Open the active collection of the store. Others are opened when they are needed."""
    settings, stack = context.settings, context.stack

    @contextlib.asynccontextmanager
    async def load(model: Model) -> AsyncGenerator[Embedder]:
        chosen = settings.embedder.model_copy(
            update={"kind": model.kind, "model": model.name, "dim": model.dim or None}
        )
        async with contextlib.AsyncExitStack() as loaded:
            yield await openers.open_embedder(chosen, settings.models_dir, context.metrics, loaded)

    return await stack.enter_async_context(
        OpenCollections.open(
            await stores.open_catalogue(settings, state, log.events, stack),
            embedder,
            load=load,
            watch=lambda group: openers.open_watermarks(settings, log, group, redis),
            group_of=lambda one: logs.group_of(settings.log, one.name, one.run),
            only_active=only_active,
        )
    )


def _active_watermarks(
    context: _Context, log: logs.OpenLog, redis: RedisClient | None, searched: stores.SearchedCollections
) -> WatermarkReader:
    settings, stack = context.settings, context.stack
    assert isinstance(settings.log, KafkaLog), "checked by load_settings"

    async def groups() -> list[str]:
        return [logs.group_of(settings.log, *one) for one in await searched.read_alias()]

    async def watermarks_of(name: str) -> WatermarkReader:
        watermarks = openers.open_watermarks(settings, log, name, redis)
        return (await stack.enter_async_context(watermarks)).reader

    return ActiveWatermarks(groups, watermarks_of)


def _require_distributed(settings: Settings, service: str) -> None:
    if not settings.distributed:
        raise Misconfigured(
            f"lorestream {service} is a service of the distributed shape, and needs a Kafka log: set"
            " LORESTREAM_LOG__BOOTSTRAP=HOST:9092, or run everything in one process with `lorestream up`"
        )


def _log_modes(parts: AnyParts) -> AnyParts:
    """Log one line that names the mode of each part; return the parts."""
    settings = parts.settings
    in_memory = settings.store.kind == "memory"
    modes = {"log": "memory" if in_memory else settings.log.kind}
    if isinstance(parts, StoreParts):
        modes |= {
            "store": settings.store.kind,
            "cache": settings.cache.kind,
            "embedder": parts.embedder.model_id,
        }
    if isinstance(parts, GatewayParts | QueryParts):
        modes["keys"] = str(settings.api_keys_file) if settings.api_keys_file else "none"
    _log.info("started", **modes, data=str(settings.data_dir))
    warn_of_unread()
    if in_memory:
        _log.warning(
            "log and store are in memory and will forget everything at exit: set LORESTREAM_STORE__KIND=edge to keep them"
        )
    return parts
