"""The rehearsal of docs/backup.md: a snapshot of a running lorestream, restored elsewhere and compared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.processes import HASH, clean_environment, free_port, running

SCRIPT = Path(__file__).parents[2] / "deploy" / "rehearse-restore.sh"


def rehearse(url: str, directory: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(SCRIPT), url, str(directory), str(free_port())]
    environment = clean_environment(**HASH, PATH=path)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.soak
def test_a_restore_is_rehearsed_beside_the_running_lorestream(tmp_path: Path) -> None:
    with running(tmp_path / "data", HASH) as lorestream:
        events = [{"agent_id": f"npc:{n % 3}", "text": f"saw number {n}", "id": str(n)} for n in range(60)]
        sent = httpx2.post(f"{lorestream.url}/v1/events?wait=indexed", json={"server": "s", "events": events})
        assert sent.json()["indexed"]
        written = httpx2.put(
            f"{lorestream.url}/v1/entities/character/npc:0?wait=applied", json={"data": {"n": 1}}
        )
        assert written.status_code == 200
        first = sent.json()["ids"][0]
        httpx2.delete(f"{lorestream.url}/v1/memories/{first}", params={"agent_id": "npc:0"})
        httpx2.post(f"{lorestream.url}/v1/rewinds", json={"server": "elsewhere", "to": 0})
        ended = rehearse(lorestream.url, tmp_path / "rehearsal")
        assert ended.returncode == 0, ended.stderr + (tmp_path / "rehearsal" / "up.log").read_text()
        assert ended.stdout.splitlines()[-1].startswith("restored: all ")
        assert httpx2.get(f"{lorestream.url}/ready").status_code == 200
        again = rehearse(lorestream.url, tmp_path / "rehearsal")
        assert again.returncode != 0
        assert "exist" in again.stderr
