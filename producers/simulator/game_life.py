"""What happens to simulated agents: events of a game in endless variety, for loads and not for questions.

The village's people, things and places in sentences with numbers and coordinates, so that hardly two are equal:
an embedder that has seen a text before costs nothing, and a load must cost what a game costs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from producers.demo.village import CREATURES, GOODS, ITEMS, NODES, OBSERVED, SPOTS, VILLAGERS, WANTED

REACH = 2000.0
"""Agents roam this many nodes around the middle of their world."""

T = TypeVar("T")
Fields = dict[str, Any]


def agent_name(number: int) -> str:
    """The agent with this number: the same one in every simulation."""
    return f"npc:{VILLAGERS[number % len(VILLAGERS)]}-{number + 1}"


def happening(chance: random.Random) -> Fields:
    """What happens next: the type, and the text or the data, of an event; some name a player or a ttl."""
    (kind,) = chance.choices(_KINDS, cum_weights=_CUM_WEIGHTS)
    return kind(chance)


def question(chance: random.Random) -> str:
    """Something to ask an agent, worded unlike the events."""
    return _any(chance, _QUESTIONS).format(
        item=_any(chance, ITEMS),
        creature=_any(chance, CREATURES),
        good=_any(chance, GOODS),
        hour=_to(chance, 24),
    )


def _any(chance: random.Random, among: Sequence[T]) -> T:
    return among[int(chance.random() * len(among))]


def _to(chance: random.Random, most: int) -> int:
    return 1 + int(chance.random() * most)


def _dug(chance: random.Random) -> Fields:
    data: Fields = {"node": _any(chance, NODES), "count": _to(chance, 99), "depth": _to(chance, 120)}
    return {"type": "dig", "data": data}


def _built(chance: random.Random) -> Fields:
    data: Fields = {"node": _any(chance, _BUILDING), "count": _to(chance, 40), "beside": _any(chance, NODES)}
    return {"type": "place", "data": data | {"height": _to(chance, 60)}}


def _crafted(chance: random.Random) -> Fields:
    data: Fields = {"item": _any(chance, _TOOLS), "count": _to(chance, 20), "wear": _to(chance, 65_535)}
    return {"type": "craft", "data": data}


def _travelled(chance: random.Random) -> Fields:
    text = (
        f"Walked {_to(chance, 900)} steps past the hut of {_any(chance, _NAMES)} and found a {_any(chance, CREATURES)}"
        f" {_any(chance, SPOTS)}, {_to(chance, 59)} minutes after {_to(chance, 23)} o'clock."
    )
    return {"type": "explore", "text": text}


def _hidden(chance: random.Random) -> Fields:
    text = f"Put {_to(chance, 90)} {_any(chance, GOODS)} and the {_any(chance, ITEMS)} {_any(chance, SPOTS)}."
    return {"type": "note", "text": text, "metadata": {"outcome": "success"}}


def _watched(chance: random.Random) -> Fields:
    text = (
        f"Round {_to(chance, 900)} along the fence took {_to(chance, 55)} minutes: {_any(chance, OBSERVED)}."
    )
    return {"type": "patrol", "text": text}


def _priced(chance: random.Random) -> Fields:
    text = f"{_any(chance, _NAMES)} asks {_to(chance, 400)} coins for {_to(chance, 60)} {_any(chance, GOODS)} now."
    return {"type": "price", "text": text, "metadata": {"price": _to(chance, 400)}}


def _said(chance: random.Random) -> Fields:
    message = (
        f"Could you bring me {_any(chance, WANTED)} and {_to(chance, 70)} {_any(chance, GOODS)}"
        f" before {_to(chance, 23)} o'clock, to the place {_any(chance, SPOTS)}?"
    )
    return {"type": "chat", "player": _any(chance, _NAMES), "data": {"message": message}}


def _traded(chance: random.Random) -> Fields:
    data = {
        "gave": f"{_to(chance, 50)} {_any(chance, GOODS)}",
        "got": f"{_to(chance, 50)} {_any(chance, _TOOLS)}",
        "bargain": _to(chance, 100),
    }
    return {"type": "trade", "player": _any(chance, _NAMES), "data": data}


def _hurt(chance: random.Random) -> Fields:
    amount = _to(chance, 190) / 10
    data: Fields = {"amount": amount, "reason": "punch", "source": _any(chance, CREATURES)}
    return {"type": "damage", "data": data, "ttl": 86_400}


def _dreamt(chance: random.Random) -> Fields:
    text = (
        f"Dreamt of {_to(chance, 99)} {_any(chance, GOODS)}, a {_any(chance, CREATURES)} and the"
        f" {_any(chance, ITEMS)} {_any(chance, SPOTS)}."
    )
    return {"type": "note", "text": text, "ttl": 3600}


_WEIGHTS: Sequence[tuple[Callable[[random.Random], Fields], int]] = (
    (_dug, 25),
    (_built, 15),
    (_crafted, 8),
    (_travelled, 12),
    (_hidden, 8),
    (_watched, 8),
    (_priced, 5),
    (_said, 10),
    (_traded, 5),
    (_hurt, 2),
    (_dreamt, 2),
)
_KINDS = [kind for kind, _ in _WEIGHTS]
_CUM_WEIGHTS = [sum(weight for _, weight in _WEIGHTS[: n + 1]) for n in range(len(_WEIGHTS))]

_NAMES = (
    "alder", "aspen", "beech", "elm", "hazel", "holly", "juniper", "larch", "linden", "maple", "rowan", "willow",
)  # fmt: skip
_BUILDING = (
    "default:cobble", "default:brick", "default:glass", "default:torch", "stairs:stair_wood", "doors:door_steel",
    "default:fence_pine_wood", "default:ladder_steel", "wool:blue", "default:bookshelf",
)  # fmt: skip
_TOOLS = (
    "default:pick_steel", "default:axe_bronze", "default:shovel_stone", "default:sword_mese", "farming:hoe_steel",
    "bucket:bucket_water", "boats:boat", "carts:rail", "fire:flint_and_steel", "vessels:glass_bottle",
)  # fmt: skip
_QUESTIONS = (
    "Where is the {item} kept?", "In what place does the {creature} live?", "How much do people pay for {good}?",
    "What did the inspection at {hour} turn up?", "Who wanted {good} delivered, and until when?",
    "What was dug out near the {creature}?", "Which tools were made for the trade in {good}?",
    "Was anybody hurt by the {creature} around {hour}?",
)  # fmt: skip
