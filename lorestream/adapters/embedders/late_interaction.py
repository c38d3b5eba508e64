"""Compares a query with texts token by token: MaxSim of Khattab and Zaharia 2020 (https://arxiv.org/abs/2004.12832).

For each token of the query the most similar token of the text counts; the score is the mean of these cosines. The
vectors are those that an embedding model computes before it pools them, so no further weights are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lorestream.ports import Role

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lorestream.adapters.embedders.prefixes import Prefixes
    from lorestream.adapters.embedders.reranker import Compare


class TokenEncoder(Protocol):
    """An embedding model that shows the vectors of single tokens: blocking, used by one thread."""

    @property
    def model_id(self) -> str:
        """As in `lorestream.ports.Embedder`."""
        ...

    @property
    def prefixes(self) -> Prefixes:
        """As in `queue.Encoder`."""
        ...

    @property
    def max_characters(self) -> int | None:
        """As in `queue.Encoder`."""
        ...

    def token_vectors(self, texts: Sequence[str]) -> Sequence[NDArray[np.float32]]:
        """The vectors of the tokens of each text, shape (tokens, dim), without special tokens. Raises Unavailable."""
        ...


class LateInteraction:
    """`reranker.PairModel` over the token vectors of an embedding model."""

    def __init__(self, encoder: TokenEncoder) -> None:
        """`encoder` may be in use by other threads at the same time."""
        self._encoder = encoder
        self.model_id = f"maxsim {encoder.model_id}"

    def with_query(self, query: str) -> Compare:
        """Compute the query's vectors, and return the comparison with them."""
        return partial(self._compare, self._directions([query], Role.QUERY)[0])

    def _compare(self, query: NDArray[np.float32], texts: Sequence[str]) -> list[float]:
        return [max_sim(query, text) for text in self._directions(texts, Role.PASSAGE)]

    def _directions(self, texts: Sequence[str], role: Role) -> list[NDArray[np.float32]]:
        """The token vectors of each text, with length 1."""
        prefix = self._encoder.prefixes.of(role)
        read = [(prefix + text)[: self._encoder.max_characters] for text in texts]
        found = self._encoder.token_vectors(read)
        return [one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in found]


def max_sim(query: NDArray[np.float32], text: NDArray[np.float32]) -> float:
    """The mean over the tokens of the query of the best cosine in the text, in [0, 1]; 0 if one has no token.

    Both: shape (tokens, dim), rows of length 1.
    """
    if not len(query) or not len(text):
        return 0.0
    return float(np.clip((query @ text.T).max(axis=1).mean(), 0.0, 1.0))
