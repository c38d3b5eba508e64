"""The kinds of text that are generated, each by a grammar of its own.

conversations.py  two people over weeks: answers without the question's words, facts in passing
deeds.py          what game agents do, narrated from events
villages.py       the village of the demo
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.retrieval.bench.corpus import Corpus
from tests.retrieval.bench.kinds import conversations, deeds, villages

KINDS: Mapping[str, Callable[[int], Corpus]] = {
    "conversations": conversations.corpus,
    "deeds": deeds.corpus,
    "villages": villages.corpus,
}
"""By name: from a seed to a corpus."""

TUNE = (1, 2, 3)
"""The seeds that may be looked at while a constant is chosen."""
HELD_OUT = (101, 102, 103)
"""The seeds that decide."""
