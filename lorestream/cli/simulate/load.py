"""What `lorestream simulate` does: the load, its progress, its tables."""

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
import uvloop

from lorestream import __version__
from lorestream.cli import terminal
from lorestream.cli.memories import calls
from lorestream.client.models import Unreachable
from lorestream.errors import Misconfigured
from producers.simulator.plan import Gathering, Plan, events, server_name
from producers.simulator.readers import Readers, findable
from producers.simulator.report import Latencies, Report
from producers.simulator.simulator import HEAD_START_S, Simulator

TIMEOUT_S = 10.0
"""How long the Luanti mod waits for an answer."""
IDLE_CONNECTION_S = 3.0
"""Shorter than servers keep them: one that is closed just now would cost a request."""
SHOWN_EVENTS = 5
_REFRESH_S = 0.25


@dataclass(frozen=True, slots=True)
class Course:
    """How a plan is played. Rates are per second; `indexed_within_s` 0 = don't wait."""

    urls: Sequence[str]
    query_url: str
    queries: float
    repeat: float
    drain_s: float
    indexed_within_s: float
    ledger: Path | None


def play(plan: Plan, course: Course) -> Report:
    """Play the plan. Raises Unreachable where no gateway runs, ApiError where none accepts anything."""
    _check(course.urls)
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(_open(course.ledger)) if course.ledger else None
        return uvloop.run(_play(plan, course, ledger))


def _check(urls: Sequence[str]) -> None:
    """One gateway has to be there; the others may come later."""
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


async def _play(plan: Plan, course: Course, ledger: BinaryIO | None) -> Report:
    async with contextlib.AsyncExitStack() as stack:
        # A client for each game server: a pool that holds all connections is searched whole at every request.
        tls = httpx2.create_ssl_context()
        clients = [await stack.enter_async_context(_client(tls)) for _ in range(plan.servers)]
        http = await stack.enter_async_context(_client(tls))
        with contextlib.suppress(httpx2.HTTPError):  # what it imports at its first request would delay events
            await http.get(course.urls[0])
        simulator = Simulator(plan, course.urls, clients, drain_s=course.drain_s, ledger=ledger)
        readers = Readers(
            plan, course.query_url, http, simulator.pace, rate=course.queries, repeat=course.repeat
        )
        cpu = time.process_time()
        with _stopped_by_ctrl_c(simulator):
            beside = [asyncio.create_task(part) for part in (readers.run(), _progress(simulator))]
            try:
                await simulator.run()
                seconds, cpu = simulator.pace.now(), time.process_time() - cpu
                if simulator.complete:
                    await beside[0]
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
        report = _report(simulator, seconds, cpu / (seconds + HEAD_START_S))
        positions = simulator.account.positions
        if course.queries:
            report.queries = readers.figures
            report.latency_ms["query"] = readers.latency.milliseconds()
        if course.indexed_within_s and positions:
            report.indexed = await findable(
                http, course.query_url, positions, within_s=course.indexed_within_s
            )
        return report


def _client(tls: ssl.SSLContext) -> httpx2.AsyncClient:
    key = calls.api_key()
    headers = {"User-Agent": f"lorestream/{__version__}"} | (
        {"Authorization": f"Bearer {key}"} if key else {}
    )
    limits = httpx2.Limits(
        max_connections=None, max_keepalive_connections=None, keepalive_expiry=IDLE_CONNECTION_S
    )
    # A proxy of the environment would be measured instead of the gateway.
    return httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_S, limits=limits, verify=tls, trust_env=False)


@contextlib.contextmanager
def _stopped_by_ctrl_c(simulator: Simulator) -> Generator[None]:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, simulator.stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _progress(simulator: Simulator) -> None:
    with terminal.progress_bar() as bar:
        if bar.disable:
            return
        task = bar.add_task("", total=simulator.plan.events)
        while True:
            account = simulator.account
            bar.update(
                task,
                completed=account.settled,
                description=(
                    f"{max(0.0, simulator.pace.now()):.0f} s, backlog {simulator.backlog:,},"
                    f" {account.requests.retried:,} retried,"
                    f" p99 {account.request.at(0.99) * 1000:,.0f} ms"
                ),
            )
            await asyncio.sleep(_REFRESH_S)


def _report(simulator: Simulator, seconds: float, cpu_share: float) -> Report:
    plan, account = simulator.plan, simulator.account
    latencies: dict[str, Latencies] = {
        "event": account.event,
        "request": account.request,
        "flush_wait": account.flush_wait,
        "answer": account.answer,
        "sender_late": account.sender_late,
    }
    return Report(
        plan=asdict(plan) | {"events": plan.events},
        seconds=round(seconds, 3),
        complete=simulator.complete,
        lost=account.events.lost,
        events=account.events,
        requests=account.requests,
        rate={
            "intended": plan.rate,
            "sent": _per_second(account.first_sent, plan, account.last_sent),
            "accepted": _per_second(account.events.accepted, plan, account.last_accepted),
        },
        latency_ms={name: latency.milliseconds() for name, latency in latencies.items()},
        backlog={
            "peak": simulator.backlog_peak,
            "at_end": simulator.backlog_at_end,
            "left": account.events.left,
        },
        cpu_share=round(cpu_share, 3),
    )


def _per_second(number: int, plan: Plan, last: float) -> float:
    """The last batch is due up to a flush later than its events: that alone makes no rate lower."""
    return round(number / max(plan.seconds, last - plan.flush_s), 1)


def show(report: Report, *, as_json: bool) -> None:
    """Print what a run found out."""
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
        ("backlog", f"{report.backlog['peak']:,} at most, {report.backlog['at_end']:,} at the end"),
        ("simulator's CPU", f"{report.cpu_share:.0%} of a core"),
    ]
    if (queries := report.queries) is not None:
        rows.append(("questions", f"{queries.answered:,} of {queries.asked:,}{_kinds(queries.errors)}"))
        rows.append(("cache", _kinds(queries.cache).strip(" ()") or "-"))
    if report.indexed is not None:
        verdict = "all findable" if report.indexed.findable else "NOT all findable"
        rows.append(("findable", f"{verdict} {report.indexed.seconds:.2f} s after the end"))
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


def describe(plan: Plan, *, as_json: bool) -> None:
    """Print what would be sent."""
    happened, agents, requests = (Counter[str]() for _ in range(3))
    seen: set[tuple[int, str]] = set()
    first: list[dict[str, Any]] = []
    size = resent = 0
    gathering = Gathering(plan)
    for one in events(plan):
        requests.update(server_name(batch.server) for batch in gathering.add(one))
        event = orjson.loads(one.body)
        name = server_name(one.server)
        happened[name] += 1
        resent += one.again
        size += len(one.body)
        if (whose := (one.server, event["agent_id"])) not in seen:
            seen.add(whose)
            agents[name] += 1
        if len(first) < SHOWN_EVENTS:
            first.append({"at": round(one.at, 3), "server": name, "event": event})
    requests.update(server_name(batch.server) for batch in gathering.rest())
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
        f"{total['events']:,} events and {resent:,} again, in {total['requests']:,} requests,"
        f" {total['bytes_per_event']:,} bytes an event; nothing was sent"
    )
