"""The gateway: takes events in, answers once they are durable in the log, and has no state of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import msgspec

from lorestream import events, tokens
from lorestream.access.principals import Grant, Principal
from lorestream.access.rate_limits import NO_LIMITS, Limits
from lorestream.errors import InvalidEvent, Overloaded, RateLimited, Unavailable
from lorestream.http.application import Operation
from lorestream.http.openapi import OLDER
from lorestream.http.request import Call, Headers
from lorestream.http.response import Reply, reply
from lorestream.identity import Pseudonyms
from lorestream.ports import Clock, ErasureLedger, EventLog, NewRecord, WatermarkReader
from lorestream.telemetry import Metrics
from lorestream.wiring import GatewayParts
from producers import examples
from producers.admission import Admission, Event, read
from producers.erasures import Erasures
from producers.event_batch import DEFAULT_SERVER, Events, take_apart
from producers.log_writer import Acceptance
from producers.schemas import MAX_WAIT_MS, Accepted, Reject, Remembered, Sentence, Wait

_TURN = 100
"""Events that are read before others get their turn on the loop."""

_TRACEPARENT = re.compile(
    rb"(?:00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    rb"|(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]{0,200})?)"
)


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of some events. `positions`: the highest offset of every partition they touched."""

    ids: list[str | None]
    rejected: list[Reject]
    positions: dict[int, int]


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the gateway needs. `ttl_s`: the default lifetime in seconds, None = for ever.

    `last_accepted_at`: the newest stamp in the log, in Unix seconds; none of ours is earlier.
    """

    log: EventLog
    watermarks: WatermarkReader
    ledger: ErasureLedger
    pseudonyms: Pseudonyms
    metrics: Metrics
    clock: Clock
    ttl_s: float | None
    last_accepted_at: float = 0.0
    acceptance: Acceptance = field(init=False, repr=False)
    admission: Admission = field(init=False, repr=False)
    erasures: Erasures = field(init=False, repr=False)

    @classmethod
    def over(cls, runtime: GatewayParts) -> Self:
        """The gateway on the parts of a process."""
        return cls(
            log=runtime.log,
            watermarks=runtime.watermarks,
            ledger=runtime.ledger,
            pseudonyms=runtime.pseudonyms,
            metrics=runtime.metrics,
            clock=runtime.clock,
            ttl_s=runtime.settings.ttl_s,
            last_accepted_at=runtime.last_accepted_at,
        )

    def __post_init__(self) -> None:
        acceptance = Acceptance(self.log, self.clock, floor=self.last_accepted_at)
        erasures = Erasures(self.log, self.ledger, self.watermarks, self.pseudonyms, acceptance)
        object.__setattr__(self, "acceptance", acceptance)
        object.__setattr__(self, "admission", Admission(self.pseudonyms, self.ttl_s))
        object.__setattr__(self, "erasures", erasures)

    async def ingest(
        self,
        tenant: str,
        server: str,
        raws: Sequence[bytes | msgspec.Raw],
        *,
        traceparent: bytes | None = None,
    ) -> Ingested:
        """Accept what can be accepted of these events, each as JSON, and return once that is durable.

        Raises Overloaded and Unavailable for all of them together, and Refused for what is not JSON.
        """
        read_events: list[Event | None] = []
        rejected: list[Reject] = []
        for index, raw in enumerate(raws):
            if index % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            try:
                read_events.append(read(raw))
            except InvalidEvent as error:
                read_events.append(None)
                rejected.append(_reject(index, error))
        # Nothing is awaited from here to the append: the stamps stand in the order of the log.
        ids: list[str | None] = []
        records: list[NewRecord] = []
        for event in read_events:
            if event is None:
                ids.append(None)
                continue
            put, record = self._stamped(event, tenant, server, traceparent)
            ids.append(put.memory_id)
            records.append(record)
        positions = await self._append(records)
        for reject in rejected:
            self.metrics.ingest_events.labels("rejected", reject.code).inc()
        return Ingested(ids, rejected, positions)

    async def put(self, tenant: str, event: Event, *, traceparent: bytes | None = None) -> str:
        """Accept one event and return its memory's id once it is durable.

        Raises InvalidEvent, Overloaded and Unavailable.
        """
        try:
            event = read(msgspec.json.encode(event))
        except InvalidEvent as error:
            self.metrics.ingest_events.labels("rejected", error.code).inc()
            raise
        put, record = self._stamped(event, tenant, DEFAULT_SERVER, traceparent)
        await self._append([record])
        return put.memory_id

    async def within(self, limits: Limits, principal: Principal, count: int) -> None:
        """Count events against the limits of whoever sends them. Raises RateLimited; then none is accepted."""
        try:
            await limits.events(principal, count)
        except RateLimited:
            self.metrics.ingest_events.labels("refused", "rate_limited").inc(count)
            raise

    async def indexed(self, positions: dict[int, int], timeout_s: float) -> bool:
        """Whether the log is processed past these offsets, waiting at most `timeout_s`."""
        try:
            return await self.watermarks.reached(positions, timeout_s)
        except Unavailable:
            return False  # the events are accepted all the same

    def _stamped(
        self, event: Event, tenant: str, server: str, traceparent: bytes | None
    ) -> tuple[events.Put, NewRecord]:
        put = self.admission.admit(event, tenant=tenant, server=server, accepted_at=self.acceptance.stamp())
        return put, events.encode(put, event_id=event.id, traceparent=traceparent)

    async def _append(self, records: Sequence[NewRecord]) -> dict[int, int]:
        count = self.metrics.ingest_events.labels
        try:
            positions = await self.acceptance.append(records)
        except Overloaded:
            count("refused", "overloaded").inc(len(records))
            raise
        except Unavailable:
            count("refused", "unavailable").inc(len(records))
            raise
        count("accepted", "").inc(len(records))
        return positions


def operations(gateway: Gateway, limits: Limits = NO_LIMITS) -> list[Operation]:
    """The routes of the gateway."""

    async def ingest(call: Call) -> Reply:
        wait = _wait(call)
        submission = await take_apart(await call.body())
        await gateway.within(limits, call.principal, len(submission.events))
        ingested = await gateway.ingest(
            call.tenant, submission.server, submission.events, traceparent=_traceparent(call.headers)
        )
        answer = Accepted(
            accepted=len(ingested.ids) - len(ingested.rejected),
            rejected=ingested.rejected,
            ids=ingested.ids,
            token=tokens.token(ingested.positions),
        )
        if wait is not None:
            answer.indexed = await gateway.indexed(ingested.positions, wait)
        return reply(answer, 200 if answer.indexed is True else 202)

    async def put(call: Call) -> Reply:
        sentence = await call.json(Sentence)
        event = Event(
            agent_id=sentence.agent_id, text=sentence.text, metadata=sentence.metadata, ttl=sentence.ttl
        )
        await gateway.within(limits, call.principal, 1)
        memory_id = await gateway.put(call.tenant, event, traceparent=_traceparent(call.headers))
        return reply(Remembered(success=True, id=memory_id), 202)

    write = partial(Operation, needs=Grant.INGEST, status=202)
    return [
        write(
            "POST",
            "/v1/events",
            ingest,
            "Events become memories",
            answer=Accepted,
            body=Events,
            params=Wait,
            also={200: "They can be found: this was waited for, and `indexed` is true"},
            topic="Writes",
            details=(
                "One bad event never costs its neighbours: it is named in `rejected`, for good. Load rejects no event:"
                " it is 429 for all of them together. At most 1,000 events, each of 16 KiB at most. After an outage"
                " send them again under the same ids."
            ),
            example=examples.EVENTS,
        ),
        write(
            "POST",
            "/memory/put",
            put,
            "Remember a sentence",
            answer=Remembered,
            body=Sentence,
            topic=OLDER,
            example=examples.PUT,
        ),
        *gateway.erasures.operations(),
    ]


def _wait(call: Call) -> float | None:
    """How many seconds to wait until the events can be found, None = not at all."""
    asked = call.params(Wait)
    return min(asked.timeout_ms, MAX_WAIT_MS) / 1000 if asked.wait is not msgspec.UNSET else None


def _reject(index: int, error: InvalidEvent) -> Reject:
    message = f"{error.path}: {error.message}" if error.path else error.message
    return Reject(index, error.code, message)


def _traceparent(headers: Headers) -> bytes | None:
    given = headers.get(b"traceparent", b"")
    return given if _TRACEPARENT.fullmatch(given) else None
