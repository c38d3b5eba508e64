"""`lorestream doctor`: the checks in their order, and how they are told."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lorestream import __version__
from lorestream.cli import terminal
from lorestream.cli.doctor import checks, servers
from lorestream.cli.doctor.checks import Check, Verdict
from lorestream.cli.memories import calls
from lorestream.cli.setup import luanti
from lorestream.client import MemoryClient, Readiness, Unreachable
from lorestream.errors import LorestreamError
from lorestream.settings import Settings, load_settings
from lorestream.telemetry import set_up_logging

CANARY_TTL_S = 60
CANARY_WITHIN_S = 5.0
POLL_S = 0.2

_MARKS = {Verdict.OK: "ok", Verdict.WARNING: "warning", Verdict.FAILED: "FAILED", Verdict.SKIPPED: "-"}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at. `conf` is the Luanti server's configuration, found by itself where it is None."""

    url: str
    data_dir: Path | None
    world: Path | None
    conf: Path | None


def run(subject: Subject, *, wait_s: float | None, canary: bool, as_json: bool) -> bool:
    """Look at everything and print it; whether all is well. With `wait_s`, a lorestream must be ready by then."""
    settings = load_settings(data_dir=subject.data_dir)
    set_up_logging(settings.log_format, "error")  # what goes wrong is told as a check
    with calls.client(subject.url) as client:
        readiness = _await_ready(client, wait_s)
        found = list(_checks(subject, settings, client, readiness, needed=wait_s is not None, canary=canary))
    healthy = all(check.verdict is not Verdict.FAILED for check in found)
    if as_json:
        terminal.print_json({"healthy": healthy, "checks": found})
        return healthy
    rows = [(_MARKS[check.verdict], check.name, _told(check)) for check in found]
    terminal.print_table({"": "", "check": "", "what was seen": ""}, rows)
    terminal.print_note("all is well" if healthy else "something needs mending, see FAILED")
    return healthy


def _told(check: Check) -> str:
    return check.evidence if check.fix is None else f"{check.evidence}\n→ {check.fix}"


def _await_ready(client: MemoryClient, wait_s: float | None) -> Readiness | Unreachable:
    """How the lorestream is, as soon as it is ready or the time is over."""
    deadline = time.monotonic() + (wait_s or 0)
    while True:
        try:
            seen = client.ready()
        except Unreachable as error:
            seen = error
        if (isinstance(seen, Readiness) and seen.ok) or time.monotonic() >= deadline:
            return seen
        time.sleep(POLL_S)


def _checks(
    subject: Subject,
    settings: Settings,
    client: MemoryClient,
    readiness: Readiness | Unreachable,
    *,
    needed: bool,
    canary: bool,
) -> Iterator[Check]:
    yield checks.python()
    yield checks.data_directory(settings.data_dir)
    yield checks.open_files()
    yield from servers.checks(settings)
    yield checks.model(settings.embedder, settings.models_dir)
    if settings.embedder.kind in {"auto", "openvino"}:
        yield checks.processor()
    if isinstance(readiness, Unreachable):
        if urlsplit(subject.url).hostname in {"127.0.0.1", "localhost", "::1"}:
            yield checks.port("http", urlsplit(subject.url).port or settings.http_port)
            yield checks.port("grpc", settings.grpc_port)
        verdict = Verdict.FAILED if needed else Verdict.SKIPPED
        yield Check("lorestream", verdict, f"none answers at {subject.url}", "lorestream up")
    else:
        yield _lorestream(client, readiness)
        if canary and readiness.ok:
            yield _canary(client)
    if subject.world is not None:
        yield from luanti.checks(subject.world, subject.conf)


def _lorestream(client: MemoryClient, readiness: Readiness) -> Check:
    version = client.version()
    evidence = f"version {version} at {client.url} is {readiness.status}"
    if not readiness.ok:
        problems = [f"{part}: {what}" for part, what in readiness.checks.items() if what != "ok"]
        return Check("lorestream", Verdict.FAILED, f"{evidence}; {'; '.join(problems)}", "look at its log")
    if version != __version__:
        return Check(
            "lorestream", Verdict.WARNING, evidence, f"this command line is {__version__}: update one"
        )
    return Check("lorestream", Verdict.OK, evidence)


def _canary(client: MemoryClient) -> Check:
    """A memory that lives a minute goes the whole way: log, model, store, search."""
    agent_id, text = "lorestream:doctor", f"the canary {uuid.uuid4().hex} sings"
    started = time.perf_counter()
    try:
        receipt = client.add(
            agent_id, text, event={"type": "canary", "ttl": CANARY_TTL_S}, wait_s=CANARY_WITHIN_S
        )
        indexed = time.perf_counter()
        answer = client.search(agent_id, text, 5, after=receipt.token, wait_s=1.0)
        searched = time.perf_counter()
    except LorestreamError as error:
        return Check("canary", Verdict.FAILED, str(error), "look at the lorestream's log")
    if receipt.ids[0] not in {memory.id for memory in answer.memories}:
        waited = f"a memory was accepted but not found within {searched - started:.1f} s"
        return Check(
            "canary", Verdict.FAILED, waited, "look at the lorestream's log, and at /metrics for its lag"
        )
    evidence = (
        f"findable after {(indexed - started) * 1000:.0f} ms, found in {(searched - indexed) * 1000:.1f} ms"
    )
    return Check("canary", Verdict.OK, evidence)
