"""Events of a real player in a real server reach the gateway: each type once, and without the player's name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.luanti.server import HERE, wait_until

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
local function say(message)
    return core.run_callbacks(core.registered_on_chat_messages, 5, name, message)
end
assert(not say("\\27(c@#ff0000)I am WALTER_77\\27(c@#ffffff) and I love pine\\ttrees"))
assert(say("!this is swallowed"))
assert(say("/secret command"))
assert(say("/me greets walter_77"))
for _, crafted in ipairs(core.registered_on_crafts) do
    assert(crafted(ItemStack("default:wood 4"), player, {}, player:get_inventory()) == nil)
end
player:punch(player, 1, {full_punch_interval = 1, damage_groups = {fleshy = 1}})
player:set_hp(player:get_hp() - 2, {type = "fall"})
local sheep = core.add_entity({x = 2, y = 2, z = 2}, "__builtin:item", "default:dirt")
sheep:punch(player, 1, {damage_groups = {fleshy = 1}})
local boat = core.add_entity({x = 2, y = 2, z = 2}, "boats:boat")
boat:punch(player, 1, {damage_groups = {fleshy = 1}})
player:set_hp(0, {type = "drown"})
return player:get_hp()
"""

# In a real server with the mod in tests/luanti/cast: what the player does with items, mobs and shops.
DEEDS = """
local player = core.get_player_by_name("Walter_77")
local inv = player:get_inventory()
local here = player:get_pos()
inv:set_list("main", {"", "default:gold_ingot 5"})

player:set_wielded_item(core.registered_items["default:apple"].on_use(ItemStack("default:apple 3"), player, {}))
core.registered_items["default:dirt"].on_drop(ItemStack("default:dirt 4"), player, here)
inv:set_list("main", {"", "default:gold_ingot 5"})
local lying = core.add_item(here, "default:clay 2")
lying:punch(player, 1, {})
player:set_wielded_item("default:sword_steel")

local chest = {x = 3, y = 1, z = 3}
core.set_node(chest, {name = "default:chest"})
local stack = ItemStack("default:cobble 5")
local function act(action, info)
    for _, done in ipairs(core.registered_on_player_inventory_actions) do
        done(player, action, inv, info)
    end
end
core.registered_nodes["default:chest"].on_metadata_inventory_put(chest, "main", 1, stack, player)
act("take", {listname = "main", index = 1, stack = stack})
act("put", {listname = "main", index = 1, stack = ItemStack("default:coal_lump")})
act("move", {from_list = "main", to_list = "main", from_index = 1, to_index = 1, count = 1})
act("move", {from_list = "craft", to_list = "main", from_index = 1, to_index = 1, count = 1})

local shop = {x = 3, y = 1, z = 2}
core.set_node(shop, {name = "cast:shop"})
core.registered_nodes["cast:shop"].on_receive_fields(shop, "", {buy = "1"}, player)
core.run_callbacks(core.registered_on_player_receive_fields, 5, player, "cast:trader", {sell = "1"})

core.record_protection_violation({x = 0, y = 0, z = 0}, "Walter_77")
core.run_callbacks(core.registered_on_cheats, 0, player, {type = "moved_too_fast"})
core.run_callbacks(core.registered_on_respawnplayers, 5, player)

for _, name in ipairs({"cast:cow", "cast:sheep", "cast:pig"}) do
    local mob = core.add_entity(here, name)
    for _ = 1, 2 do
        if mob:get_pos() then
            mob:punch(player, 1, {damage_groups = {fleshy = 1}})
        end
    end
end

local guard = core.add_entity(here, "cast:guard", "mine")
local id = lorestream.agent_id("npc:guard-1")
assert(lorestream.bind(guard, id) == id)
guard:punch(player, 1, {full_punch_interval = 1, damage_groups = {fleshy = 3}}, {x = 1, y = 0, z = 0})
guard:right_click(player)
-- As the engine saves an entity and activates it again.
local saved = guard:get_luaentity():get_staticdata()
guard:remove()
guard = core.add_entity(here, "cast:guard", saved)
assert(guard:get_luaentity().own == "mine")
assert(lorestream.agent_of(guard) == id)
player:punch(guard, 1, {full_punch_interval = 1, damage_groups = {fleshy = 1}})
guard:punch(player, 9, {full_punch_interval = 1, damage_groups = {fleshy = 90}}, {x = 1, y = 0, z = 0})
assert(lorestream.emit("trade", "npc:shop", {player = "Walter_77", gave = "default:apple", importance = 10}))
core.after(0.4, function() done(id) end)
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
    server = new_server(gateway.url, mods=(HERE / "cast",)).start()
    join(server, NAME)
    wait_until(lambda: gateway.events("join"), what="the join")
    guard = server.lua(DEEDS)
    wait_until(lambda: len(gateway.events("trade")) == 3 and gateway.events("take"), what="the last deed")
    check_deeds(gateway, guard)
    del gateway.requests[1:]  # all but the join
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
    assert one("me")["data"] == {"message": "greets a player"}
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
    assert (
        times["join"]
        < times["dig"]
        < times["place"]
        < times["chat"]
        < times["me"]
        < times["craft"]
        < times["death"]
    )
    assert times["death"] < times["leave"]
    assert len({event["time"] for event in events}) == len(events)


REFUSED = """
assert(lorestream.opted_out("Walter_77") and not lorestream.opted_out("Walter_7"))
local player = core.get_player_by_name("Walter_77")
local guard = core.add_entity(player:get_pos(), "cast:guard")
lorestream.bind(guard, "npc:guard")
guard:punch(player, 1, {full_punch_interval = 1, damage_groups = {fleshy = 3}}, {x = 1, y = 0, z = 0})
local _, first = lorestream.put("npc:a", "he came by", {player = "Walter_77"})
local _, second = lorestream.emit("trade", "player:Walter_77", {})
local _, third = lorestream.put("shop:player:Walter_77", "I sold bread")
return {first, second, third}
"""


def test_opting_out_ends_capture(
    gateway: RecordingGateway,
    new_server: Callable[..., RealServer],
    join: Callable[[RealServer, str], Any],
) -> None:
    """After /lorestream optout, no event of the player is sent; /lorestream forget sends an erasure after earlier events."""
    server = new_server(gateway.url, mods=(HERE / "cast",)).start()
    join(server, NAME)
    wait_until(lambda: gateway.events("join"), what="the join")
    command = 'local ok, text = core.registered_chatcommands.lorestream.func("Walter_77", "{}"); return {{ok, text}}'
    assert server.lua(command.format("optout"))[0] is True
    assert server.lua(REFUSED) == ["opted_out", "opted_out", "opted_out"]
    server.lua(ACTIONS)
    assert server.lua(command.format("forget"))[0] is True
    wait_until(lambda: gateway.bodies("/v1/erasures"), what="the erasure")
    assert gateway.bodies("/v1/erasures") == [{"player": NAME}]
    ok, text = server.lua(command.format("status"))
    assert ok is True
    assert "connected" in text
    server.stop()
    join_event, hit = gateway.events()
    assert (join_event["type"], hit["agent_id"], hit["type"]) == ("join", "npc:guard", "damage")
    # The guard was hit, but does not remember by whom.
    assert "player" not in hit
    assert NAME not in json.dumps(hit)


SWORD = "default:sword_steel"


def check_deeds(gateway: RecordingGateway, guard: str) -> None:
    """Checks the events of DEEDS: items, and fights on both sides."""
    assert guard == "test-1/npc:guard-1"
    found = {(event["agent_id"], event["type"]): [] for event in gateway.events()}
    for event in gateway.events():
        found[event["agent_id"], event["type"]].append(event.get("data", {}))
    mine = {kind: data for (agent, kind), data in found.items() if agent == f"player:{NAME}"}
    # Where the player appears, and how deep the fall is, depends on when the floor is built.
    mine.pop("zone", None)
    mine["damage"] = [data for data in mine["damage"] if data["reason"] != "fall"]
    his = {kind: data for (agent, kind), data in found.items() if agent == guard}
    assert mine == {
        "join": [{"first_time": True}],
        "eat": [{"item": "default:apple", "count": 1}],
        "drop": [{"item": "default:dirt", "count": 4}],
        "pickup": [{"item": "default:clay", "count": 2}],
        "store": [{"item": "default:cobble", "count": 5, "node": "default:chest"}],
        "take": [{"item": "default:coal_lump", "count": 1}],
        "move": [{"item": SWORD, "count": 1, "from": "craft", "to": "main"}],
        "trade": [
            {"gave": "default:gold_ingot 2", "got": "default:apple 5", "place": "cast:shop", "count": 1},
            {"gave": "default:apple", "got": "default:gold_ingot", "place": "cast:trader", "count": 1},
        ],
        "protection": [{"node": "default:stone", "count": 1}],
        "cheat": [{"cheat": "moved_too_fast", "count": 1}],
        "respawn": [{}],
        "punch": [
            {"target": "cast:cow", "weapon": SWORD, "count": 2},
            {"target": "cast:sheep", "weapon": SWORD, "count": 1},
            {"target": "cast:pig", "weapon": SWORD, "count": 1},
            {"target": "cast:guard", "weapon": SWORD, "count": 2},
        ],
        "kill": [{"target": f"cast:{name}", "weapon": SWORD} for name in ("cow", "sheep", "pig", "guard")],
        "interact": [{"target": "cast:guard", "item": SWORD, "count": 1}],
        "damage": [{"amount": 1, "reason": "punch", "source": "cast:guard"}],
    }
    assert his == {
        "damage": [{"amount": 93, "reason": "punch", "source": "player", "weapon": SWORD}],
        "interact": [{"item": SWORD, "count": 1}],
        "punch": [{"by": "cast:guard", "target": "player", "count": 1}],
        "death": [{"reason": "punch", "source": "player", "weapon": SWORD}],
    }
    for event in gateway.events():
        assert event["player"] == NAME
    importance = {event["agent_id"]: event["importance"] for event in gateway.events("trade")}
    assert importance == {"npc:shop": 10, f"player:{NAME}": 7}
