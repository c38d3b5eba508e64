"""The port of the reranker: how well texts answer a question, by a model that reads both together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Reranker(Protocol):
    """Compares a query with texts, never on the event loop. Slower and more exact than the comparison of vectors."""

    @property
    def model_id(self) -> str:
        """The model and its revision. Scores of two rerankers are comparable only if this is equal."""
        ...

    async def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """One score in [0, 1] per text, in order; higher is better. A score does not depend on the other texts.

        Calls take turns in chunks of texts, so that one with long texts does not keep the others waiting. A call that
        is cancelled stops with its present chunk. Raises Unavailable when the model fails or is closed.
        """
        ...
