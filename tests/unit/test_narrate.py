"""Texts of events: they say what happened, and never have a player name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.narrate import narrate, words

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("kind", "data", "sentence"),
    [
        ("dig", {"node": "default:pine_tree", "count": 3}, "dug 3 pine tree"),
        ("dig", {"node": "default:pine_tree", "count": 3.0}, "dug 3 pine tree"),
        ("dig", {"node": "default:stone", "count": 1}, "dug stone"),
        ("dig", {"node": "default:tree", "tool": "default:axe_steel"}, "dug tree, tool axe steel"),
        ("place", {"node": "default:torch"}, "placed torch"),
        ("craft", {"item": "default:pick_wood 2"}, "crafted 2 pick wood"),
        ("punch", {"target": "mobs:zombie"}, "punched zombie"),
        ("punch", {"target": "player", "count": 4}, "punched another player 4 times"),
        ("chat", {"message": "anyone seen iron?"}, "said: anyone seen iron?"),
        ("damage", {"amount": 4, "reason": "fall"}, "lost 4 health by fall"),
        ("death", {"reason": "drown"}, "died by drown"),
        ("trade", {"gave": "default:apple", "got": "default:coal_lump"}, "traded apple for coal lump"),
        (
            "trade",
            {"gave": ["a:gold 2", "a:gem"], "got": "a:horse", "place": "a:shop", "count": 3},
            "traded 2 gold and gem for horse 3 times, place shop",
        ),
        ("join", {}, "joined the game"),
        ("leave", {}, "left the game"),
        ("weather_change", {"to": "rain"}, "weather change, to rain"),
        ("dig", {}, "dug something"),
        ("drop", {"item": "default:pick_steel 1 1024"}, "dropped pick steel"),
        ("drop", {"item": "default:apple 3 0"}, "dropped 3 apple"),
        ("drop", {"item": 'default:book 2 0 "\x01title\x02a tale 9"'}, "dropped 2 book"),
        ("drop", {"item": "iron ore"}, "dropped iron ore"),
        ("drop", {"item": "iron ore", "count": 2}, "dropped 2 iron ore"),
        ("dig", {"node": "default:tree", "count": True}, "dug tree"),
        ("dig", {"node": "default:tree", "count": [3]}, "dug tree"),
        ("dig", {"node": "default:tree 5", "count": "3"}, "dug 3 tree"),
        ("punch", {"target": "mobs:zombie", "count": True}, "punched zombie"),
        ("damage", {"amount": True}, "lost some health"),
        (
            "trade",
            {"gave": "default:apple 3", "got": "default:coal_lump 1 0"},
            "traded 3 apple for coal lump",
        ),
        ("dig", {"node": "default:tree", "tool": "default:axe_steel 1 327"}, "dug tree, tool axe steel"),
        ("look", {"sneaking": True}, "look, sneaking yes"),
        ("kill", {"target": "mobs:cow"}, "killed cow"),
        ("kill", {"entity": "mobs:cow", "count": 2}, "killed 2 cow"),
        ("kill", {"target": "player", "weapon": "default:axe_steel"}, "killed another player with axe steel"),
        ("kill", {"target": "player", "by": "mobs:guard"}, "was killed by guard"),
        ("kill", {}, "killed something"),
        ("punch", {"target": "player", "by": "mobs:guard", "count": 2}, "was punched by guard 2 times"),
        ("punch", {"target": "mobs:cow", "weapon": "default:axe_steel"}, "punched cow with axe steel"),
        (
            "damage",
            {"amount": 3, "reason": "punch", "source": "player", "weapon": "default:axe_steel"},
            "hit me with axe steel, 3 health lost",
        ),
        ("damage", {"amount": 0, "source": "player"}, "hit me"),
        ("damage", {"amount": 3, "reason": "punch", "source": "mobs:cow"}, "lost 3 health by punch from cow"),
        ("death", {"reason": "punch", "source": "player"}, "killed me"),
        ("store", {"item": "default:cobble", "count": 5, "node": "default:chest"}, "put 5 cobble into chest"),
        ("take", {"item": "default:cobble", "count": 1}, "took cobble from an inventory"),
        ("move", {"item": "a:b", "count": 2, "from": "main", "to": "craft"}, "moved 2 b from main to craft"),
        ("move", {}, "moved something"),
        ("interact", {"target": "mobs:trader", "item": "a:coin"}, "interacted with trader, holding coin"),
        ("interact", {"target": "player"}, "interacted with another player"),
        ("interact", {}, "interacted with me"),
        (
            "zone",
            {"zone": "1,0,2", "from": "1,0,1", "biome": "tundra"},
            "went from 1,0,1 to 1,0,2, biome tundra",
        ),
        ("me", {"message": "waves"}, "waves"),
        ("me", {}, "did something"),
        ("protection", {"node": "default:stone"}, "tried to change a protected place, node stone"),
        ("cheat", {"cheat": "moved_too_fast"}, "was reported for cheating: moved too fast"),
        ("respawn", {}, "came back to life"),
    ],
)
def test_texts(kind: str, data: dict[str, object], sentence: str) -> None:
    assert narrate(kind, data, by_player=False) == sentence
    assert narrate(kind, data, by_player=True) == f"a player {sentence}"


@pytest.mark.parametrize(
    "key", ["player", "player_name", "name", "killer", "owner", "Puncher", "target_player"]
)
@pytest.mark.parametrize("kind", ["dig", "punch", "unheard_of", "trade", "damage"])
def test_no_player_name_gets_into_a_text(kind: str, key: str) -> None:
    assert "alice" not in narrate(kind, {key: "alice", "node": "default:stone"}, by_player=True)


def test_words_removes_the_mod_name_and_underscores() -> None:
    assert words("default:stone_with_iron") == "stone with iron"
    assert words("mod:") == "mod:"


@given(kind=st.text(min_size=1, max_size=64), data=st.dictionaries(st.text(max_size=12), JSON, max_size=30))
def test_any_data_give_a_text(kind: str, data: dict[str, object]) -> None:
    sentence = narrate(kind, data, by_player=True)
    assert sentence.startswith("a player ")
    assert len(sentence) < 6000
