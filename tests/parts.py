"""Real parts of the embedded shape, opened for one test. They are the fakes of the suite."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from lorestream import events
from lorestream.events import Put
from lorestream.identity import memory_id
from lorestream.memories import AgentKey, Memory, PageQuery, Scope
from lorestream.ports import EventLog, NewRecord, Record, StoredDeadLetter, VectorStore
from lorestream.settings import load_settings
from lorestream.wiring import Runtime, WorkerParts, open_runtime
from stream_workers.folding.folder import Folder
from stream_workers.indexing.indexer import Indexer
from stream_workers.indexing.pipeline import Pipeline
from stream_workers.worker import Worker


@contextlib.asynccontextmanager
async def open_parts(data: Path, **overrides: Any) -> AsyncIterator[Runtime]:
    """A runtime with the hash embedder; `store={"kind": "memory"}` by default; `overrides` are settings."""
    chosen = {"store": {"kind": "memory"}, "embedder": {"kind": "hash"}, "player_key": "k1:test"} | overrides
    async with open_runtime(load_settings(data_dir=data, **chosen)) as runtime:
        yield runtime


@contextlib.asynccontextmanager
async def running(part: Worker | Indexer) -> AsyncIterator[None]:
    """Run it until the context ends, then stop it and wait for its end."""
    running = asyncio.create_task(part.run())
    try:
        yield
    finally:
        part.stop()
        await running


@contextlib.asynccontextmanager
async def running_worker(parts: WorkerParts) -> AsyncIterator[Worker]:
    """Run a worker over these parts until the context ends."""
    worker = Worker(parts)
    async with running(worker):
        yield worker


def pipeline_over(runtime: Runtime, store: VectorStore | None = None) -> Pipeline:
    """A pipeline over these parts, or over another store."""
    used = store or runtime.store
    return Pipeline(
        used,
        runtime.embedder,
        runtime.ledger,
        runtime.clock,
        runtime.metrics,
        folder_over(runtime, used),
    )


def folder_over(parts: WorkerParts, store: VectorStore | None = None) -> Folder:
    """A folder over these parts, or over another store."""
    return Folder(
        store or parts.store,
        parts.ledger,
        parts.clock,
        parts.log_identity,
        parts.settings.state.keep_versions,
    )


def indexer_over(runtime: Runtime, store: VectorStore | None = None, **options: Any) -> Indexer:
    """An indexer over these parts, or over another store. `options` are those of Indexer."""
    options = {"cache": runtime.cache} | options
    return Indexer(
        runtime.log, pipeline_over(runtime, store), runtime.collections.current.publisher, **options
    )


def put(
    text: str | None = None, *, agent: str = "a", event_id: str = "e1", at: float = 1000.0, **fields: Any
) -> Put:
    """An accepted event of the tenant "default", server "s"; the same `event_id` gives the same memory id."""
    tenant = fields.pop("tenant", "default")
    return Put(
        tenant=tenant,
        agent_id=agent,
        memory_id=memory_id(tenant, "s", agent, event_id),
        server="s",
        timestamp=fields.pop("timestamp", at),
        accepted_at=at,
        text=text,
        **fields,
    )


def records(*envelopes: events.Envelope | NewRecord, first: int = 0) -> list[Record]:
    """The envelopes as records of partition 0, with offsets from `first` on."""
    news = [each if isinstance(each, NewRecord) else events.encode(each) for each in envelopes]
    return [Record(0, first + n, new.key, new.value, new.headers, 0.0) for n, new in enumerate(news)]


async def everything(runtime: Runtime, *agents: str, tenant: str = "default") -> list[Memory]:
    """All memories of these agents, newest first; without agents those of the tenant."""
    scope = Scope(tenant, agents or None)
    return list(await runtime.store.page(PageQuery(scope, limit=1000, now=runtime.clock.now())))


async def texts(runtime: Runtime, *agents: str, tenant: str = "default") -> list[str]:
    """The texts of `everything`, in alphabetical order."""
    return sorted(memory.text for memory in await everything(runtime, *agents, tenant=tenant))


async def read_dead_letters(log: EventLog) -> list[StoredDeadLetter]:
    """The dead letters that are not settled, the earliest first."""
    return [dead_letter async for dead_letter in log.dead_letters()]


class ReadsItself:
    """A store in place of a real one: the reads of a request go through it, not past it."""

    def for_request(self, anchors: int, span: int) -> Any:
        return self


class Faulty(ReadsItself):
    """A real part whose method NAME first calls `fail[NAME]`, which may raise; `calls` lists those calls."""

    def __init__(self, part: object, **fail: Callable[..., None]) -> None:
        self._part = part
        self.fail = fail
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)
        if name not in self.fail:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            self.fail[name](*args, **kwargs)
            result: Awaitable[Any] = method(*args, **kwargs)
            return await result

        return call


AGENT = AgentKey("default", "a")
