"""Long calls to Edge: divided into steps, with turns for others between them, and the same answers as in one step."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
import qdrant_edge as edge

from lorestream.adapters.qdrant.conditions import Clause, Group, Match, Range, Substring
from lorestream.adapters.qdrant.edge import steps
from lorestream.adapters.qdrant.edge.messages import Slice, edge_filter
from lorestream.adapters.qdrant.edge.steps import STEP_S, PointSteps, Steps
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.memories import (
    And,
    Blend,
    Condition,
    Field,
    Filter,
    KeywordQuery,
    Memory,
    Not,
    Op,
    PageQuery,
    Scope,
    VectorQuery,
)

COUNT = 240
NOW = 2_000.0
SCOPE = Scope("default", ("a",))
NUMBER = Field(("metadata", "n"))
LONG_NUMBER = 0.1234567890123456789
"""One of the numbers that Edge may round, so that memories with it have to be checked against a bound near it."""

QUERIES: list[Filter] = [
    And(()),
    Condition(Field(("metadata", "b")), Op.CONTAINS, "e3"),
    Not(Condition(Field(("metadata", "b")), Op.CONTAINS, "e3")),
    Condition(NUMBER, Op.GT, LONG_NUMBER * 7),
    Not(Condition(NUMBER, Op.LTE, LONG_NUMBER * 7)),
]


@pytest.fixture
async def store() -> AsyncIterator[EdgeStore]:
    async with EdgeStore.open(None, model_id="hash", dim=4) as opened:
        memories = [
            Memory(
                id=f"{number:032x}",
                tenant="default",
                agent_id="a" if number % 6 else "b",
                text=f"iron at place {number % 9}",
                # Times and vectors with many ties, whose order must not depend on the steps.
                timestamp=1_000.0 + number % 20,
                accepted_at=1_000.0 + number,
                type=f"t{number % 7}" if number % 5 else None,
                metadata={"b": f"place{number % 40}", "n": LONG_NUMBER * (number % 13)},
                importance=float(number % 11),
            )
            for number in range(COUNT)
        ]
        vectors = np.random.default_rng(5).standard_normal((30, 4)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        await opened.insert(memories, vectors[np.arange(COUNT) % 30])
        yield opened


async def _answers(store: EdgeStore, filter_: Filter) -> list[object]:
    vector = [0.5, 0.5, 0.5, 0.5]
    blend = Blend({"relevance": 0.5, "recency": 0.5}, 100.0, 50)
    page = PageQuery(SCOPE, 17, NOW, filter_)
    middle = (await store.page(page))[-1].position
    return [
        await store.search(VectorQuery(SCOPE, vector, 9, NOW, filter_)),
        await store.search(VectorQuery(SCOPE, vector, 9, NOW, filter_, 0.2)),
        await store.search(VectorQuery(SCOPE, vector, 9, NOW, filter_, None, blend)),
        await store.search(KeywordQuery(SCOPE, "iron place 3", 30, NOW, filter_)),
        await store.page(page),
        await store.page(PageQuery(SCOPE, 17, NOW, filter_, oldest_first=True)),
        await store.page(PageQuery(SCOPE, 50, NOW, filter_, after=middle)),
        await store.count(page),
        await store.count_by_type(SCOPE, limit=5, now=NOW),
        await store.agents(Scope("default"), limit=5, now=NOW),
    ]


@pytest.mark.parametrize("filter_", QUERIES)
async def test_the_answers_in_many_steps_are_those_in_one(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch, filter_: Filter
) -> None:
    whole = await _answers(store, filter_)
    monkeypatch.setattr(steps, "_SHORT_S", 0.0)
    monkeypatch.setattr(steps, "_WHOLE_S", 0.0)
    monkeypatch.setattr(steps, "STEP_S", 1e-6)
    monkeypatch.setattr(steps, "_FIRST_STEP_S", 1e-6)
    monkeypatch.setattr("lorestream.adapters.qdrant.edge.engine.STEP_S", 0.0)
    divided = await _answers(store, filter_)
    assert divided == whole


class Work:
    """A call whose time, on a clock of its own, is proportional to the points of its slice, plus `slicing_s`."""

    def __init__(
        self, store: EdgeStore, must: list[Clause], point_s: float, *, slicing_s: float = 0.0
    ) -> None:
        self.now = 0.0
        self.sizes: list[int] = []
        self._store, self._must, self._point_s, self._slicing_s = store, must, point_s, slicing_s

    def __call__(self, within: Slice | None) -> int:
        request = edge.CountRequest(filter=edge_filter(*self._must[:1], within=within))
        size = self._store._shard.count(request)
        self.sizes.append(size)
        self.now += self._slicing_s + size * self._point_s
        return size


async def test_a_nested_costly_filter_is_evaluated_for_the_points_of_the_slice_only(store: EdgeStore) -> None:
    """Found by measuring: Edge evaluated nested conditions first, for all points, in each slice."""
    costly = Group(must_not=(Group(must=(Substring('metadata."b"', "x"), Range('metadata."n"', gt=0.0))),))
    filter_ = edge_filter(Match("agent", ('["default","a"]',)), Group(must=(costly,)), within=Slice(8, 1))
    assert len(filter_.must or []) == 2  # the slice and the agent
    assert len(filter_.must_not or []) == 1  # evaluated after them
    found = store._shard.count(edge.CountRequest(filter=filter_))
    assert 0 < found < COUNT / 4


@pytest.mark.parametrize("point_s", [STEP_S / 1000, STEP_S / 100, STEP_S / 20])
async def test_no_step_takes_long_however_long_a_point_takes_and_others_run_between_them(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch, point_s: float
) -> None:
    must: list[Clause] = [Match("agent", ('["default","a"]',)), Substring('metadata."b"', "x")]
    work = Work(store, must, point_s)
    monkeypatch.setattr(steps.time, "thread_time", lambda: work.now)
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(len(work.sizes))
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(other())
    # The estimate is wrong by up to a factor of ten; the first step is an eighth of a usual one.
    sizes = await Steps(store._shard).run(must, work, point_s=point_s / 10)
    task.cancel()
    assert sum(sizes) == COUNT * 5 // 6
    # Slices are not equally large, and one point cannot be divided.
    assert max(work.sizes) * point_s <= 2 * STEP_S
    assert set(range(1, len(work.sizes))) <= set(turns)


async def test_steps_are_not_divided_further_where_most_of_the_time_goes_into_finding_the_slice(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine may be five times as slow as the constants say: smaller slices would only be more of them."""
    must: list[Clause] = [Match("agent", ('["default","a"]',))]
    work = Work(store, must, STEP_S / 100, slicing_s=5 * STEP_S)
    monkeypatch.setattr(steps, "_WHOLE_S", 0.0)
    monkeypatch.setattr(steps.time, "thread_time", lambda: work.now)
    await Steps(store._shard).run(must, work, point_s=STEP_S / 100)
    assert sum(work.sizes) == COUNT * 5 // 6
    assert len(work.sizes) <= 6


async def test_a_call_over_indexed_conditions_is_divided_only_where_the_whole_takes_too_long(
    store: EdgeStore,
) -> None:
    must: list[Clause] = [Match("agent", ('["default","a"]',))]
    for whole_s, divided in ((0.8 * steps._WHOLE_S, False), (2 * steps._WHOLE_S, True)):
        point_s = whole_s / (COUNT * 5 // 6)
        results = await Steps(store._shard).run(must, lambda within: within, point_s=point_s)
        assert (results != [None]) is divided


async def test_two_long_calls_take_turns_step_by_step(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    must: list[Clause] = [Match("agent", ('["default","a"]',)), Substring('metadata."b"', "x")]
    monkeypatch.setattr(steps, "STEP_S", 1e-4)
    monkeypatch.setattr(steps, "_FIRST_STEP_S", 1e-4)
    monkeypatch.setattr(steps.time, "thread_time", lambda: 0.0)
    monkeypatch.setattr(steps, "_CONDITION_S", 1e-5)
    calls = Steps(store._shard)
    order: list[str] = []
    await asyncio.gather(
        *(calls.run(must, lambda _, name=name: order.append(name), point_s=1e-5) for name in "ab")
    )
    assert len(order) >= 8
    assert order[:6] in (list("ababab"), list("bababa"))


async def test_the_number_of_points_of_an_agent_is_known_without_counting(store: EdgeStore) -> None:
    agent = Match("agent", ('["default","b"]',))
    assert await store._edge.most_points([agent, Range("t", gt=0.0)]) == COUNT // 6


async def test_values_are_counted_in_one_call_however_many_points_there_are(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice of a facet takes as long as the whole: among a million memories /v1/agents did not end within 10 s."""
    monkeypatch.setattr(steps, "_SHORT_S", 0.0)
    monkeypatch.setattr(steps, "_WHOLE_S", 0.0)
    monkeypatch.setattr(steps, "STEP_S", 1e-6)
    calls: list[edge.FacetRequest] = []
    shard = store._shard

    class Counted:
        def __getattr__(self, name: str) -> object:
            return getattr(shard, name)

        def facet(self, request: edge.FacetRequest) -> edge.FacetResponse:
            calls.append(request)
            return shard.facet(request)

    monkeypatch.setattr(store._edge, "_shard", Counted())
    assert await store.agents(Scope("default"), limit=5, now=NOW) == [("a", 200), ("b", 40)]
    assert len(calls) == 2  # all memories, and the expired ones
    assert sum(count for _, count in await store.count_by_type(SCOPE, limit=9, now=NOW)) == 160
    assert len(calls) == 3


async def test_where_finding_a_slice_takes_long_all_steps_take_a_few_times_as_long_as_the_whole(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million points: 60 ms to find a slice, 0.4 s for the whole; in slices of 10 ms of work it took 4 s."""
    must: list[Clause] = [Match("agent", ('["default","a"]',))]
    work = Work(store, must, 0.4 / 200, slicing_s=0.06)
    monkeypatch.setattr(steps, "_SLICING_S", 0.06 / 200)
    monkeypatch.setattr(steps.time, "thread_time", lambda: work.now)
    sizes = await Steps(store._shard).run(must, work, point_s=0.4 / 200)
    assert sum(sizes) == 200
    assert work.now < 3 * 0.4
    assert max(sizes) * 0.4 / 200 < 0.2  # and none takes as long as the whole


async def test_a_count_of_the_few_points_of_a_range_is_not_divided(
    store: EdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The expired memories among all: the others are not looked at."""
    monkeypatch.setattr(steps, "_SHORT_S", 1e-5)
    monkeypatch.setattr(steps, "_WHOLE_S", 0.0)
    monkeypatch.setattr(steps, "STEP_S", 1e-6)
    must: list[Clause] = [Range("expires", lte=1)]
    work = Work(store, must, 1e-6)
    await Steps(store._shard).run(must, work, point_s=1e-6)
    assert work.sizes == [0]


async def test_calls_about_points_are_made_for_as_many_as_take_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Light points, then heavy ones, of which two take longer than a step, then light ones again."""
    now = 0.0
    monkeypatch.setattr(steps.time, "thread_time", lambda: now)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def work(points: Sequence[float]) -> tuple[int, float]:
        nonlocal now
        now += sum(points)
        return len(points), sum(points)

    items = [1e-6] * 200 + [0.6 * STEP_S] * 130 + [1e-6] * 200
    beside = asyncio.create_task(others())
    made = await PointSteps(64).run(items, work)
    beside.cancel()
    assert sum(size for size, _ in made) == len(items)
    assert [size for size, _ in made[:3]] == [16, 32, 64]
    too_long = [size for size, seconds in made if seconds > STEP_S]
    assert too_long == [64, 32, 16, 8, 4, 2]
    assert made[-2][0] == 64
    assert turns >= len(made) - 1


async def test_each_step_of_a_write_waits_while_writes_are_paused() -> None:
    ready = asyncio.Event()
    made: list[int] = []
    writing = asyncio.create_task(PointSteps(4, ready).run(range(10), lambda step: made.append(len(step))))
    for _ in range(5):
        await asyncio.sleep(0)
    assert made == []
    ready.set()
    await writing
    assert made == [4, 4, 2]
