"""Lorestream as on Windows, and what differs between systems."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from deploy.local.process import free_port
from lorestream import os_support
from tests.processes import HASH, clean_environment, stopped, wait_for_ready


def test_up_serves_and_stops_without_anything_that_only_posix_has(tmp_path: Path) -> None:
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", tmp_path / "log"
    command = ["up", "--data", tmp_path / "data", "--port", str(port), "--grpc-port", str(free_port())]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.without_posix", *command],
            env=clean_environment(**HASH),
            stdout=output,
            stderr=output,
        )
    with stopped(process), httpx2.Client(base_url=url, timeout=30) as client:
        wait_for_ready(process, url, log)
        event = {"agent_id": "npc:a", "text": "iron lies behind the hill"}
        answer = client.post("/v1/events?wait=indexed&timeout_ms=20000", json={"events": [event]})
        assert answer.json()["indexed"], answer.text
        answer = client.post("/v1/memories/search", json={"agent_id": "npc:a", "query": "iron"})
        assert [one["text"] for one in answer.json()["memories"]] == [event["text"]], answer.text
        answer = client.post("/v1/admin/snapshot", json={"to": str(tmp_path / "copy")}, timeout=60)
        assert answer.status_code == 200, answer.text
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_new_file_is_never_an_existing_one(tmp_path: Path) -> None:
    with os_support.create(tmp_path / "new", 0o600) as file:
        file.write(b"a\n")
    assert (tmp_path / "new").read_bytes() == b"a\n"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        os_support.create(tmp_path / "new", 0o600)
