"""End to end: events of a real server become memories in a running Lorestream."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.luanti.server import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.luanti.server import RealServer

NAME = "Wanda_5"
ACTIONS = """
local player = core.get_player_by_name("Wanda_5")
for x = 2, 4 do
    local pos = {x = x, y = 1, z = 0}
    core.set_node(pos, {name = "default:pine_tree"})
    core.node_dig(pos, core.get_node(pos), player)
end
for _, said in ipairs(core.registered_on_chat_messages) do
    said("Wanda_5", "the old mine is flooded")
end
player:set_hp(player:get_hp() - 3, {type = "fall"})
return true
"""


def call(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request to the running Lorestream: GET, or POST with a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def memories_of(base: str, agent_id: str) -> list[dict[str, Any]]:
    """All memories of an agent, newest first."""
    return call(f"{base}/v1/agents/{quote(agent_id, safe='')}/memories?limit=100")["memories"]


def test_events_become_memories(
    lorestream_url: str, new_server: Callable[..., RealServer], join: Callable[[RealServer, str], Any]
) -> None:
    """Memories about a player are found by agent and by meaning, from the server and from outside, and can be erased."""
    server = new_server(lorestream_url).start()
    join(server, NAME)
    server.lua(ACTIONS)
    agent = f"player:{NAME}"
    wait_until(
        lambda: (
            {"join", "dig", "chat", "damage"}
            <= {memory["type"] for memory in memories_of(lorestream_url, agent)}
        ),
        what="the memories",
    )
    found = {memory["type"]: memory for memory in memories_of(lorestream_url, agent)}
    assert found["dig"]["text"] == "a player dug 3 pine tree"
    assert found["dig"]["metadata"] == {"node": "default:pine_tree", "count": 3}
    assert found["dig"]["pos"] == {"x": 2, "y": 1, "z": 0}
    assert found["dig"]["server"] == "test-1"
    assert found["chat"]["text"] == "a player said: the old mine is flooded"
    assert found["join"]["timestamp"] < found["dig"]["timestamp"] < found["chat"]["timestamp"]
    for memory in found.values():
        # The agent id is returned as given in the search; no other field has the name.
        assert NAME not in json.dumps({**memory, "agent_id": ""})
        assert memory["agent_id"] == agent
    search = {"agent_id": agent, "query": "a player said: the old mine is flooded", "k": 1}
    assert call(f"{lorestream_url}/v1/memories/search", search)["memories"][0]["type"] == "chat"
    inside = server.lua(
        'lorestream.get("player:Wanda_5", "a player dug 3 pine tree", 1, {type = "dig", count = {gte = 3}}, '
        "function(memories, err) done(err or memories[1].text) end)"
    )
    assert inside == "a player dug 3 pine tree"
    server.lua('core.registered_chatcommands.lorestream.func("Wanda_5", "forget") return true')
    wait_until(lambda: not memories_of(lorestream_url, agent), what="the erasure")
