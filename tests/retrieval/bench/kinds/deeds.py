"""Deeds of game agents, narrated from the data of their events: the same thing is dug, carried, used, sold and lost.

A question asks for one deed with a thing in other words, so the thing alone does not decide.
"""

from __future__ import annotations

from typing import Any

from tests.retrieval.bench.corpus import Corpus, Writer

_AGENTS = 3
_ROUTINE_BETWEEN = 9
_MATERIALS = (
    "ruby", "silver_ore", "marble", "obsidian", "lapis", "rock_salt", "amber", "ebony_log", "yew_branch", "cotton",
    "belladonna", "gunpowder", "griffin_feather", "bear_pelt",
)  # fmt: skip
_TOOLS = (
    "crossbow", "lute", "spyglass", "chain_mail", "candlestick", "saddle", "fishing_net", "whetstone", "copper_kettle",
    "glass_lens", "wheelbarrow", "birdcage",
)  # fmt: skip
_PLACES = (
    "old quarry",
    "north ridge",
    "flooded cave",
    "birch forest",
    "river mouth",
    "ruined tower",
    "sand dunes",
    "moor",
)
_PEOPLE = (
    "the ferryman",
    "a monk",
    "the widow",
    "two children",
    "the captain",
    "a stranger",
    "the baker",
    "a goblin",
)
_PAID = (
    "seven gold ingots",
    "a sack of barley",
    "two goats",
    "an old map",
    "twelve copper coins",
    "a cask of wine",
)

_WITH_ANYTHING: tuple[tuple[str, str, dict[str, tuple[str, ...]], tuple[str, ...]], ...] = (
    ("find", "item", {"place": _PLACES}, ("Where did I come across the {}?", "In which spot did I discover {}?")),
    ("trade", "gave", {"got": _PAID, "with": _PEOPLE},
     ("What did I receive in exchange for the {}?", "What was I paid for the {}?")),
    ("pickup", "item", {"from": _PEOPLE}, ("Who handed me the {}?", "Whose {} did I take into my bag?")),
    ("drop", "item", {"place": _PLACES, "reason": ("too heavy", "attacked", "full bag", "by mistake")},
     ("Why did I throw away the {}?", "Where did I leave the {} behind?")),
    ("place", "item", {"room": ("kitchen", "attic", "hall", "crypt", "stable"), "on": ("shelf", "altar", "floor", "table")},
     ("In which room does the {} stand?", "Where in the house did I put the {}?")),
)  # fmt: skip
"""(type of the event, key of the thing, further data, questions)"""
_WITH_TOOLS = (
    *_WITH_ANYTHING,
    ("craft", "item", {"from": ("willow and string", "bone and glue", "iron and leather", "clay and ash"),
                       "tool": ("hammer", "saw", "loom", "furnace")},
     ("What did I use to make the {}?", "Which materials went into the {}?")),
    ("repair", "item", {"broken": ("handle", "hinge", "edge", "strap"), "for": _PEOPLE},
     ("What was damaged on the {} that I mended?", "For whom did I fix the {}?")),
)  # fmt: skip

_BEASTS = (
    "cave_troll",
    "swamp_hydra",
    "dire_wolf",
    "sand_scorpion",
    "ghoul",
    "griffin",
    "stone_beetle",
    "wyvern",
)
_FIGHTS: tuple[tuple[str, str, dict[str, tuple[str, ...]], tuple[str, ...]], ...] = (
    ("kill", "target", {"weapon": ("pitchfork", "poisoned dagger", "fire arrow", "torch"), "place": _PLACES},
     ("How did I defeat the {}?", "With what did I slay the {}?")),
    ("flee", "from", {"to": _PLACES, "health": ("2", "3", "5")},
     ("Where did I hide when the {} was too strong?", "When did I run away because of the {}?")),
    ("tame", "animal", {"with": ("honey", "raw meat", "a song", "dried fish")},
     ("How did I win the trust of the {}?", "What made the {} my companion?")),
)  # fmt: skip
_ROUTINE = (
    ("dig", "node", ("default:dirt", "default:cobble", "default:sand", "default:gravel", "default:clay")),
    ("place", "node", ("default:torch", "default:ladder_wood", "default:fence_wood", "default:chest")),
    ("craft", "item", ("default:stick", "default:pick_stone", "default:paper", "farming:flour")),
    ("eat", "item", ("farming:bread", "default:apple", "default:blueberries", "mobs:meat")),
    ("pickup", "item", ("default:flint", "farming:seed_wheat", "flowers:rose", "default:coal_lump")),
    ("kill", "target", ("mobs:rat", "mobs:sheep", "mobs:spider", "mobs:chicken")),
)  # fmt: skip


def corpus(seed: int) -> Corpus:
    """Three agents: for each of some things several deeds, among some hundred that everyone does every day."""
    writer = Writer("deeds", seed)
    for name in writer.some(("woodcutter", "miner", "ranger", "mason", "hunter", "pedlar"), _AGENTS):
        agent = f"npc:{name}-{seed}"
        deeds = [
            (one, *deed) for one in writer.some(_MATERIALS, 5) for deed in writer.some(_WITH_ANYTHING, 4)
        ]
        deeds += [(one, *deed) for one in writer.some(_TOOLS, 5) for deed in writer.some(_WITH_TOOLS, 4)]
        deeds += [(one, *fight) for one in writer.some(_BEASTS, 4) for fight in writer.some(_FIGHTS, 2)]
        writer.random.shuffle(deeds)
        for thing, kind, key, details, questions in deeds:
            _routine(writer, agent)
            data: dict[str, Any] = {key: f"world:{thing}"}
            data |= {name: writer.pick(values) for name, values in details.items()}
            gold = writer.event(agent, type=kind, data=data, pos=_somewhere(writer))
            if writer.random.random() < 0.6:
                writer.ask(agent, writer.pick(questions).format(thing.replace("_", " ")), gold)
    return writer.corpus


def _routine(writer: Writer, agent: str) -> None:
    for _ in range(writer.random.randint(0, 2 * _ROUTINE_BETWEEN)):
        writer.wait(10, 900)
        kind, key, pool = writer.pick(_ROUTINE)
        data = {key: writer.pick(pool), "count": writer.random.randint(1, 9)}
        writer.event(agent, type=kind, data=data, pos=_somewhere(writer), importance=2)
    writer.wait(10, 900)


def _somewhere(writer: Writer) -> dict[str, float]:
    return {axis: round(writer.random.uniform(-500, 500), 1) for axis in "xyz"}
