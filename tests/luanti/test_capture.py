"""Events of a real player in a real server reach the gateway: each type once, and without the player's name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.luanti.server import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.luanti.gateway import RecordingGateway
    from tests.luanti.server import RealServer

NAME = "Walter_77"

ACTIONS = """
local name = "Walter_77"
local player = core.get_player_by_name(name)
local function put_and_dig(x, node)
    local pos = {x = x, y = 1, z = 0}
    core.set_node(pos, {name = node})
    core.node_dig(pos, core.get_node(pos), player)
end
put_and_dig(2, "default:tree")
put_and_dig(3, "default:tree")
put_and_dig(4, "default:tree")
local pointed = {type = "node", under = {x = 1, y = 0, z = 1}, above = {x = 1, y = 1, z = 1}}
core.item_place_node(ItemStack("default:cobble"), player, pointed)
for _, said in ipairs(core.registered_on_chat_messages) do
    assert(not said(name, "\\27(c@#ff0000)I am WALTER_77\\27(c@#ffffff) and I love pine\\ttrees"))
    said(name, "/secret command")
end
for _, crafted in ipairs(core.registered_on_crafts) do
    assert(crafted(ItemStack("default:wood 4"), player, {}, player:get_inventory()) == nil)
end
player:punch(player, 1, {full_punch_interval = 1, damage_groups = {fleshy = 1}})
player:set_hp(player:get_hp() - 2, {type = "fall"})
local sheep = core.add_entity({x = 2, y = 2, z = 2}, "__builtin:item", "default:dirt")
sheep:punch(player, 1, {damage_groups = {fleshy = 1}})
core.register_on_mods_loaded(function() end)
local boat = core.add_entity({x = 2, y = 2, z = 2}, "boats:boat")
boat:punch(player, 1, {damage_groups = {fleshy = 1}})
player:set_hp(0, {type = "drown"})
return player:get_hp()
"""


def strings(value: Any, path: str = "") -> list[tuple[str, str]]:
    """All strings in a value, with their paths."""
    if isinstance(value, str):
        return [(path, value)]
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in strings(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for item in value for found in strings(item, f"{path}[]")]
    return []


def test_events_of_a_player_arrive(
    gateway: RecordingGateway,
    new_server: Callable[..., RealServer],
    join: Callable[[RealServer, str], Any],
) -> None:
    """Chat, dig, place, craft, punch, damage, death, join and leave of a real client."""
    server = new_server(gateway.url).start()
    join(server, NAME)
    assert server.lua(ACTIONS) == 0
    wait_until(lambda: gateway.events("death"), what="the death")
    assert server.stop() == 0

    def one(kind: str) -> dict[str, Any]:
        found = gateway.events(kind)
        assert len(found) == 1, (kind, found)
        return found[0]

    assert one("join")["data"] == {"first_time": True}
    assert one("dig")["data"] == {"node": "default:tree", "count": 3}
    assert one("dig")["pos"] == {"x": 2, "y": 1, "z": 0}
    assert one("place")["data"] == {"node": "default:cobble", "count": 1}
    assert one("chat")["data"] == {"message": "I am a player and I love pine trees"}
    assert one("craft")["data"] == {"item": "default:wood", "count": 4}
    punches = {event["data"]["target"] for event in gateway.events("punch")}
    assert punches == {"player", "boats:boat"}
    damage = {event["data"]["reason"]: event["data"] for event in gateway.events("damage")}
    assert damage["fall"]["amount"] == 2
    assert damage["punch"]["source"] == "player"
    assert one("death")["data"] == {"reason": "drown"}
    # The engine calls no leave handler for players who are online at shutdown.
    assert one("leave")["agent_id"] == f"player:{NAME}"
    check_envelopes(gateway)


def check_envelopes(gateway: RecordingGateway) -> None:
    """Checks for every event: its fields, the order, and no name except in the two fields that are replaced."""
    events = gateway.events()
    assert len(gateway.raw_events()) == len(events)
    assert gateway.most_in_flight == 1
    boots = {event["id"].split(":")[0] for event in events}
    assert len(boots) == 1
    for document in gateway.bodies("/v1/events"):
        assert document["server"] == "test-1"
    for event in events:
        assert event["agent_id"] == f"player:{NAME}"
        assert event["player"] == NAME
        assert event["tick"] >= 0
        for path, text in strings(event):
            assert path in (".agent_id", ".player") or NAME.lower() not in text.lower(), path
    times = {event["type"]: event["time"] for event in events}
    assert times["join"] < times["dig"] < times["place"] < times["chat"] < times["craft"] < times["death"]
    assert times["death"] < times["leave"]
    assert len({event["time"] for event in events}) == len(events)


def test_opting_out_ends_capture(
    gateway: RecordingGateway,
    new_server: Callable[..., RealServer],
    join: Callable[[RealServer, str], Any],
) -> None:
    """After /lorestream optout, no event of the player is sent; /lorestream forget sends an erasure after earlier events."""
    server = new_server(gateway.url).start()
    join(server, NAME)
    wait_until(lambda: gateway.events("join"), what="the join")
    command = 'local ok, text = core.registered_chatcommands.lorestream.func("Walter_77", "{}"); return {{ok, text}}'
    assert server.lua(command.format("optout"))[0] is True
    server.lua(ACTIONS)
    assert server.lua(command.format("forget"))[0] is True
    wait_until(lambda: gateway.bodies("/v1/erasures"), what="the erasure")
    assert gateway.bodies("/v1/erasures") == [{"player": NAME}]
    ok, text = server.lua(command.format("status"))
    assert ok is True
    assert "connected" in text
    server.stop()
    assert [event["type"] for event in gateway.events()] == ["join"]
    assert NAME not in json.dumps([event for event in gateway.events() if event["type"] == "chat"])
