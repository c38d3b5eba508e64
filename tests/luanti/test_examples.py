"""The example characters on a real server with devtest, without players: they load, act, and use what they remember."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.luanti.server import PRODUCERS, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.luanti.gateway import RecordingGateway
    from tests.luanti.server import RealServer

MODS = tuple(sorted((PRODUCERS / "examples").glob("lorestream_*")))
AGENT = "test-1/npc:woodcutter-7"
GROUND = """
local low, high = {x = 0, y = 0, z = 0}, {x = 31, y = 15, z = 15}
core.emerge_area(low, high, function(_, _, remaining)
    if remaining > 0 then return end
    for x = 0, 31 do for z = 0, 15 do core.set_node({x = x, y = 7, z = z}, {name = "basenodes:dirt"}) end end
    for y = 8, 10 do core.set_node({x = 8, y = y, z = 3}, {name = "basenodes:tree"}) end
    core.forceload_block(low, true)
    core.forceload_block(high, true)
    core.after(0.5, function()
        local agent = lorestream_agents.add("lorestream_woodcutter:woodcutter", {x = 3, y = 8, z = 3}, {number = 7})
        local explorer = lorestream_agents.add("lorestream_explorer:explorer", {x = 12, y = 8, z = 12}, {number = 1})
        local guard = lorestream_agents.add("lorestream_guard:guard", {x = 20, y = 8, z = 12}, {number = 1})
        local trader = lorestream_agents.add("lorestream_trader:trader", {x = 28, y = 8, z = 12}, {number = 1})
        core.after(0.5, function()
            local bob = core.add_item({x = 21, y = 8, z = 12}, "basenodes:dirt")
            bob:get_luaentity().visitor_name = "Bob"
            guard.object:punch(bob, 1, {damage_groups = {fleshy = 6}})
            trader.stall:enter("Ann", "axe steel", function(price)
                if price == 26 then trader.stall:take("Ann") end
            end)
        end)
        done(agent.id)
    end)
end)
"""
OTHERS = (
    ("test-1/npc:explorer-1", "I walked through this land", None),
    ("test-1/npc:guard-1", "A visitor attacked me: 6 damage", "Bob"),
    ("test-1/npc:trader-1", "A customer took axe steel for 26 coins and never paid", "Ann"),
)
REMEMBERED = {
    "id": "1",
    "text": "I found trees here and took 9, 0 are left",
    "pos": {"x": 28.0, "y": 8.0, "z": 8.0},
    "timestamp": 1.0,
    "metadata": {"kind": "trees", "outcome": "found", "amount": 9.0, "left": 0.0, "at": -90000.0},
}


def test_the_woodcutter_cuts_what_he_sees_and_goes_where_he_remembers_trees(
    gateway: RecordingGateway, new_server: Callable[..., RealServer]
) -> None:
    """Without the service he cuts the tree in sight; with it he goes where his memory says.

    On the same server the explorer walks, the guard is attacked, and the trader is cheated; all three remember it.
    """
    gateway.memories = [REMEMBERED]
    gateway.down()
    settings = {"lorestream_examples.speed": "10", "lorestream_trader.due": "5"}
    server = new_server(gateway.url, game="devtest", mods=MODS, settings=settings).start()
    assert server.lua(GROUND) == AGENT
    wood = f'return lorestream_agents.active["{AGENT}"].tally.wood or 0'
    wait_until(lambda: server.lua(wood) == 3, what="the tree is cut")
    assert "I remember" not in server.log_text()
    gateway.up()

    def remembered(text: str, agent_id: str = AGENT) -> list[dict[str, Any]]:
        events = [
            event for path, body in gateway.requests if path == "/v1/events" for event in body["events"]
        ]
        return [event for event in events if event["agent_id"] == agent_id and event.get("text") == text]

    wait_until(lambda: "I remember trees at (28,8,8)" in server.log_text(), what="his decision")
    wait_until(
        lambda: remembered("I came for trees, but found nothing here"), what="his second memory", seconds=60
    )
    (first,) = remembered("I found trees here and took 3, 0 are left")
    assert first["pos"] == {"x": 8, "y": 8, "z": 3}
    assert (first["metadata"]["outcome"], first["metadata"]["amount"]) == ("found", 3)
    second = remembered("I came for trees, but found nothing here")[0]
    assert second["pos"] == {"x": 28, "y": 8, "z": 8}
    for agent_id, text, player in OTHERS:
        wait_until(lambda who=agent_id, what=text: remembered(what, who), what=text, seconds=60)
        assert remembered(text, agent_id)[0].get("player") == player
    assert "has a fault" not in server.log_text()
