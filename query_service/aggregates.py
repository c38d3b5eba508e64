"""Numbers of an agent's memories or records, in buckets of time or ticks.

Sums are rounded once (`math.fsum`), so they do not depend on the order of the numbers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, cast

from lorestream.errors import InvalidRequest, TooManyRecords
from lorestream.memories import PageQuery
from lorestream.turns import Turns
from query_service.filter_parser import LIST_FIELDS, TEXT_FIELDS, parse_field
from query_service.queries import bounded_filter, parse_filters
from query_service.record_schemas import Aggregate, Bucket
from query_service.records import with_records

if TYPE_CHECKING:
    from lorestream.identity import Pseudonyms
    from lorestream.memories import Field, Filter, Memory, Position, Scope
    from query_service.queries import ResolvedAgents
    from query_service.recall import Recall

MAX_RECORDS = 100_000
_DECIMAL = Context(prec=1000)
"""Exact for all floats: from 1e308 to 1e-324."""
_SPARE_BITS = 20
"""MAX_RECORDS numbers that are divided by two to this power have a sum that is a float."""


@dataclass(frozen=True, slots=True)
class AggregateQuery:
    """A checked aggregate. `every`: the width of a bucket in seconds, or in ticks with `by_tick`; None: one bucket.

    `start`: where a single bucket begins; None: at its first number.
    """

    field: Field
    filter: Filter
    every: float | None
    by_tick: bool
    start: float | None
    group_by: str | None = None
    """The field whose values have buckets of their own; None: all have the same."""


def parse_aggregate(body: Aggregate, pseudonyms: Pseudonyms, tenant: str) -> AggregateQuery:
    """Check an aggregate. Raises InvalidRequest and InvalidFilter."""
    if body.every_s is not None and body.every_ticks is not None:
        raise InvalidRequest("every_s and every_ticks exclude each other", path="every_ticks")
    field = parse_field(body.field, "field")
    if field.path[0] in TEXT_FIELDS | LIST_FIELDS:
        raise InvalidRequest(f"{body.field} is no number: a field with numbers is needed", path="field")
    filter_ = bounded_filter(
        type_=body.type,
        since=body.since,
        until=body.until,
        more=parse_filters(body.filters, pseudonyms, tenant),
    )
    by_tick = body.every_ticks is not None
    every = body.every_ticks if by_tick else body.every_s
    return AggregateQuery(field, filter_, every, by_tick, body.since, body.group_by)


async def aggregate(recall: Recall, agents: ResolvedAgents, query: AggregateQuery) -> list[Bucket]:
    """The buckets in order. Raises TooManyRecords where more than MAX_RECORDS memories match."""
    groups: dict[tuple[float, str], _Group] = {}

    def add(memory: Memory) -> None:
        number = _number(memory, query.field)
        place = memory.tick if query.by_tick else memory.timestamp
        if number is None or place is None:
            return
        start = 0.0 if query.every is None else start_of(place, query.every)
        name = "" if query.group_by is None else getattr(memory, query.group_by) or ""
        group = groups.get((start, name))
        if group is None:
            groups[start, name] = _Group([number], memory.position, number, place)
        else:
            group.add(number, memory.position, place)

    await visit_all(recall, with_records(agents.scope, query.filter), query.filter, add)
    return await asyncio.to_thread(_buckets, groups, query)


async def visit_all(recall: Recall, scope: Scope, filter_: Filter, visit: Callable[[Memory], None]) -> None:
    """Call `visit` with every memory that a read may show, in no defined order.

    Raises TooManyRecords where more than MAX_RECORDS memories match.
    """
    page = PageQuery(scope, MAX_RECORDS, recall.clock.now(), filter_)
    guard = recall.guard(scope, page.now)
    turns = Turns()
    read = 0
    async with recall.working(scope, filter_) as checks:
        # Where conditions need the payload of each memory, a count takes as long as the work itself.
        if not checks:
            _check_number(await recall.store.count(page))
        async with aclosing(recall.store.each(page)) as found:
            async for memories in found:
                read += len(memories)
                _check_number(read)
                for memory in filter(guard.admits, memories):
                    visit(memory)
                await turns.next()


def _check_number(records: int) -> None:
    if records > MAX_RECORDS:
        raise TooManyRecords(
            f"more than {MAX_RECORDS:,} records match, and at most as many are aggregated: ask for a shorter time",
            path="since",
        )


@dataclass(slots=True)
class _Group:
    """The numbers of a bucket, in no defined order. `first`: its earliest time, or least tick."""

    numbers: list[float]
    newest: Position
    last: float
    first: float

    def add(self, number: float, position: Position, place: float) -> None:
        self.numbers.append(number)
        self.first = min(self.first, place)
        if position > self.newest:
            self.newest, self.last = position, number


def _buckets(groups: Mapping[tuple[float, str], _Group], query: AggregateQuery) -> list[Bucket]:
    """The buckets by their start and the value that they are grouped by."""
    buckets: list[Bucket] = []
    for (start, name), group in sorted(groups.items()):
        if query.every is None:
            start = group.first if query.start is None else query.start  # noqa: PLW2901 (where the only one begins)
        bucket = summarise(start, group.numbers, group.last)
        if query.group_by is not None:
            bucket.group = name
        buckets.append(bucket)
    return buckets


def summarise(start: float, numbers: Sequence[float], last: float) -> Bucket:
    """The bucket of at least one number, in any order; `last` is the number of the last memory."""
    total: float | None
    std: float | None
    try:
        total, mean, std = _moments(numbers)
    except OverflowError:
        total, mean, std = _moments(_reduced(numbers))
        total, mean, std = _enlarged(total), math.ldexp(mean, _SPARE_BITS), _enlarged(std)
    return Bucket(start, len(numbers), total, mean, min(numbers), max(numbers), std, last)


def _moments(numbers: Sequence[float]) -> tuple[float, float, float]:
    """(sum, mean, standard deviation of the population). Raises OverflowError."""
    count = len(numbers)
    total = math.fsum(numbers)
    # Rounding must not make the mean of equal numbers another number, and their deviation more than 0.
    mean = min(max(numbers), max(min(numbers), total / count))
    deviations = [number - mean for number in numbers]
    most = max(map(abs, deviations))
    if math.isinf(most):
        raise OverflowError
    # Squares of very large or small numbers are no floats.
    _, exponent = math.frexp(most)
    scaled = [math.ldexp(deviation, -exponent) for deviation in deviations]
    variance = (math.fsum(one * one for one in scaled) - math.fsum(scaled) ** 2 / count) / count
    return total, mean, math.ldexp(math.sqrt(max(0.0, variance)), exponent)


def sum_of(numbers: Sequence[float]) -> float | None:
    """The sum of at most MAX_RECORDS numbers, rounded once; None where no float can hold it."""
    try:
        return math.fsum(numbers)
    except OverflowError:  # also where only a part of the sum is no float
        return _enlarged(math.fsum(_reduced(numbers)))


def _reduced(numbers: Sequence[float]) -> list[float]:
    return [math.ldexp(number, -_SPARE_BITS) for number in numbers]


def _enlarged(value: float) -> float | None:
    try:
        return math.ldexp(value, _SPARE_BITS)
    except OverflowError:
        return None


def start_of(place: float, every: float) -> float:
    """The largest multiple of `every` up to `place`, both taken as decimal numbers: 0.3 is a multiple of 0.1."""
    if every.is_integer():
        start = place // every * every
    else:
        number, width = Decimal(repr(place)), Decimal(repr(every))
        over = _DECIMAL.remainder(number, width)  # with the sign of `number`
        start = float(_DECIMAL.subtract(number, over if over >= 0 else _DECIMAL.add(over, width)))
    return start + 0.0 if math.isfinite(start) else place  # not -0.0


def _number(memory: Memory, field: Field) -> float | None:
    """The number at the field, None if there is none."""
    name, *keys = field.path
    value: object
    if field.is_metadata:
        value = memory.metadata
    elif name.startswith("pos."):
        value, keys = memory.pos, [name.removeprefix("pos.")]
    else:
        value = getattr(memory, name)
    for key in keys:
        value = cast("Mapping[str, object]", value).get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
