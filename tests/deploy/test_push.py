"""The stream and a webhook over `make cluster`, while query services and a worker are killed: nothing lost, nothing doubled."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from deploy.local.cluster import Cluster
from lorestream.client import FoundMemory, MemoryClient
from tests.brokers import missing_is_skipped
from tests.webhook_receiver import receiving

SETTINGS = {"LORESTREAM_EMBEDDER__KIND": "hash", "LORESTREAM_WEBHOOKS__ALLOW_PRIVATE": "true"}
BATCHES = 60
PER_BATCH = 20
AGENTS = 17
WAIT_S = 120.0


def write(url: str, batch: int) -> list[str]:
    """Memories of one batch, sent until they are accepted; their texts."""
    numbers = range(batch * PER_BATCH, (batch + 1) * PER_BATCH)
    events = [{"id": f"{n}", "agent_id": f"npc:{n % AGENTS}", "text": f"{n}"} for n in numbers]
    while True:
        answer = httpx2.post(f"{url}/v1/events", json={"server": "s", "events": events}, timeout=30)
        if answer.status_code == 202:
            return [event["text"] for event in events]
        time.sleep(0.2)


def until(condition, what: str) -> None:
    """Wait until it holds, at most WAIT_S."""
    ends = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends, what
        time.sleep(0.1)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_no_memory_is_lost_or_doubled_while_services_are_killed(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, queries=2, settings=SETTINGS)
    with missing_is_skipped():
        cluster.start()
    received: list[FoundMemory] = []
    try:
        with receiving() as hook, MemoryClient(cluster.url, retry_timeout_s=WAIT_S) as client:
            client.create_webhook(hook.url, secret="s")
            stream = client.stream()
            began = threading.Event()

            def read() -> None:
                for memory in stream:
                    began.set()
                    if memory.text == "end":
                        return
                    received.append(memory)

            reading = threading.Thread(target=read)
            reading.start()
            sent: list[str] = []
            number = 0
            while (
                not began.is_set()
            ):  # it is not known when the stream listens: all before it are not counted
                client.add("npc:begin", f"begin {number}")
                number += 1
                time.sleep(0.2)
            for batch in range(BATCHES):
                sent += write(cluster.url, batch)
                time.sleep(0.1)
                match batch:
                    case 10:
                        cluster.queries[0].kill()
                    case 20:
                        cluster.queries[0].start()
                    case 25:
                        cluster.queries[1].kill()
                    case 30:
                        cluster.workers[0].kill()
                    case 40:
                        cluster.queries[1].start()
                        cluster.workers[0].start()
                    case _:
                        pass
            client.add("npc:end", "end", wait_s=WAIT_S)
            until(lambda: set(sent) <= {one.text for one in received}, "the stream misses memories")
            until(lambda: set(sent) <= set(hook.accepted), "the webhook misses memories")
            reading.join(WAIT_S)
            assert stream.lost == 0
            counted = Counter(one.text for one in received if not one.text.startswith("begin"))
            assert counted == Counter(sent)
            for agent in range(AGENTS):
                of_agent = [int(one.text) for one in received if one.agent_id == f"npc:{agent}"]
                assert of_agent == sorted(of_agent)
                delivered = [int(text) for text in dict.fromkeys(hook.accepted) if text.isdigit()]
                assert [n for n in delivered if n % AGENTS == agent] == of_agent
    finally:
        cluster.stop()
