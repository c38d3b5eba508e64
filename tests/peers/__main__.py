"""Lorestream and what people would use instead, side by side: `make bench-peers`, or `python -m tests.peers --help`.

The first run installs the peers: some minutes, 6 GB. Rounds are interleaved: in each, every contender does the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from lorestream import __version__
from lorestream.adapters.embedders.openvino_network import cpu_flags, precision
from lorestream.narrate import narrate
from tests.peers.contenders import Contender, Event, opened
from tests.peers.environments import PACKAGES
from tests.peers.page import table
from tests.peers.streams import AGENTS, deeds, distinct, played
from tests.retrieval.bench.corpus import Corpus, merged
from tests.retrieval.bench.kinds import HELD_OUT, KINDS

CONTENDERS = (
    "lorestream", "lorestream, dense", "service", "service + redis", "chroma", "langgraph", "mem0", "mcp-memory-service",
)  # fmt: skip
RECALL_KINDS = ("conversations", "journals", "places", "promises")
_MOST_QUESTIONS = 200
REPEATS = 5
"""How often each question is asked again, to measure answers from a cache."""


def measure(names: Sequence[str], *, events: int, queries: int, rounds: int, cache: Path) -> dict[str, Any]:
    """The figures of each contender: medians over the rounds, and the lowest and highest."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    corpus = merged(KINDS[kind](HELD_OUT[0]) for kind in RECALL_KINDS)
    with tempfile.TemporaryDirectory(prefix="lorestream-peers-") as folder, contextlib.ExitStack() as stack:
        noise = _noise()
        started = {
            name: stack.enter_context(opened(name, Path(folder) / str(number), cache))
            for number, name in enumerate(names)
        }
        for name, contender in started.items():
            _warm_up(contender)
            found[name]["recall_at_10"] = [_recall(contender, corpus)]
        for number in range(rounds):
            order = list(started.items())
            random.Random(number).shuffle(order)
            for name, contender in order:
                for figure, value in _round(contender, number, events, queries).items():
                    found[name].setdefault(figure, []).append(value)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "precision": precision(cpu_flags()),
            "load_average": os.getloadavg()[0],
            "noise": noise,
        },
        "versions": {"lorestream": __version__, "python": platform.python_version(), **_versions()},
        "events": events,
        "queries": queries,
        "rounds": rounds,
        "figures": {
            name: {key: _spread(values) for key, values in one.items()} for name, one in found.items()
        },
    }


def _round(contender: Contender, number: int, events: int, queries: int) -> dict[str, float]:
    asked = [
        {"agent": f"npc:{n % AGENTS}", "text": f"who saw {one.text.split(' torches')[0]}"}
        for n, one in enumerate(distinct(queries, 1000 + number))
    ]
    streams = {
        "distinct": distinct(events, number),
        "game": deeds(events, number),
        "played": played(events, number),
    }
    figures = {
        f"{name}_events_per_cpu_s": len(stream) / _cpu(contender, partial(contender.ingest, stream))
        for name, stream in streams.items()
    }
    took: list[float] = []
    figures["cold_query_cpu_ms"] = (
        1000 / queries * _cpu(contender, lambda: took.extend(contender.ask(asked)[1]))
    )
    figures["cold_query_p50_ms"] = statistics.median(took)
    again = asked * REPEATS
    took.clear()
    figures["repeated_query_cpu_ms"] = (
        1000 / len(again) * _cpu(contender, lambda: took.extend(contender.ask(again)[1]))
    )
    figures["repeated_query_p50_ms"] = statistics.median(took)
    return figures


def _cpu(contender: Contender, work: Callable[[], object]) -> float:
    before = contender.cpu_s()
    work()
    return max(contender.cpu_s() - before, 0.01)  # the kernel counts in hundredths of a second


def _warm_up(contender: Contender) -> None:
    contender.ingest(distinct(20, 99))
    contender.ask([{"agent": "npc:0", "text": "a question before the first"}])


def _recall(contender: Contender, corpus: Corpus) -> float:
    """recall@10 of the questions without a filter: the share of the memories with the answer among the first ten."""
    text_of = {
        one["id"]: one.get("text") or narrate(one["type"], one["data"], by_player=False)
        for one in corpus.events
    }
    contender.ingest([Event(one["id"], one["agent_id"], text_of[one["id"]]) for one in corpus.events])
    questions = [one for one in corpus.questions if not one.where][
        :: max(1, len(corpus.questions) // _MOST_QUESTIONS)
    ]
    found, _ = contender.ask([{"agent": one.agent_id, "text": one.query} for one in questions])
    shares = [
        len({text_of[gold] for gold in one.gold} & set(texts)) / len({text_of[gold] for gold in one.gold})
        for one, texts in zip(questions, found, strict=True)
    ]
    return statistics.mean(shares)


def _noise() -> float:
    """How many times longer a second of computing takes because of other programs: 1.0 on an idle machine."""
    began, cpu = time.perf_counter(), time.process_time()
    while time.process_time() - cpu < 1:
        sum(range(1000))
    return time.perf_counter() - began


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


def _versions() -> dict[str, str]:
    pinned = [package.partition("==") for packages in PACKAGES.values() for package in packages]
    return {name: version for name, _, version in pinned}


def main() -> None:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=CONTENDERS,
        default=CONTENDERS,
        metavar="NAME",
        help=f"of {', '.join(CONTENDERS)}",
    )
    parser.add_argument("--events", type=int, default=500, help="events of each kind in a round")
    parser.add_argument("--queries", type=int, default=60, help="questions in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("bench-peers.json"), help="where the figures go")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path.home() / ".cache/lorestream/peers",
        help="where the peers are installed",
    )
    options = parser.parse_args()
    console = Console()
    with console.status("measuring"):
        figures = measure(
            options.only,
            events=options.events,
            queries=options.queries,
            rounds=options.rounds,
            cache=options.cache,
        )
    options.json.write_text(json.dumps(figures, indent=2) + "\n")
    console.print(table(figures))
    console.print(f"written to {options.json}; docs/benchmarks.md: python -m tests.peers.page {options.json}")


if __name__ == "__main__":
    main()
