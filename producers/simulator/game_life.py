"""Random game events for load tests.

Sentences about the people, things and places of the demo village, with numbers, so that hardly two are equal: texts seen
before come from the embedding cache, and a load test must cost as much as a real game.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from producers.demo.village import CREATURES, GOODS, ITEMS, NODES, OBSERVED, SPOTS, VILLAGERS, WANTED

REACH = 2000.0
"""Agents move within so many nodes of the centre on each axis."""

T = TypeVar("T")
Fields = dict[str, Any]


def agent_name(number: int) -> str:
    """The id of the agent with this number: the same in every simulation."""
    return f"npc:{VILLAGERS[number % len(VILLAGERS)]}-{number + 1}"


def random_event(rng: random.Random) -> Fields:
    """The fields of a random event: its type, and its text or data; some have a player or a ttl."""
    (kind,) = rng.choices(_KINDS, cum_weights=_CUM_WEIGHTS)
    return kind(rng)


def question(rng: random.Random) -> str:
    """A random search query, in other words than the events."""
    return _any(rng, _QUESTIONS).format(
        item=_any(rng, ITEMS),
        creature=_any(rng, CREATURES),
        good=_any(rng, GOODS),
        hour=_up_to(rng, 24),
    )


def _any(rng: random.Random, among: Sequence[T]) -> T:
    return among[int(rng.random() * len(among))]


def _up_to(rng: random.Random, most: int) -> int:
    return 1 + int(rng.random() * most)


def _dug(rng: random.Random) -> Fields:
    data: Fields = {"node": _any(rng, NODES), "count": _up_to(rng, 99), "depth": _up_to(rng, 120)}
    return {"type": "dig", "data": data}


def _built(rng: random.Random) -> Fields:
    data: Fields = {"node": _any(rng, _BUILDING), "count": _up_to(rng, 40), "beside": _any(rng, NODES)}
    return {"type": "place", "data": data | {"height": _up_to(rng, 60)}}


def _crafted(rng: random.Random) -> Fields:
    data: Fields = {"item": _any(rng, _TOOLS), "count": _up_to(rng, 20), "wear": _up_to(rng, 65_535)}
    return {"type": "craft", "data": data}


def _travelled(rng: random.Random) -> Fields:
    text = (
        f"Walked {_up_to(rng, 900)} steps past the hut of {_any(rng, _NAMES)} and found a {_any(rng, CREATURES)}"
        f" {_any(rng, SPOTS)}, {_up_to(rng, 59)} minutes after {_up_to(rng, 23)} o'clock."
    )
    return {"type": "explore", "text": text}


def _hidden(rng: random.Random) -> Fields:
    text = f"Put {_up_to(rng, 90)} {_any(rng, GOODS)} and the {_any(rng, ITEMS)} {_any(rng, SPOTS)}."
    return {"type": "note", "text": text, "metadata": {"outcome": "success"}}


def _watched(rng: random.Random) -> Fields:
    text = f"Round {_up_to(rng, 900)} along the fence took {_up_to(rng, 55)} minutes: {_any(rng, OBSERVED)}."
    return {"type": "patrol", "text": text}


def _priced(rng: random.Random) -> Fields:
    text = f"{_any(rng, _NAMES)} asks {_up_to(rng, 400)} coins for {_up_to(rng, 60)} {_any(rng, GOODS)} now."
    return {"type": "price", "text": text, "metadata": {"price": _up_to(rng, 400)}}


def _said(rng: random.Random) -> Fields:
    message = (
        f"Could you bring me {_any(rng, WANTED)} and {_up_to(rng, 70)} {_any(rng, GOODS)}"
        f" before {_up_to(rng, 23)} o'clock, to the place {_any(rng, SPOTS)}?"
    )
    return {"type": "chat", "player": _any(rng, _NAMES), "data": {"message": message}}


def _traded(rng: random.Random) -> Fields:
    data = {
        "gave": f"{_up_to(rng, 50)} {_any(rng, GOODS)}",
        "got": f"{_up_to(rng, 50)} {_any(rng, _TOOLS)}",
        "bargain": _up_to(rng, 100),
    }
    return {"type": "trade", "player": _any(rng, _NAMES), "data": data}


def _hurt(rng: random.Random) -> Fields:
    amount = _up_to(rng, 190) / 10
    data: Fields = {"amount": amount, "reason": "punch", "source": _any(rng, CREATURES)}
    return {"type": "damage", "data": data, "ttl": 86_400}


def _dreamt(rng: random.Random) -> Fields:
    text = (
        f"Dreamt of {_up_to(rng, 99)} {_any(rng, GOODS)}, a {_any(rng, CREATURES)} and the"
        f" {_any(rng, ITEMS)} {_any(rng, SPOTS)}."
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
