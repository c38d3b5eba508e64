"""The index built anew while players play: killed on the way, swapped, rolled back, and equal at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx2
import numpy as np
import pytest
from typer.testing import CliRunner

from engram import settings
from engram.adapters.edge_catalogue import EdgeCatalogue
from engram.catalogue import Model
from engram.cli.app import app
from engram.errors import EngramError
from engram.memories import Memory
from engram.ports import Tombstone, VectorStore
from engram.wiring import Runtime, open_runtime
from stream_workers.judgement import behind
from stream_workers.worker import Worker
from tests.conftest import HASH
from tests.fold import differences, fold, stored
from tests.freshness import Freshness
from tests.processes import EngramProcess, clean_environment, running

FIRST = "agent_memories"
AGENTS = [f"npc:{number}" for number in range(48)]
ERASED_AGENT, ERASED_PLAYER = AGENTS[3], "Wilhelmina"
BATCH = 500
PATIENCE_S = 120
OTHER_DIM = 96

Run = Callable[..., str]


@pytest.fixture
def engram(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `engram ARGUMENTS` in this process, which has to end with `code`; returns what it printed."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)

    def run(*arguments: str, url: str, code: int = 0) -> str:
        ended = CliRunner().invoke(app, arguments, env={"ENGRAM_URL": url})
        assert ended.exit_code == code, (ended.output, ended.exception)
        said = str(ended.exception) if isinstance(ended.exception, EngramError) else ""
        return ended.stdout + said + (ended.stderr if code else "")

    return run


# --- what is played --------------------------------------------------------------------------------------------


def event(number: int) -> dict[str, Any]:
    """Every seventh is a player's, every 97th lives a second."""
    return {
        "id": f"e{number}",
        "agent_id": AGENTS[number % len(AGENTS)],
        "type": "sight",
        "text": f"event number {number} near the mill",
        "data": {"number": number},
        "player": ERASED_PLAYER if number % 7 == 0 else f"player-{number % 5}",
        "ttl": 1 if number % 97 == 0 else 0,
    }


def send(client: httpx2.Client, events: Sequence[dict[str, Any]], *, wait: bool = False) -> list[str]:
    while True:
        path = "/v1/events?wait=indexed&timeout_ms=100000" if wait else "/v1/events"
        answer = client.post(path, json={"server": "s", "events": events})
        if answer.status_code == 429:
            time.sleep(answer.json()["retry_after_ms"] / 1000)
            continue
        assert answer.status_code == (200 if wait else 202), answer.text
        return answer.json()["ids"]


def play(url: str, count: int) -> None:
    """Events, the first of them once more with other words, deletes, an agent and a player erased, a new life."""
    with httpx2.Client(base_url=url, timeout=PATIENCE_S) as client:
        ids: list[str] = []
        for first in range(0, count, BATCH):
            ids += send(client, [event(number) for number in range(first, min(first + BATCH, count))])
        send(client, [event(number) | {"text": f"once more {number}"} for number in range(BATCH)])
        for number in range(5, count, count // 60):
            agent = AGENTS[number % len(AGENTS)]
            assert client.delete(f"/v1/memories/{ids[number]}", params={"agent_id": agent}).status_code == 202
        assert client.delete(f"/v1/agents/{ERASED_AGENT}").status_code == 202
        assert client.delete(f"/v1/players/{ERASED_PLAYER}").status_code == 202
        later = [event(number) | {"player": None, "ttl": 0} for number in range(count, count + 200)]
        send(client, later, wait=True)


def reports(url: str, task: str, **arguments: object) -> Iterator[dict[str, Any]]:
    """What a task of care tells, line by line."""
    with (
        httpx2.Client(base_url=url, timeout=PATIENCE_S) as client,
        client.stream("POST", f"/v1/admin/{task}", json=arguments) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.strip():
                yield json.loads(line)


def killed_while_replaying(process: EngramProcess, to: str, told: int, **arguments: object) -> None:
    """Kill it when the replay has told so many things, and start it again."""
    with contextlib.suppress(httpx2.TransportError):
        for number, report in enumerate(reports(process.url, "replay", to=to, **arguments), start=1):
            assert report["report"] in {"remark", "progress"}, report
            if number == told:
                process.kill()
    assert not process.alive
    process.start()


# --- what is asked ---------------------------------------------------------------------------------------------

QUESTIONS = [
    {"agent_id": agent, "query": f"event number {number} near the mill", "k": 5}
    for number, agent in enumerate(AGENTS[4:44])
]


def ask(client: httpx2.Client, question: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/v1/memories/search", json=question)
    assert answer.status_code == 200, answer.text
    return answer.json()["memories"]


def ask_all(url: str) -> list[list[dict[str, Any]]]:
    with httpx2.Client(base_url=url, timeout=PATIENCE_S) as client:
        return [ask(client, question) for question in QUESTIONS]


class LiveQueries:
    """Asks at a steady pace beside everything else; `durations` in seconds, with the time at which each began."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.durations: list[tuple[float, float]] = []
        self.wrong: list[str] = []

    def p99(self, begin: float, end: float) -> float:
        """In seconds, of those that began between two times of the monotonic clock."""
        within = [took for at, took in self.durations if begin <= at < end]
        return statistics.quantiles(within, n=100)[-1] if len(within) > 1 else math.nan

    def _run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=PATIENCE_S) as client:
            for number in itertools.count():
                if self._stopping.wait(0.05):
                    return
                began = time.monotonic()
                question = QUESTIONS[number % len(QUESTIONS)] | {"query": f"unheard of {number}"}
                with contextlib.suppress(httpx2.TransportError):  # it is killed now and then
                    if (answer := client.post("/v1/memories/search", json=question)).status_code != 200:
                        self.wrong.append(answer.text)
                    self.durations.append((began, time.monotonic() - began))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE_S)


class LiveWrites:
    """A game beside everything else: 200 events a second about agents of its own, nothing is waited for."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.accepted = 0

    def _run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=PATIENCE_S) as client:
            for number in itertools.count():
                if self._stopping.wait(0.1):
                    return
                agent = f"npc:live-{number % 8}"
                events = [
                    {"id": f"{number}-{n}", "agent_id": agent, "text": f"step {n} of {number}"}
                    for n in range(20)
                ]
                with contextlib.suppress(httpx2.TransportError):
                    self.accepted += len(send(client, events))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE_S)


def turned_under_queries(url: str, turn: Callable[[str], None], count: int) -> int:
    """Ask so many questions while the alias turns to and fro; returns how often it turned."""
    expected: dict[str, list[Any]] = {}
    expected[FIRST] = ask_all(url)
    turn("other")
    expected["other"] = ask_all(url)
    turn(FIRST)
    assert ask_all(url) == expected[FIRST]
    for a, b in zip(expected[FIRST], expected["other"], strict=True):
        assert len(a) == len(b) == 5
        assert a[0] != b[0]  # scores of other vectors
    enough = threading.Event()

    def ask_on(share: range) -> list[str]:
        wrong: list[str] = []
        with httpx2.Client(base_url=url, timeout=PATIENCE_S) as client:
            for number in share:
                at = number % len(QUESTIONS)
                if number % 10 == 0:  # a batch as a whole, too
                    answer = client.post("/v1/memories/search/batch", json={"searches": QUESTIONS[:8]})
                    found = [one["memories"] for one in answer.json()["results"]]
                    allowed = [each[:8] for each in expected.values()]
                else:
                    found = ask(client, QUESTIONS[at])
                    allowed = [each[at] for each in expected.values()]
                if found not in allowed:
                    wrong.append(f"{number}: {found}")
        return wrong

    def turn_on() -> int:
        turns = 0
        while not enough.is_set() or turns < 2:
            turn(["other", FIRST][turns % 2])
            turns += 1
        if turns % 2:
            turn(FIRST)
        return turns

    with ThreadPoolExecutor(5) as pool:
        turning = pool.submit(turn_on)
        asking = [pool.submit(ask_on, range(share, count, 4)) for share in range(4)]
        try:
            wrong = [one for each in asking for one in each.result()]
        finally:
            enough.set()
        assert wrong == []
        return turning.result()


# --- what lies in the collections ------------------------------------------------------------------------------


async def contents(store: VectorStore, now: float) -> dict[tuple[str, str], Memory | Tombstone]:
    """All that lies there and has not expired."""
    found: dict[tuple[str, str], Memory | Tombstone] = {}
    after: str | None = None
    while True:
        page, after = await store.scan(after, 1000)
        for one in page:
            if isinstance(one, Tombstone):
                found[one.agent_id, one.memory_id] = one
            elif one.expires_at is None or one.expires_at > now:
                found[one.agent_id, one.id] = one
        if after is None:
            return found


async def compare(runtime: Runtime, names: Sequence[str]) -> int:
    """All are what the log comes to, level, and equal to each other; returns how many memories they hold."""
    versions = runtime.versions
    listed = {one.name: one for one in await versions.refresh()}
    opened = [await versions.version(listed[name]) for name in names]
    for version in opened:
        assert await behind(runtime, version, PATIENCE_S) == 0
    now = runtime.clock.now()
    truth = await fold(runtime.log, "the-fold")
    assert differences(truth, await stored(opened[0].store, now), {}, now) == []
    first = await contents(opened[0].store, now)
    memories = [one for one in first.values() if isinstance(one, Memory)]
    assert sum(isinstance(one, Tombstone) for one in first.values()) >= 60
    for version in opened[1:]:
        found = await contents(version.store, now)
        assert found.keys() == first.keys(), version.name
        assert [one for one in first if found[one] != first[one]] == [], version.name
        if version.embedder.model_id != opened[0].embedder.model_id:
            continue
        there, here = await opened[0].store.known(memories), await version.store.known(memories)
        pairs = [(a[0], b[0]) for a, b in zip(there, here, strict=True) if a is not None and b is not None]
        assert len(pairs) == len(memories)
        assert max(np.abs(a - b).max() for a, b in pairs) < 1e-3
    return len(memories)


async def compared(data: Path, names: Sequence[str]) -> int:
    """Open what a stopped engram has left, let its workers come to the end of the log, and compare."""
    chosen = settings.load(data_dir=data, embedder={"kind": "hash"})
    async with open_runtime(chosen) as runtime:
        worker = Worker(runtime)
        working = asyncio.create_task(worker.run())
        try:
            return await compare(runtime, names)
        finally:
            worker.stop()
            await working


@pytest.mark.parametrize(
    ("count", "at_once"),
    [
        (20_000, True),
        pytest.param(200_000, False, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_built_anew_under_load(tmp_path: Path, engram: Run, count: int, at_once: bool) -> None:
    data = tmp_path / "engram"
    with running(data, HASH) as process:
        url = process.url

        def turn(to: str) -> None:
            for report in reports(url, "alias-swap", to=to):
                assert report["report"] == "outcome", report

        def replay_same() -> dict[str, Any]:
            return list(reports(url, "replay", to="same"))[-1]["value"]

        with LiveQueries(url) as live, LiveWrites(url) as writes, Freshness(url) as fresh:
            play(url, count)
            played = time.monotonic()
            time.sleep(count / 10_000)  # something to compare the queries with; no assertion depends on it
            began = time.monotonic()
            killed_while_replaying(process, "other", 2, dim=OTHER_DIM)
            killed_while_replaying(process, "other", 4)
            resumed = time.monotonic()
            with ThreadPoolExecutor(1) as pool:  # two at once do each other no harm
                same = pool.submit(replay_same) if at_once else None
                outcome = json.loads(engram("replay", "--to", "other", "--json", url=url))
                ended = time.monotonic()
            second = same.result() if same else replay_same()
            assert (outcome["gate"], outcome["reasons"]) == ("passed", [])
            assert (outcome["model"], outcome["behind"]) == (f"hash-v1-{OTHER_DIM}", 0)
            assert (second["gate"], second["recall_at_10"]) == ("passed", 1.0)
            assert turned_under_queries(url, turn, 1000) >= 2
            engram("alias", "swap", "other", url=url)
            engram("alias", "rollback", url=url)
        assert live.wrong == []
        assert fresh.stale == []
        assert fresh.finished > 10
        assert writes.accepted > 0
        listed = json.loads(engram("alias", "list", "--json", url=url))["collections"]
        states = [(one["name"], one["searched"], one["whole"]) for one in listed]
        assert states == [(FIRST, True, True), ("other", False, True), ("same", False, True)]
        process.stop()
    memories = asyncio.run(compared(data, [FIRST, "other", "same"]))
    print(
        f"{count:,} events, {memories:,} memories: the last run of the replay took {ended - resumed:.1f} s; p99 of"
        f" live queries {live.p99(played, began) * 1000:.1f} ms before, {live.p99(resumed, ended) * 1000:.1f} ms"
        f" during it; {len(live.durations):,} queries, {fresh.finished:,} finished writes"
    )


# --- what is refused -------------------------------------------------------------------------------------------


async def leave_one_half(data: Path) -> None:
    """A collection whose replay was broken off, in the directory of an engram that does not run."""
    catalogue = EdgeCatalogue(data / "store", FIRST)
    await catalogue.first(Model("hash-v1-384", 384))
    await catalogue.make("half", Model("hash-v1-384", 384, "hash"), "run")
    await catalogue.close_all()


def test_what_would_do_harm_is_refused_and_changes_nothing(tmp_path: Path, engram: Run) -> None:
    asyncio.run(leave_one_half(tmp_path / "engram"))
    with running(tmp_path / "engram", HASH) as process:
        url = process.url
        with httpx2.Client(base_url=url, timeout=PATIENCE_S) as client:
            send(client, [event(number) | {"ttl": 0} for number in range(480)], wait=True)
        answers = ask_all(url)

        def collections() -> list[tuple[str, bool, bool, int]]:
            listed = json.loads(engram("alias", "list", "--json", url=url))["collections"]
            return [(one["name"], one["searched"], one["whole"], one["memories"]) for one in listed]

        def refused(*arguments: str, code: int = 1) -> str:
            before = [one[:3] for one in collections()]
            said = engram(*arguments, url=url, code=code)
            assert [one[:3] for one in collections()] == before
            return said

        assert [one[0] for one in collections()] == [FIRST, "half"]
        assert "searched at present" in refused("replay", "--to", FIRST)
        assert "the log begins later" in refused("replay", "--to", "x", "--from", "2001-01-01")
        assert "to" in refused("replay", "--to", "../x")
        assert "is no time" in refused("replay", "--to", "x", "--from", "yesterday", code=2)
        assert "dim" in refused("replay", "--to", "x", "--dim", "0", code=2)
        assert f"there is no collection x: there are {FIRST}, half" in refused("alias", "swap", "x")
        assert "is searched already" in refused("alias", "swap", FIRST)
        assert "not whole: `engram replay --to half`" in refused("alias", "swap", "half")
        assert "0 collections could be meant" in refused("alias", "swap")
        assert "nothing to go back to" in refused("alias", "rollback")
        assert "is searched" in refused("drop", FIRST, "--yes")
        assert "there is no collection x" in refused("drop", "x", "--yes")
        refused("drop", "half", code=2)  # nobody said yes
        engram("drop", "half", "--dry-run", url=url)
        engram("drop", "half", "--yes", url=url)
        assert collections() == [(FIRST, True, True, 480)]

        assert '"passed"' in engram("replay", "--to", "half", "--json", url=url)  # the name is free
        assert "holds everything already" in refused("replay", "--to", "half")
        engram("alias", "swap", url=url)
        assert "searches may still be under way" in refused("drop", FIRST, "--yes")
        assert ask_all(url) == answers
        engram("cache", "clear", url=url)
        engram("alias", "rollback", url=url)
        assert ask_all(url) == answers
        assert sorted(collections()) == [(FIRST, True, True, 480), ("half", False, True, 480)]

        # From a time on: what is left out is said, and nobody expects it.
        with httpx2.Client(base_url=url, timeout=PATIENCE_S) as client:
            since = time.time()
            send(client, [event(number) | {"ttl": 0} for number in range(480, 500)], wait=True)
        told = list(reports(url, "replay", to="late", since=since))
        assert "480 records from before that time are left out" in told[0]["text"]
        assert told[-1]["value"]["memories"] == {"new": 20, "searched": 500}
        assert told[-1]["value"]["gate"] == "passed"
