"""A disk that fills: writes stop in time, reads go on, and the process lives."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from lorestream.free_space import free_bytes
from tests.processes import HASH, LorestreamProcess, running

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
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=False)


def fill(place: Path, left_mib: int = 0) -> Path:
    """Another program takes the space of the disk, all but `left_mib` MiB."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while free_bytes(place) > left_mib * MIB:
                file.write(bytes(MIB // 4))
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

    with (
        running(small_disk / "data", settings) as process,
        httpx2.Client(base_url=process.url, timeout=60) as client,
    ):
        while (answer := send(client, 200)).status_code == 202:
            sent += 200
        assert answer.status_code == 503
        assert answer.json()["retry_after_ms"] > 0
        assert "free some space" in client.get("/ready").json()["checks"]["log"]
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
        fill(small_disk, FLOOR_MIB * 7 // 8)
        process.start(path="/health")
        reads(process, client)
        ballast.unlink()
        subprocess.run(
            ["mount", "-o", f"remount,size={4 * DISK_MIB}m", str(small_disk)], check=True, capture_output=True
        )
        answer = client.post(
            "/v1/events?wait=indexed&timeout_ms=60000", json={"events": [{"agent_id": "npc:b", "text": "x"}]}
        )
        assert answer.json()["indexed"] is True
        assert client.get("/v1/agents/npc:a/memories?limit=1").json()["total"] == sent
