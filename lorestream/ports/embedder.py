"""The port of the embedder: texts to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Priority(IntEnum):
    """Who waits for whom: a query never stands behind the batches of the ingest."""

    QUERY = 0
    INGEST = 1


@dataclass(frozen=True, slots=True)
class Embeddings:
    """`vectors`: float32 of shape (n, dim), rows of length 1. `truncated[i]`: only a beginning was seen."""

    vectors: NDArray[np.float32]
    truncated: Sequence[bool]


class Embedder(Protocol):
    """Texts to vectors. Never runs on the event loop."""

    @property
    def model_id(self) -> str:
        """Names the model and its revision: vectors of two embedders compare only when this is equal."""
        ...

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        ...

    async def embed(self, texts: Sequence[str], priority: Priority = Priority.INGEST) -> Embeddings:
        """One row per text, in order; equal texts get equal rows.

        Raises Overloaded when the queue is full, Unavailable when a remote model cannot be reached.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Word pieces of the text as this model counts them, without special tokens."""
        ...
