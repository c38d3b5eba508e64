"""SIGTERM while costly reads run: the process ends by itself in time, and each caller gets an answer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests import large_agent
from tests.processes import HASH, PLAYER_KEY, running

READERS = 4
"""Each of them takes all checks that one request may cause, together they take those of the process."""


def search(url: str, conditions: int, name: str) -> httpx2.Response:
    """A search with a name of its own: equal ones would share one computation."""
    filters = {"AND": [{"b": {"contains": f"{name} {number}"}} for number in range(conditions)]}
    body: dict[str, Any] = {"agent_id": large_agent.AGENT, "query": "iron", "filters": filters}
    return httpx2.post(f"{url}/v1/memories/search", json=body, timeout=60)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_stop_while_costly_reads_run(tmp_path: Path) -> None:
    large_agent.fill(tmp_path, now=time.time())
    with running(tmp_path, {**HASH, **PLAYER_KEY}) as process, ThreadPoolExecutor(READERS) as threads:
        reads = [threads.submit(search, process.url, 5, f"reader {number}") for number in range(READERS)]
        while search(process.url, 1, "nothing").status_code != 429:  # until all of them run
            assert not any(read.done() for read in reads)
        process.stop()  # the exit code is 0: it was not ended by force
        for read in reads:
            answer = read.result()
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert answer.json()["retry_after_ms"] > 0
