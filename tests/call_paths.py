"""Records which project files run while a request is served: `python -m tests.call_paths FILE.json`.

It runs the embedded shape (`lorestream up` with the hash embedder) in its main thread and makes requests from a second
thread. A profile function notes the file of every call, in every thread but the client's. What runs in a period
without requests is noted as well: files that run only then belong to background tasks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2

from lorestream.cli.serve import commands, embedded
from lorestream.http import server
from lorestream.settings import load_settings

ROOT = Path(__file__).parents[1]
PACKAGES = ("lorestream", "producers", "stream_workers", "query_service")
IDLE_S = 3.0
STEPS = ("idle", "write", "search", "erasure", "replay")


class Recorder:
    """The files that ran in each step, in the order of their first call."""

    def __init__(self) -> None:
        self.step: str | None = None
        self.files: dict[str, dict[str, None]] = {step: {} for step in STEPS}

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self.step is not None and event == "call":
            self.files[self.step].setdefault(frame.f_code.co_filename)

    def seen(self, step: str) -> list[str]:
        """The project's own files of a step, relative to the checkout."""
        found = []
        for name in self.files[step]:
            path = Path(name)
            if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
                found.append(path.relative_to(ROOT).as_posix())
        return found


def record() -> dict[str, list[str]]:
    """The files of each step of `STEPS`. Runs in the main thread, because the server handles signals."""
    recorder = Recorder()
    with tempfile.TemporaryDirectory() as directory:
        settings = load_settings(
            data_dir=Path(directory),
            http_port=0,
            grpc_port=0,
            embedder={"kind": "hash"},
            store={"kind": "edge"},
        )
        with commands._listening("127.0.0.1", 0) as listener:
            url = f"http://127.0.0.1:{server.address(listener)[1]}"
            client = threading.Thread(target=_requests, args=(url, recorder), daemon=True)
            threading.setprofile(recorder)
            client.start()
            sys.setprofile(recorder)
            try:
                server.main(embedded.run(settings, "127.0.0.1", listener))
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
    return {step: recorder.seen(step) for step in STEPS}


def _requests(url: str, recorder: Recorder) -> None:
    sys.setprofile(None)
    try:
        with httpx2.Client(base_url=url, timeout=30) as http:
            _wait_until_ready(http)
            recorder.step = "idle"
            time.sleep(IDLE_S)
            recorder.step = "write"
            event = {"id": "1", "agent_id": "npc:guard", "type": "dig", "data": {"node": "default:tree"}}
            http.post("/v1/events?wait=indexed", json={"server": "s", "events": [event]}).raise_for_status()
            recorder.step = "search"
            query = {"agent_id": "npc:guard", "query": "who dug here?", "filters": {"type": "dig"}}
            http.post("/v1/memories/search", json=query).raise_for_status()
            recorder.step = "erasure"
            erasure = http.post("/v1/erasures", json={"agent_id": "npc:guard"}).raise_for_status().json()
            while http.get(f"/v1/erasures/{erasure['erasure_id']}").json()["state"] != "done":
                time.sleep(0.05)
            recorder.step = "replay"
            for task, collection in (("replay", "rebuilt"), ("alias-swap", "rebuilt")):
                reports = http.post(f"/v1/admin/{task}", json={"to": collection}).raise_for_status().text
                assert '"outcome"' in reports, reports
            recorder.step = None
    finally:
        os.kill(os.getpid(), signal.SIGINT)


def _wait_until_ready(http: httpx2.Client) -> None:
    for _ in range(300):
        try:
            if http.get("/ready").status_code == httpx2.codes.OK:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError("not ready within 30 s")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
