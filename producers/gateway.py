"""The gateway: accepts events, and answers once they are durable in the log. It keeps no state of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import msgspec

from lorestream import events, tokens
from lorestream.access.key_file import KeyScope
from lorestream.access.rate_limits import NO_RATE_LIMITS, RateLimits
from lorestream.errors import EventTooLarge, InvalidEvent, InvalidRequest
from lorestream.http.operation import OLDER_NAMES, Operation
from lorestream.http.request import ApiRequest, ApiResponse, json_response
from lorestream.identity import Pseudonyms
from lorestream.ports import (
    Clock,
    ErasureLedger,
    EventLog,
    NewRecord,
    RowReader,
    WatermarkReader,
    WebhookPost,
)
from lorestream.telemetry import Metrics
from lorestream.turns import Turns
from lorestream.wiring import GatewayParts
from producers import corrections, erasures, examples, rewinds, webhooks
from producers.admission import DEFAULT_SERVER, Admission, parse_event, split_batch
from producers.erasures import Erasures
from producers.intake import Intake, traceparent
from producers.log_writer import LogWriter
from producers.rewinds import Rewinds
from producers.schemas import (
    MAX_WAIT_MS,
    Event,
    EventsBody,
    EventsResponse,
    PutBody,
    PutResponse,
    RejectedEvent,
    WaitParams,
)
from producers.state import routes as state_routes
from producers.state.writer import StateWriter
from producers.webhooks import WebhookDesk


@dataclass(frozen=True, slots=True)
class Ingested:
    """The result of a batch. `ids`: one memory id per event, None for a rejected one.

    `positions`: the highest offset of each log partition that was written.
    """

    ids: list[str | None]
    rejected: list[RejectedEvent]
    positions: dict[int, int]


class Gateway:
    """Accepts events and erasures for the log."""

    def __init__(
        self,
        *,
        log: EventLog,
        watermarks: WatermarkReader,
        ledger: ErasureLedger,
        pseudonyms: Pseudonyms,
        metrics: Metrics,
        clock: Clock,
        ttl_s: float | None,
        last_accepted_at: float = 0.0,
        rows: RowReader,
        webhook_post: WebhookPost,
    ) -> None:
        """`ttl_s`: the default lifetime in seconds, None = for ever. `rows`: where the answers to writes are read.

        `last_accepted_at`: the latest time of acceptance in the log, in Unix seconds; new times are later.
        """
        self.log = log
        self.log_writer = LogWriter(log, clock, last_accepted_at=last_accepted_at)
        self.intake = Intake(self.log_writer, watermarks, metrics)
        self.erasures = Erasures(log, ledger, watermarks, pseudonyms, self.log_writer)
        self.rewinds = Rewinds(ledger.rewinds, self.log_writer)
        self.webhooks = WebhookDesk(ledger.webhooks, log, watermarks, pseudonyms, webhook_post, clock)
        self.state = StateWriter(self.intake, pseudonyms, rows)
        self._admission = Admission(pseudonyms, ttl_s)

    @classmethod
    def over(cls, parts: GatewayParts) -> Self:
        """The gateway over the parts of a process."""
        return cls(
            log=parts.log,
            watermarks=parts.watermarks,
            ledger=parts.ledger,
            pseudonyms=parts.pseudonyms,
            metrics=parts.metrics,
            clock=parts.steady_clock,
            ttl_s=parts.settings.ttl_s,
            last_accepted_at=parts.last_accepted_at,
            rows=parts.rows,
            webhook_post=parts.webhook_post,
        )

    async def ingest(
        self,
        tenant: str,
        server: str,
        batch: Sequence[bytes | msgspec.Raw],
        *,
        traceparent: bytes | None = None,
    ) -> Ingested:
        """Append the valid events of a batch (each as JSON) to the log, and return once they are durable.

        Raises Overloaded and Unavailable for the batch as a whole, and HttpError for an event that is not JSON.
        """
        parsed: list[Event | None] = []
        rejected: list[RejectedEvent] = []
        turns = Turns()
        for index, raw in enumerate(batch):
            await turns.next()
            try:
                parsed.append(parse_event(raw))
            except InvalidEvent as error:
                parsed.append(None)
                rejected.append(_rejected(index, error))
        # No await from here to the append: the times of acceptance must be in the order of the log.
        ids: list[str | None] = []
        records: list[NewRecord] = []
        for index, event in enumerate(parsed):
            if event is None:
                ids.append(None)
                continue
            try:
                put, record = self._admit(event, tenant, server, traceparent)
            except InvalidEvent as error:
                ids.append(None)
                rejected.append(_rejected(index, error))
                continue
            ids.append(put.memory_id)
            records.append(record)
        rejected.sort(key=lambda one: one.index)
        positions = await self.intake.append(records)
        for rejection in rejected:
            self.intake.count_rejected(rejection.code)
        return Ingested(ids, rejected, positions)

    async def put(
        self, tenant: str, event: bytes, *, server: str = DEFAULT_SERVER, traceparent: bytes | None = None
    ) -> tuple[str, dict[int, int]]:
        """Append one event (as JSON) to the log; its memory id and its offset by partition, once it is durable.

        Raises InvalidEvent, Overloaded and Unavailable, and HttpError for an event that is not JSON.
        """
        try:
            put, record = self._admit(parse_event(event), tenant, server, traceparent)
        except InvalidEvent as error:
            self.intake.count_rejected(error.code)
            raise
        return put.memory_id, await self.intake.append([record])

    def _admit(
        self, event: Event, tenant: str, server: str, traceparent: bytes | None
    ) -> tuple[events.Put, NewRecord]:
        accepted_at = self.log_writer.next_accepted_at()
        put = self._admission.admit(event, tenant=tenant, server=server, accepted_at=accepted_at)
        record = events.encode(put, event_id=event.id, traceparent=traceparent)
        # Numbers may be longer there: 1e15 becomes 1000000000000000.0.
        if len(record.value) > events.MAX_VALUE_BYTES:
            raise EventTooLarge(
                f"{len(record.value)} bytes as it is stored; that may be at most {events.MAX_VALUE_BYTES}"
            )
        return put, record


def _rejected(index: int, error: InvalidEvent) -> RejectedEvent:
    message = f"{error.path}: {error.message}" if error.path else error.message
    return RejectedEvent(index, error.code, message)


# --- HTTP ------------------------------------------------------------------------------------------------


def operations(gateway: Gateway, limits: RateLimits = NO_RATE_LIMITS) -> list[Operation]:
    """The routes of the gateway, for `lorestream.http.application.application`."""
    routes = _Routes(gateway, limits)
    write = partial(Operation, scope=KeyScope.INGEST, status=202)
    return [
        write(
            "POST",
            "/v1/events",
            routes.events,
            "Events become memories",
            response=EventsResponse,
            body=EventsBody,
            query_params=WaitParams,
            other_statuses={200: "With `wait=indexed`: the events can be found, and `indexed` is true"},
            tag="Writes",
            description=(
                "A bad event does not affect the others: it is listed in `rejected` and never accepted. An overload"
                " rejects no single event: the answer is 429 for all of them. At most 1,000 events of at most 16 KiB"
                " each, 64 KiB with `recall` false. After an outage send them again under the same ids."
            ),
            example=examples.EVENTS,
        ),
        write(
            "POST",
            "/memory/put",
            routes.put,
            "Remember a text",
            response=PutResponse,
            body=PutBody,
            tag=OLDER_NAMES,
            example=examples.PUT,
        ),
        *corrections.operations(gateway, limits),
        *erasures.operations(gateway.erasures),
        *rewinds.operations(gateway.rewinds),
        *webhooks.operations(gateway.webhooks),
        *state_routes.operations(gateway.state, limits),
    ]


class _Routes:
    def __init__(self, gateway: Gateway, limits: RateLimits) -> None:
        self._gateway = gateway
        self._limits = limits

    async def events(self, request: ApiRequest) -> ApiResponse:
        params = request.query_params(WaitParams)
        batch = await split_batch(await request.body())
        await self._gateway.intake.check_rate(self._limits, request.principal, len(batch.events))
        ingested = await self._gateway.ingest(
            request.tenant, batch.server, batch.events, traceparent=traceparent(request.headers)
        )
        response = EventsResponse(
            accepted=len(ingested.ids) - len(ingested.rejected),
            rejected=ingested.rejected,
            ids=ingested.ids,
            token=tokens.token(ingested.positions),
        )
        if params.wait is not msgspec.UNSET:
            timeout_s = min(params.timeout_ms, MAX_WAIT_MS) / 1000
            response.indexed = await self._gateway.intake.wait_until_processed(ingested.positions, timeout_s)
        return json_response(response, 200 if response.indexed is True else 202)

    async def put(self, request: ApiRequest) -> ApiResponse:
        body = await request.json(PutBody)
        if body.ttl is not None and body.ttl_seconds is not None:
            raise InvalidRequest("ttl and ttl_seconds mean the same: give one of them", path="ttl_seconds")
        metadata = body.metadata if isinstance(body.metadata, dict) else {}
        event = Event(
            agent_id=body.agent_id,
            text=body.text,
            metadata={"context": body.context, **metadata} if body.context else metadata,
            ttl=body.ttl_seconds if body.ttl is None else body.ttl,
        )
        await self._gateway.intake.check_rate(self._limits, request.principal, 1)
        memory_id, _ = await self._gateway.put(
            request.tenant, msgspec.json.encode(event), traceparent=traceparent(request.headers)
        )
        return json_response(PutResponse(success=True, id=memory_id), 202)
