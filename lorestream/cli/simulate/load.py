"""`lorestream simulate`, carried out: runs the load, shows progress, prints the report."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx2
import orjson

from lorestream import __version__, os_support, supervision
from lorestream.cli import terminal
from lorestream.cli.memories import calls
from lorestream.client.exceptions import Unreachable
from lorestream.errors import Misconfigured
from producers.simulator.plan import Batcher, Plan, events, server_name
from producers.simulator.readers import Readers, wait_until_indexed
from producers.simulator.report import Latencies, Report
from producers.simulator.simulator import START_DELAY_S, Simulator

TIMEOUT_S = 10.0
"""Timeout of a request in seconds, as in the Luanti mod."""
KEEPALIVE_S = 3.0
"""Idle connections are closed after this time, before the server closes them: that could fail a request."""
SHOWN_EVENTS = 5
_REFRESH_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a plan. `queries`: searches per second. `repeat`: the share of repeated searches.

    `drain_s`: how long to send the backlog at the end. `index_timeout_s`: how long to wait for indexing, 0 = not at all.
    """

    urls: Sequence[str]
    query_url: str
    queries: float
    repeat: float
    drain_s: float
    index_timeout_s: float
    ledger: Path | None


def run(plan: Plan, options: RunOptions) -> Report:
    """Run the plan. Raises Unreachable if no gateway answers, ApiError if the gateway refuses all events."""
    _require_gateway(options.urls)
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(_open(options.ledger)) if options.ledger else None
        return os_support.run_loop(_run(plan, options, ledger))


def _require_gateway(urls: Sequence[str]) -> None:
    """Check that one gateway answers; the others may start later. Raises Unreachable."""
    for number, url in enumerate(urls, 1):
        try:
            with calls.client(url) as client:
                client.check()
        except Unreachable:
            if number == len(urls):
                raise
        else:
            return


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise Misconfigured(f"--ledger: cannot write {path}: {error.strerror}") from error


async def _run(plan: Plan, options: RunOptions, ledger: BinaryIO | None) -> Report:
    async with contextlib.AsyncExitStack() as stack:
        # One client for each game server: httpx2 searches its whole connection pool at every request.
        tls = httpx2.create_ssl_context()
        clients = [await stack.enter_async_context(_client(tls)) for _ in range(plan.servers)]
        http = await stack.enter_async_context(_client(tls))
        with contextlib.suppress(
            httpx2.HTTPError
        ):  # the first request imports modules, which would delay events
            await http.get(options.urls[0])
        simulator = Simulator(plan, options.urls, clients, drain_s=options.drain_s, ledger=ledger)
        readers = Readers(
            plan, options.query_url, http, simulator.clock, rate=options.queries, repeat=options.repeat
        )
        cpu = time.process_time()
        with _stopped_by_ctrl_c(simulator):
            async with (
                supervision.alongside(_progress(simulator), "progress"),
                supervision.alongside(readers.run(), "readers") as reading,
            ):
                await simulator.run()
                seconds, cpu = simulator.clock.now(), time.process_time() - cpu
                if simulator.complete:
                    await reading
        report = _report(simulator, seconds, cpu / (seconds + START_DELAY_S))
        positions = simulator.results.positions
        if options.queries:
            report.queries = readers.figures
            report.latency_ms["query"] = readers.latency.milliseconds()
        if options.index_timeout_s and positions:
            report.indexed = await wait_until_indexed(
                http, options.query_url, positions, timeout_s=options.index_timeout_s
            )
        return report


def _client(tls: ssl.SSLContext) -> httpx2.AsyncClient:
    key = calls.api_key()
    headers = {"User-Agent": f"lorestream/{__version__}"} | (
        {"Authorization": f"Bearer {key}"} if key else {}
    )
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_S)
    # Without a proxy from the environment: it would be measured too.
    return httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_S, limits=limits, verify=tls, trust_env=False)


@contextlib.contextmanager
def _stopped_by_ctrl_c(simulator: Simulator) -> Generator[None]:
    os_support.on_signal(signal.SIGINT, simulator.stop)
    try:
        yield
    finally:
        os_support.off_signal(signal.SIGINT)


async def _progress(simulator: Simulator) -> None:
    with terminal.progress_bar() as bar:
        if bar.disable:
            return
        task = bar.add_task("", total=simulator.plan.events)
        while True:
            results = simulator.results
            bar.update(
                task,
                completed=results.completed,
                description=(
                    f"{max(0.0, simulator.clock.now()):.0f} s, backlog {simulator.backlog:,},"
                    f" {results.requests.retried:,} retried,"
                    f" p99 {results.request.quantile(0.99) * 1000:,.0f} ms"
                ),
            )
            await asyncio.sleep(_REFRESH_INTERVAL_S)


def _report(simulator: Simulator, seconds: float, cpu_share: float) -> Report:
    plan, results = simulator.plan, simulator.results
    latencies: dict[str, Latencies] = {
        "event": results.event,
        "request": results.request,
        "flush_wait": results.flush_wait,
        "answer": results.answer,
        "sender_late": results.sender_late,
    }
    return Report(
        plan=asdict(plan) | {"events": plan.events},
        seconds=round(seconds, 3),
        complete=simulator.complete,
        lost=results.events.lost,
        events=results.events,
        requests=results.requests,
        rate={
            "intended": plan.rate,
            "sent": _per_second(results.first_sent, plan, results.last_sent),
            "accepted": _per_second(results.events.accepted, plan, results.last_accepted),
        },
        latency_ms={name: latency.milliseconds() for name, latency in latencies.items()},
        backlog={
            "peak": simulator.backlog_peak,
            "at_end": simulator.backlog_at_end,
            "left": results.events.left,
        },
        cpu_share=round(cpu_share, 3),
    )


def _per_second(number: int, plan: Plan, last: float) -> float:
    """Events per second. The last batch is sent up to one flush interval after its events, which is not counted."""
    return round(number / max(plan.seconds, last - plan.flush_s), 1)


def print_report(report: Report, *, as_json: bool) -> None:
    """Print the results of a run."""
    if as_json:
        terminal.print_json(report)
        return
    sent, events = report.requests, report.events
    rows: list[tuple[str, str]] = [
        ("scheduled", f"{events.scheduled:,} events, {report.rate['intended']:,.1f}/s"),
        ("sent", f"{sent.sent:,} requests, events at {report.rate['sent']:,.1f}/s"),
        ("accepted", f"{events.accepted:,} events, {report.rate['accepted']:,.1f}/s"),
        ("rejected", f"{events.rejected:,}{_kinds(events.rejects)}"),
        ("refused", f"{events.refused:,}"),
        ("left", f"{events.left:,}, of which {events.unsure:,} may have been accepted"),
        ("retried", f"{sent.retried:,} requests with {events.retried:,} events{_kinds(sent.errors)}"),
        ("re-sent on purpose", f"{events.resent:,}"),
        ("backlog", f"{report.backlog['peak']:,} at its peak, {report.backlog['at_end']:,} at the end"),
        ("simulator's CPU", f"{report.cpu_share:.0%} of a core"),
    ]
    if (queries := report.queries) is not None:
        rows.append(
            ("searches", f"{queries.answered:,} answered of {queries.asked:,}{_kinds(queries.errors)}")
        )
        rows.append(("cache", _kinds(queries.cache).strip(" ()") or "-"))
    if report.indexed is not None:
        result = "all found" if report.indexed.findable else "NOT all found"
        rows.append(("indexed", f"{result}, {report.indexed.seconds:.2f} s after the end"))
    terminal.print_table({"load": "left", "": "left"}, rows)
    columns = ("p50", "p90", "p99", "p999", "max")
    lines = [
        (name.replace("_", " "), *(f"{figures[column]:,.1f}" for column in columns))
        for name, figures in report.latency_ms.items()
    ]
    terminal.print_table({"latency, ms": "left", **dict.fromkeys(columns, "right")}, lines)
    if report.lost:
        terminal.print_note(f"{report.lost:,} events were not accepted")


def _kinds(kinds: dict[str, int]) -> str:
    return f" ({', '.join(f'{number:,} {kind}' for kind, number in sorted(kinds.items()))})" if kinds else ""


def print_plan(plan: Plan, *, as_json: bool) -> None:
    """Print what a run of `plan` would send. Sends nothing."""
    happened, agents, requests = (Counter[str]() for _ in range(3))
    seen: set[tuple[int, str]] = set()
    first: list[dict[str, Any]] = []
    size = resent = 0
    batcher = Batcher(plan)
    for one in events(plan):
        requests.update(server_name(batch.server) for batch in batcher.add(one))
        event = orjson.loads(one.body)
        name = server_name(one.server)
        happened[name] += 1
        resent += one.resend
        size += len(one.body)
        if (whose := (one.server, event["agent_id"])) not in seen:
            seen.add(whose)
            agents[name] += 1
        if len(first) < SHOWN_EVENTS:
            first.append({"at": round(one.at, 3), "server": name, "event": event})
    requests.update(server_name(batch.server) for batch in batcher.flush_all())
    servers = [
        {"server": name, "events": happened[name], "agents": agents[name], "requests": requests[name]}
        for name in map(server_name, range(plan.servers))
    ]
    total = {
        "events": plan.events,
        "resent": resent,
        "requests": requests.total(),
        "bytes_per_event": round(size / max(1, plan.events + resent)),
    }
    if as_json:
        terminal.print_json({"plan": asdict(plan), **total, "servers": servers, "first": first})
        return
    rows = [
        (one["server"], *(f"{one[name]:,}" for name in ("events", "agents", "requests"))) for one in servers
    ]
    terminal.print_table({"server": "left", "events": "right", "agents": "right", "requests": "right"}, rows)
    for one in first:
        terminal.print_line(f"{one['at']:8.3f} s  {one['server']}  {orjson.dumps(one['event']).decode()}")
    terminal.print_line(
        f"{total['events']:,} events and {resent:,} resent, in {total['requests']:,} requests,"
        f" {total['bytes_per_event']:,} bytes per event; nothing was sent"
    )
