"""`lorestream doctor`: runs all checks in order and prints the results."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from lorestream import __version__
from lorestream.admin import Failure, Outcome, Progress, Remark, Row
from lorestream.cli import terminal
from lorestream.cli.doctor import checks, servers
from lorestream.cli.doctor.checks import Check, Verdict
from lorestream.cli.doctor.machine import TASK, machine_checks
from lorestream.cli.memories import calls
from lorestream.cli.setup import luanti
from lorestream.client import (
    Forbidden,
    MemoryClient,
    NotFound,
    Readiness,
    Unauthorized,
    Unreachable,
    WrongService,
)
from lorestream.errors import LorestreamError
from lorestream.http.admin_routes import PREFIX
from lorestream.settings import Settings, load_settings
from lorestream.telemetry import set_up_logging

CANARY_TTL_S = 60
CANARY_TIMEOUT_S = 5.0
POLL_INTERVAL_S = 0.2

_OPERATOR_KEY = (
    "set LORESTREAM_API_KEY to a key with the scope operator, which `lorestream keys create --operator` makes"
)
_CALLER_KEY = (
    "set LORESTREAM_API_KEY to a key with the scopes ingest and query, which `lorestream keys create` makes"
)
_START = "lorestream up; if it runs elsewhere, set --url or LORESTREAM_URL"
_START_QUERY = "lorestream query; if it runs elsewhere, set --query-url or LORESTREAM_QUERY_URL"
_TWO_ADDRESSES = "set LORESTREAM_URL to a gateway and LORESTREAM_QUERY_URL to a query service, or both to a proxy before them"
_QUERY = "query service"
_MARKS = {Verdict.OK: "ok", Verdict.WARNING: "warning", Verdict.FAILED: "FAILED", Verdict.SKIPPED: "-"}


@dataclass(frozen=True, slots=True)
class Target:
    """What to check. `query_url` is the server for reads, None if it is that at `url`.

    `conf` is the Luanti server's configuration file; None: found next to the world.
    """

    url: str
    query_url: str | None
    data_dir: Path | None
    world: Path | None
    conf: Path | None


def run(target: Target, *, needed: bool, wait_s: float, canary: bool, as_json: bool) -> bool:
    """Run all checks and print them; return whether none failed.

    `needed`: each server must be ready within `wait_s`. `canary` writes and searches a test memory.
    """
    settings = load_settings(data_dir=target.data_dir)
    set_up_logging(settings.log_format, "error")  # failures are reported as checks
    deadline = time.monotonic() + wait_s
    with calls.client(target.url, target.query_url) as client, calls.client(client.query_url) as reader:
        readiness = _await_ready(client, deadline)
        apart = reader.url != client.url
        readers = _await_ready(reader, deadline) if apart else readiness
        found = list(_checks(target, settings, client, readiness, needed=needed))
        if apart:
            found.append(_query_service(reader, readers, needed=needed))
        if canary and all(isinstance(seen, Readiness) and seen.ok for seen in (readiness, readers)):
            found.append(_canary(client))
    if target.world is not None:
        found += luanti.checks(target.world, target.conf)
    healthy = all(check.verdict is not Verdict.FAILED for check in found)
    if as_json:
        terminal.print_json({"healthy": healthy, "checks": found})
        return healthy
    rows = [(_MARKS[check.verdict], check.name, _text(check)) for check in found]
    terminal.print_table({"": "", "check": "", "result": ""}, rows)
    terminal.print_note(
        "all checks passed" if healthy else "some checks FAILED: the lines with → say what to do"
    )
    return healthy


def _text(check: Check) -> str:
    return check.evidence if check.fix is None else f"{check.evidence}\n→ {check.fix}"


def _await_ready(client: MemoryClient, deadline: float) -> Readiness | Unreachable:
    """Poll the server until it is ready or the `deadline` of time.monotonic() has come; return its last state."""
    while True:
        try:
            seen = client.ready()
        except Unreachable as error:
            seen = error
        if (isinstance(seen, Readiness) and seen.ok) or time.monotonic() >= deadline:
            return seen
        time.sleep(POLL_INTERVAL_S)


def _checks(
    target: Target,
    settings: Settings,
    client: MemoryClient,
    readiness: Readiness | Unreachable,
    *,
    needed: bool,
) -> Iterator[Check]:
    yield checks.python()
    if isinstance(readiness, Unreachable) or settings.distributed:
        yield from machine_checks(settings)
    else:
        yield from _checks_of_running(client, settings)
    yield from servers.checks(settings)
    if isinstance(readiness, Unreachable):
        if urlsplit(target.url).hostname in {"127.0.0.1", "localhost", "::1"}:
            yield checks.port("http", urlsplit(target.url).port or settings.http_port)
            yield checks.port("grpc", settings.grpc_port)
        verdict = Verdict.FAILED if needed else Verdict.SKIPPED
        yield Check("lorestream", verdict, f"no server answers at {target.url}", _START)
    else:
        yield service(client, readiness)


def _query_service(reader: MemoryClient, readiness: Readiness | Unreachable, *, needed: bool) -> Check:
    if isinstance(readiness, Unreachable):
        verdict = Verdict.FAILED if needed else Verdict.SKIPPED
        return Check(_QUERY, verdict, f"no server answers at {reader.url}", _START_QUERY)
    return service(reader, readiness, name=_QUERY)


def _checks_of_running(client: MemoryClient, settings: Settings) -> Iterator[Check]:
    """The checks that the running Lorestream makes of itself. Skipped when it does not tell them.

    A service of the distributed shape has no route for them: then this command checks its own machine.
    """
    problem: object = None
    try:
        with contextlib.closing(client.reports(PREFIX + TASK, {})) as lines:
            for line in lines:
                match msgspec.json.decode(line, type=Progress | Remark | Row | Outcome | Failure):
                    case Row(value):
                        yield msgspec.convert(value, Check)
                    case Failure(message):
                        problem = message
                    case _:
                        pass
    except (NotFound, WrongService):
        yield from machine_checks(settings)
    except (LorestreamError, msgspec.ValidationError) as error:
        problem = error
    if problem is not None:
        needs_key = isinstance(problem, Unauthorized | Forbidden)
        yield Check(
            "machine",
            Verdict.SKIPPED,
            f"{client.url} did not report its disk and model: {problem}",
            _OPERATOR_KEY if needs_key else "see the log of the server",
        )


def service(client: MemoryClient, readiness: Readiness, name: str = "lorestream") -> Check:
    """Check that the service is ready, which parts of it do not work, and its version."""
    version = client.version()
    problems = [f"{part}: {what}" for part, what in readiness.checks.items() if what != "ok"]
    evidence = "; ".join([f"version {version} at {client.url}: {readiness.status}", *problems])
    if problems or not readiness.ok:
        verdict = Verdict.WARNING if readiness.ok else Verdict.FAILED
        return Check(name, verdict, evidence, "see the log of the server")
    if version != __version__:
        return Check(
            name,
            Verdict.WARNING,
            evidence,
            f"this command line has version {__version__}: update the older one",
        )
    return Check(name, Verdict.OK, evidence)


def _canary(client: MemoryClient) -> Check:
    """Write a test memory that expires after a minute, and search it: through log, model, store and query."""
    agent_id, text = "lorestream:doctor", f"test memory {uuid.uuid4().hex} of lorestream doctor"
    started = time.perf_counter()
    try:
        receipt = client.add(
            agent_id, text, event={"type": "canary", "ttl": CANARY_TTL_S}, wait_s=CANARY_TIMEOUT_S
        )
        indexed = time.perf_counter()
        answer = client.search(agent_id, text, 5, after=receipt.token, wait_s=1.0)
        searched = time.perf_counter()
    except Unauthorized as error:
        return Check("canary", Verdict.FAILED, str(error), _CALLER_KEY)
    except Forbidden as error:
        return Check("canary", Verdict.SKIPPED, str(error), _CALLER_KEY)
    except WrongService as error:
        return Check("canary", Verdict.FAILED, str(error), _TWO_ADDRESSES)
    except LorestreamError as error:
        return Check("canary", Verdict.FAILED, str(error), "see the log of the server")
    if receipt.ids[0] not in {memory.id for memory in answer.memories}:
        waited = f"a test memory was accepted, but not found within {searched - started:.1f} s"
        return Check(
            "canary",
            Verdict.FAILED,
            waited,
            "see the log of the server, and lorestream_consumer_lag_seconds at /metrics",
        )
    evidence = (
        f"indexed after {(indexed - started) * 1000:.0f} ms, found in {(searched - indexed) * 1000:.1f} ms"
    )
    return Check("canary", Verdict.OK, evidence)
