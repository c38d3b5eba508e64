"""A map of memories by their likeness: their vectors, projected onto the two directions in which they differ most.

The projection is a principal component analysis (Pearson 1901): memories that lie close together have similar vectors,
as far as two dimensions can show that.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from lorestream.access.key_file import KeyScope
from lorestream.access.rate_limits import NO_RATE_LIMITS, RateLimits
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest, ApiResponse, encoded_json_response
from lorestream.memories import EVERYTHING, PageQuery
from query_service import browse, examples
from query_service.likeness_schemas import DEFAULT_POINTS, Likeness, LikenessPoint, LikenessResponse
from query_service.queries import bounded_filter, parse_filters, parse_scope
from query_service.routes import Routes
from query_service.schemas import NoParams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lorestream.memories import Filter, Memory
    from query_service.queries import ResolvedAgents
    from query_service.recall import Recall

VECTORS_AT_ONCE = 64
"""How many vectors are read in one step: their conversion holds the event loop for about 2 ms."""
TEXT_CHARS = 160
"""How much of each text is returned."""

_SUBSPACE = 8
"""Axes that are iterated together. More than the two that are wanted: these are then exact after fewer steps."""
_ITERATIONS = 12
_LEAST_SPREAD = 1e-9
"""Vectors of length 1 that are nearer to each other than this differ by rounding alone."""
_ONE_THREAD_WORK = 2**18
"""Multiplications of a matrix product that OpenBLAS does not divide among threads."""


@dataclass(frozen=True, slots=True)
class LikenessMap:
    """Memories with their places (n, 2), the variance explained by both axes (0 to 1), and how many memories match."""

    memories: Sequence[Memory]
    places: NDArray[np.float64]
    explained: tuple[float, float]
    total: int


async def likeness_map(recall: Recall, agents: ResolvedAgents, filter_: Filter, limit: int) -> LikenessMap:
    """The map of the newest `limit` memories of the agents that match, records left out.

    Raises OverBudget, Overloaded and Unavailable.
    """
    query = PageQuery(agents.scope, limit, recall.clock.now(), filter_)
    memories: list[Memory] = []
    vectors: list[NDArray[np.float32]] = []
    async with recall.working(query.scope, filter_):
        total = await recall.store.count(query)
    async with aclosing(browse.get_lines(recall, query)) as pages:  # in steps, as the vectors
        async for page in pages:
            for start in range(0, len(page), VECTORS_AT_ONCE):
                part = page[start : start + VECTORS_AT_ONCE]
                for memory, vector in zip(part, await recall.store.vectors(part), strict=True):
                    if vector is not None:  # it was deleted meanwhile, or is a record
                        memories.append(memory)
                        vectors.append(vector)
    places, explained = await asyncio.to_thread(project, vectors)
    return LikenessMap(memories, places, explained, total)


def project(vectors: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The places (n, 2) of the vectors (dim,) on their first two principal axes, and the variance that each explains.

    An axis points to where its largest coordinate is positive, and the iteration begins with fixed numbers, so that the
    same vectors give the same map. Blocks for about 0.1 s with 5,000 vectors of 384 dimensions.
    """
    places, explained = np.zeros((len(vectors), 2)), np.zeros(2)
    if vectors:
        centred = np.stack(vectors).astype(np.float64)
        centred -= centred.mean(axis=0)
        whole = float(np.square(centred).sum())
        if whole > _LEAST_SPREAD:
            axes, variances = _principal_axes(_in_blocks(centred))
            count = min(2, axes.shape[1])
            axes = axes[:, :count] * np.sign(axes[np.abs(axes[:, :count]).argmax(axis=0), range(count)])
            places[:, :count] = (_in_blocks(centred) @ axes).reshape(-1, count)[: len(vectors)]
            explained[:count] = np.clip(variances[:count] / whole, 0.0, 1.0)
    return places, (float(explained[0]), float(explained[1]))


def _principal_axes(blocks: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The axes (dim, k) of most variance, the first first, and their variances (k,), by subspace iteration.

    Golub and Van Loan, Matrix Computations, 8.2.4. `blocks` (blocks, rows, dim): the centred vectors.
    """
    dim = blocks.shape[2]
    start = np.random.default_rng(0).normal(size=(dim, min(_SUBSPACE, dim)))
    basis = np.linalg.qr(start)[0]
    for _ in range(_ITERATIONS):
        turned = (blocks.transpose(0, 2, 1) @ (blocks @ basis)).sum(axis=0)
        basis = np.linalg.qr(turned)[0]
    small = basis.T @ (blocks.transpose(0, 2, 1) @ (blocks @ basis)).sum(axis=0)
    variances, mixing = np.linalg.eigh((small + small.T) / 2)
    return basis @ mixing[:, ::-1], variances[::-1]


def _in_blocks(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows (n, dim) as (blocks, rows, dim), filled up with zeros.

    A block times the basis is so little work that OpenBLAS does it in one thread. Its threads wait for each other by
    spinning: on a machine whose cores are busy, a decomposition of the whole matrix took 9 s instead of 0.1 s.
    """
    count, dim = rows.shape
    size = max(1, _ONE_THREAD_WORK // (dim * _SUBSPACE))
    filled = np.zeros((-(-count // size) * size, dim))
    filled[:count] = rows
    return filled.reshape(-1, size, dim)


def operations(recall: Callable[[], Recall], limits: RateLimits = NO_RATE_LIMITS) -> list[Operation]:
    """The operation, for `query_service.rest`. `recall`: returns the Recall over the active collection."""
    return [
        Operation(
            "POST",
            "/v1/memories/likeness",
            _Routes(recall, limits).likeness,
            "A map of memories by the likeness of their vectors",
            KeyScope.QUERY,
            LikenessResponse,
            body=Likeness,
            query_params=NoParams,
            tag="Reads",
            description=(
                "The newest memories that match, each with its place on the two principal axes of their vectors. With"
                ' `"scope": "tenant"` the key needs `admin` too.'
            ),
            example=examples.LIKENESS,
            read_only=True,
        )
    ]


class _Routes(Routes):
    async def likeness(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        body = await request.json(Likeness)
        recall = self._recall
        agents = parse_scope(body, request.principal, recall.pseudonyms)
        await self._limits.count_queries(request.principal, agents.scope.agents)
        more = parse_filters(body.filters, recall.pseudonyms, request.tenant) if body.filters else EVERYTHING
        filter_ = bounded_filter(type_=body.type, since=body.since, until=body.until, more=more)
        with self._timed("likeness"):
            found = await likeness_map(recall, agents, filter_, int(body.limit or DEFAULT_POINTS))
        return encoded_json_response(await asyncio.to_thread(_encoded, found, agents))


def _encoded(found: LikenessMap, agents: ResolvedAgents) -> bytes:
    points = [
        LikenessPoint(
            memory.id,
            agents.name(memory.agent_id),
            memory.type,
            memory.timestamp,
            memory.text[:TEXT_CHARS],
            round(float(x), 5),
            round(float(y), 5),
        )
        for memory, (x, y) in zip(found.memories, found.places, strict=True)
    ]
    return msgspec.json.encode(LikenessResponse(points, found.explained, found.total))
