"""The reads of one request to the query service, of which none asks the server for what another one has returned.

A search asks for two lists of ids, then for the memories at their beginning, for those next to them, and for the scores
of these. Each call costs both sides more than a short answer does. So, where neighbours will be asked for,

- the first call also reads when each memory of the agent was, without payloads: its timeline,
- the memories next to the first ones are read with them,
- and all scores, so that none is asked for again.

A search costs two calls that way. The timelines of agents with many memories are not read: for them the lists are short,
and every page of neighbours is a query, as in `ServerEngine`.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorestream.adapters.qdrant.agents import agents_of
from lorestream.adapters.qdrant.conditions import Clause, Ids, Match, Range
from lorestream.adapters.qdrant.engine import TimePage
from lorestream.adapters.qdrant.payload import MAX_TICKS, READ_KEYS
from lorestream.adapters.qdrant.server import messages
from lorestream.adapters.qdrant.server.engine import ServedCollection, ServerEngine

if TYPE_CHECKING:
    from lorestream.adapters.qdrant.engine import NearestQuery, Payload, SparseVector
    from lorestream.adapters.qdrant.server.protocol import wire

TIMELINE = 512
"""A timeline has fewer memories: 0.5 ms of CPU here. Twenty pages of neighbours cost the server and this side more."""
_PAGES = 8
"""From so many pages of one agent on, its timeline is read instead of them."""
_MOST_AGENTS = 4
"""Of so many names the timelines are read with the lists: an agent may be stored under a plain name and pseudonymous ones."""
_UNFILTERED = 2
"""Clauses of a search without a filter: its agents, and what is shown."""
_MOST_LARGE = 10_000
"""Large agents that are remembered: some MB."""
_LARGE_FOR_S = 600.0
"""How long: an agent that is trimmed or erased has few memories again."""


class _Timeline:
    """All points that meet some clauses, by the payload key `t`; the order among equal ones is undefined."""

    def __init__(self, must: tuple[Clause, ...], points: Sequence[tuple[str, int]]) -> None:
        self.must = must
        self._keys = [key for key, _ in points]
        self._ticks = [tick for _, tick in points]
        self._places = {key: place for place, key in enumerate(self._keys)}

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def page(self, page: TimePage) -> Sequence[str]:
        """The point ids of a page, whose clauses may end with the range of a tick."""
        ticks = self._ticks
        if (tick := _tick(page)) is not None:
            return self._keys[bisect_left(ticks, tick) : bisect_right(ticks, tick)][: page.limit]
        if page.oldest_first:
            start = bisect_left(ticks, page.start)
            return self._keys[start : start + page.limit]
        end = bisect_right(ticks, page.start)
        return self._keys[max(0, end - page.limit) : end][::-1]

    def beside(self, key: str, span: int) -> Sequence[str]:
        """The ids of this point and of so many on each side, if it is one of them."""
        place = self._places.get(key)
        return () if place is None else self._keys[max(0, place - span) : place + span + 1]


@dataclass(frozen=True, slots=True)
class _Scored:
    """Scores by one vector, falling. `whole`: of all points that meet `must` and have a score; else only of some points."""

    must: tuple[Clause, ...]
    vector: Sequence[float] | SparseVector
    scores: Mapping[str, float]
    whole: bool


class LargeAgents:
    """Agents and conversations whose timelines were too long, for some minutes."""

    def __init__(self) -> None:
        self._until: dict[tuple[Match, ...], float] = {}

    def add(self, must: Sequence[Clause]) -> None:
        """Add the one whose memories meet these clauses."""
        if len(self._until) >= _MOST_LARGE:
            self._until.clear()
        self._until[_lasting(must)] = time.monotonic() + _LARGE_FOR_S

    def __contains__(self, must: Sequence[Clause]) -> bool:
        return self._until.get(_lasting(must), 0.0) > time.monotonic()


class OneRequest(ServerEngine):
    """A ServerEngine for the reads of one request."""

    def __init__(self, served: ServedCollection, large: LargeAgents, anchors: int, span: int) -> None:
        """For so many of the first memories that are read, `span` neighbours on each side will be asked for."""
        super().__init__(served)
        self._large_agents = large
        self._anchors = anchors
        self._span = span + 1  # a page of neighbours has one more, which shows that the tick of the last ends
        self._with_lists = anchors > 0
        """Whether the next lists are to be read with timelines."""
        self._timelines: list[_Timeline] = []
        self._scored: list[_Scored] = []
        self._payloads: dict[str, Payload | None] = {}

    async def ranked_ids_of(
        self, searches: Sequence[tuple[Sequence[Clause], NearestQuery]]
    ) -> Sequence[Sequence[tuple[str, float]]]:
        """(id, score) by falling score, of each search; a first one also reads the timeline of its agent."""
        known = [self._known(tuple(must), near) for must, near in searches]
        if all(one is not None for one in known):
            return [one for one in known if one is not None]
        agents = self._new_agents(searches[0][0])
        # Of agents that may have few memories all scores are read: they are asked for one by one otherwise.
        asked = [
            (must, replace(near, limit=max(near.limit, TIMELINE)) if agents else near)
            for must, near in searches
        ]
        queries = [self._ids_query(must, near) for must, near in asked]
        found = await self._query_all([*queries, *map(self._order_query, agents)])
        for must, line in zip(agents, found[len(queries) :], strict=True):
            self._keep(must, line)
        answers: list[Sequence[tuple[str, float]]] = []
        for (must, near), (_, wanted), some in zip(asked, searches, found[: len(queries)], strict=True):
            scores = messages.scored_ids(some)
            whole = _ids(must) is None and near.threshold is None and len(scores) < near.limit
            self._scored.append(_Scored(tuple(must), near.vector, dict(scores), whole))
            answers.append(scores[: wanted.limit])
        return answers

    async def retrieve(
        self, ids: Sequence[str], keys: Sequence[str] = READ_KEYS, *, agents: frozenset[str] | None = None
    ) -> Mapping[str, Payload]:
        """The payloads of the points that exist, by id."""
        if keys is not READ_KEYS:
            return await super().retrieve(ids, keys, agents=agents)
        missing = [key for key in ids if key not in self._payloads]
        if missing:
            anchors, self._anchors = missing[: self._anchors], 0
            beside = [
                near for key in anchors for line in self._timelines for near in line.beside(key, self._span)
            ]
            wanted = list(dict.fromkeys((*missing, *beside)))
            found = await super().retrieve(wanted, agents=agents)
            self._payloads |= {key: found.get(key) for key in wanted}
        return {key: payload for key in ids if (payload := self._payloads[key]) is not None}

    async def pages_by_time(self, pages: Sequence[TimePage]) -> Sequence[Sequence[Payload]]:
        """The points of each page in its order, by timelines where they are short."""
        self._anchors = 0  # what is read from here on has no neighbours that are asked for
        counted = Counter(id(page.must) for page in pages)
        timelines: dict[int, tuple[Clause, ...]] = {}
        single: list[TimePage] = []
        for page in pages:
            if self._line(page) is not None:
                continue
            if counted[id(page.must)] >= _PAGES and page.must not in self._large_agents:
                timelines[id(page.must)] = page.must
            else:
                single.append(page)
        read = await self._read_pages([*timelines.values()], single)
        lines = {id(page): line for page in pages if (line := self._line(page)) is not None}
        late = [page for page in pages if id(page) not in lines and id(page) not in read]
        read |= await self._read_pages([], late)
        keys = {id(page): lines[id(page)].page(page) for page in pages if id(page) in lines}
        agents = [agents_of(line.must) for line in lines.values()]
        named = None if None in agents else frozenset().union(*(one for one in agents if one is not None))
        wanted = list(dict.fromkeys(key for page in keys.values() for key in page))
        payloads = await self.retrieve(wanted, agents=named) if wanted else {}
        # A memory that was deleted since the timeline was read is missing, or a tombstone.
        stored = {key: payload for key, payload in payloads.items() if "body" in payload}
        read |= {page: [stored[key] for key in some if key in stored] for page, some in keys.items()}
        return [read[id(page)] for page in pages]

    async def _read_pages(
        self, timelines: Sequence[tuple[Clause, ...]], pages: Sequence[TimePage]
    ) -> dict[int, Sequence[Payload]]:
        """Read timelines and pages in one call; returns the pages by id()."""
        queries = [self._page_query(page, with_payload=True) for page in pages]
        if not timelines and not queries:
            return {}
        found = await self._query_all([*map(self._order_query, timelines), *queries])
        for must, line in zip(timelines, found[: len(timelines)], strict=True):
            self._keep(must, line)
        read = map(messages.payloads, found[len(timelines) :])
        return {id(page): some for page, some in zip(pages, read, strict=True)}

    def _new_agents(self, must: Sequence[Clause]) -> Sequence[tuple[Clause, ...]]:
        """The clauses of the agents whose timelines are to be read with these lists."""
        agents = _of_agents(must) if self._with_lists else ()
        self._with_lists = False
        return () if any(one in self._large_agents for one in agents) else agents

    def _order_query(self, must: tuple[Clause, ...]) -> wire.QueryPoints:
        page = TimePage(must, -MAX_TICKS, TIMELINE, oldest_first=True)
        return self._page_query(page, with_payload=False)

    def _keep(self, must: tuple[Clause, ...], found: Sequence[wire.ScoredPoint]) -> None:
        if len(found) < TIMELINE:
            points = [(one.id.uuid, one.order_value.int) for one in found]
            self._timelines.append(_Timeline(must, points))
        else:
            self._large_agents.add(must)

    def _line(self, page: TimePage) -> _Timeline | None:
        """The timeline that the page is a part of."""
        must = page.must if _tick(page) is None else page.must[:-1]
        return next((one for one in self._timelines if one.must == must), None)

    def _known(self, must: tuple[Clause, ...], near: NearestQuery) -> list[tuple[str, float]] | None:
        """The answer to a search, if it follows from what was read; None if not."""
        lists = [one for one in self._scored if one.vector is near.vector or one.vector == near.vector]
        if near.threshold is not None or not lists:
            return None
        asked = _ids(must)
        if asked is None:
            same = (one for one in lists if one.must == must and (one.whole or len(one.scores) >= near.limit))
            found = next(same, None)
            return None if found is None else list(found.scores.items())[: near.limit]
        scores = {key: score for one in lists for key, score in one.scores.items()}
        # A point that is known to meet the clauses of a whole list, and is not in it, has no score.
        met = [some for one in lists if one.whole for some in self._meeting(one.must)]
        if not all(key in scores or any(key in some for some in met) for key in asked):
            return None
        shared = [(key, scores[key]) for key in asked if key in scores]
        return sorted(shared, key=lambda one: one[1], reverse=True)

    def _meeting(self, must: Sequence[Clause]) -> Iterator[Container[str]]:
        """Points that are known to meet these clauses of a search."""
        yield from (one.scores for one in self._scored if one.whole and one.must == must)
        if len(must) <= _UNFILTERED:
            agents = _of_agents(must)
            yield from (line for line in self._timelines if line.must in agents)


def _ids(must: Sequence[Clause]) -> frozenset[str] | None:
    """The points that are asked for, if the clauses name nothing else."""
    [first, *others] = must
    return first.ids if isinstance(first, Ids) and not others else None


def _of_agents(must: Sequence[Clause]) -> Sequence[tuple[Clause, ...]]:
    """Of the clauses of a search: for each of its agents those that the memories next to each other meet."""
    scope, *others = must
    if not isinstance(scope, Match) or scope.key != "agent" or len(scope.values) > _MOST_AGENTS:
        return ()
    # Behind the condition on what is shown comes the filter of the search, which decides on no neighbours.
    return [(Match("agent", (str(one),)), *others[:1]) for one in scope.values]


def _tick(page: TimePage) -> int | None:
    """The tick of a page that is a part of one."""
    last = page.must[-1]
    return int(last.gte) if isinstance(last, Range) and last.key == "t" and last.gte is not None else None


def _lasting(must: Sequence[Clause]) -> tuple[Match, ...]:
    """The clauses without the condition on what is shown, which is another one at each time."""
    return tuple(one for one in must if isinstance(one, Match))
