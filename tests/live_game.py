"""Simulated game traffic for tests: a history of events, writes and searches in the background."""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any, Self

import httpx2

AGENTS = [f"npc:{number}" for number in range(48)]
ERASED_AGENT, ERASED_PLAYER = AGENTS[3], "Wilhelmina"
BATCH_SIZE = 500
TIMEOUT_S = 120
INDEX_TIMEOUT_S = 600


def event(number: int) -> dict[str, Any]:
    """Event `number`. Every seventh is about ERASED_PLAYER, every 97th expires after a second."""
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
    """Send events until they are accepted, with `wait` until they are indexed; returns the memory ids."""
    deadline = time.monotonic() + INDEX_TIMEOUT_S
    while True:
        path = "/v1/events?wait=indexed&timeout_ms=60000" if wait else "/v1/events"
        answer = client.post(path, json={"server": "s", "events": events})
        if (
            answer.status_code in {429, 503} and time.monotonic() < deadline
        ):  # retried like a real producer, with the same ids
            time.sleep(answer.json()["retry_after_ms"] / 1000)
            continue
        if wait and answer.status_code == 202 and time.monotonic() < deadline:
            continue  # not indexed yet: send the same ids again
        assert answer.status_code == (200 if wait else 202), answer.text
        return answer.json()["ids"]


def _delete(client: httpx2.Client, path: str) -> None:
    """Delete, again until it is accepted: on a busy machine the log may be slower than the producer."""
    deadline = time.monotonic() + INDEX_TIMEOUT_S
    while (answer := client.delete(path)).status_code in {429, 503} and time.monotonic() < deadline:
        time.sleep(answer.json()["retry_after_ms"] / 1000)
    assert answer.status_code == 202, answer.text


def write_history(url: str, count: int) -> None:
    """Write a history: `count` events, some sent again with other texts, deletes, two erasures, then new events."""
    with httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
        ids: list[str] = []
        for first in range(0, count, BATCH_SIZE):
            ids += send(client, [event(number) for number in range(first, min(first + BATCH_SIZE, count))])
        send(client, [event(number) | {"text": f"once more {number}"} for number in range(BATCH_SIZE)])
        for number in range(5, count, count // 60):
            agent = AGENTS[number % len(AGENTS)]
            _delete(client, f"/v1/memories/{ids[number]}?agent_id={agent}")
        _delete(client, f"/v1/agents/{ERASED_AGENT}")
        _delete(client, f"/v1/players/{ERASED_PLAYER}")
        later = [event(number) | {"player": None, "ttl": 0} for number in range(count, count + 200)]
        send(client, later, wait=True)


class LiveWrites:
    """Writes in the background: ten requests per second of `at_once` events each, about agents of their own."""

    def __init__(self, url: str, *, at_once: int = 20) -> None:
        self._url = url
        self._at_once = at_once
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.accepted = 0

    def _run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=TIMEOUT_S) as client:
            for number in itertools.count():
                if self._stopping.wait(0.1):
                    return
                agent = f"npc:live-{number % 8}"
                events = [
                    {"id": f"{number}-{n}", "agent_id": agent, "text": f"step {n} of {number}"}
                    for n in range(self._at_once)
                ]
                with contextlib.suppress(httpx2.TransportError):
                    self.accepted += len(send(client, events))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(TIMEOUT_S)


QUERIES = [
    {"agent_id": agent, "query": f"event number {number} near the mill", "k": 5}
    for number, agent in enumerate(AGENTS[4:44])
]


def search(client: httpx2.Client, question: dict[str, Any]) -> list[dict[str, Any]]:
    """Search; returns the memories."""
    answer = client.post("/v1/memories/search", json=question)
    assert answer.status_code == 200, answer.text
    return answer.json()["memories"]


def search_all(url: str) -> list[list[dict[str, Any]]]:
    """The answers to all QUERIES."""
    with httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
        return [search(client, question) for question in QUERIES]


class LiveQueries:
    """Searches in the background, 20 per second.

    `durations`: (start, duration) of each answer, in seconds of the monotonic clock. `wrong`: the errors, except 429.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.durations: list[tuple[float, float]] = []
        self.wrong: list[str] = []

    def p99(self, begin: float, end: float) -> float:
        """The 99th percentile in seconds, of searches that started between two times of the monotonic clock."""
        within = [took for at, took in self.durations if begin <= at < end]
        return statistics.quantiles(within, n=100)[-1] if len(within) > 1 else math.nan

    def _run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=TIMEOUT_S) as client:
            for number in itertools.count():
                if self._stopping.wait(0.05):
                    return
                started = time.monotonic()
                question = QUERIES[number % len(QUERIES)] | {"query": f"new query {number}"}
                with contextlib.suppress(httpx2.TransportError):  # the server is killed now and then
                    answer = client.post("/v1/memories/search", json=question)
                    if answer.status_code == 200:
                        self.durations.append((started, time.monotonic() - started))
                    elif answer.status_code != 429:  # which the machine's load decides
                        self.wrong.append(answer.text)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(TIMEOUT_S)


class RepeatedSearches:
    """Sends all QUERIES repeatedly from four threads, to check that each answer comes from one collection only."""

    def __init__(self, url: str, *, pause_s: float = 0.0) -> None:
        self._url = url
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(first,), daemon=True) for first in range(4)]
        self._found: list[tuple[int, list[Any]]] = []
        self._failed: list[str] = []

    @property
    def count(self) -> int:
        """The number of searches so far."""
        return len(self._found) + len(self._failed)

    def wrong(self, *expected: list[list[dict[str, Any]]]) -> list[str]:
        """Errors, and answers that match no collection. `expected`: the result of `search_all` for each collection."""
        unexpected = [
            f"{number}: {found}"
            for number, found in self._found
            if found not in [each[:8] if number < 0 else each[number] for each in expected]
        ]
        return self._failed + unexpected

    def _run(self, first: int) -> None:
        with httpx2.Client(base_url=self._url, timeout=TIMEOUT_S) as client:
            for number in itertools.count(first, 4):
                if self._stopping.wait(self._pause_s):
                    return
                try:
                    if number % 10 == 0:  # a batch must also be answered by one collection
                        answer = client.post("/v1/memories/search/batch", json={"searches": QUERIES[:8]})
                        found = [one["memories"] for one in answer.json()["results"]]
                        self._found.append((-1, found))
                    else:
                        at = number % len(QUERIES)
                        self._found.append((at, search(client, QUERIES[at])))
                except Exception as error:  # noqa: BLE001 (reported to the test by `wrong`)
                    self._failed.append(repr(error))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)
