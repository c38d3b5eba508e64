"""Metrics, all defined here, and the format of log lines.

Units are seconds and bytes. No label holds an agent or a player. Each `Metrics` has its own Prometheus registry and is
passed to the parts that use it, so that two instances in one process (tests) do not share values.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import sys
import time
from typing import TYPE_CHECKING, Literal, TextIO, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from lorestream import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, MutableMapping

    from lorestream.tracing import Tracer

# With the limits that alerts compare with: a quantile within a bucket is only interpolated.
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
VISIBLE_BUCKETS = (*LATENCY_BUCKETS, 30.0, 60.0, 300.0)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BACKGROUND_FAILURES = Counter(
    "lorestream_background_failures",
    "Background tasks of this process that ended with an error",
    ["task"],
    registry=None,
)
"""Counted by lorestream.supervision. Of the process, as what ProcessCollector measures: the tasks of all parts."""


class Stages:
    """Measures the stages of one kind of work: `with stages("embed"): ...`. A histogram with the label `stage`."""

    def __init__(self, durations: Histogram, tracer: Tracer | None = None) -> None:
        """`tracer`: each stage also becomes a span of the request that is being served."""
        self._durations = durations
        self._tracer = tracer
        self._observe: dict[str, Callable[[float], None]] = {}

    def __call__(self, stage: str) -> contextlib.AbstractContextManager[None]:
        """Observes how long the block takes, also when it ends with an error."""
        observe = self._observe.get(stage)
        if observe is None:
            observe = self._observe[stage] = self._durations.labels(stage).observe
        stopwatch = _Stopwatch(observe)
        return stopwatch if self._tracer is None else _both(self._tracer.stage(stage), stopwatch)


@contextlib.contextmanager
def _both(
    span: contextlib.AbstractContextManager[None], stopwatch: contextlib.AbstractContextManager[None]
) -> Generator[None]:
    with span, stopwatch:
        yield


class _Stopwatch(contextlib.AbstractContextManager[None]):
    __slots__ = ("_observe", "_started")

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._observe(time.perf_counter() - self._started)


class Metrics:
    """All metrics of a process."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        """`tracer`: makes the spans of the process; None while traces are off."""
        self.registry = CollectorRegistry()
        self.tracer = tracer
        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.ingest_events = counter(
            "lorestream_ingest_events",
            "Events received by the gateway, by result",
            "result",
            "reason",
        )
        self.ingest_duration = histogram(
            "lorestream_ingest_duration_seconds",
            "From the admission of a write until its events are durable in the log",
            LATENCY_BUCKETS,
        )
        self.event_visible = histogram(
            "lorestream_event_visible_seconds",
            "From acceptance until the memory can be found",
            VISIBLE_BUCKETS,
        )
        self.worker_stages = Stages(
            histogram(
                "lorestream_stage_duration_seconds",
                "Time spent in each stage of the pipeline",
                LATENCY_BUCKETS,
                "stage",
            )
        )
        self.batch_size = histogram("lorestream_batch_size", "Records per batch of the indexer", SIZE_BUCKETS)
        self.embed_texts = counter(
            "lorestream_embed_texts", "Texts embedded, by source of the vector", "source"
        )
        self.consumer_lag_records = gauge(
            "lorestream_consumer_lag_records", "Records between the finished offset and the end of the log"
        )
        self.consumer_lag_seconds = gauge(
            "lorestream_consumer_lag_seconds", "Age of the oldest unfinished record"
        )
        self.lost_records = counter(
            "lorestream_lost_records", "Records that retention deleted before they were read"
        )
        self.skipped_records = counter(
            "lorestream_skipped_records", "Records of the log that this version does not know", "reason"
        )
        self.dlq_records = counter("lorestream_dlq_records", "Records written to the dead letters", "reason")
        self.store_memories = gauge(
            "lorestream_store_memories",
            "Memories and records of the searched collection, measured each minute",
        )
        self.store_documents = gauge(
            "lorestream_store_documents", "Documents of the searched collection, measured each minute"
        )
        self.store_bytes = gauge(
            "lorestream_store_bytes", "Bytes of the embedded store's files, measured each minute"
        )
        self.webhook_deliveries = counter(
            "lorestream_webhook_deliveries", "Requests to webhooks, by result", "result"
        )
        self.webhook_lag_records = gauge(
            "lorestream_webhook_lag_records",
            "Records of the log between what the webhook that is behind most has got and what can be found",
        )
        self.webhooks_set_aside = gauge(
            "lorestream_webhooks_set_aside",
            "Webhooks of this process that were set aside: they get nothing until they are resumed",
        )
        self.query_duration = histogram(
            "lorestream_query_duration_seconds", "Time to answer a query", LATENCY_BUCKETS, "api", "cache"
        )
        self.query_stages = Stages(
            histogram(
                "lorestream_query_stage_seconds",
                "Time spent in each stage of a query, in the order of a search: wait, cache, embed, search, neighbours,"
                " rerank, rank, encode; of a context also excerpt",
                LATENCY_BUCKETS,
                "stage",
            ),
            tracer,
        )
        self.cache_requests = counter("lorestream_cache_requests", "Lookups in the answer cache", "result")
        self.dependency_up = gauge(
            "lorestream_dependency_up",
            "1 if a part that this service uses works, 0 if not, as /ready says",
            "dependency",
        )
        self.rebalances = counter("lorestream_rebalances", "Assignments of partitions to this worker")
        self.http_requests = counter("lorestream_http_requests", "HTTP requests answered", "route", "code")
        self.grpc_requests = counter("lorestream_grpc_requests", "gRPC calls answered", "method", "code")
        self.build_info = gauge(
            "lorestream_build_info", "Always 1, with the running versions as labels", "version", "python"
        )
        self.build_info.labels(__version__, platform.python_version()).set(1)
        self.registry.register(BACKGROUND_FAILURES)
        ProcessCollector(registry=self.registry)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)


def set_up_logging(style: Literal["auto", "json", "console"], level: str) -> None:
    """Configure structlog to write to stderr. `auto`: readable lines on a terminal, JSON otherwise.

    `level` is the name of the lowest level that is written, such as "info".
    """
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    # Plain tracebacks: rich ones block the event loop for a tenth of a second each.
    console_renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer = console_renderer if console else structlog.processors.JSONRenderer()
    # aiokafka repeats a failure up to ten times a second; the Kafka adapters log it once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if console else [structlog.processors.format_exc_info]),
            _printable if console else _unchanged,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _LossyStream(sys.stderr))),
        cache_logger_on_first_use=False,
    )


class _LossyStream:
    """A stream for log lines. A line that cannot be written is lost: the work that it reports must go on.

    Otherwise a full disk under the file of stderr, or a reader of a pipe that has ended, would end every task that logs.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def printable(text: str) -> str:
    """The text with control characters replaced: text from a game must not send escape codes to a terminal."""
    return "".join(
        char if char.isprintable() or char in " \n\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _printable(
    _logger: object, _name: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}


def _unchanged(
    _logger: object, _name: str, event: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    return event
