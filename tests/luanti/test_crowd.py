"""Many agents of a real server ask a running Lorestream with its model in one step.

Prints the figures. Run it with -s on an idle machine.
"""

from __future__ import annotations

import re
import statistics
import urllib.request
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.live_game import TIMEOUT_S, send
from tests.processes import running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.luanti.server import RealServer

AGENTS = 300
MEMORIES = 20
THINGS = (
    "pine trees",
    "iron",
    "a cave",
    "wolves",
    "the river",
    "an old mill",
    "coal",
    "a village",
    "a bridge",
    "snow",
)
PLACES = (
    "north of the lake",
    "behind the hill",
    "in the swamp",
    "near the tower",
    "under the bridge",
    "at the coast",
)
# Each of %d agents asks; %s is the query of agent n. Answers in milliseconds and steps, and what the server step took.
CROWD = """
local began, asked, status = core.get_us_time(), 0, lorestream.status
local before, took, steps, failed, found = status(), {}, {}, {}, 0
for n = 1, %d do
    lorestream.%s("npc:" .. n, %s, function(answer, err)
        took[#took + 1] = (core.get_us_time() - began) / 1000
        steps[#steps + 1] = status().step.count - before.step.count
        failed[#failed + 1] = err
        found = found + #(answer.relevant or answer)
        if #took == %d then
            core.after(0.3, function()
                local cost = status()
                done({took = took, steps = steps, failed = failed, found = found,
                    ask_us = cost.ask.mean_us, step_max_us = cost.step.max_us, requests = cost.requests - before.requests})
            end)
        end
    end)
end
"""


@pytest.mark.soak
def test_a_crowd_is_answered(tmp_path: Path, new_server: Callable[..., RealServer]) -> None:
    """50 agents with one text and with one each, 300 agents, 50 contexts: all answered, few requests."""
    with running(tmp_path / "lorestream", {}) as lorestream:
        with httpx2.Client(base_url=lorestream.url, timeout=TIMEOUT_S) as client:
            for first in range(0, AGENTS * MEMORIES, 1000):
                send(client, _events(first), wait=True)
        server = new_server(lorestream.url, settings={"lorestream.cache_ttl": "0.1"}).start()
        for name, agents, kind, query, requests in (
            ("warm-up", 50, "recall", "{query = 'warm ' .. n}", 1),
            ("50 agents, one text", 50, "recall", "{query = 'where is iron near the river'}", 1),
            ("50 agents, one text, cached", 50, "recall", "{query = 'where is iron near the river'}", 1),
            (
                "50 agents, 50 texts",
                50,
                "recall",
                "{query = 'what did agent ' .. n .. ' see near the river'}",
                1,
            ),
            ("50 contexts, one text", 50, "context", "{query = 'what is dangerous here'}", 4),
            ("300 agents, one text", AGENTS, "recall", "{query = 'is there a bridge'}", 5),
            (
                "300 agents, 300 texts",
                AGENTS,
                "recall",
                "{query = 'agent ' .. n .. ' is looking for coal'}",
                5,
            ),
        ):
            before = _cpu_ms(lorestream.url)
            result = server.lua(CROWD % (agents, kind, query, agents), seconds=60)
            service_ms = _cpu_ms(lorestream.url) - before
            print(f"{name:28}", _figures(result), f"{service_ms:.0f} ms of CPU in the service")
            assert not result["failed"], result["failed"]
            assert result["found"] > agents
            assert result["requests"] == requests
        server.stop()


def _cpu_ms(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        found = re.search(rb"^process_cpu_seconds_total (\S+)", answer.read(), re.MULTILINE)
    assert found
    return float(found[1]) * 1000


def _events(first: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"e{n}",
            "agent_id": f"npc:{n % AGENTS + 1}",
            "text": f"I saw {THINGS[n % 10]} {PLACES[n // 7 % 6]}, and {THINGS[n // 11 % 10]} {PLACES[n // 13 % 6]}",
        }
        for n in range(first, first + 1000)
    ]


def _figures(result: dict[str, Any]) -> str:
    took, steps = result["took"], result["steps"]
    return (
        f"{len(took)} answers: median {statistics.median(took):.0f} ms, last {max(took):.0f} ms,"
        f" {int(min(steps))} to {int(max(steps))} steps, {int(result['requests'])} requests;"
        f" a call {result['ask_us']:.0f} us, the longest step so far {result['step_max_us'] / 1000:.1f} ms;"
    )
