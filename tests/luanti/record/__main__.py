"""Plays the arenas of the example characters, and a village with two players, on real servers; writes what the mod sends.

The characters ask a running Lorestream what they remember, as in a game. Each line of the file is an event as it was
sent, in order of arrival. The file in tests/peers was made by it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2

from tests.luanti.bench.__main__ import Plays
from tests.luanti.bench.arenas import ARENAS, Arena
from tests.luanti.bench.play import play
from tests.luanti.gateway import RecordingGateway
from tests.luanti.server import HERE, RealClient, RealServer, wait_until
from tests.processes import running

PLAYERS = ("player_1", "player_2")
_LEFT_OUT = {"id", "time"}
"""Fields that are not recorded: who sends an event again gives it another id, and its time is then."""
_FOLD_S = 2.0
"""The mod's `lorestream.fold_interval`, in seconds of the game."""


class _Relay(RecordingGateway):
    """Records the requests, and has them answered by a real gateway."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=url, timeout=60)
        super().__init__()

    def take(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Forward one request; record it if it was accepted."""
        answer = self._http.post(path, content=body, headers={"Content-Type": headers["Content-Type"]})
        if answer.is_success:
            self.requests.append((path, json.loads(body)))
        return answer.status_code, answer.json()


def record(seconds: float, speed: float) -> list[dict[str, Any]]:
    """The events of `seconds` seconds of wall time, at `speed` times the speed of a game, in order of arrival."""
    with (
        tempfile.TemporaryDirectory() as name,
        running(Path(name) / "lorestream", {}) as lorestream,
        _Relay(lorestream.url) as relay,
        ThreadPoolExecutor(len(ARENAS) + 1) as pool,
    ):
        played: list[Callable[[], object]] = [
            lambda arena=arena: _play(arena, Path(name) / arena.kind, relay.url, seconds, speed)
            for arena in ARENAS
        ]
        played.append(lambda: _village(Path(name) / "village", relay.url, seconds, speed))
        for each in [pool.submit(one) for one in played]:
            each.result()
        return [
            {key: value for key, value in event.items() if key not in _LEFT_OUT}
            for path, body in relay.requests
            if path == "/v1/events"
            for event in body["events"]
        ]


def _play(arena: Arena, folder: Path, url: str, seconds: float, speed: float) -> None:
    """One arena with two seeds, so long as it takes `seconds` of wall time."""
    length = Plays((1, 2), 1, seconds * min(speed, arena.fastest) / arena.seconds, speed).length(arena)
    play(arena, length, folder, url, memory=True)


def _village(folder: Path, url: str, seconds: float, speed: float) -> None:
    """Two real clients whose players live by players.lua."""
    settings = {
        "lorestream.server": "village",
        "lorestream.fold_interval": f"{_FOLD_S / speed:g}",
        "max_forceloaded_blocks": "1000",
    }
    server = RealServer(folder, url, mods=(HERE / "cast",), settings=settings).start(seconds=120)
    clients = [RealClient(folder / name, server, name) for name in PLAYERS]
    try:
        for client in clients:
            client.start()
        names = ", ".join(f'"{name}"' for name in PLAYERS)
        head = f"local NAMES, SECONDS, SPEED = {{{names}}}, {seconds:g}, {speed:g}\n"
        server.lua(head + Path(__file__).with_name("players.lua").read_text(encoding="utf-8"))
        time.sleep(seconds)
        left = "local s = lorestream.status(); return s.spooled + s.folding"
        wait_until(lambda: server.lua(left) == 0, what="all is sent", every=0.5)
    finally:
        for client in clients:
            client.stop()
        server.stop()


def main() -> None:
    """Read the options, play, write the file."""
    parser = argparse.ArgumentParser(prog="python -m tests.luanti.record", description=__doc__)
    parser.add_argument("file", type=Path, help="where the events go, as gzipped lines of JSON")
    parser.add_argument("--seconds", type=float, default=60.0, help="of wall time: %(default)s")
    parser.add_argument("--speed", type=float, default=8.0, help="times the speed of a game: %(default)s")
    options = parser.parse_args()
    events = record(options.seconds, options.speed)
    text = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)
    options.file.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{len(events)} events of {len({event['agent_id'] for event in events})} agents: {options.file}")


if __name__ == "__main__":
    main()
