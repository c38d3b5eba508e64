"""A second look at the best candidates: a model that reads query and text together orders them anew.

The stage keeps the other parts of the score, and adds one. Candidates behind the first ones keep their order below
them, so that an answer with a smaller k is the beginning of one with a larger k.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import structlog

from lorestream.errors import InvalidRequest, Unavailable
from query_service.ranking import Ranked

if TYPE_CHECKING:
    from lorestream.ports import Reranker
    from lorestream.wiring import QueryParts

RERANK_WEIGHT = 0.6
"""The share of the second look in a score; the first score keeps the rest. Measured in docs/retrieval.md."""

_log = structlog.get_logger("lorestream")


@dataclass(frozen=True, slots=True)
class Reranking:
    """What searches with `rerank` use. `reranker`: None where there is none."""

    reranker: Reranker | None = None
    candidates: int = 50
    """How many of the best memories are compared with the query again."""
    timeout_s: float = 1.0
    """After this time the first order stands."""

    @classmethod
    def from_parts(cls, parts: QueryParts) -> Self:
        """The cross-encoder of the settings, else what the embedding model of the active collection offers."""
        chosen = parts.settings.reranker
        return cls(
            parts.cross_encoder or parts.embedder.reranker, chosen.candidates, chosen.timeout_ms / 1000
        )

    @property
    def identity(self) -> bytes:
        """Differs between models and numbers of candidates: a part of the cache key."""
        return f" {self.reranker.model_id if self.reranker else ''} {self.candidates}".encode()

    def second_look(self) -> SecondLook:
        """The second look of one search. Raises InvalidRequest without a reranker."""
        if self.reranker is None:
            raise InvalidRequest(
                "there is no reranker, because an embedder over HTTP has none of its own: leave rerank out, or set"
                " LORESTREAM_RERANKER__MODEL to a cross-encoder",
                path="rerank",
            )
        return SecondLook(self.reranker, self.candidates, self.timeout_s)


@dataclass(slots=True)
class SecondLook:
    """The second look of one search."""

    reranker: Reranker
    candidates: int
    timeout_s: float
    missed: bool = field(default=False, init=False)
    """The time was over, or the model failed: the answer has the first order."""

    async def rerank(self, query: str, pool: Sequence[Ranked], best: float = 1.0) -> list[Ranked]:
        """The pool, the best first, with new scores. `best`: as in `rescored`."""
        first = pool[: self.candidates]
        try:
            async with asyncio.timeout(self.timeout_s):
                scores = await self.reranker.scores(query, [one.memory.text for one in first])
        except TimeoutError:
            self.missed = True
        except Unavailable as error:
            self.missed = True
            _log.warning("reranking failed, the answer has the order without it", error=str(error))
        else:
            return rescored(pool, scores, best)
        return list(pool)


def rescored(pool: Sequence[Ranked], scores: Sequence[float], best: float = 1.0) -> list[Ranked]:
    """The pool with the parts of each score scaled down, and a part `rerank` added.

    `pool`: the best first. `best`: what counts as a score of 1 in it, above 0. `scores`: of the first ones. They are stretched to 0 to 1, because those of most models lie
    close together; all are 1 where all are equal. What is not among the first ones gets 0, and so stays behind them.
    """
    least, most = min(scores, default=0.0), max(scores, default=0.0)
    found: list[Ranked] = []
    for place, one in enumerate(pool):
        second = 0.0
        if place < len(scores):
            second = (scores[place] - least) / (most - least) if most > least else 1.0
        parts = {name: (1 - RERANK_WEIGHT) * part / best for name, part in one.details.items()}
        parts["rerank"] = RERANK_WEIGHT * second
        found.append(Ranked(one.memory, math.fsum(parts.values()), parts))
    return found
