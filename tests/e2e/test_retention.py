"""Expiry, and the newest N memories per agent, in a real `lorestream up`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2

from tests.processes import HASH, LorestreamProcess, running

FAST_SWEEPER = {**HASH, "LORESTREAM_SWEEP_INTERVAL_S": "0.1"}


def send(lorestream: LorestreamProcess, first: int, count: int, **fields: Any) -> None:
    events = [
        {"agent_id": "npc:a", "text": f"{n}", "time": 1_760_000_000.0 + n, **fields}
        for n in range(first, first + count)
    ]
    answer = httpx2.post(
        f"{lorestream.url}/v1/events?wait=indexed&timeout_ms=60000", json={"events": events}, timeout=70
    )
    assert answer.json()["indexed"]


def kept(lorestream: LorestreamProcess) -> list[str]:
    return [
        one["text"] for one in httpx2.get(f"{lorestream.url}/v1/agents/npc:a/memories").json()["memories"]
    ]


def found(lorestream: LorestreamProcess) -> set[str]:
    asked = {"agent_id": "npc:a", "query": "which number", "k": 100}
    answer = httpx2.post(f"{lorestream.url}/v1/memories/search", json=asked)
    return {one["text"] for one in answer.json()["memories"]}


def test_the_newest_memories_stay_and_caches_do_not_return_others(tmp_path: Path) -> None:
    with running(tmp_path / "data", FAST_SWEEPER | {"MAX_STORED_MESSAGES": "3"}) as lorestream:
        for first in (0, 10):
            send(lorestream, first, 10)
            deadline = time.monotonic() + 60
            newest = [str(first + n) for n in (9, 8, 7)]
            # Search in a loop, so that answers are cached before the next sweep.
            while kept(lorestream) != newest or found(lorestream) != set(newest):
                assert time.monotonic() < deadline
                time.sleep(0.02)


def test_expired_memories_are_hidden_at_once_and_swept_later(tmp_path: Path) -> None:
    with running(tmp_path / "data", FAST_SWEEPER) as lorestream:
        send(lorestream, 0, 3, ttl=2)
        send(lorestream, 3, 2)
        deadline = time.monotonic() + 60
        while found(lorestream) != {"3", "4"}:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert kept(lorestream) == ["4", "3"]
        while '"memories": 3' not in lorestream.output():
            assert time.monotonic() < deadline
            time.sleep(0.02)
