"""The interface between the store and Qdrant: one collection of points, in this process or on a server.

`edge.engine.EdgeEngine` and `server.engine.ServerEngine` implement it. Everything above it is the same for both.
The module also holds the values that cross the interface: vectors, nearest-neighbour queries, and the terms of a
scoring formula. None of them is a type of a client library.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from lorestream.adapters.qdrant.payload import READ_KEYS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorestream.adapters.qdrant.conditions import Clause

Payload: TypeAlias = Mapping[str, Any]
"""The keys `payload.READ_KEYS` of a point; keys that the point does not have are absent."""

P = TypeVar("P")
"""The engine's own type of a point."""


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """What is cheap for an engine, and what it cannot do."""

    in_process: bool
    """A call costs no network round trip, so an extra call is worth it where it saves a condition."""
    batch_size: int
    """Points to read or remove in one call when there are many: the call takes a few milliseconds."""
    tie_margin: int
    """Hits to request beyond k. When more hits than that have the score of the k-th, another call is needed."""
    exact_substrings: bool
    """True if the engine's `Substring` matches exactly the right strings; otherwise it may match more."""


@dataclass(frozen=True, slots=True)
class SparseVector:
    """A text as a sparse BM25 vector: one index per distinct word, and the weight of the word in the text."""

    indices: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class NearestQuery:
    """An exact search for at most `limit` points whose score is above `threshold` (None: no threshold).

    For a dense `vector` the score is the cosine. For a sparse one it is BM25: the sum over the shared words, each
    weighted by its inverse document frequency.
    """

    vector: Sequence[float] | SparseVector
    limit: int
    threshold: float | None


@dataclass(frozen=True, slots=True)
class TimePage:
    """The first `limit` points that meet the clauses `must`, by the payload key `t`, from the tick `start` on.

    Points at `start` itself belong to it. Without `oldest_first` the order is backwards, from `start` to older ones.
    """

    must: tuple[Clause, ...]
    start: int
    limit: int
    oldest_first: bool


# --- terms of a scoring formula ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Constant:
    """A number; it has to be exact in 32 bits, because Qdrant's protocol transports it as float32."""

    value: float


@dataclass(frozen=True, slots=True)
class Variable:
    """The number at the payload key `name`; the name `$score` is the score of the nearest-neighbour search."""

    name: str


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of all terms, added in this order."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """The product of all terms."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """-term."""

    term: Term


@dataclass(frozen=True, slots=True)
class AbsoluteValue:
    """|term|."""

    term: Term


@dataclass(frozen=True, slots=True)
class ExponentialDecay:
    """0.5 ^ |term|."""

    term: Term


Term: TypeAlias = "Constant | Variable | Sum | Product | Negation | AbsoluteValue | ExponentialDecay"


class Engine(Protocol[P]):
    """Calls to one collection. `must`: only points that meet all of these clauses count.

    Every method raises Unavailable on an outage.
    """

    @property
    def traits(self) -> EngineTraits:
        """Constant while the engine is open."""
        ...

    @property
    def writes(self) -> int:
        """Grows with each write, in process; constant for a server."""
        ...

    def point(
        self,
        id_: str,
        payload: Mapping[str, Any],
        vector: NDArray[np.float32] | None,
        words: SparseVector | None,
    ) -> P:
        """Build a point in the engine's own type. Raises TypeError or ValueError for values it cannot store."""
        ...

    async def upsert(
        self,
        points: Sequence[P],
        *,
        insert_only: bool = False,
        update_only: bool = False,
        replace: Clause | None = None,
    ) -> None:
        """Write points with distinct ids; with `insert_only`, points that already exist are not changed.

        With `update_only`, points that do not exist are not added. With `replace`, of the points that already exist
        only those are replaced that meet this clause now.
        Returns once readers see the points. After a failure some of them may have been written. Raises
        InvalidEvent when the engine rejects one of the points.
        """
        ...

    async def delete(self, ids: Sequence[str], *, unless: Clause | None = None) -> None:
        """Remove points, apart from those that meet the clause `unless`. Unknown ids are ignored."""
        ...

    async def overwrite(self, id_: str, payload: Mapping[str, Any], which: Clause) -> None:
        """Replace the payload of a point that meets the clause now; its vectors stay. Unknown ids are ignored."""
        ...

    async def remove_key(self, ids: Sequence[str], key: str) -> None:
        """Remove a payload key of points. Unknown ids are ignored."""
        ...

    async def flush(self) -> None:
        """Make all writes so far survive a power cut."""
        ...

    async def nearest(self, must: Sequence[Clause], near: NearestQuery) -> Sequence[tuple[Payload, float]]:
        """(payload, score) by falling score; the order among equal scores is undefined."""
        ...

    async def ranked_ids(
        self,
        must: Sequence[Clause],
        near: NearestQuery,
        *,
        offset: int = 0,
        among: NearestQuery | None = None,
    ) -> Sequence[tuple[str, float]]:
        """(id, score) by falling score, without payloads, after skipping the first `offset` hits.

        With `among`, only the hits of that query are ranked. The order among equal scores is undefined.
        """
        ...

    async def ranked_ids_of(
        self, searches: Sequence[tuple[Sequence[Clause], NearestQuery]]
    ) -> Sequence[Sequence[tuple[str, float]]]:
        """What `ranked_ids` returns for the clauses and the query of each search. One round trip."""
        ...

    async def rescore(
        self, must: Sequence[Clause], near: NearestQuery, formula: Term, *, limit: int
    ) -> Sequence[tuple[Payload, Sequence[float], float]] | None:
        """Rank the hits of `near` by a formula: (payload, dense vector, value of the formula), highest first.

        The order among equal values is undefined. None where the engine cannot do it in a short time.
        """
        ...

    async def ordered_by_time(
        self, must: Sequence[Clause], *, limit: int, oldest_first: bool, near: NearestQuery | None = None
    ) -> Sequence[Payload]:
        """The first `limit` points by the payload key `t`; with `near`, only among its hits.

        The order among equal values of `t` is undefined.
        """
        ...

    async def pages_by_time(self, pages: Sequence[TimePage]) -> Sequence[Sequence[Payload]]:
        """The points of each page in its order; that among equal values of `t` is undefined. One round trip."""
        ...

    async def scroll(
        self, must: Sequence[Clause], *, limit: int, after: str | None, with_payload: bool = True
    ) -> tuple[Sequence[tuple[str, Payload]], str | None]:
        """One page of (id, payload) by id, starting at the id `after`; and the id of the next page, None at the end.

        With `with_payload` False the payloads are empty.
        """
        ...

    def scan(self, must: Sequence[Clause]) -> AsyncGenerator[tuple[str, Payload]]:
        """(id, payload) of all points that meet the clauses, in no defined order, read in steps."""
        ...

    def payloads(self, must: Sequence[Clause]) -> AsyncGenerator[Sequence[Payload]]:
        """The payloads of all points that meet the clauses, some at a time: faster than `scan`, which makes the ids too."""
        ...

    async def exists(self, must: Sequence[Clause]) -> bool:
        """True if at least one point meets the clauses."""
        ...

    async def retrieve(
        self, ids: Sequence[str], keys: Sequence[str] = READ_KEYS, *, agents: frozenset[str] | None = None
    ) -> Mapping[str, Payload]:
        """The payloads, with these keys, of the points among `ids` that exist, by id. `agents`: as in `Ids`."""
        ...

    async def vectors(self, ids: Sequence[str]) -> Mapping[str, tuple[Payload, Sequence[float]]]:
        """(payload, dense vector) of the points among `ids` that have a vector, by id."""
        ...

    async def count(self, must: Sequence[Clause]) -> int:
        """The exact number of points."""
        ...

    async def most_points(self, must: Sequence[Clause]) -> int:
        """An upper bound of `count`, or an estimate near it, at almost no cost."""
        ...

    async def value_counts(self, key: str, must: Sequence[Clause]) -> Sequence[tuple[str, int]]:
        """(value of an indexed keyword key, exact number of its points), in no defined order."""
        ...
