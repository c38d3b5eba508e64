"""lorestream.get, recall, context and forget in a real server: exactly one callback each, before the timeout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.luanti.server import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.luanti.gateway import RecordingGateway
    from tests.luanti.server import RealServer

ASK = """
local began, calls = core.get_us_time(), 0
lorestream.get("npc:a", "trees", 3, {type = "dig"}, function(memories, err)
    calls = calls + 1
    local took = (core.get_us_time() - began) / 1e6
    core.after(0.5, function() done({count = #memories, why = err or "", took = took, calls = calls}) end)
end)
"""
TIMEOUT = 2.0


def test_requests_and_answers_follow_the_contract(
    gateway: RecordingGateway, new_server: Callable[..., RealServer]
) -> None:
    """Requests and callback arguments are those of the contract."""
    gateway.memories = [
        {"id": "1", "text": "I dug a tree", "score": 0.8, "metadata": {"node": "default:tree"}}
    ]
    server = new_server(gateway.url, settings={"lorestream.api_key": "k1.secret"}).start()
    answer = server.lua(ASK)
    assert (answer["count"], answer["why"], answer["calls"]) == (1, "", 1)
    (asked,) = gateway.bodies("/v1/memories/search")
    assert asked == {"agent_id": "npc:a", "query": "trees", "k": 3, "filters": {"type": "dig"}}
    assert gateway.headers[-1]["Authorization"] == "Bearer k1.secret"
    text = server.lua(
        'lorestream.context("npc: ä/1", {query = "rain"}, function(c, e) done({c.text, e}) end)'
    )
    assert text == ["it rained"]
    assert gateway.bodies("/v1/agents/npc%3A%20%C3%A4%2F1/context") == [{"query": "rain"}]
    opts = '{query = "trees", near = {x = 1, radius = 5}, min_score = 0.2, filters = {}}'
    server.lua(f'lorestream.recall("npc:a", {opts}, function(m) done(#m) end)')
    assert gateway.bodies("/v1/memories/search")[-1] == {
        "agent_id": "npc:a",
        "query": "trees",
        "near": {"x": 1, "radius": 5},
        "min_score": 0.2,
    }


def test_put_and_forget_keep_their_order(
    gateway: RecordingGateway, new_server: Callable[..., RealServer]
) -> None:
    """Events put before a forget are sent before it, so that they are erased too."""
    server = new_server(gateway.url).start()
    gateway.down()
    server.lua(
        'lorestream.put("npc:a", "I found \\27(c@#f00)iron", {pos = {x = 1, y = 2, z = 3}, player = "Ann", hot = 1/0}, 60)'
        'lorestream.forget("npc:a") lorestream.emit("rest", "npc:a") return true'
    )
    gateway.up()
    wait_until(lambda: gateway.events("rest"), what="the last event", seconds=30)
    assert [path for path, _ in gateway.requests] == ["/v1/events", "/v1/erasures", "/v1/events"]
    assert gateway.bodies("/v1/erasures") == [{"agent_id": "npc:a"}]
    put = gateway.events()[0]
    assert (put["text"], put["ttl"], put["player"]) == ("I found iron", 60, "Ann")
    assert put["pos"] == {"x": 1, "y": 2, "z": 3}
    assert "metadata" not in put


def test_failures_give_an_empty_table_in_time(
    gateway: RecordingGateway, new_server: Callable[..., RealServer]
) -> None:
    """With a slow, failing, unreachable or overloaded service: exactly one callback with {} and a reason."""
    server = new_server(
        gateway.url, settings={"lorestream.recall_rate": "0.01", "lorestream.recall_burst": "3"}
    ).start()
    gateway.mode = "500"
    assert server.lua(ASK)["why"] == "told_so"
    gateway.mode, gateway.delay = "slow", 4.0
    slow = server.lua(ASK)
    assert (slow["count"], slow["why"], slow["calls"]) == (0, "timeout", 1)
    # Measured by the mod's clock: the guarantee holds inside the server.
    assert slow["took"] <= TIMEOUT
    gateway.down()
    assert server.lua(ASK)["why"] == "unreachable"
    limited = server.lua(ASK)
    assert (limited["why"], limited["calls"]) == ("rate_limited", 1)
    invalid = server.lua('lorestream.get(nil, "x", 1, nil, function(m, e) done({#m, e}) end)')
    assert invalid == [0, "invalid: agent_id must be a string"]
