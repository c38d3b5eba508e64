"""The contenders of `make bench-peers`: a library is started in its environment, and gets the texts only."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.peers import contenders
from tests.peers.contenders import Event, opened

PEER = """
import json, sys
name, model, directory = sys.argv[1:]
print("{}", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    with open(f"{directory}/asked", "a") as file:
        file.write(line)
    asked = request.get("ask", [])
    print(json.dumps({"found": [["2"] for _ in asked], "ms": [1.0 for _ in asked]}), flush=True)
"""


def test_a_library_runs_in_its_environment_and_gets_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a game sent besides its sentence is not sent to it."""
    (tmp_path / "peer.py").write_text(PEER)
    wanted: list[str] = []

    def environment(name: str, _cache: Path) -> Path:
        wanted.append(name)
        return Path(sys.executable)

    monkeypatch.setattr(contenders, "environment", environment)
    monkeypatch.setattr(contenders, "PROGRAM", tmp_path / "peer.py")
    monkeypatch.setattr(contenders, "find_source", lambda *_, **__: SimpleNamespace(directory=tmp_path))
    with opened("chroma", tmp_path / "data", tmp_path) as contender:
        contender.ingest([Event("1", "a", "dug oak", {"type": "dig"}), Event("2", "a", "ate bread")])
        found, took = contender.ask([{"agent": "a", "text": "food"}])
    assert (found, took, wanted) == ([["ate bread"]], [1.0], ["chroma"])
    sent, asked = map(json.loads, (tmp_path / "data/asked").read_text().splitlines())
    assert sent["ingest"][0] == {"id": "1", "agent": "a", "text": "dug oak"}
    assert asked == {"ask": [{"agent": "a", "text": "food"}]}
