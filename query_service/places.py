"""Where memories are: their number in each cell of a grid over x and z."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorestream.errors import InvalidRequest
from lorestream.memories import And, Condition, Field, Filter, Op
from query_service.aggregates import start_of, visit_all
from query_service.insight_schemas import DEFAULT_CELL, MAX_PLACES, Place, Places, PlacesResponse
from query_service.queries import bounded_filter, parse_filters
from query_service.records import with_records

if TYPE_CHECKING:
    from lorestream.identity import Pseudonyms
    from lorestream.memories import Memory
    from query_service.queries import ResolvedAgents
    from query_service.recall import Recall


@dataclass(frozen=True, slots=True)
class PlacesQuery:
    """A checked request. `cell`: the length of a cell's side in nodes."""

    filter: Filter
    cell: float


def parse_places(body: Places, pseudonyms: Pseudonyms, tenant: str) -> PlacesQuery:
    """Check a request. Raises InvalidRequest and InvalidFilter."""
    if body.y_from is not None and body.y_to is not None and body.y_from > body.y_to:
        raise InvalidRequest("y_from is above y_to", path="y_to")
    # The conditions on x and z hold wherever there is one: memories without a position are not even read.
    bounds = (
        ("pos.x", Op.GTE, -sys.float_info.max),
        ("pos.z", Op.GTE, -sys.float_info.max),
        ("pos.y", Op.GTE, body.y_from),
        ("pos.y", Op.LTE, body.y_to),
    )
    located = [Condition(Field((name,)), op, bound) for name, op, bound in bounds if bound is not None]
    filter_ = bounded_filter(
        type_=body.type,
        since=body.since,
        until=body.until,
        more=parse_filters(body.filters, pseudonyms, tenant),
    )
    return PlacesQuery(And((*located, filter_)), DEFAULT_CELL if body.cell is None else body.cell)


async def get_places(recall: Recall, agents: ResolvedAgents, query: PlacesQuery) -> PlacesResponse:
    """The fullest cells. Raises TooManyRecords where more memories match than may be counted."""
    counts: dict[tuple[float, float], int] = {}
    newest: dict[tuple[float, float], float] = {}
    bounds: dict[str, tuple[float, float]] = {}

    def add(memory: Memory) -> None:
        pos = memory.pos or {}
        x, z = pos.get("x"), pos.get("z")
        if x is None or z is None:
            return
        for axis, value in pos.items():
            least, most = bounds.get(axis, (value, value))
            bounds[axis] = (min(least, value), max(most, value))
        cell = (start_of(x, query.cell), start_of(z, query.cell))
        counts[cell] = counts.get(cell, 0) + 1
        newest[cell] = max(newest.get(cell, memory.timestamp), memory.timestamp)

    await visit_all(recall, with_records(agents.scope, query.filter), query.filter, add)
    fullest = sorted(counts, key=lambda cell: (-counts[cell], cell))[:MAX_PLACES]
    return PlacesResponse(
        [Place(*cell, counts[cell], newest[cell]) for cell in fullest],
        len(counts),
        sum(counts.values()),
        bounds or None,
    )
