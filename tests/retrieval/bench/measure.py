"""Asks every question of a corpus with every method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.retrieval.bench.corpus import Corpus
from tests.retrieval.bench.metrics import Metrics
from tests.retrieval.bench.world import remembered


async def measure(
    corpus: Corpus,
    methods: Mapping[str, Mapping[str, Any]],
    *,
    cache: Path,
    settings: Mapping[str, Any] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> dict[tuple[str, str], Metrics]:
    """Figures by (kind of question, method). `report` is told what is being done."""
    kinds = dict.fromkeys(question.kind for question in corpus.questions)
    table: dict[tuple[str, str], Metrics] = {}
    report(f"indexing {len(corpus.events)} events of {len(corpus.agents)} agents")
    async with remembered(corpus, cache=cache, settings=settings) as world:
        for method, options in methods.items():
            report(f"asking {len(corpus.questions)} questions by {method}")
            answers = [(one.kind, await world.ask(one, options), world.gold(one)) for one in corpus.questions]
            for kind in kinds:
                table[kind, method] = Metrics.of([(found, gold) for of, found, gold in answers if of == kind])
    return {(kind, method): table[kind, method] for kind in kinds for method in methods}
