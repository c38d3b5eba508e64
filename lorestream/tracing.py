"""Traces by OpenTelemetry, with the extra `otel`: one trace from a producer's request to the findable memory.

Off, and without any cost, unless a variable of OpenTelemetry asks for it: OTEL_TRACES_EXPORTER (`otlp`, `console`), or
the address of a collector in OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT (OTLP over HTTP). The
other variables of the SDK (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*) hold as well.

    request span (POST /v1/events)          parent: the caller's `traceparent`, if any
      index                                 by the worker, from its read to the findable memory; one for each record
        embed, store, finish                the batch that the record was in
    request span (POST /v1/memories/search)
      cache, embed, search, ...             the stages of lorestream_query_stage_seconds

A record of the log carries the request's span in its header `traceparent`, so the trace goes on in another process, and
in every replay. Only sampled requests make spans in workers. No span holds texts, agents or players.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

TRACEPARENT = "traceparent"
_ASKED_FOR_BY = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FLUSH_TIMEOUT_MS = 2000
_SAMPLED = "01"
_NS = 1_000_000_000

_current: ContextVar[bytes | None] = ContextVar("traceparent", default=None)


def current_traceparent() -> bytes | None:
    """The W3C header of the request that is being served; None without one, or while traces are off."""
    return _current.get()


class Tracer:
    """Makes the spans of one process."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace  # noqa: PLC0415 (the extra `otel`)
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        self._provider = provider
        self._tracer = provider.get_tracer("lorestream")
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()

    @contextlib.contextmanager
    def request(self, name: str, traceparent: str | None) -> Generator[RequestSpan]:
        """The span of a request. `traceparent`: the caller's header, if any."""
        kind = self._trace.SpanKind.SERVER
        with self._tracer.start_as_current_span(name, self._remote(traceparent), kind=kind) as span:
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            token = _current.set(carrier[TRACEPARENT].encode())
            try:
                yield RequestSpan(span.set_attribute)
            finally:
                _current.reset(token)

    @contextlib.contextmanager
    def stage(self, name: str) -> Generator[None]:
        """A stage of the current request; nothing outside of one."""
        if _current.get() is None:
            yield
            return
        with self._tracer.start_as_current_span(name):
            yield

    def indexed(self, records: Iterable[Indexed], stages: Sequence[tuple[str, float]], began: float) -> None:
        """The spans of records that became findable. `stages`: their names and ends; all times are Unix seconds."""
        for record in records:
            parent = record.traceparent.decode("latin-1")
            if not parent.endswith(f"-{_SAMPLED}"):
                continue
            span = self._tracer.start_span(
                "index",
                self._remote(parent),
                kind=self._trace.SpanKind.CONSUMER,
                start_time=int(began * _NS),
                attributes={
                    "messaging.operation.type": "process",
                    "messaging.destination.partition.id": str(record.partition),
                    "messaging.offset": record.offset,
                },
            )
            within = self._trace.set_span_in_context(span)
            start = began
            for name, end in stages:
                child = self._tracer.start_span(name, within, start_time=int(start * _NS))
                child.end(int(end * _NS))
                start = end
            span.end(int(start * _NS))

    def close(self) -> None:
        """Send what has not been sent, for at most two seconds. Blocks."""
        self._provider.force_flush(_FLUSH_TIMEOUT_MS)
        self._provider.shutdown()

    def _remote(self, traceparent: str | None) -> Context:
        return self._propagator.extract({TRACEPARENT: traceparent} if traceparent else {})


class Indexed(NamedTuple):
    """A record of the log that became findable. `traceparent`: its header of that name, empty without one."""

    traceparent: bytes
    partition: int
    offset: int


class RequestSpan:
    """What is noted of a request: `note("http.response.status_code", 202)`."""

    def __init__(self, note: Callable[[str, str | int], None]) -> None:
        self.note = note


def is_on(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a variable asks for traces."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    return exporter not in {"", "none"} or (not exporter and any(environ.get(one) for one in _ASKED_FOR_BY))


def open_tracer(environ: Mapping[str, str] = os.environ) -> Tracer | None:
    """The tracer that the environment asks for, None for none. Raises Misconfigured without the extra `otel`."""
    if not is_on(environ):
        return None
    try:
        exporter = _exporter(environ.get("OTEL_TRACES_EXPORTER") or "otlp")
        return tracer_over(exporter)
    except ImportError as error:
        raise Misconfigured(
            "traces need the extra otel: type `pip install '.[otel]'` in a checkout of Lorestream, or unset"
            " OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_ENDPOINT"
        ) from error


def tracer_over(exporter: SpanExporter) -> Tracer:
    """A tracer whose spans go to an exporter, in batches, from a thread of the SDK."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    provider = TracerProvider(resource=Resource.create({} if named else {SERVICE_NAME: "lorestream"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracer(provider)


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415

        return ConsoleSpanExporter()
    if name == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        return OTLPSpanExporter()
    raise Misconfigured(f"OTEL_TRACES_EXPORTER is {name}: otlp, console and none are known")
