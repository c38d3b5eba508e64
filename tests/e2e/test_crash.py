"""kill -9 at random times while events arrive: every accepted event can be found exactly once."""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path

import httpx2
import pytest

from tests.processes import HASH, LorestreamProcess, running

AGENTS = 7
ROUNDS = 4
EVENTS_PER_ROUND = 400


class Producer(threading.Thread):
    """Sends numbered events, retries with the same ids, and records which were accepted."""

    def __init__(self, url: str, first: int, count: int) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.numbers = range(first, first + count)
        self.accepted: dict[int, str] = {}
        self.halt = threading.Event()

    def run(self) -> None:
        waiting = list(self.numbers)
        with httpx2.Client(timeout=5) as client:
            while waiting and not self.halt.is_set():
                batch = waiting[:13]
                try:
                    answer = client.post(
                        f"{self.url}/v1/events", json={"server": "s", "events": [_event(n) for n in batch]}
                    )
                except httpx2.TransportError:
                    self.halt.wait(0.02)
                    continue
                if answer.status_code == 202:
                    self.accepted.update(zip(batch, answer.json()["ids"], strict=True))
                    waiting = waiting[len(batch) :]


def _event(number: int) -> dict[str, object]:
    return {"agent_id": f"npc:{number % AGENTS}", "id": f"e{number}", "text": f"event number {number}"}


def _memory_ids(url: str) -> dict[str, list[str]]:
    """The ids of all memories by their text, over all agents, read page by page."""
    found: dict[str, list[str]] = {}
    with httpx2.Client(timeout=10) as client:
        for agent in range(AGENTS):
            cursor: str | None = None
            while True:
                params = {"limit": "100"} | ({"cursor": cursor} if cursor else {})
                page = client.get(f"{url}/v1/agents/npc:{agent}/memories", params=params).json()
                for memory in page["memories"]:
                    found.setdefault(memory["text"], []).append(memory["id"])
                cursor = page["next_cursor"]
                if cursor is None:
                    break
    return found


def _wait_until_indexed(url: str) -> None:
    """Wait until all records of the log are indexed."""
    answer = httpx2.post(
        f"{url}/v1/events?wait=indexed&timeout_ms=30000",
        json={"events": [{"agent_id": "npc:last", "text": "the last one"}]},
        timeout=40,
    )
    assert answer.status_code == 200
    assert answer.json()["indexed"] is True


def test_every_accepted_event_is_stored_exactly_once_after_kills(tmp_path: Path) -> None:
    seed = 20_261_121
    chance = random.Random(seed)
    process = LorestreamProcess(tmp_path / "data", HASH)
    accepted: dict[int, str] = {}
    try:
        for round_number in range(ROUNDS):
            process.start()
            producer = Producer(process.url, round_number * EVENTS_PER_ROUND, EVENTS_PER_ROUND)
            producer.start()
            wanted = chance.randint(50, EVENTS_PER_ROUND - 50)
            while len(producer.accepted) < wanted and producer.is_alive():
                producer.join(0.005)
            producer.join(chance.random() * 0.2)
            process.kill()
            producer.halt.set()
            producer.join()
            assert producer.accepted, f"nothing was accepted in round {round_number} (seed {seed})"
            accepted |= producer.accepted
        process.start()
        # The producer does not know which events were accepted before a kill: all are sent again with the same ids.
        again = Producer(process.url, 0, ROUNDS * EVENTS_PER_ROUND)
        again.start()
        again.join(60)
        assert len(again.accepted) == ROUNDS * EVENTS_PER_ROUND
        assert {number: again.accepted[number] for number in accepted} == accepted
        _wait_until_indexed(process.url)
        found = _memory_ids(process.url)
    finally:
        if process.alive:
            process.kill()
    expected = {f"event number {number}": [memory_id] for number, memory_id in again.accepted.items()}
    assert found == expected, f"seed {seed}"


def test_accepted_events_survive_a_kill_without_a_retry(tmp_path: Path) -> None:
    process = LorestreamProcess(tmp_path / "data", HASH)
    try:
        process.start()
        producer = Producer(process.url, 0, 300)
        producer.start()
        producer.join(30)
        process.kill()
        process.start()
        _wait_until_indexed(process.url)
        found = _memory_ids(process.url)
    finally:
        if process.alive:
            process.kill()
    assert found == {f"event number {number}": [memory_id] for number, memory_id in producer.accepted.items()}
    assert len(found) == 300


@pytest.mark.alone
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_takes_at_most_five_seconds_and_loses_nothing(tmp_path: Path, signum: int) -> None:
    with running(tmp_path / "data", HASH) as process:
        producer = Producer(process.url, 0, 200)
        producer.start()
        producer.join(30)
        assert process.stop(signum) < 5  # the contract's bound, not a measurement
        process.start()
        _wait_until_indexed(process.url)
        assert len(_memory_ids(process.url)) == 200


@pytest.mark.soak
def test_two_hundred_kills(tmp_path: Path) -> None:
    """The long version: 200 rounds of kill and restart, at most 30,000 events."""
    seed = 20_261_122
    chance = random.Random(seed)
    process = LorestreamProcess(tmp_path / "data", HASH)
    accepted: dict[int, str] = {}
    rounds, each = 200, 150
    try:
        for round_number in range(rounds):
            process.start()
            producer = Producer(process.url, round_number * each, each)
            producer.start()
            wanted, deadline = chance.randint(0, each), time.monotonic() + 30
            while len(producer.accepted) < wanted:
                producer.join(0.002)
                assert time.monotonic() < deadline, f"round {round_number} accepts no events (seed {seed})"
            process.kill()
            producer.halt.set()
            producer.join()
            accepted |= producer.accepted
        process.start()
        _wait_until_indexed(process.url)
        found = _memory_ids(process.url)
    finally:
        if process.alive:
            process.kill()
    assert len(accepted) > rounds
    for number, memory_id in accepted.items():
        assert found.pop(f"event number {number}") == [memory_id]
    # The rest was stored, but the answer was lost in a kill; no event is stored twice.
    assert all(len(ids) == 1 for ids in found.values())
