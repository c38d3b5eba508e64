"""One interface to Lorestream and to its peers: take in events, answer questions; and what CPU time that took."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from deploy.local.process import free_port
from deploy.local.redis_server import RedisServer
from lorestream.adapters.embedders.model_preparation import find_source
from tests.models import REAL_MODEL, models_dir
from tests.peers.environments import environment
from tests.processes import LorestreamProcess, cpu_s
from tests.qdrant_stand_in.process import StandIn

PROGRAM = Path(__file__).with_name("program.py")
K = 10
BATCH = 100
"""Events in a request."""
_TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Event:
    """`sent`: what a game sends for it, apart from the id and the agent; None: only the text.

    Lorestream gets that, and writes the text itself; the others get the text.
    """

    id: str
    agent: str
    text: str
    sent: Mapping[str, Any] | None = None


Question = dict[str, str]
"""`agent`, `text`."""


class Contender(ABC):
    """A memory that runs in a process of its own."""

    pid: int

    @abstractmethod
    def ingest(self, events: Sequence[Event]) -> None:
        """Take in events; returns when all can be found."""

    @abstractmethod
    def ask(self, questions: Sequence[Question]) -> tuple[list[list[str]], list[float]]:
        """The ids found for each question, the best first; and the milliseconds each took, one after the other."""

    def cpu_s(self) -> float:
        """Seconds of CPU time of its process so far, all threads."""
        return cpu_s(self.pid)


class Lorestream(Contender):
    """`lorestream up`: gateway, log, worker, store, cache and searches in one process, over HTTP."""

    def __init__(self, process: LorestreamProcess, pid: int, mode: str) -> None:
        self.pid = pid
        self._http = httpx2.Client(base_url=process.url, timeout=_TIMEOUT_S)
        self._mode = mode

    def ingest(self, events: Sequence[Event]) -> None:
        body: list[dict[str, Any]] = []
        for start in range(0, len(events), BATCH):
            part = events[start : start + BATCH]
            body = [{**(one.sent or {"text": one.text}), "id": one.id, "agent_id": one.agent} for one in part]
            self._http.post("/v1/events", json={"server": "peer", "events": body}).raise_for_status()
        # Sent again, which stores nothing, until it can be found, and with it all before it.
        last = {"server": "peer", "events": body[-1:]}
        wait = {"wait": "indexed", "timeout_ms": 10_000}
        while not self._http.post("/v1/events", json=last, params=wait).raise_for_status().json()["indexed"]:
            pass

    def ask(self, questions: Sequence[Question]) -> tuple[list[list[str]], list[float]]:
        found, took = [], []
        for one in questions:
            body = {"agent_id": one["agent"], "query": one["text"], "k": K, "mode": self._mode}
            began = time.perf_counter()
            answer = self._http.post("/v1/memories/search", json=body)
            took.append(1000 * (time.perf_counter() - began))
            found.append([hit["text"] for hit in answer.raise_for_status().json()["memories"]])
        return found, took


class Service(Contender):
    """The straightforward service, over HTTP. What its Qdrant and Redis take is not counted."""

    def __init__(self, pid: int, url: str) -> None:
        self.pid = pid
        self._http = httpx2.Client(base_url=url, timeout=_TIMEOUT_S)

    def ingest(self, events: Sequence[Event]) -> None:
        for start in range(0, len(events), BATCH):
            self._http.post("/events", json=_plain(events[start : start + BATCH])).raise_for_status()

    def ask(self, questions: Sequence[Question]) -> tuple[list[list[str]], list[float]]:
        found, took = [], []
        for one in questions:
            began = time.perf_counter()
            answer = self._http.post("/search", json=one)
            took.append(1000 * (time.perf_counter() - began))
            found.append([hit["text"] for hit in answer.raise_for_status().json()])
        return found, took


class Library(Contender):
    """A library in a process that does nothing else; it is asked over a pipe, which costs it less than HTTP would."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process
        self._texts: dict[str, str] = {}
        self._read()

    def ingest(self, events: Sequence[Event]) -> None:
        self._texts |= {one.id: one.text for one in events}
        self._send({"ingest": _plain(events)})

    def ask(self, questions: Sequence[Question]) -> tuple[list[list[str]], list[float]]:
        answer = self._send({"ask": list(questions)})
        return [[self._texts[id_] for id_ in ids] for ids in answer["found"]], answer["ms"]

    def _send(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the program of a peer has ended: see what it wrote above")
        return json.loads(line)


def _plain(events: Sequence[Event]) -> list[dict[str, str]]:
    return [{"id": one.id, "agent": one.agent, "text": one.text} for one in events]


@contextlib.contextmanager
def opened(name: str, directory: Path, cache: Path) -> Iterator[Contender]:
    """Start a contender with an empty memory."""
    directory.mkdir(parents=True)
    model = str(find_source(REAL_MODEL, report=print, scratch=cache).directory)
    match name:
        case "lorestream" | "lorestream, dense":
            variables = {
                "LORESTREAM_MODELS_DIR": str(models_dir()),
                "LORESTREAM_EMBEDDER__THREADS": "1",
                "LORESTREAM_LOG_LEVEL": "warning",
            }
            process = LorestreamProcess(directory / "data", variables)
            process.start()
            try:
                yield Lorestream(process, process.pid, "dense" if "dense" in name else "hybrid")
            finally:
                process.stop()
        case "service" | "service + redis":
            with StandIn(directory) as qdrant, RedisServer(directory / "redis") as redis:
                addresses = [qdrant.url, str(qdrant.grpc_port), *([redis.url] if "redis" in name else [])]
                port = free_port()
                command = [
                    str(environment("service", cache)),
                    str(PROGRAM),
                    "service",
                    model,
                    str(directory),
                    *addresses,
                ]
                with _started(command, PORT=str(port)) as child:
                    url = f"http://127.0.0.1:{port}"
                    _wait(url, child)
                    yield Service(child.pid, url)
        case _:
            command = [str(environment(name, cache)), str(PROGRAM), name, model, str(directory)]
            with _started(command) as child:
                yield Library(child)


@contextlib.contextmanager
def _started(command: list[str], **extra: str) -> Iterator[subprocess.Popen[str]]:
    variables = {**os.environ, **extra, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def _wait(url: str, child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        with contextlib.suppress(httpx2.TransportError):
            httpx2.get(f"{url}/docs")
            return
        time.sleep(0.2)
    raise RuntimeError(f"the service at {url} did not start")
