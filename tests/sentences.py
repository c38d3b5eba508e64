"""Random sentences as a game produces them, by seed: actions, places and messages."""

from __future__ import annotations

import random

_PEOPLE = ["Alba", "Borin", "Celis", "Dagny", "Eskil", "Freya", "Gunnar", "Hild"]
_THINGS = [
    "oak tree",
    "iron ore",
    "stone",
    "pine wood",
    "dirt with grass",
    "torch",
    "furnace",
    "chest",
    "gold lump",
]
_PLACES = ["the old bridge", "the mill", "the north gate", "the harbour", "the deep mine", "the bakery"]
_SAYINGS = [
    "meet me at {place} when the sun goes down and bring {n} {thing}",
    "has anybody seen my {thing}? I left it near {place}",
    "beware, monsters came out of {place} last night and took {n} {thing}",
    "I will trade {n} {thing} for a good {thing2}",
    "thank you for the {thing}",
]


def game_sentences(count: int, *, seed: int = 1) -> list[str]:
    """`count` distinct sentences of 5 to 30 tokens, 19 on average."""
    pick = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        who, other = pick.sample(_PEOPLE, 2)
        thing, thing2 = pick.sample(_THINGS, 2)
        place, n = pick.choice(_PLACES), pick.randint(2, 99)
        x, y, z = pick.randint(-3000, 3000), pick.randint(-60, 120), pick.randint(-3000, 3000)
        saying = pick.choice(_SAYINGS).format(place=place, n=n, thing=thing, thing2=thing2)
        kinds = [
            f"{who} dug {n} {thing} at ({x}, {y}, {z}).",
            f"{who} placed {thing} at ({x}, {y}, {z}) near {place} while holding {thing2}.",
            f'{who} said: "{saying}"',
            f"{who} crafted {n} {thing} from {thing2}.",
            f"{who} was killed by {other} at {place}.",
            f"{who} met {other} at {place} and gave them {n} {thing}.",
        ]
        made[pick.choice(kinds)] = None
    return list(made)
