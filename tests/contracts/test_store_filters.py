"""Every store evaluates filters exactly as the reference evaluator does, for any metadata."""

import uuid

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.memories import Condition, Field, Memory, Not, Op, PageQuery, Scope, VectorQuery
from tests.contracts.conftest import open_store
from tests.contracts.generated import SPECIAL_NUMBERS, SPECIAL_STRINGS, filters, memories
from tests.contracts.reference_filters import reference

NOW = 1_800_000_000.0


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["edge", "server"])
async def store(request, qdrant):
    """One store for all examples, because opening one is slow; each example has an agent of its own."""
    async with open_store(request.param, None, qdrant) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def corpus(store):
    """Memories with every special value: as a scalar, in a list, and one level down."""
    kept = []
    for value in [
        *SPECIAL_NUMBERS,
        *SPECIAL_STRINGS,
        True,
        False,
        None,
        [],
        {},
        [[]],
        [[3]],
        [None],
        [None, 3],
        [{"a": 3}],
    ]:
        shapes = {"a": value, "a b": [value, "oak"], "o": {"b": value}, "back\\slash": value, "l": [value]}
        # Separate memories, because one inexact number makes the whole memory subject to the exact check.
        for fields in (
            {"metadata": shapes},
            {"tick": _float(value), "metadata": {"a": 3}},
            {"pos": {"x": _float(value) or 0.0}},
        ):
            number = len(kept)
            kept.append(_memory("corpus", number, {"timestamp": 1.7e9 + number // 7, **fields}))
    await store.insert(kept, _vectors(len(kept)))
    return kept


PATHS = [
    ("metadata", "a"),
    ("metadata", "a b"),
    ("metadata", "o", "b"),
    ("metadata", "back\\slash"),
    ("metadata", "l"),
    ("metadata", "absent"),
    ("tick",),
    ("pos.x",),
    ("timestamp",),
    ("type",),
]
SAMPLE = 10
"""Of the comparisons on one path, one in this many is made here; over all paths each is made once."""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("step", [SAMPLE, pytest.param(1, marks=pytest.mark.soak)])
async def test_comparisons_with_every_special_value(store, corpus, path, step):
    """Rounded numbers, mixed types, paths that Qdrant cannot express: one at a time."""
    field = Field(path)
    # On other fields a timestamp is only one more number without a match.
    times = {memory.timestamp for memory in corpus if path == ("timestamp",)} or {1.7e9}
    values = [*SPECIAL_NUMBERS, *SPECIAL_STRINGS, True, False, 10**400, *times]
    chosen = [Condition(field, op, value) for op in (Op.EQ, Op.CONTAINS) for value in values]
    chosen += [
        Condition(field, op, value)
        for op in (Op.GT, Op.GTE, Op.LT, Op.LTE)
        for value in values
        if type(value) in (int, float)
    ]
    chosen += [Condition(field, Op.IN, (value, "oak", 3)) for value in values]
    chosen += [Condition(field, Op.EXISTS, value=value) for value in (True, False)]
    for condition in chosen[PATHS.index(path) % step :: step]:
        for filter_ in (condition, Not(condition)):
            expected = {memory.id for memory in corpus if reference(filter_, memory)}
            page = PageQuery(Scope("default", ("corpus",)), len(corpus), NOW, filter_)
            assert {memory.id for memory in await store.page(page)} == expected, filter_
            assert await store.count(page) == len(expected), filter_


@given(condition=filters)
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
async def test_combinations_over_special_values(store, corpus, condition):
    await _compare(store, corpus, condition)


@given(stored=st.lists(memories, min_size=1, max_size=12), chosen=st.lists(filters, min_size=1, max_size=12))
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
async def test_filters_over_generated_memories(store, stored, chosen):
    agent = str(uuid.uuid4())
    kept = [_memory(agent, number, fields) for number, fields in enumerate(stored)]
    await store.insert(kept, _vectors(len(kept)))
    for condition in chosen:
        await _compare(store, kept, condition)


async def _compare(store, kept, condition):
    scope = Scope("default", (kept[0].agent_id,))
    expected = [memory for memory in kept if reference(condition, memory)]
    expected.sort(key=lambda memory: memory.position, reverse=True)
    page = PageQuery(scope, len(kept) + 1, NOW, condition)
    assert await store.page(page) == expected
    assert await store.count(page) == len(expected)
    hits = await store.search(VectorQuery(scope, [1.0, 0.0, 0.0, 0.0], 3, NOW, condition))
    assert [hit.memory for hit in hits] == expected[:3]  # all have the same cosine


def _memory(agent, number, fields):
    return Memory(
        **{
            "id": f"m{number}",
            "tenant": "default",
            "agent_id": agent,
            "text": "t",
            "timestamp": 1.7e9,
            "accepted_at": 1.7e9 + number,
            **fields,
        }
    )


def _float(value):
    return float(value) if type(value) in (int, float) else None


def _vectors(count):
    return np.tile(np.float32([1, 0, 0, 0]), (count, 1))
