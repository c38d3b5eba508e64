"""The village of the demo: facts among near misses, latest updates, places, times, players, and exact words."""

from __future__ import annotations

from collections.abc import Iterable

from producers.demo import village
from tests.retrieval.bench.corpus import START, Corpus, Event, Question

EXACT_WORDS = "village: exact words"


def corpus(seed: int) -> Corpus:
    """One day of the village, and its questions that have an answer."""
    events = village.events(seed, START)
    return Corpus(events, questions(events, village.questions(seed, START)))


def questions(events: list[Event], asked: Iterable[village.Question]) -> list[Question]:
    """The questions that have an answer, and one for each price in its exact words.

    Four prices of one good differ only in a number.
    """
    found = [
        Question(f"village: {one.kind.value}", one.agent_id, one.query, one.gold, one.where)
        for one in asked
        if one.gold
    ]
    for one in events:
        if one.get("type") == "price":
            words = " ".join(one["text"].split()[3:]).strip(".")
            found.append(Question(EXACT_WORDS, one["agent_id"], words, (one["id"],)))
    return found
