"""Deeds of game agents: digging, building, crafting, fights and trades, as narrated from the data of their events."""

from __future__ import annotations

from tests.retrieval.bench.corpus import Corpus, Writer

_AGENTS = 3
_DAYS_WORK = 60
_STONES = (
    "stone_with_ruby",
    "silver_ore",
    "marble",
    "obsidian",
    "stone_with_mese",
    "lapis",
    "rock_salt",
    "amber",
)
_WOODS = ("birch_tree", "ebony_log", "willow_tree", "yew_tree")
_PLANTS = ("blue_mushroom", "nettle", "wild_garlic", "belladonna", "sugar_cane", "cotton")
_BUILT = ("bell_tower", "drawbridge", "pigsty", "lighthouse", "watermill", "palisade", "beacon", "greenhouse")
_MADE = ("crossbow", "lute", "wheelbarrow", "spyglass", "chain_mail", "candlestick", "saddle", "fishing_net")
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
_WARES = ("saffron", "gunpowder", "silk", "horse_shoe", "parchment", "dried_fish", "beeswax", "whetstone")
_PAID = (
    "seven_gold_ingot",
    "a_sack_of_barley",
    "two_goats",
    "an_old_map",
    "twelve_copper_coin",
    "a_bear_pelt",
)
_ROUTINE = (
    ("dig", "node", ("default:dirt", "default:cobble", "default:sand", "default:gravel", "default:clay")),
    ("place", "node", ("default:torch", "default:ladder_wood", "default:fence_wood", "default:chest")),
    ("craft", "item", ("default:stick", "default:pick_stone", "default:paper", "farming:flour")),
    ("eat", "item", ("farming:bread", "default:apple", "default:blueberries", "mobs:meat")),
    ("pickup", "item", ("default:flint", "farming:seed_wheat", "flowers:rose", "default:coal_lump")),
    ("kill", "target", ("mobs:rat", "mobs:sheep", "mobs:spider", "mobs:chicken")),
)  # fmt: skip

_DIG = ("Did I ever mine {}?", "When was {} extracted by me?", "Which excavation yielded {}?")
_PLANT = ("Have I gathered {}?", "Where is my memory of collecting {}?", "Did I harvest some {}?")
_BUILD = ("Did I construct a {}?", "Who put up the {}?", "What do I know of erecting the {}?")
_MAKE = ("Have I manufactured a {}?", "Did I produce a {} with my own hands?", "When did I make the {}?")
_SLAY = ("Did I defeat a {}?", "Which battle against a {} did I survive?", "How did it end with the {}?")
_TRADE = ("What did I get for the {}?", "For how much did I sell the {}?", "What was the {} exchanged for?")


def corpus(seed: int) -> Corpus:
    """Three agents: rare deeds that the questions are about, and some hundred that everyone does every day."""
    writer = Writer("deeds", seed)
    for name in writer.some(("woodcutter", "miner", "ranger", "mason", "hunter", "pedlar"), _AGENTS):
        agent = f"npc:{name}-{seed}"
        deeds = [
            *(("dig", {"node": f"default:{one}"}, one, _DIG) for one in writer.some(_STONES, 4)),
            *(("chop", {"node": f"default:{one}"}, one, _DIG) for one in writer.some(_WOODS, 2)),
            *(("pickup", {"item": f"farming:{one}"}, one, _PLANT) for one in writer.some(_PLANTS, 3)),
            *(("build", {"structure": one}, one, _BUILD) for one in writer.some(_BUILT, 4)),
            *(("craft", {"item": f"tools:{one}"}, one, _MAKE) for one in writer.some(_MADE, 4)),
            *(("kill", {"target": f"mobs:{one}"}, one, _SLAY) for one in writer.some(_BEASTS, 4)),
            *(
                (
                    "trade",
                    {"gave": one.replace("_", " "), "got": writer.pick(_PAID).replace("_", " ")},
                    one,
                    _TRADE,
                )
                for one in writer.some(_WARES, 4)
            ),
        ]
        writer.random.shuffle(deeds)
        for kind, data, thing, questions in deeds:
            _routine(writer, agent, _DAYS_WORK // 6)
            if kind != "trade":
                data |= {"count": writer.random.randint(1, 6)}
            gold = writer.event(agent, type=kind, data=data, pos=_somewhere(writer))
            writer.ask(agent, writer.pick(questions).format(thing.replace("_", " ")), gold)
        _routine(writer, agent, _DAYS_WORK)
    return writer.corpus


def _routine(writer: Writer, agent: str, count: int) -> None:
    for _ in range(count):
        writer.wait(10, 900)
        kind, key, pool = writer.pick(_ROUTINE)
        data = {key: writer.pick(pool), "count": writer.random.randint(1, 9)}
        writer.event(agent, type=kind, data=data, pos=_somewhere(writer), importance=2)
    writer.wait(10, 900)


def _somewhere(writer: Writer) -> dict[str, float]:
    return {axis: round(writer.random.uniform(-500, 500), 1) for axis in "xyz"}
