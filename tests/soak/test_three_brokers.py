"""Kafka with three brokers and three copies, two of which confirm a write: one broker after the other is killed."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.cluster import Cluster
from tests.brokers import missing_is_skipped

SETTINGS = {
    "LORESTREAM_EMBEDDER__KIND": "hash",
    "LORESTREAM_EMBEDDER__DIM": "32",
    "LORESTREAM_LOG__REPLICATION": "3",
    "LORESTREAM_LOG__PARTITIONS": "6",
    "LORESTREAM_LOG__SESSION_TIMEOUT_S": "6",
}
AGENTS = 12
BATCH = 20
OUTAGE_S = 30.0
"""A dead broker is noticed after 3 s, and its partitions get another leader; the clients look for it at intervals."""


class Sender(threading.Thread):
    """Sends batches one after the other, each until it is accepted."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.accepted: dict[str, int] = {}
        """Memory id -> number of the event."""
        self.longest_s = 0.0
        self._url = url
        self._ending = threading.Event()

    def run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=20) as client:
            for batch in itertools.count():
                if self._ending.is_set():
                    return
                numbers = range(batch * BATCH, (batch + 1) * BATCH)
                began = time.monotonic()
                for number, id_ in zip(numbers, self._until_accepted(client, numbers), strict=True):
                    self.accepted[id_] = number
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                time.sleep(0.02)

    def _until_accepted(self, client: httpx2.Client, numbers: range) -> list[str]:
        events = [
            {"id": f"e{number}", "agent_id": f"npc:{number % AGENTS}", "text": f"event {number}"}
            for number in numbers
        ]
        while True:
            try:
                answer = client.post("/v1/events", json={"events": events})
            except httpx2.TransportError:
                continue
            if answer.status_code == 202:
                return answer.json()["ids"]
            assert answer.status_code in (429, 503), answer.text
            time.sleep(0.2)

    def stop(self) -> None:
        self._ending.set()
        self.join(60)
        assert not self.is_alive()


@pytest.mark.soak
def test_no_event_is_lost_or_doubled_when_one_of_three_brokers_is_killed(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, gateways=2, workers=2, brokers=3, settings=SETTINGS)
    with missing_is_skipped():
        cluster.start()
    try:
        sender = Sender(cluster.url)
        sender.start()
        for broker in cluster.brokers[:2]:
            before = len(sender.accepted)
            broker.kill()
            wait_for(lambda before=before: len(sender.accepted) > before + 50 * BATCH)
            broker.start()
            asyncio.run(all_copies_in_sync([one.bootstrap for one in cluster.brokers]))
        sender.stop()
        assert sender.longest_s < OUTAGE_S
        wait_for(lambda: len(stored(cluster.url)) >= len(sender.accepted))
        texts = {id_: f"event {number}" for id_, number in sender.accepted.items()}
        found = stored(cluster.url)
        assert dict(found) == texts
        assert len(found) == len(texts)
    finally:
        cluster.stop()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


async def all_copies_in_sync(bootstrap: list[str]) -> None:
    """Wait until each partition has its three copies again: only then may the next broker die."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            topics = await admin.describe_topics(["lorestream.events"])
        finally:
            await admin.close()
        partitions = [one for topic in topics for one in topic["partitions"]]
        if partitions and all(len(one["isr"]) == 3 for one in partitions):
            return
        await asyncio.sleep(0.5)
    raise AssertionError("the copies did not catch up")


def stored(url: str) -> list[tuple[str, str]]:
    """(id, text) of all memories."""
    found: list[tuple[str, str]] = []
    with httpx2.Client(base_url=url, timeout=30) as client:
        for agent in range(AGENTS):
            lines = client.get(
                f"/v1/agents/npc:{agent}/memories?limit=10000", headers={"Accept": "application/x-ndjson"}
            ).raise_for_status()
            memories = [line for line in lines.iter_lines() if line]
            assert len(memories) < 10_000
            found += [(one["id"], one["text"]) for one in map(msgspec.json.decode, memories)]
    return found
