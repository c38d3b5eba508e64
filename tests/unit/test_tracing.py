"""Traces: of a write until its memory can be found, and of a query, sent to a collector over OTLP."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lorestream import tracing
from lorestream.errors import Misconfigured
from tests.whole_app import open_app

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """The address of a server that takes OTLP over HTTP, and the spans that it got."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            request = ExportTraceServiceRequest.FromString(
                self.rfile.read(int(self.headers["Content-Length"]))
            )
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_write_is_one_trace_until_its_memory_can_be_found_and_a_query_shows_its_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (url, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        async with open_app(tmp_path) as app:
            event = {"agent_id": "npc:a", "text": "iron"}
            await app.ask(
                "POST",
                "/v1/events?wait=indexed",
                json={"events": [event]},
                headers={"traceparent": f"00-{TRACE}-{CALLER}-01"},
            )
            unsampled = {"traceparent": f"00-{TRACE[::-1]}-{CALLER}-00"}
            await app.ask("POST", "/v1/events?wait=indexed", json={"events": [event]}, headers=unsampled)
            await app.ask("POST", "/v1/memories/search", json={"agent_id": "npc:a", "query": "iron"})
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)

    def path(span: Any) -> list[str]:
        above = by_id.get(span.parent_span_id)
        return [*(path(above) if above else []), span.name]

    written = [span for span in spans if span.trace_id.hex() == TRACE]
    assert sorted("|".join(path(span)) for span in written) == [
        "POST /v1/events",
        "POST /v1/events|index",
        "POST /v1/events|index|embed",
        "POST /v1/events|index|finish",
        "POST /v1/events|index|store",
    ]
    [request] = [span for span in written if span.name == "POST /v1/events"]
    assert request.parent_span_id.hex() == CALLER
    assert {one.key: one.value.int_value for one in request.attributes}["http.response.status_code"] == 200
    [index] = [span for span in written if span.name == "index"]
    assert request.start_time_unix_nano <= index.start_time_unix_nano <= index.end_time_unix_nano
    read = {"|".join(path(span)) for span in spans if span not in written}
    assert {"POST /v1/memories/search", "POST /v1/memories/search|search"} <= read
    assert not [one for one in read if one.startswith("POST /v1/events")]
    texts = " ".join(str(span) for span in spans)
    assert "npc:a" not in texts
    assert "iron" not in texts


def test_traces_are_off_unless_a_variable_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not tracing.is_on({})
    assert not tracing.is_on({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})
    assert not tracing.is_on({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"})
    assert tracing.is_on({"OTEL_TRACES_EXPORTER": "otlp"})
    assert tracing.is_on({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})
    assert tracing.open_tracer({}) is None
    with pytest.raises(Misconfigured, match="OTEL_TRACES_EXPORTER is jaeger"):
        tracing.open_tracer({"OTEL_TRACES_EXPORTER": "jaeger"})
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(Misconfigured, match=r"pip install '\.\[otel\]'"):
        tracing.open_tracer({"OTEL_TRACES_EXPORTER": "otlp"})
