"""What the mod costs a whole server step, and what memory it takes, under the load of 50 agents: `measure_pace()`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.luanti.server import HERE, RealServer

if TYPE_CHECKING:
    from tests.luanti.gateway import RecordingGateway

# Luanti's default length of a server step, and the load of 50 agents.
STEP_S = 0.09
EMITS_PER_S = 100
RECALLS_PER_S = 25
ANSWER = [
    {
        "id": f"memory-{n}",
        "text": f"I found iron near the old oak, number {n}",
        "score": 0.8,
        "timestamp": 1.7e9 + n,
    }
    for n in range(5)
]


@dataclass(frozen=True)
class Pace:
    """The result of `measure_pace`: what the mod adds to the Lua part of a server step, in CPU time of the server's thread.

    `usual_ms`: the median. `usual_turns`: the same in turns of an empty loop, which does not depend on the machine's speed.
    `p99_ms`: what it adds to the 99th percentile. `steps`: how many were measured with the mod, `grown_kib`: growth of the
    server's resident memory, and `requests`: HTTP requests, all three without the first fifth of the run. `counts`: emits,
    recalls, answers and failures of the whole run.
    """

    usual_ms: float
    usual_turns: float
    p99_ms: float
    steps: int
    grown_kib: int
    requests: int
    counts: dict[str, Any]


def server_for(folder: Path, gateway: RecordingGateway, *, speed: int) -> RealServer:
    """A server with the mod and the measuring mod, not started. Game time runs `speed` times as fast.

    The engine has no faster game time, but shorter steps: each has the work of 90 ms, and the mod's intervals are as much
    shorter.
    """
    return RealServer(
        folder,
        gateway.url,
        settings={
            "dedicated_server_step": str(STEP_S / speed),
            "lorestream.flush_interval": str(0.5 / speed),
            "lorestream.fold_interval": str(2 / speed),
            "lorestream.cache_ttl": str(2 / speed),
            "secure.trusted_mods": "pace",
            "secure.http_mods": "lorestream, pace",
        },
        mods=(HERE / "pace",),
    )


def measure_pace(server: RealServer, gateway: RecordingGateway, *, game_s: float, slices: int) -> Pace:
    """Run the load for `game_s` seconds of game time in a started server, in slices between slices without the mod.

    The first fifth gives the mod's usual time, which fills the steps without the mod in the others.
    """
    gateway.memories = ANSWER
    steps = max(1, round(game_s / STEP_S / slices))
    early = max(1, slices // 5)

    def run(count: int, filler: float) -> dict[str, Any]:
        load = f"{EMITS_PER_S * STEP_S}, {RECALLS_PER_S * STEP_S}, {filler}"
        return server.lua(f"pace.start({steps}, {count}, {load}, done)", seconds=120 + 20 * game_s)

    first = run(early, 0)
    usual_us = first["on"]["p50_us"] - first["off"]["p50_us"]
    filler = max(0, round(usual_us * first["turns_per_us"]))
    began_kib, began = resident_kib(server), len(gateway.requests)
    taken = run(slices - early, filler)
    return Pace(
        usual_ms=usual_us / 1000,
        usual_turns=filler,
        p99_ms=(usual_us + taken["on"]["p99_us"] - taken["off"]["p99_us"]) / 1000,
        steps=int(taken["on"]["count"]),
        grown_kib=resident_kib(server) - began_kib,
        requests=len(gateway.requests) - began,
        counts=taken["counts"],
    )


def bare_growth_kib(server: RealServer, gateway: RecordingGateway, requests: int) -> int:
    """Growth of a started server's resident memory over as many HTTP requests that the mod has no part in."""
    code = 'pace.bare(pace.http, "%s/v1/memories/search/batch", \'{"searches":[{"agent_id":"npc:a","query":"iron"}]}\', %d, 4, done)'
    server.lua(
        code % (gateway.url, max(100, requests // 3)), seconds=3600
    )  # until the engine has its buffers
    began_kib = resident_kib(server)
    server.lua(code % (gateway.url, requests), seconds=3600)
    return resident_kib(server) - began_kib


def resident_kib(server: RealServer) -> int:
    """The server's resident memory in KiB, after its garbage was collected."""
    server.lua("collectgarbage() collectgarbage() return true")
    assert server.child is not None
    status = Path(f"/proc/{server.child.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])
