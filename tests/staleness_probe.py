"""A client that writes, waits until the write is indexed, and reads: every answer must contain that write."""

from __future__ import annotations

import itertools
import threading
import time
from types import TracebackType
from typing import Self

import httpx2

MEMORIES_PER_AGENT = 60
"""All memories of an agent fit into one search."""


class StalenessProbe:
    """Runs in a thread during a test. `completed`: number of indexed writes; `stale`: answers that lacked one."""

    def __init__(self, url: str, *, name: str = "npc:fresh", pause_s: float = 0.1) -> None:
        self._url = url
        self._name = name
        self._pause_s = pause_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.completed = 0
        self.stale: list[str] = []
        self.hits = 0
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(90)

    def _run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=80) as client:
            for number in itertools.count():
                if self._stopping.is_set():
                    return
                try:
                    self._round(client, f"{self._name}-{number // MEMORIES_PER_AGENT}", number)
                except httpx2.TransportError as error:
                    self.errors.append(repr(error))
                time.sleep(self._pause_s)

    def _round(self, client: httpx2.Client, agent: str, number: int) -> None:
        self._search(client, agent)  # caches an answer that is stale after the write
        event = {"agent_id": agent, "id": str(number), "text": f"note {number}"}
        body = {"server": "freshness", "events": [event]}
        written = client.post("/v1/events?wait=indexed&timeout_ms=65000", json=body)
        if written.status_code != 200:
            return  # not accepted, or not indexed in time: no guarantee
        self.completed += 1
        [memory_id] = written.json()["ids"]
        for _ in range(2):
            answer = self._search(client, agent)
            if answer is not None and memory_id not in {memory["id"] for memory in answer["memories"]}:
                self.stale.append(f"{memory_id} (note {number}) is missing in a {answer['cache']}")

    def _search(self, client: httpx2.Client, agent: str) -> dict | None:
        answer = client.post("/v1/memories/search", json={"agent_id": agent, "query": "note", "k": 100})
        if answer.status_code != 200:
            if answer.status_code != 503:
                self.errors.append(answer.text)
            return None
        found = answer.json()
        self.hits += found["cache"] == "hit"
        return found
