"""Promises that are made, kept and broken; feuds and alliances between groups."""

from __future__ import annotations

import itertools
from typing import Any

from tests.retrieval.bench.corpus import DAY_S, Corpus, Writer

_PEOPLE = (
    "Alrik", "Bettany", "Corvin", "Dagny", "Emrys", "Fenna", "Gunnar", "Hesper", "Ivo", "Jessa", "Korbin", "Lioba",
    "Mattis", "Nessa", "Ottokar", "Petra",
)  # fmt: skip
_MATTERS: tuple[tuple[str, tuple[str, str], tuple[str, str]], ...] = (
    ("repair the bell of the chapel", ("It rings again, {w} hung it yesterday.", "Still no sound from the tower; {w} has sold the bronze."),
     ("bring back the sound of the church", "the church tower")),
    ("lend me a cart for the harvest", ("{w} came at dawn with two oxen and four wheels.", "{w} drove past me without a word, the wheels full of someone else's wheat."),
     ("help with transport of the crops", "carrying the crops")),
    ("guard the sheep while I am away", ("All forty animals are here, {w} slept beside them.", "Nine lambs are gone. {w} was in the tavern."),
     ("watch over the animals", "looking after the animals")),
    ("pay back the thirty crowns", ("{w} put the purse on my table, counted and complete.", "{w} laughed and said that there was never any money."),
     ("return what was borrowed", "the debt")),
    ("teach my daughter to read", ("The girl spells every sign on the road, {w} is patient.", "{w} has not come to a single lesson."),
     ("give school to the child", "the education of the girl")),
    ("keep quiet about the tunnel", ("They asked {w} for hours and learned nothing.", "The whole inn knows of the passage now. {w} talks too much."),
     ("tell nobody of the way under the ground", "the hidden way")),
    ("marry the miller's son", ("What a feast! {w} wore white.", "{w} left with a sailor in the night."),
     ("become a wife or husband at the mill", "the wedding")),
    ("light the beacon at the first sail", ("{w} saw them first, and the fire was seen for miles.", "The boats landed in the dark, {w} was asleep."),
     ("warn everyone of ships", "the warning fire")),
)  # fmt: skip
"""(the promise, how it ends if it is kept and if not, other words for the promise and for its matter)"""
_MADE = (
    "{w} gave me the word: to {m}.",
    '"You have my hand on it, I will {m}", said {w}.',
    "{w} swore to {m} before winter.",
)
_ASK_MADE = ("Who promised to {a}?", "Which person gave an oath to {a}?")
_ASK_KEPT = ("Did {w} keep the word about {t}?", "How did it end with {w} and {t}?")

_GROUPS = ("the Ravens", "the river folk", "the guild of masons", "the Ashen Court", "the hill clans", "the Lantern Order",
           "the salt merchants", "the beekeepers", "the old garrison", "the children of the moon")  # fmt: skip
_FEUD = (
    "{a} and {b} have not spoken since the fire.", "{a} poisoned the well of {b}.", "Blood was spilled again between {a} and {b}.",
    "{a} would rather starve than trade with {b}.", "{b} put a price on the leader of {a}.",
)  # fmt: skip
_ALLIANCE = (
    "{a} and {b} have sealed a pact.", "{a} send grain to {b} through the whole winter.", "Sons of {a} marry daughters of {b}.",
    "{b} will march beside {a} when the horn sounds.", "{a} share their maps with {b}.",
)  # fmt: skip
_ASK_FEUD = ("Who are the enemies of {g}?", "With whom is {g} at war?", "Whom does {g} hate?")
_ASK_ALLIANCE = ("Who are the friends of {g}?", "On whose help can {g} count?", "Which groups stand by {g}?")
_TALK = (
    "{w} was at the market.", "{w} has a new coat.", "I heard {w} singing.", "{w} says that the winter will be hard.",
    "{g} held a feast.", "{g} have a new banner.", "Nobody knows how many belong to {g}.", "{w} used to live among {g}.",
    "Played cards with {w}.", "{w} asked how I am.", "{g} built a wall.", "{w} and I talked about the weather.",
)  # fmt: skip


def corpus(seed: int) -> Corpus:
    """Two elders who remember eight promises and some twenty feuds and alliances each."""
    writer = Writer("promises", seed)
    for number in range(2):
        agent = f"npc:elder-{number}"
        people, matters, groups = writer.some(_PEOPLE, 8), writer.some(_MATTERS, 8), writer.some(_GROUPS, 7)
        steps: list[tuple[str, Any]] = list(zip(people, matters, strict=True))
        steps += [tuple(writer.some(groups, 2)) for _ in range(20)]
        writer.random.shuffle(steps)
        later = list(zip(people, matters, strict=True))
        relations: dict[tuple[str, bool], list[str]] = {}
        hostile_pairs = {
            pair: writer.random.random() < 0.5 for pair in itertools.combinations(sorted(groups), 2)
        }
        for first, second in steps:
            _talk(writer, agent, people, groups, 5)
            if first in groups:
                hostile = hostile_pairs[min(first, second), max(first, second)]
                gold = writer.event(
                    agent, writer.say(_FEUD if hostile else _ALLIANCE, a=first, b=second), type="rumour"
                )
                for group in (first, second):
                    relations.setdefault((group, hostile), []).append(gold)
                continue
            promise, _, (other_words, _) = second
            gold = writer.event(agent, writer.say(_MADE, w=first, m=promise), type="chat")
            writer.ask(agent, writer.say(_ASK_MADE, a=other_words), gold, kind="promises: made")
        for who, (_, endings, (_, other_words)) in writer.some(later, len(later)):
            _talk(writer, agent, people, groups, 5)
            gold = writer.event(agent, writer.pick(endings).format(w=who), type="chat")
            writer.ask(
                agent, writer.say(_ASK_KEPT, w=who, t=other_words), gold, kind="promises: kept or broken"
            )
        for (group, hostile), gold in relations.items():
            writer.ask(
                agent,
                writer.say(_ASK_FEUD if hostile else _ASK_ALLIANCE, g=group),
                *gold,
                kind="feuds and alliances",
            )
    return writer.corpus


def _talk(writer: Writer, agent: str, people: list[str], groups: list[str], count: int) -> None:
    for _ in range(count):
        writer.wait(0.02 * DAY_S, 0.3 * DAY_S)
        writer.event(agent, writer.say(_TALK, w=writer.pick(people), g=writer.pick(groups)), type="note")
