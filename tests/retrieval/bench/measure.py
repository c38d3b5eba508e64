"""Asks every question of a corpus with every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.retrieval.bench.corpus import Corpus
from tests.retrieval.bench.metrics import Metrics
from tests.retrieval.bench.peers import ask_peer
from tests.retrieval.bench.world import remembered


async def measure(
    corpus: Corpus,
    methods: Mapping[str, Mapping[str, Any]],
    *,
    cache: Path,
    settings: Mapping[str, Any] | None = None,
    peers: Sequence[str] = (),
    report: Callable[[str], None] = lambda _: None,
) -> dict[tuple[str, str], Metrics]:
    """Figures by (kind of question, method or peer). `report` is told what is being done.

    With peers, questions with a filter or a position are left out: not every peer has them.
    """
    questions = [one for one in corpus.questions if not (peers and one.where)]
    answers: dict[str, Sequence[Sequence[str]]] = {}
    report(f"indexing {len(corpus.events)} events of {len(corpus.agents)} agents")
    async with remembered(corpus, cache=cache, settings=settings) as world:
        for method, options in methods.items():
            report(f"asking {len(questions)} questions by {method}")
            answers[method] = [await world.ask(one, options) for one in questions]
        for peer in peers if questions else ():
            report(f"asking {len(questions)} questions of {peer}")
            answers[peer] = await ask_peer(peer, world, questions, cache=cache)
        gold = [world.gold(one) for one in questions]
    return {
        (kind, method): Metrics.of(
            [(ids, right) for one, ids, right in zip(questions, found, gold, strict=True) if one.kind == kind]
        )
        for kind in dict.fromkeys(one.kind for one in questions)
        for method, found in answers.items()
    }
