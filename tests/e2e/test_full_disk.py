"""A disk that fills: writes stop in time, reads go on, and the process lives."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from deploy.local.process import NotInstalled
from lorestream.free_space import free_bytes
from tests.brokers import missing_is_skipped
from tests.processes import HASH, LorestreamProcess

MIB = 2**20
DISK_MIB = 240
FLOOR_MIB = 64

pytestmark = pytest.mark.soak


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 240 MiB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)]
    with missing_is_skipped():
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            raise NotInstalled(
                "file systems cannot be mounted here: run this test as root, outside a container"
            )
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=False)


def fill(place: Path) -> Path:
    """Another program takes the rest of the disk."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while free_bytes(place):
                file.write(bytes(4096))
        except OSError:
            pass
    return ballast


def test_a_disk_that_fills(small_disk: Path) -> None:
    """Below the floor 503 and reads; without any space still reads; with space again all goes on."""
    settings = {**HASH, "LORESTREAM_MIN_FREE_BYTES": str(FLOOR_MIB * MIB)}
    sent = 0

    def send(client: httpx2.Client, count: int) -> httpx2.Response:
        events = [
            {"agent_id": "npc:a", "id": str(sent + n), "text": f"text {sent + n} " + "x" * 2000}
            for n in range(count)
        ]
        return client.post("/v1/events", json={"events": events})

    def reads(process: LorestreamProcess, client: httpx2.Client) -> None:
        question = {"agent_id": "npc:a", "query": "text 5", "k": 3}
        assert len(client.post("/v1/memories/search", json=question).json()["memories"]) == 3
        assert process.alive

    process = LorestreamProcess(small_disk / "data", settings)
    process.log_path = small_disk.parent / "lorestream.log"
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(httpx2.Client(base_url=process.url, timeout=60))
        process.start()
        stack.callback(lambda: process.kill() if process.alive else None)
        while (answer := send(client, 200)).status_code == 202:
            sent += 200
        assert answer.status_code == 503
        assert answer.json()["retry_after_ms"] > 0
        assert "free some space" in client.get("/ready").json()["checks"]["log"]
        reads(process, client)
        process.stop()  # the indexer waits for space, and does not delay the stop
        process.start(path="/health")
        reads(process, client)
        ballast = fill(small_disk)
        assert send(client, 1).status_code == 503
        for _ in range(5):
            reads(process, client)
        process.kill()
        # The start says it in one line, and does not map files on a full disk.
        with pytest.raises(AssertionError, match="free some space on it, at least 32 MiB"):
            process.start()
        ballast.unlink()
        grow = ["mount", "-o", f"remount,size={4 * DISK_MIB}m", str(small_disk)]
        subprocess.run(grow, check=True, capture_output=True)
        process.start()
        last = client.post("/v1/events", json={"events": [{"agent_id": "npc:b", "text": "x"}]}).json()
        question = {"agent_id": "npc:b", "query": "x", "after": last["token"], "wait_ms": 20_000}
        for _ in range(30):  # the records that were accepted just above the floor are indexed first
            if client.post("/v1/memories/search", json=question).json()["fresh"]:
                break
        assert client.get("/v1/agents/npc:a/memories?limit=1").json()["total"] == sent
