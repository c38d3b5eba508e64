"""A simulated village for the demo and for retrieval benchmarks: a day of events, and questions with known answers.

Pure: the same seed gives the same village. Questions use other templates than events, so that answers are found by
meaning and not by equal words.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

START = 1_760_000_000.0
"""Default beginning of the day, in Unix seconds."""
DAY_S = 86_400.0
ROUTINE_EVENTS = 40
"""Number of routine events per villager, which answer no question."""

VILLAGERS = ("woodcutter", "miner", "farmer", "smith", "guard", "trader")
PLAYERS = ("ash", "birch", "cedar")


class Kind(StrEnum):
    """What a question tests."""

    FACT = "single fact"
    UPDATE = "latest update"
    PLACE = "place"
    TIME = "time"
    PLAYER = "per player"
    NOTHING = "no answer"


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a villager. `gold`: event ids of the expected answer; `where`: further arguments of the search."""

    kind: Kind
    agent_id: str
    query: str
    gold: tuple[str, ...]
    where: Mapping[str, Any] = field(default_factory=dict[str, Any])


def events(seed: int, start: float = START) -> list[dict[str, Any]]:
    """The events of the day, ordered by time, in the form of POST /v1/events. `start`: its beginning in Unix seconds."""
    return _Village(seed, start).events


def questions(seed: int, start: float = START) -> list[Question]:
    """The questions at the end of the day, alternating between all kinds."""
    village = _Village(seed, start)
    by_kind = [[one for one in village.questions if one.kind is kind] for kind in Kind]
    turns = range(max(map(len, by_kind)))
    return [ones[turn] for turn in turns for ones in by_kind if turn < len(ones)]


class _Village:
    def __init__(self, seed: int, start: float) -> None:
        self._start = start
        self._random = random.Random(seed)  # noqa: S311 (not a secret)
        self._prefix = f"village-{seed}"
        self._count = 0
        self.events: list[dict[str, Any]] = []
        self.questions: list[Question] = []
        for role in VILLAGERS:
            agent = f"npc:{role}-1"
            self._facts(agent)
            self._prices(agent)
            self._sites(agent)
            self._rounds(agent)
            self._customers(agent)
            self._routine(agent)
        for query in _NOTHING:
            agent = f"npc:{self._random.choice(VILLAGERS)}-1"
            self.questions.append(Question(Kind.NOTHING, agent, query, ()))
        self._random.shuffle(self.questions)
        self.events.sort(key=lambda event: event["time"])

    def _event(self, agent: str, at: float, **fields: Any) -> str:  # noqa: ANN401 (any fields)
        """Add an event; returns its id. `at`: the time of day, from 0 (beginning) to 1 (end)."""
        self._count += 1
        event_id = f"{self._prefix}-{self._count}"
        event: dict[str, Any] = {
            "id": event_id,
            "agent_id": agent,
            "pos": fields.pop("pos", None) or self._position(),
            "tick": float(round(at * DAY_S * 10)),
            "time": self._start + round(at * DAY_S, 3),
            "importance": fields.pop("importance", self._random.randint(1, 9)),
        }
        self.events.append({**event, **fields})
        return event_id

    def _position(self, centre: Mapping[str, float] | None = None, spread: float = 400.0) -> dict[str, float]:
        middle = centre or {"x": 0.0, "y": 5.0, "z": 0.0}
        reach = {"x": spread, "y": min(spread, 5.0), "z": spread}
        return {
            axis: round(middle[axis] + self._random.uniform(-reach[axis], reach[axis]), 1) for axis in "xyz"
        }

    def _ask(self, kind: Kind, agent: str, query: str, *gold: str, **where: Any) -> None:  # noqa: ANN401
        self.questions.append(Question(kind, agent, query, gold, where))

    def _facts(self, agent: str) -> None:
        """Facts that are stated once."""
        items = iter(self._random.sample(ITEMS, 3))
        spots = iter(self._random.sample(SPOTS, 6))
        creatures = iter(self._random.sample(CREATURES, 3))
        for item in items:
            text = f"I put the {item} {next(spots)} so that nobody takes it."
            gold = self._event(agent, self._random.random(), type="note", text=text)
            self._ask(Kind.FACT, agent, f"Where is the {item} kept?", gold)
            self._mentions(agent, item)
        for creature in creatures:
            text = f"A {creature} has made its den {next(spots)}."
            gold = self._event(agent, self._random.random(), type="note", text=text)
            self._ask(Kind.FACT, agent, f"In what place does the {creature} live?", gold)
            self._mentions(agent, creature)
        for dish, parts in self._random.sample(_DISHES, 2):
            text = f"Learned to make {dish}: take {parts}."
            gold = self._event(agent, self._random.random(), type="note", text=text)
            self._ask(Kind.FACT, agent, f"Which ingredients go into {dish}?", gold)

    def _mentions(self, agent: str, subject: str) -> None:
        """Distractors: they mention the subject, but do not answer the question."""
        for mention in self._random.sample(_MENTIONS, 5):
            text = mention.format(subject)
            self._event(agent, self._random.random(), type="note", text=text)

    def _prices(self, agent: str) -> None:
        """Prices that change: only the latest one is the answer."""
        for good in self._random.sample(GOODS, 2):
            times = sorted(self._random.random() for _ in range(4))
            coins = self._random.sample(range(2, 40), len(times))
            said = [
                self._event(agent, at, type="price", text=f"From now on {good} cost {price} coins.")
                for at, price in zip(times, coins, strict=True)
            ]
            self._ask(Kind.UPDATE, agent, f"How much money do people pay for {good} at present?", said[-1])

    def _sites(self, agent: str) -> None:
        """The same work in several places: the answer depends on the place in the search."""
        corners = self._random.sample([(-900.0, -900.0), (900.0, -900.0), (-900.0, 900.0), (900.0, 900.0)], 3)
        for x, z in corners:
            site = {"x": x, "y": 5.0, "z": z}
            nodes = self._random.sample(NODES, 2)
            gold = [
                self._event(
                    agent,
                    self._random.random(),
                    type="dig",
                    data={"node": node, "count": self._random.randint(2, 12)},
                    pos=self._position(site, 15.0),
                )
                for node in nodes
            ]
            for node in self._random.sample(_BUILT, 2):
                at = self._random.random()
                self._event(agent, at, type="place", data={"node": node}, pos=self._position(site, 15.0))
            near = {**site, "radius": 40.0}
            self._ask(
                Kind.PLACE, agent, "What raw material did I take out of the ground here?", *gold, near=near
            )

    def _rounds(self, agent: str) -> None:
        """The same duty at several times: the answer depends on the time in the search."""
        seen = self._random.sample(OBSERVED, 4)
        for quarter, observed in enumerate(seen):
            at = quarter / 4 + self._random.uniform(0.02, 0.23)
            gold = self._event(agent, at, type="patrol", text=f"Walked around the fence: {observed}.")
            begin = self._start + quarter * DAY_S / 4
            hours = {"timestamp": {"gte": begin, "lt": begin + DAY_S / 4}}
            if quarter % 2:
                query = "What did the inspection of the border turn up?"
                self._ask(Kind.TIME, agent, query, gold, filters=hours)

    def _customers(self, agent: str) -> None:
        """The same request by several players: the answer depends on the player in the search."""
        goods = self._random.sample(WANTED, len(PLAYERS))
        for player, good in zip(PLAYERS, goods, strict=True):
            message = f"Could you bring me {good} tomorrow?"
            gold = self._said(agent, player, message)
            for chat in self._random.sample(_SMALL_TALK, 3):
                self._said(agent, player, chat)
            query = "Which goods does this customer want delivered?"
            self._ask(Kind.PLAYER, agent, query, gold, filters={"player": player})

    def _said(self, agent: str, player: str, message: str) -> str:
        at = self._random.random()
        return self._event(agent, at, type="chat", player=player, data={"message": message})

    def _routine(self, agent: str) -> None:
        """Routine events that answer no question."""
        for _ in range(ROUTINE_EVENTS):
            kind, pool = self._random.choice(_WORK)
            data: dict[str, Any] = {"item": self._random.choice(pool)}
            if self._random.random() < 0.5:  # noqa: PLR2004
                data["count"] = self._random.randint(2, 9)
            self._event(agent, self._random.random(), type=kind, data=data, importance=1)


ITEMS = (
    "silver key", "treasure map", "lantern", "golden compass", "letter of the mayor", "diamond ring", "spare axe",
    "blue banner", "medicine chest", "fishing rod", "bag of coins", "old violin", "telescope", "wedding dress",
)  # fmt: skip
SPOTS = (
    "under the third step of the mill", "behind the altar of the chapel", "in the hollow oak by the bridge",
    "below the floor of the bakery", "on the roof of the watchtower", "inside the dry well", "beside the beehives",
    "between the barrels of the cellar", "in the crack of the sea cliff", "at the bottom of the quarry",
    "in the loft of the stable", "among the graves on the hill",
)  # fmt: skip
CREATURES = (
    "brown bear",
    "giant spider",
    "red fox",
    "pack of wolves",
    "horned owl",
    "green slime",
    "stone golem",
    "wild boar",
)
_MENTIONS = (
    "A traveller asked me about the {}.", "Dreamt of the {} again.", "The children sang a song about the {}.",
    "Nobody in the tavern believed the story of the {}.", "I was told to draw a picture of the {}.",
    "The priest warned us of the {}.", "At the market they argued about the {}.",
)  # fmt: skip
_DISHES = (
    ("mushroom soup", "three mushrooms, cream and an onion"), ("apple pie", "flour, butter and four apples"),
    ("healing potion", "glowing moss, honey and spring water"), ("fish stew", "two trout, leek and sea salt"),
    ("bronze alloy", "eight parts copper and one part tin"), ("black gunpowder", "coal dust, sulfur and saltpeter"),
)  # fmt: skip
GOODS = (
    "iron ingots",
    "wool blankets",
    "clay bricks",
    "candles",
    "barrels of cider",
    "steel arrows",
    "glass panes",
    "horse saddles",
)
NODES = (
    "default:pine_tree", "default:stone_with_coal", "default:stone_with_iron", "default:sand", "default:clay",
    "default:gravel", "default:acacia_tree", "default:obsidian",
)  # fmt: skip
_BUILT = (
    "default:torch",
    "default:chest",
    "default:ladder_wood",
    "default:sign_wall_wood",
    "beds:bed",
    "doors:gate_wood",
)
OBSERVED = (
    "two planks were broken", "footprints led to the river", "everything was quiet", "a lantern had gone out",
    "a stranger was camping outside", "the north gate stood open", "smoke rose from the forest", "a sheep had escaped",
)  # fmt: skip
WANTED = (
    "twenty loaves of bread", "a load of firewood", "ten buckets of milk", "a barrel of salted fish", "four new doors",
    "a pair of leather boots", "a basket of cherries", "six panes of window glass",
)  # fmt: skip
_SMALL_TALK = (
    "What lovely weather today!", "Good morning to you.", "Did you sleep well?", "My feet hurt from walking.",
    "The sunset was beautiful.", "I am so tired.", "See you later!", "That joke was very funny.", "I like your hat.",
)  # fmt: skip
_WORK = (
    ("craft", ("default:stick", "default:wood", "default:pick_stone", "default:paper", "default:book")),
    ("pickup", ("default:apple", "farming:seed_wheat", "default:flint", "flowers:rose", "default:snow")),
    ("eat", ("farming:bread", "default:blueberries", "mobs:meat", "farming:carrot")),
    ("drop", ("default:dirt", "default:cobble", "default:dry_grass_1", "bucket:bucket_empty")),
)
_NOTHING = (
    "Which submarine did the admiral sink?", "Who won the chess championship?", "What is the password of the computer?",
    "How many astronauts landed on Mars?", "Which guitar chords does the song have?", "When does the train to the airport leave?",
    "What did the dentist say about the wisdom tooth?", "Which shares rose on the stock exchange?",
    "How is the electric car charged?", "Who directed the film about dinosaurs?",
)  # fmt: skip
