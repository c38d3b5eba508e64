"""Benchmark of the mod in a real server: `measure_mod()`."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.luanti.gateway import RecordingGateway
from tests.luanti.server import HERE, RealClient, RealServer, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOAD = """
local player = core.get_player_by_name("Measured")
local left, dt, n = %d, 0, 0
core.register_globalstep(function(dtime)
    dt = dt + dtime
    local due = math.min(left, math.floor(dt * %d) - n)
    for _ = 1, due do
        n, left = n + 1, left - 1
        local kind, pos = n %% 5, {x = n * 7 %% 300, y = 8, z = n %% 11}
        if kind == 0 then
            for _, said in ipairs(core.registered_on_chat_messages) do
                said("Measured", "I found a pine forest north of the river, number " .. n)
            end
        elseif kind == 1 then
            lorestream.emit("trade", "npc:trader-" .. n %% 50, {gave = "default:wood", got = "default:coal_lump",
                count = n %% 9, pos = pos, outcome = "success"})
        elseif kind == 2 then
            lorestream.put("npc:miner-" .. n %% 50, "I dug coal deep below the hill, seam " .. n,
                {resource = "coal", outcome = "success", pos = pos})
        else
            for _, dug in ipairs(core.registered_on_dignodes) do
                dug(pos, {name = kind == 3 and "default:tree" or "default:stone"}, player)
            end
        end
    end
end)
return true
"""

_LIMIT = 20_000
# Fills the spool in one step, outside of the mod's measured time, with events of every value in every file. Collects the
# garbage at once: otherwise it would be collected in the seconds that are measured.
_FILL = """
for n = 1, %d do
    if n %% 3 == 0 then
        lorestream.emit(n %% 2 == 0 and "dig" or "craft", "npc:miner-" .. n %% 50, {node = "default:stone", count = n %% 9})
    else
        lorestream.put("npc:miner-" .. n %% 50, "I dug coal deep below the hill, seam " .. n, {resource = "coal"})
    end
end
collectgarbage()
return true
"""


def measure_mod(*, events: int = 4000, rate: int = 200, game: str = "minetest_game") -> dict[str, Any]:
    """Run `events` events at `rate` per second in a server with one real player, then half as many in each of two outages.

    Returns `capture_us_mean`, `capture_us_p99` and `capture_us_max` (duration of one handler or API call, including
    encoding and the write to the spool), `event_us_total_mean` (calls and steps together, per event sent), the counts
    `calls` and `events`, and the results of `_steps` (the mod's whole work in each server step): in normal operation,
    including the start of the server and the join; as `outage`, while the gateway fails and the backlog is sent; and as
    `full`, with a spool at its limit of 20,000 events, which drops one for each new event (`dropped`: how many).
    """
    with tempfile.TemporaryDirectory() as folder, RecordingGateway() as gateway:
        server = RealServer(
            Path(folder) / "server",
            gateway.url,
            game=game,
            settings={
                "lorestream.fold_interval": "2",
                "lorestream.flush_interval": "0.5",
                "lorestream.spool_limit": str(_LIMIT),
                "secure.trusted_mods": "stopwatch",
            },
            mods=(HERE / "stopwatch",),
        )
        client = RealClient(Path(folder) / "client", server, "Measured")
        try:
            server.start()
            client.start()
            _run_load(server, events, rate)
            _wait_until_sent(server)
            status = server.lua("return lorestream.status()")
            normal = server.lua("return stopwatch.take()")
            gateway.mode = "500"
            _run_load(server, events // 2, rate)
            gateway.mode = "ok"
            _wait_until_sent(server)
            outage = server.lua("return stopwatch.take()")
            gateway.mode = "500"
            server.lua(_FILL % (_LIMIT + 1000))
            _run_load(server, events // 2, rate)
            gateway.mode = "ok"
            _wait_until_sent(server)
            full = server.lua("return stopwatch.take()")
            dropped = server.lua("return lorestream.status().dropped")
        finally:
            server.stop()
            client.stop()
    capture, step = status["capture"], status["step"]
    total_us = capture["mean_us"] * capture["count"] + step["mean_us"] * step["count"]
    return {
        "capture_us_mean": capture["mean_us"],
        "capture_us_p99": capture["p99_us"],
        "capture_us_max": capture["max_us"],
        "event_us_total_mean": total_us / max(1.0, status["sent"]),
        "calls": int(capture["count"]),
        "events": int(status["sent"]),
        **_steps(normal),
        "outage": _steps(outage),
        "full": {"dropped": int(dropped), **_steps(full)},
    }


def _run_load(server: RealServer, events: int, rate: int) -> None:
    count = "return lorestream.status().capture.count"
    wanted = server.lua(count) + events
    server.lua(_LOAD % (events, rate))
    # Poll rarely: each poll costs the server a step with file access.
    wait_until(lambda: server.lua(count) >= wanted, what="the load", seconds=60 + events / rate, every=1.0)


def _wait_until_sent(server: RealServer) -> None:
    left = "local s = lorestream.status(); return s.spooled + s.folding"
    wait_until(lambda: server.lua(left) == 0, what="the flush", seconds=300, every=0.5)


def _steps(taken: dict[str, Any]) -> dict[str, Any]:
    """Durations of server steps in milliseconds: `step_ms` in wall time, `step_cpu_ms` in CPU time of the thread.

    `step_ms_max_undisturbed`: the longest step in wall time during which the thread was never descheduled. `noise_ms`:
    wall time of an empty loop with the CPU time of each step. For the longest steps: the `part` of the mod with the most
    CPU time; for the longest in wall time also its CPU time, and how often it was descheduled.
    """
    steps: list[dict[str, Any]] = taken["steps"]
    by_wall = max(steps, key=lambda step: step["wall_us"])
    by_cpu = max(steps, key=lambda step: step["cpu_us"])
    undisturbed = [step["wall_us"] for step in steps if step["switches"] == 0]
    return {
        "steps": len(steps),
        **_spread("step_cpu_ms", [step["cpu_us"] for step in steps]),
        "step_cpu_ms_max_part": by_cpu["part"],
        **_spread("step_ms", [step["wall_us"] for step in steps]),
        "step_ms_max_cpu": by_wall["cpu_us"] / 1000,
        "step_ms_max_switches": int(by_wall["switches"]),
        "step_ms_max_part": by_wall["part"],
        "step_ms_max_undisturbed": max(undisturbed, default=math.nan) / 1000,
        **_spread("noise_ms", [loop["wall_us"] for loop in taken["noise"]]),
    }


def _spread(name: str, values_us: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values_us)
    return {
        f"{name}_p50": ordered[len(ordered) // 2] / 1000,
        f"{name}_p99": ordered[math.ceil(0.99 * len(ordered)) - 1] / 1000,
        f"{name}_max": ordered[-1] / 1000,
    }
