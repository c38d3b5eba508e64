"""What `qdrant_store` asks of Qdrant, in the process or behind a socket: one collection of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorestream.adapters.qdrant.conditions import Clause
    from lorestream.adapters.qdrant.formula import Term

Payload: TypeAlias = Mapping[str, Any]
"""The keys `qdrant_payload.READ` of a point, those of them that it has."""

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Traits:
    """What is cheap for an engine, and what it cannot do."""

    in_process: bool
    """A call costs no round trip, so one may precede another to spare it a condition."""
    step: int
    """Points read or removed at once where there are many: a few milliseconds."""
    spare: int
    """Hits asked for beyond those wanted: so many may be tied before it takes another call to tell."""
    substrings: bool
    """Whether `Substring` is met by exactly what it should be; otherwise by more."""


@dataclass(frozen=True, slots=True)
class Words:
    """A text as a sparse vector: a number for each of its words, and how much the word weighs in it."""

    indices: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Near:
    """The nearest, at most `limit`, whose score is above `threshold` (None: any), exactly.

    The score is the cosine to a vector; of words the sum over those shared, each times its rarity (BM25).
    """

    to: Sequence[float] | Words
    limit: int
    threshold: float | None


class Engine(Protocol[P]):
    """Points that meet all of `must` wherever it is given. Every method raises Unavailable on an outage."""

    @property
    def traits(self) -> Traits:
        """Fixed while it is open."""
        ...

    def point(
        self, id_: str, payload: Mapping[str, Any], vector: NDArray[np.float32] | None, words: Words | None
    ) -> P:
        """A point in the engine's own type. Raises TypeError or ValueError for what it cannot hold."""
        ...

    async def upsert(self, points: Sequence[P], *, insert_only: bool) -> None:
        """Write points of different ids; with `insert_only`, those that are there stay as they are.

        Returns once readers see them. A part may have been written when it fails. Raises InvalidEvent when
        it is a point's fault.
        """
        ...

    async def delete(self, ids: Sequence[str]) -> None:
        """Remove points, there or not."""
        ...

    async def flush(self) -> None:
        """Make everything so far survive a power cut."""
        ...

    async def nearest(self, must: Sequence[Clause], near: Near) -> Sequence[tuple[Payload, float]]:
        """(payload, score), the nearest first, ties in no order."""
        ...

    async def scores(self, must: Sequence[Clause], near: Near, *, beyond: int) -> Sequence[float]:
        """The scores of `near.limit` more, behind the nearest `beyond`."""
        ...

    async def rescored(
        self, must: Sequence[Clause], near: Near, formula: Term, *, limit: int
    ) -> Sequence[tuple[Payload, Sequence[float], float]]:
        """(payload, vector, value of the formula) of those near, the highest first, ties in no order."""
        ...

    async def ordered(
        self, must: Sequence[Clause], *, limit: int, oldest_first: bool, near: Near | None = None
    ) -> Sequence[Payload]:
        """The first by the key `t`, equal ones in no order; with `near`, only of those."""
        ...

    async def scroll(
        self, must: Sequence[Clause], *, limit: int, after: str | None, with_payload: bool = True
    ) -> tuple[Sequence[tuple[str, Payload]], str | None]:
        """(id, payload) in the order of ids, and where to go on, None at the end."""
        ...

    async def retrieve(self, ids: Sequence[str]) -> Mapping[str, Payload]:
        """The payloads of those points that there are."""
        ...

    async def vectors(self, ids: Sequence[str]) -> Mapping[str, tuple[Payload, Sequence[float]]]:
        """(payload, vector) of those points that have one."""
        ...

    async def count(self, must: Sequence[Clause]) -> int:
        """How many, exactly."""
        ...

    async def agents(self, must: Sequence[Clause]) -> Sequence[tuple[str, int]]:
        """(value of the key `agent`, how many points have it), exactly, in no order."""
        ...
