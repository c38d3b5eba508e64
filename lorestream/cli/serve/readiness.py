"""The readiness checks of the services: each asks a part that the service uses, as a request would.

Only a remote embedder is judged by the requests that the service makes anyway.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from lorestream.admin.snapshots import SnapshotSchedule
from lorestream.errors import LorestreamError, Overloaded
from lorestream.http.readiness import ReadinessCheck
from lorestream.ports import Priority, Role
from lorestream.wiring import GatewayParts, Parts, Runtime, StoreParts

if TYPE_CHECKING:
    from stream_workers.worker import Worker  # a second of imports that the other services do not need

_NO_MEMORY = str(uuid.UUID(int=0))


def of_gateway(parts: GatewayParts) -> list[ReadinessCheck]:
    """A gateway needs the log. Without Redis, its rate limits are not shared and watermarks come from the log."""
    return [_log(parts, needed=True), *_cache(parts), _clock(parts.steady_clock.problem)]


def of_query(parts: StoreParts) -> list[ReadinessCheck]:
    """A query service needs store and embedder. Without log it knows no new erasures, without cache it is slower."""
    return [_store(parts), *_embedder(parts), _log(parts, needed=False), *_cache(parts)]


def of_worker(parts: StoreParts, worker: Worker) -> list[ReadinessCheck]:
    """A worker needs all but the cache, without which writes are finished up to 65 s later."""
    return [
        *_indexer(worker),
        _store(parts),
        *_embedder(parts),
        _log(parts, needed=True),
        *_cache(parts),
        _clock(worker.time_problem),
    ]


def of_embedded(parts: Runtime, worker: Worker) -> list[ReadinessCheck]:
    """`lorestream up` needs all of its parts."""
    return [
        *_indexer(worker),
        _log(parts, needed=True),
        _store(parts),
        *_embedder(parts),
        _clock(lambda: parts.steady_clock.problem() or worker.time_problem()),
    ]


def of_snapshots(schedule: SnapshotSchedule) -> list[ReadinessCheck]:
    """Whether the last scheduled snapshot was taken; nothing without a schedule. A service works without snapshots."""

    async def problem() -> str | None:
        return schedule.problem

    return [ReadinessCheck("snapshots", problem, needed=False)] if schedule.enabled else []


def _indexer(worker: Worker) -> list[ReadinessCheck]:
    async def problem() -> str | None:
        return worker.indexer.problem

    return [ReadinessCheck("indexer", problem)]


def _log(parts: Parts, *, needed: bool) -> ReadinessCheck:
    return _check("log", parts.log.check, needed=needed)


def _store(parts: StoreParts) -> ReadinessCheck:
    return _check("store", lambda: parts.store.get("default", "", _NO_MEMORY, now=parts.clock.now()))


def _embedder(parts: StoreParts) -> list[ReadinessCheck]:
    """A check of a remote embedder. A local model is part of the process."""
    if parts.settings.embedder.kind != "http":
        return []

    async def check() -> None:
        # Texts cost money at some endpoints: one is sent only after a failure, to see whether it is over, since a
        # service that is not ready may get no other requests. It was never seen, so no cache answers it.
        if parts.embedder.failure is not None:
            await parts.embedder.embed([uuid.uuid4().hex], Priority.QUERY, Role.QUERY)

    return [_check("embedder", check)]


def _cache(parts: Parts) -> list[ReadinessCheck]:
    """A check of Redis, where there is one."""
    return [] if parts.ping_redis is None else [_check("cache", parts.ping_redis, needed=False)]


def _clock(problem: Callable[[], str | None]) -> ReadinessCheck:
    """Whether the time is believed. Without that, a service goes by the time before the step, and removes nothing."""

    async def check() -> str | None:
        return problem()

    return ReadinessCheck("clock", check, needed=False)


def _check(name: str, call: Callable[[], Awaitable[object]], *, needed: bool = True) -> ReadinessCheck:
    async def problem() -> str | None:
        try:
            await call()
        except Overloaded:  # it works
            return None
        except LorestreamError as error:
            return str(error)
        return None

    return ReadinessCheck(name, problem, needed)
