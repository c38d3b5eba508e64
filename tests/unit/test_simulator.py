"""The simulated game servers against scripted gateways, over real sockets: what is retried, and when."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import orjson
import pytest

from lorestream import tokens
from lorestream.client.exceptions import ApiError
from producers.simulator.plan import Plan, events
from producers.simulator.readers import Readers, wait_until_indexed
from producers.simulator.simulator import Simulator
from tests.processes import free_port

PLAN = Plan(servers=2, agents=10, rate=100, seconds=1, seed=3)
HANG_UP = 0
"""Used as a status: read the request, and close the connection without an answer."""


@dataclass
class Gateway:
    """Answers request n (from 0) with `script(n)`; None: accepts all events."""

    script: Callable[[int], tuple[int, Any] | None] = lambda _number: None
    delay_s: float = 0.0
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    in_flight: dict[str, int] = field(default_factory=dict)
    max_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        server = body.get("server", "")
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.moments.append(time.monotonic())
            self.in_flight[server] = self.in_flight.get(server, 0) + 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight[server])
        time.sleep(self.delay_s)
        with self.lock:
            self.in_flight[server] -= 1
        return self.script(number) or (202, accepted(body))

    def ids(self) -> list[str]:
        """The event ids of all requests, in order."""
        return [event["id"] for body in self.bodies for event in body["events"]]


def accepted(body: dict[str, Any]) -> dict[str, Any]:
    ids = [f"m-{event['id']}" for event in body["events"]]
    return {
        "accepted": len(ids),
        "rejected": [],
        "ids": ids,
        "token": tokens.token({0: len(ids)}),
        "retry_after_ms": 0,
    }


def outage(status: int, after_ms: int = 0) -> tuple[int, Any]:
    error = {"code": "unavailable", "message": "later", "retry_after_ms": after_ms}
    return status, {"error": error, "retry_after_ms": after_ms}


@contextlib.contextmanager
def listening(gateway: Gateway) -> Generator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = gateway.answer(body)
            if status == HANG_UP:
                self.close_connection = True
                return
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client no longer waits
                self.wfile.write(raw)

        def log_message(self, *arguments):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.asynccontextmanager
async def simulator(
    plan: Plan, *urls: str, timeout_s: float = 5.0, drain_s: float = 20.0, ledger: io.BytesIO | None = None
) -> AsyncIterator[Simulator]:
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx2.AsyncClient(timeout=timeout_s, trust_env=False))
            for _ in range(plan.servers)
        ]
        yield Simulator(plan, urls, clients, drain_s=drain_s, ledger=ledger)


def ids_of(plan: Plan) -> list[str]:
    return [orjson.loads(one.body)["id"] for one in events(plan)]


async def test_each_server_sends_all_events_once_in_order_and_the_ledger_has_them() -> None:
    ledger = io.BytesIO()
    with listening(Gateway()) as gateway:
        async with simulator(PLAN, gateway.url, ledger=ledger) as load:
            await load.run()
    assert load.complete
    event, request = load.results.event.milliseconds(), load.results.request.milliseconds()
    assert (
        event["p50"] > request["p50"] + 150
    )  # events wait for the next flush: a quarter of a second on average
    assert (load.results.events.accepted, load.results.events.lost, load.results.requests.retried) == (
        100,
        0,
        0,
    )
    for number, name in enumerate(("server-1", "server-2")):
        sent = [event["id"] for body in gateway.bodies if body["server"] == name for event in body["events"]]
        assert sent == [orjson.loads(one.body)["id"] for one in events(PLAN) if one.server == number]
    lines = [orjson.loads(line) for line in ledger.getvalue().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(ids_of(PLAN))
    assert all(line["memory_id"] == f"m-{line['id']}" and line["text"] for line in lines)
    assert set(lines[0]) == {"server", "agent_id", "id", "memory_id", "text"}
    assert load.results.positions == {0: max(len(body["events"]) for body in gateway.bodies)}


async def test_latencies_are_measured_from_the_intended_times() -> None:
    plan = Plan(servers=1, agents=5, rate=50, seconds=2, seed=1)
    with listening(Gateway(delay_s=0.8)) as gateway:
        async with simulator(plan, gateway.url) as load:
            await load.run()
    assert gateway.max_in_flight == 1
    assert gateway.ids() == ids_of(plan)
    # Due every 0.5 s, answered every 0.8 s: the n-th request waits 0.3 s longer than the one before.
    answer, request = load.results.answer.milliseconds(), load.results.request.milliseconds()
    assert answer["max"] >= 800
    assert request["max"] >= 800 + 3 * 300 - 50
    assert load.results.event.milliseconds()["max"] >= request["max"]
    assert load.results.flush_wait.milliseconds()["max"] <= 500
    assert load.backlog_peak > 20
    assert load.results.sender_late.milliseconds()["p50"] < 250


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (outage(503), "http_503"),
        (outage(429), "http_429"),
        ((502, b"<html>"), "http_502"),
        ((HANG_UP, None), "cut"),
        ((200, {"hello": "world"}), "not_lorestream"),
    ],
)
async def test_a_retry_has_the_same_ids_in_the_same_order(answer: tuple[int, Any], kind: str) -> None:
    plan = Plan(servers=1, agents=10, rate=100, seconds=1, seed=3)
    with listening(Gateway(script=lambda number: answer if number in {1, 2} else None)) as gateway:
        async with simulator(plan, gateway.url) as load:
            await load.run()
    first, *tries = [[event["id"] for event in body["events"]] for body in gateway.bodies]
    assert tries[0] == tries[1] == tries[2]
    assert first + [event_id for ids in tries[2:] for event_id in ids] == ids_of(plan)
    assert load.results.requests.errors == {kind: 2}
    assert load.results.requests.retried == 2
    assert load.results.events.retried == 2 * len(tries[0])
    assert (load.results.events.accepted, load.results.events.lost) == (100, 0)


async def test_a_request_that_times_out_is_retried() -> None:
    plan = Plan(servers=1, agents=10, rate=100, seconds=0.4, seed=3)
    gateway = Gateway()

    def first_is_slow(number: int) -> None:
        time.sleep(1.0 if number == 0 else 0.0)

    gateway.script = first_is_slow
    with listening(gateway):
        async with simulator(plan, gateway.url, timeout_s=0.3) as load:
            await load.run()
    assert load.results.requests.errors["timeout"] >= 1
    assert gateway.bodies[0] == gateway.bodies[1]
    assert (load.results.events.accepted, load.results.events.lost) == (40, 0)


async def test_retry_after_is_honoured_after_a_refusal_and_after_an_acceptance() -> None:
    plan = Plan(servers=1, agents=10, rate=100, seconds=1, seed=3)

    def script(number: int) -> tuple[int, Any] | None:
        if number == 0:
            return outage(503, after_ms=700)
        return (202, accepted(gateway.bodies[1]) | {"retry_after_ms": 900}) if number == 1 else None

    gateway = Gateway(script=script)
    with listening(gateway):
        async with simulator(plan, gateway.url) as load:
            await load.run()
    assert gateway.moments[1] - gateway.moments[0] >= 0.7
    assert gateway.moments[2] - gateway.moments[1] >= 0.9
    assert load.results.events.lost == 0


async def test_requests_rotate_over_gateways_and_skip_those_that_are_down() -> None:
    gone = [f"http://127.0.0.1:{free_port()}" for _ in range(7)]
    with listening(Gateway()) as one, listening(Gateway()) as other:
        async with simulator(PLAN, one.url, *gone, other.url) as load:
            await load.run()
    assert load.results.events.lost == 0
    assert set(load.results.requests.errors) == {"connect"}
    assert one.bodies
    assert other.bodies
    assert sorted(one.ids() + other.ids()) == sorted(ids_of(PLAN))
    assert (
        load.results.request.milliseconds()["max"] < 3000
    )  # with a pause before each next gateway it would be 5600


async def test_a_refused_request_loses_its_own_events_only() -> None:
    refused = (413, {"error": {"code": "too_large", "message": "no"}})
    with listening(Gateway(script=lambda number: refused if number == 0 else None)) as gateway:
        async with simulator(PLAN, gateway.url) as load:
            await load.run()
    figures, size = load.results.events, len(gateway.bodies[0]["events"])
    assert (figures.accepted, figures.refused, figures.lost, figures.left) == (100 - size, size, size, 0)
    assert load.results.requests.retried == 0
    assert len(gateway.ids()) == 100


async def test_a_rejected_event_is_not_retried_and_counted_by_code() -> None:
    def script(number: int) -> tuple[int, Any] | None:
        if number:
            return None
        answer = accepted(gateway.bodies[0])
        answer["ids"][1] = None
        reject = {"index": 1, "code": "invalid_event", "message": "bad"}
        return 202, answer | {"accepted": answer["accepted"] - 1, "rejected": [reject]}

    ledger = io.BytesIO()
    gateway = Gateway(script=script)
    with listening(gateway):
        async with simulator(PLAN, gateway.url, ledger=ledger) as load:
            await load.run()
    figures = load.results.events
    assert (figures.accepted, figures.rejected, figures.lost) == (99, 1, 1)
    assert figures.rejects == {"invalid_event": 1}
    assert len(gateway.ids()) == 100
    kept = [orjson.loads(line)["id"] for line in ledger.getvalue().splitlines()]
    assert {*ids_of(PLAN)} - {*kept} == {gateway.bodies[0]["events"][1]["id"]}


async def test_a_refused_api_key_ends_the_run() -> None:
    no = (401, {"error": {"code": "unauthorized", "message": "a key is needed"}})
    with listening(Gateway(script=lambda _number: no)) as gateway:
        async with simulator(PLAN, gateway.url) as load:
            with pytest.raises(ApiError, match="a key is needed"):
                await load.run()
    assert len(gateway.bodies) <= PLAN.servers
    assert not load.complete


async def test_events_that_cannot_be_sent_in_time_are_lost() -> None:
    with listening(Gateway(script=lambda _number: outage(503))) as gateway:
        async with simulator(PLAN, gateway.url, drain_s=0.5) as load:
            await load.run()
    figures = load.results.events
    assert not load.complete
    assert (figures.scheduled, figures.accepted, figures.left, figures.lost) == (100, 0, 100, 100)
    assert 0 < figures.unsure < 100


async def test_a_stopped_run_reports_the_events_so_far() -> None:
    with listening(Gateway()) as gateway:
        async with simulator(Plan(servers=2, agents=10, rate=100, seconds=60, seed=3), gateway.url) as load:
            run = asyncio.create_task(load.run())
            while not load.results.events.accepted:
                await asyncio.sleep(0.01)
            load.stop()
            await run
    figures = load.results.events
    assert not load.complete
    assert 0 < figures.accepted <= figures.scheduled < 1000
    assert figures.left == figures.scheduled - figures.accepted


async def test_intentional_resends_are_counted_separately() -> None:
    plan = Plan(servers=2, agents=10, rate=100, seconds=1, seed=3, resend=0.2)
    ledger = io.BytesIO()
    with listening(Gateway()) as gateway:
        async with simulator(plan, gateway.url, ledger=ledger) as load:
            await load.run()
    figures = load.results.events
    assert (figures.accepted, figures.lost) == (100, 0)
    assert figures.resent == len(gateway.ids()) - 100 > 5
    assert len(ledger.getvalue().splitlines()) == 100


async def test_searches_keep_their_rate_if_answers_are_slow() -> None:
    found = (200, {"memories": [], "cache": "hit", "fresh": True, "took_ms": 1})
    plan = Plan(servers=1, agents=10, rate=1, seconds=1, seed=3)
    with listening(
        Gateway(script=lambda number: found if number % 2 else outage(503), delay_s=0.5)
    ) as gateway:
        async with simulator(plan, gateway.url) as load, httpx2.AsyncClient(trust_env=False) as http:
            readers = Readers(plan, gateway.url, http, load.clock, rate=40, repeat=0.5)
            load.clock.start()
            await readers.run()
    assert gateway.moments[-1] - gateway.moments[0] < 2  # one after another they would take 20 s
    assert (readers.figures.asked, readers.figures.answered) == (40, 20)
    assert readers.figures.cache == {"hit": 20}
    assert readers.figures.errors == {"http_503": 20}
    asked = [(body["agent_id"], body["query"]) for body in gateway.bodies]
    assert 20 < len(set(asked)) < 40


async def test_wait_until_indexed_waits_for_the_highest_offset_of_every_partition() -> None:
    def script(number: int) -> tuple[int, Any]:
        return outage(503) if number == 0 else (200, {"memories": [], "cache": "off", "fresh": number == 2})

    with listening(Gateway(script=script)) as gateway:
        async with httpx2.AsyncClient(trust_env=False) as http:
            indexed = await wait_until_indexed(http, gateway.url, {0: 7, 3: 9}, timeout_s=20)
    assert indexed.findable
    assert len(gateway.bodies) == 3
    assert {body["after"] for body in gateway.bodies} == {tokens.token({0: 7, 3: 9})}


async def test_wait_until_indexed_reports_a_timeout() -> None:
    late = (200, {"memories": [], "cache": "off", "fresh": False})
    with listening(Gateway(script=lambda _number: late, delay_s=0.1)) as gateway:
        async with httpx2.AsyncClient(trust_env=False) as http:
            indexed = await wait_until_indexed(http, gateway.url, {0: 7}, timeout_s=0.3)
    assert not indexed.findable
    assert indexed.seconds >= 0.3
