"""The gateway's HTTP application over real parts, called in process, without a socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from lorestream import events
from lorestream.http.application import application
from lorestream.ports import Clock, ErasureLedger, EventLog, Record
from lorestream.wiring import Runtime
from producers.gateway import Gateway, operations
from tests.parts import indexer_over, open_parts


class SetClock:
    """A clock that shows the time it was set to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time


@dataclass
class HttpGateway:
    """A gateway and an HTTP client of it. `working`: the task of its indexer, once `index` was called."""

    runtime: Runtime
    gateway: Gateway
    http: httpx2.AsyncClient
    working: asyncio.Task[None] | None = None

    async def send(self, *given: dict[str, Any], **top: Any) -> dict[str, Any]:
        """Post events; the body of the response, whose status must be 202."""
        answer = await self.http.post("/v1/events", json={"events": list(given), **top})
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def new_records(self) -> list[Record]:
        """The records that were appended since the last call."""
        return list(await self.runtime.log.read("test", limit=10_000, wait_s=0))

    async def new_events(self) -> list[Any]:
        """The events that were appended since the last call of this or `new_records`."""
        return [events.decode(record) for record in await self.new_records()]

    async def index(self) -> None:
        """Wait until an indexer has processed the whole log. It is started by the first call, and keeps running."""
        if self.working is None:
            worker = indexer_over(self.runtime)
            self.working = asyncio.create_task(worker.run())
        last = {partition: end - 1 for partition, end in (await self.runtime.log.end()).items()}
        assert await self.runtime.watermarks.reached(last, 60)

    async def stop_worker(self) -> None:
        """Stop the indexer, if it runs; it commits what it has finished."""
        if self.working is not None:
            self.working.cancel()
            await asyncio.wait({self.working})
            self.working = None

    def count(self, result: str, reason: str = "") -> float:
        """The value of lorestream_ingest_events_total with these labels."""
        labels = {"result": result, "reason": reason}
        return self.runtime.metrics.registry.get_sample_value("lorestream_ingest_events_total", labels) or 0.0


@contextlib.asynccontextmanager
async def open_http_gateway(
    data: Path,
    *,
    clock: Clock | None = None,
    ttl_s: float | None = 86_400.0,
    log: EventLog | None = None,
    ledger: ErasureLedger | None = None,
    last_accepted_at: float | None = None,
    **overrides: Any,
) -> AsyncIterator[HttpGateway]:
    """A gateway over the embedded parts, some of which may be replaced."""
    async with open_parts(data, **overrides) as runtime:
        gateway = Gateway(
            log=log or runtime.log,
            watermarks=runtime.watermarks,
            ledger=ledger or runtime.ledger,
            pseudonyms=runtime.pseudonyms,
            metrics=runtime.metrics,
            clock=clock or runtime.clock,
            ttl_s=ttl_s,
            rows=runtime.rows,
            webhook_post=runtime.webhook_post,
            last_accepted_at=runtime.last_accepted_at if last_accepted_at is None else last_accepted_at,
        )
        app = application("gateway", operations(gateway), metrics=runtime.metrics)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://lorestream") as http:
            service = HttpGateway(runtime, gateway, http)
            try:
                yield service
            finally:
                await service.stop_worker()
