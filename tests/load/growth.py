"""How `lorestream up` grows with its memories: time, memory and disk at 10,000, 100,000 and 1,000,000 of them.

    python -m tests.load.growth                         # 10,000 and 100,000, some minutes
    python -m tests.load.growth 10000 100000 1000000    # the million too
    python -m tests.load.growth --json growth.json && python -m tests.load.growth_page growth.json

A real process over an empty data directory, with the embedder `hash`: its vectors cost next to nothing and have 384
components as those of the default model, and exact search takes the same time over any. So what the model takes is left
out here (`make bench BENCH_ARGS=embedding` measures it). A tenth of the memories belong to one agent, 1,000 to another,
the rest to 10 to 10,000 agents by Zipf's law. Questions come one after the other, each is new, from a program on the
same machine; a latency is that of the HTTP request, and `cpu_ms` what the process spent for it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import http.client
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console

from lorestream import __version__
from tests.load.http_load import percentile
from tests.load.machine import machine
from tests.processes import HASH, LorestreamProcess, cpu_s
from tests.sentences import game_sentences

T = TypeVar("T")
SIZES = (10_000, 100_000)
LARGE, THOUSAND = "npc:large", "npc:thousand"
_BATCH = 500
_QUESTIONS = 100
_TENANT_QUESTIONS = 20
_REPLAY_S = 60.0
_ATTEMPTS = 30
_BUSY = (http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.SERVICE_UNAVAILABLE)
_MIB = 2**20


def measure_growth(
    memories: int, folder: Path, vectors: str, say: Callable[[str], None], figures: dict[str, float]
) -> None:
    """Add the figures of one size to `figures`. `folder`: an empty directory for the data. `say` is told each step."""
    process = LorestreamProcess(folder / "data", {**HASH, "LORESTREAM_STORE__VECTORS": vectors})
    process.start()
    try:
        say("ingest")
        figures |= {"memories": memories, "agents": agents_of(memories) + 2} | _ingest(process, memories)
        say("stop and start")
        figures["stop_s"] = process.stop()
        figures |= _start(process)
        say("reads")
        _reads(process, figures)
        figures["resident_mib_after_reads"] = _memory(process)["VmRSS"]
        say("snapshot")
        figures["snapshot_s"] = _took(lambda: _task(process, "snapshot", to=str(folder / "snapshot")))
        shutil.rmtree(folder / "snapshot")
        say(f"replay, {_REPLAY_S:.0f} s of it at most")
        figures |= _replay(process)
        figures["resident_mib_highest"] = _memory(process)["VmHWM"]
    finally:
        process.kill()


def agents_of(memories: int) -> int:
    """10 agents for 10,000 memories, 10,000 for a million, between them by a power law."""
    return max(1, round(10 * (memories / 10_000) ** 1.5))


def events_of(memories: int) -> Iterator[dict[str, str]]:
    """The events, in an order in which the agents are mixed; equal in each run."""
    chance = np.random.default_rng(1)
    agents = agents_of(memories)
    weights = 1 / np.arange(1, agents + 1)
    large, thousand = memories // 10, min(1000, memories // 10)
    others = chance.choice(agents, memories - large - thousand, p=weights / weights.sum())
    owners = np.concatenate([np.full(large, -1), np.full(thousand, -2), others])
    chance.shuffle(owners)
    names, ids = {-1: LARGE, -2: THOUSAND}, count()
    for number, batch in enumerate(_batches(owners.tolist())):
        for owner, text in zip(batch, game_sentences(len(batch), seed=number), strict=True):
            yield {
                "id": str(next(ids)),
                "agent_id": names.get(owner, f"npc:{owner}"),
                "text": text,
                "type": f"kind{owner % 7}",
            }


def _batches(things: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(things)
    while batch := list(islice(rest, _BATCH)):
        yield batch


# --- steps -------------------------------------------------------------------------------------------------


def _ingest(process: LorestreamProcess, memories: int) -> dict[str, float]:
    """From the first request until searches find all."""
    cpu, began = cpu_s(process.pid), time.perf_counter()
    caller, token = _Caller(process.port), ""
    for batch in _batches(events_of(memories)):
        token = caller.post("/v1/events", json.dumps({"events": batch}).encode())["token"]
    while not caller.ask({"agent_id": THOUSAND, "k": 1, "after": token, "wait_ms": 10_000})["fresh"]:
        pass
    took = time.perf_counter() - began
    return {
        "ingest_s": took,
        "ingest_events_per_s": memories / took,
        "ingest_cpu_ms_per_event": 1000 * (cpu_s(process.pid) - cpu) / memories,
        "resident_mib_after_ingest": _memory(process)["VmRSS"],
    }


def _start(process: LorestreamProcess) -> dict[str, float]:
    figures = {f"disk_mib_of_{name}": _disk(process.data, pattern) for name, pattern in _FILES.items()}
    figures["start_s"] = _took(process.start)
    memory = _memory(process)
    return figures | {
        "resident_mib_after_start": memory["VmRSS"],
        "of_which_not_files_mib": memory["RssAnon"],
    }


_FILES = {"log": "log*", "store": "store*"}


def _reads(process: LorestreamProcess, figures: dict[str, float]) -> None:
    caller = _Caller(process.port)
    questions = iter(game_sentences(20 * _QUESTIONS, seed=-1))

    def times(name: str, ask: Callable[[], object], times_: int = _QUESTIONS) -> None:
        ask()
        cpu = cpu_s(process.pid)
        taken = sorted(1000 * _took(ask) for _ in range(times_))
        figures[f"{name}.cpu_ms"] = 1000 * (cpu_s(process.pid) - cpu) / times_
        figures[f"{name}.p50_ms"] = statistics.median(taken)
        figures[f"{name}.p99_ms"] = percentile(taken, 0.99) or 0

    for agent, label in ((THOUSAND, "agent_of_1000"), (LARGE, "largest_agent")):
        for mode in ("dense", "keyword", "hybrid"):
            times(
                f"{label}.{mode}",
                lambda agent=agent, mode=mode: caller.ask(
                    {"agent_id": agent, "query": next(questions), "mode": mode, "k": 10}
                ),
            )
        times(
            f"{label}.context",
            lambda agent=agent: caller.post(
                f"/v1/agents/{agent}/context", json.dumps({"query": next(questions)}).encode()
            ),
        )
        times(f"{label}.recent", lambda agent=agent: caller.get(f"/v1/agents/{agent}/memories?limit=20"))
    times("agents", lambda: caller.get("/v1/agents?limit=100"), _TENANT_QUESTIONS)


def _replay(process: LorestreamProcess) -> dict[str, float]:
    """Fill a second collection from the log; after a minute the rate is known, and it is given up."""
    began = time.perf_counter()
    done = total = 0
    complete = False
    for report in _Caller(process.port).lines("/v1/admin/replay", {"to": "second"}):
        if report.get("report") == "progress" and report.get("unit") == "records":
            done, total = report["done"], report.get("total") or total
        elif report.get("report") == "outcome":
            complete = True
        if time.perf_counter() - began > _REPLAY_S:
            break
    took = time.perf_counter() - began
    return {
        "replay_s": took,
        "replayed": float(done),
        "replay_complete": float(complete),
        "replay_events_per_s": done / took,
    }


# --- the process -------------------------------------------------------------------------------------------


class _Caller:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=900)

    def ask(self, search: dict[str, Any]) -> Any:
        return self.post("/v1/memories/search", json.dumps(search).encode())

    def post(self, path: str, body: bytes) -> Any:
        return json.loads(self._read("POST", path, body).read())

    def get(self, path: str) -> Any:
        return json.loads(self._read("GET", path, None).read())

    def lines(self, path: str, arguments: dict[str, Any]) -> Iterator[Any]:
        """The reports of an admin task."""
        for line in self._read("POST", path, json.dumps(arguments).encode()):
            if line.strip():
                report = json.loads(line)
                assert "error" not in report, report
                yield report

    def _read(self, method: str, path: str, body: bytes | None) -> http.client.HTTPResponse:
        refusal = ""
        for _ in range(_ATTEMPTS):
            try:
                self._connection.request(method, path, body, {"Content-Type": "application/json"})
                answer = self._connection.getresponse()
            except (ConnectionError, http.client.HTTPException) as error:  # closed while it was not used
                refusal = f"{method} {path}: {error!r}"
                self._connection.close()
                continue
            if answer.status < http.HTTPStatus.BAD_REQUEST:
                return answer
            refusal = f"{method} {path}: {answer.status} {answer.read().decode()}"
            if answer.status not in _BUSY:
                break
            time.sleep(1)
        raise RuntimeError(refusal)


def _task(process: LorestreamProcess, name: str, **arguments: Any) -> list[Any]:
    return list(_Caller(process.port).lines(f"/v1/admin/{name}", arguments))


def _memory(process: LorestreamProcess) -> dict[str, float]:
    """The lines of /proc/PID/status that are sizes, in MiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    sizes = [line.split() for line in lines if line.endswith(" kB")]
    return {words[0].rstrip(":"): int(words[1]) / 1024 for words in sizes}


def _disk(directory: Path, pattern: str) -> float:
    """MiB that the files take up: some are larger than they are full."""
    found = [file for top in directory.glob(pattern) for file in (top, *top.rglob("*")) if file.is_file()]
    return sum(file.stat().st_blocks * 512 for file in found) / _MIB


def _took(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    """Measure the sizes that are named, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("memories", nargs="*", type=int, default=SIZES, help="sizes (default: 10000 100000)")
    parser.add_argument("--json", type=Path, default=Path("growth.json"), help="where the figures go")
    parser.add_argument("--folder", type=Path, help="where the data lies meanwhile (a million: 12 GB)")
    parser.add_argument(
        "--vectors", choices=("float32", "float16"), default="float32", help="how they are stored"
    )
    options = parser.parse_args()
    console = Console(stderr=True)
    found: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": machine(),
        "version": __version__,
        "vectors": options.vectors,
        "sizes": [],
    }
    for memories in options.memories:
        with tempfile.TemporaryDirectory(prefix="lorestream-growth-", dir=options.folder) as folder:

            def say(step: str, memories: int = memories) -> None:
                console.print(f"{memories:,} memories: {step}")

            figures: dict[str, float] = {}
            found["sizes"].append(figures)
            try:
                measure_growth(memories, Path(folder), options.vectors, say, figures)
            finally:  # what was measured before a failure counts
                found["machine"]["load_average"] = os.getloadavg()[0]
                options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
