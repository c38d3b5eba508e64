"""The kinds of text that are generated, each by a grammar and words of its own.

conversations.py  two people over weeks: answers without the question's words, facts in passing
deeds.py          what game agents do, narrated from events
journals.py       entries of 100 to 400 words
languages.py      German, French, Spanish, Chinese, Japanese
places.py         names, landmarks, coordinates
prices.py         prices that change
promises.py       promises made, kept and broken; feuds and alliances
villages.py       the village of the demo
noise.py          memories that answer no question
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.retrieval.bench.corpus import Corpus
from tests.retrieval.bench.kinds import (
    conversations,
    deeds,
    journals,
    languages,
    places,
    prices,
    promises,
    times,
    villages,
)

KINDS: Mapping[str, Callable[[int], Corpus]] = {
    "conversations": conversations.corpus,
    "deeds": deeds.corpus,
    "journals": journals.corpus,
    "languages": languages.corpus,
    "places": places.corpus,
    "prices": prices.corpus,
    "promises": promises.corpus,
    "times": times.corpus,
    "villages": villages.corpus,
}
"""By name: from a seed to a corpus."""

TUNE = (1, 2, 3)
"""The seeds that may be looked at while a constant is chosen."""
HELD_OUT = (101, 102, 103)
"""The seeds that decide."""
