"""Plays an arena on a real server, once for each seed, and returns what was counted."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.luanti.server import HERE, PRODUCERS, RealServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.luanti.bench.arenas import Arena

Counted = dict[int, dict[str, float]]
"""seed -> what was counted."""

POLL_S = 1.0
START_S = 120.0
SLOWEST = 2.0
"""A run is given up when its characters live slower than this many times the real time, on a busy machine."""


@dataclass(frozen=True)
class Length:
    """How long is played: seeds (one play each, side by side), and seconds of each phase on the characters' clock.

    `speed`: how many times faster than the game the characters live.
    """

    seeds: tuple[int, ...]
    seconds: float
    speed: float


def play(arena: Arena, length: Length, folder: Path, url: str, *, memory: bool) -> Counted:
    """One run of all seeds on one server. Raises AssertionError if the server ends, or the arenas don't end in time."""
    examples = PRODUCERS / "examples"
    server = RealServer(
        folder,
        url,
        game="devtest",
        mods=(examples / "lorestream_agents", examples / arena.mod, HERE / "arenas"),
        settings={
            "max_forceloaded_blocks": "100000",
            "lorestream.server": folder.name,
            "lorestream_examples.memory": str(memory).lower(),
            "lorestream_examples.speed": f"{length.speed:g}",
            # As old an answer as in a game, on the clock of the characters.
            "lorestream.cache_ttl": f"{2 / length.speed:g}",
            **arena.settings,
        },
    )
    counted: Counted = {}
    for phase in range(1, arena.phases + 1):
        server.start(seconds=START_S)
        try:
            for seed, values in _phase(server, arena, length, phase).items():
                known = counted.setdefault(seed, {})
                for name, value in values.items():
                    known[name] = known.get(name, 0) + value
        finally:
            server.stop()
    return counted


def _phase(server: RealServer, arena: Arena, length: Length, phase: int) -> Counted:
    seeds = ", ".join(map(str, length.seeds))
    server.lua(
        f"arenas.run({{kind = {json.dumps(arena.kind)}, seeds = {{{seeds}}}, seconds = {length.seconds:g},"
        f" phase = {phase}}}) return true"
    )
    deadline = time.monotonic() + length.seconds / SLOWEST + 60
    while isinstance(results := server.lua("return arenas.results()", seconds=60), int | float):
        assert time.monotonic() < deadline, f"{results:g} arenas have not ended:\n{server.tail()}"
        time.sleep(POLL_S)
    assert "has a fault in its code" not in server.log_text(), server.tail()
    return {int(result["seed"]): result["values"] for result in results}
