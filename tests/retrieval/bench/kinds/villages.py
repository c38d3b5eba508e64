"""The village of the demo: facts among near misses, latest updates, places, times, players, and exact words."""

from __future__ import annotations

from producers.demo import village
from tests.retrieval.bench.corpus import START, Corpus, Question


def corpus(seed: int) -> Corpus:
    """One day of the village, and its questions that have an answer."""
    events = village.events(seed, START)
    corpus = Corpus(events)
    for one in village.questions(seed, START):
        if one.gold:
            asked = Question(f"village: {one.kind.value}", one.agent_id, one.query, one.gold, one.where)
            corpus.questions.append(asked)
    for one in events:
        if one.get("type") == "price":  # four prices of one good differ only in a number
            words = " ".join(one["text"].split()[3:]).strip(".")
            corpus.questions.append(Question("village: exact words", one["agent_id"], words, (one["id"],)))
    return corpus
