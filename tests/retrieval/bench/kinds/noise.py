"""Noise: memories that answer no question, of a grammar of their own. Of 100,000, four out of five differ."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.retrieval.bench.corpus import Corpus, Event

_WHO = (
    "a fisherman", "the tall guard", "one of the tailors", "a girl with a kite", "the cook", "somebody from the hills", "an old soldier",
    "the night porter", "a travelling singer", "the cooper", "two apprentices", "a clerk", "the goat herd", "my landlord", "a nun",
)  # fmt: skip
_DID = (
    "carried", "dropped", "counted", "painted", "weighed", "swept around", "complained about", "polished", "sat on", "borrowed",
    "measured", "tied up", "stared at", "joked about", "covered", "unloaded", "drew", "stacked", "kicked", "admired",
)  # fmt: skip
_WHAT = (
    "a bucket of coal", "the wet ropes", "some planks", "a heap of turnips", "the shutters", "a box of nails", "the empty crates",
    "a sack of wool", "the broken chair", "three pots", "a pile of bricks", "the long ladder", "a basket of eggs", "the doormat",
    "an anchor", "the curtains", "a stove pipe", "some laundry", "the tin plates", "a wheel",
)  # fmt: skip
_WHERE = (
    "outside the bathhouse", "on the pier", "in the passage", "by the tannery", "at the crossing", "in the courtyard", "on the ramp",
    "beside the trough", "below the arches", "in front of the bakery", "at the back door", "between two carts", "near the pump",
)  # fmt: skip
_WHEN = (
    "before noon",
    "at dusk",
    "during the break",
    "after the bell",
    "all morning",
    "for a moment",
    "in the drizzle",
    "twice",
    "",
)
_FORMS = (
    "{who} {did} {what} {where} {when}", "{when} {who} {did} {what}", "saw how {who} {did} {what} {where}", "{where}, {who} {did} {what}",
    "it was {who} who {did} {what} {when}", "{who} {did} {what}, nothing special",
)  # fmt: skip


def noise(count: int, agents: Sequence[str], begin: float, end: float) -> Corpus:
    """`count` memories of these agents, in turn, at times between `begin` and `end` (Unix seconds).

    The texts are always the same, so that their vectors are computed once.
    """
    made = random.Random("noise")
    events: list[Event] = []
    for number in range(count):
        parts = {
            "who": made.choice(_WHO),
            "did": made.choice(_DID),
            "what": made.choice(_WHAT),
            "where": made.choice(_WHERE),
            "when": made.choice(_WHEN),
        }
        text = " ".join(made.choice(_FORMS).format(**parts).split())
        events.append(
            {
                "id": f"noise-{number}",
                "agent_id": agents[number % len(agents)],
                "time": round(made.uniform(begin, end), 3),
                "type": "note",
                "text": f"{text[0].upper()}{text[1:]}.",
                "importance": 1,
            }
        )
    return Corpus(events)
