"""What the mod costs inside a real server, for the benchmark: `measure_mod()`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tests.luanti.gateway import RecordingGateway
from tests.luanti.server import RealClient, RealServer, wait_until

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
            engram.emit("trade", "npc:trader-" .. n %% 50, {gave = "default:wood", got = "default:coal_lump",
                count = n %% 9, pos = pos, outcome = "success"})
        elseif kind == 2 then
            engram.put("npc:miner-" .. n %% 50, "I dug coal deep below the hill, seam " .. n,
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


def measure_mod(*, events: int = 4000, rate: int = 200, game: str = "minetest_game") -> dict[str, Any]:
    """Plays `events` deeds at `rate` a second into a server with one real player, and reads the mod's own clocks.

    Returns `capture_us_mean`, `capture_us_p99` and `capture_us_max` (one handler or API call: encoding and the
    write to the spool included), `step_ms_p50`, `step_ms_p99` and `step_ms_max` (the mod's whole work in one
    server step), `event_us_total_mean` (both together over the events that were sent), and the counts `calls`,
    `events` and `steps`. The start of the server and the join are part of it.
    """
    with tempfile.TemporaryDirectory() as folder, RecordingGateway() as gateway:
        server = RealServer(
            Path(folder) / "server",
            gateway.url,
            game=game,
            settings={"engram.fold_interval": "2", "engram.flush_interval": "0.5"},
        )
        client = RealClient(Path(folder) / "client", server, "Measured")
        try:
            server.start()
            client.start()
            server.lua(_LOAD % (events, rate))
            wait_until(
                lambda: server.lua("return engram.status().capture.count") >= events,
                what="the load",
                seconds=60 + events / rate,
                every=1.0,  # each question costs the server a step of file work
            )
            wait_until(
                lambda: server.lua("local s = engram.status(); return s.spooled + s.folding") == 0,
                what="the flush",
            )
            status = server.lua("return engram.status()")
        finally:
            server.stop()
            client.stop()
    capture, step = status["capture"], status["step"]
    total_us = capture["mean_us"] * capture["count"] + step["mean_us"] * step["count"]
    return {
        "capture_us_mean": capture["mean_us"],
        "capture_us_p99": capture["p99_us"],
        "capture_us_max": capture["max_us"],
        "step_ms_p50": step["p50_us"] / 1000,
        "step_ms_p99": step["p99_us"] / 1000,
        "step_ms_max": step["max_us"] / 1000,
        "event_us_total_mean": total_us / max(1.0, status["sent"]),
        "calls": int(capture["count"]),
        "events": int(status["sent"]),
        "steps": int(step["count"]),
    }
