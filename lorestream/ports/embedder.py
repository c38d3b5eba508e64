"""The port of the embedder: from texts to vectors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorestream.ports.reranker import Reranker


class Priority(IntEnum):
    """The order of the embedder's queue: queries are embedded before batches of new events."""

    QUERY = 0
    INGEST = 1


class Role(Enum):
    """What a text is for. Some models read another prefix before a query than before a text that is to be found."""

    QUERY = "query"
    """A question, whose vector is compared with those of passages."""
    PASSAGE = "passage"
    """A text that is stored, to be found by queries."""


StoredVectors: TypeAlias = (
    "Callable[[Sequence[str]], Awaitable[Sequence[tuple[NDArray[np.float32], bool] | None]]]"
)
"""For each text the vector (dim,) that the same model has given it, and whether it was truncated; None: not stored."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """`vectors`: float32 of shape (n, dim), rows of length 1.

    `truncated[i]`: text i is longer than the model's input, so its vector covers only the beginning.
    """

    vectors: NDArray[np.float32]
    truncated: Sequence[bool]


class Embedder(Protocol):
    """Computes vectors, never on the event loop."""

    @property
    def model_id(self) -> str:
        """The model, its revision and its prefixes. Vectors of two embedders are comparable only if this is equal."""
        ...

    @property
    def dim(self) -> int:
        """The number of components of each vector."""
        ...

    @property
    def failure(self) -> str | None:
        """Why a remote model fails at present; None while its last call succeeded, and for a local model."""
        ...

    @property
    def ingested(self) -> int:
        """How many texts with Priority.INGEST the model has computed so far: the progress of a long batch."""
        ...

    @property
    def reranker(self) -> Reranker | None:
        """A reranker that needs no further model; None where the model shows no vectors of single tokens."""
        ...

    async def embed(
        self,
        texts: Sequence[str],
        priority: Priority = Priority.INGEST,
        role: Role = Role.PASSAGE,
        *,
        stored: StoredVectors | None = None,
    ) -> Embeddings:
        """One row per text, in order; equal texts of one role have equal rows.

        `role`: the model's prefix for it is put before each text, and counts in `truncated`. `stored` is asked for
        passages that are not in the embedder's cache, before the model; what it finds is cached. Raises Overloaded
        when the queue is full, Unavailable when the model cannot be reached or fails, InvalidRequest when it refuses
        one of the texts or, in the ingest at least, fails for that text alone, and what `stored` raises.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """The number of tokens of the text for this model's tokenizer, without special tokens and prefix."""
        ...
