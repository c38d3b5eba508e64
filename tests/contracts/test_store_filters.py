"""Every store answers filters exactly as the reference evaluator does, whatever the metadata."""

import asyncio
import math
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engram.adapters.qdrant_edge import EdgeStore
from engram.memories import And, Condition, Field, Memory, Not, Op, Or, PageQuery, Scope, VectorQuery
from tests.contracts.reference_filters import reference

NOW = 1_800_000_000.0
NEAR = [
    0,
    1,
    3,
    3.0,
    -3,
    0.1,
    0.3,
    0.1 + 0.2,
    math.nextafter(0.3, 1),
    1e-7,
    1.7976931348623157e308,
    5e-324,
    2**53 - 1,
    2**53,
    2**53 + 1,
    float(2**53),
    float(2**53 + 2),
    -(2**53) - 1,
    2**63 - 1,
    -(2**63),
    1e20,
    123456789.12345679,
    math.nextafter(123456789.12345679, 0),
]
WORDS = [
    "",
    "a",
    "A",
    "b",
    "ab",
    "oak",
    "Oak tree",
    "äöü",
    "ß",
    "木",
    "1",
    "3",
    "true",
    "null",
    "x\ny",
    "%",
    "'",
]
KEYS = ["a", "b", "a b", "[]", "a[0]", "木", "", "x'y", "back\\slash", "*", "%", "true", "A"]

scalars = st.one_of(st.sampled_from(NEAR), st.sampled_from(WORDS), st.booleans())
leaves = st.one_of(scalars, st.none(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=3))
lists = st.lists(
    st.one_of(leaves, st.lists(leaves, max_size=2), st.fixed_dictionaries({"a": leaves})), max_size=3
)
keys = st.sampled_from(KEYS)
metadata = st.dictionaries(
    keys,
    st.recursive(st.one_of(leaves, lists), lambda inner: st.dictionaries(keys, inner, max_size=3)),
    max_size=4,
)
floats = st.sampled_from(NEAR).map(float)
coordinates = st.one_of(st.none(), st.dictionaries(st.sampled_from("xyz"), floats, max_size=3))
times = st.sampled_from(
    [0.0, 5.1, math.nextafter(5.1, 6), 1.7e9, 1.7e9 + 0.1, math.nextafter(1.7e9 + 0.1, 2e9)]
)
optional_words = st.one_of(st.none(), st.sampled_from(WORDS))

memories = st.builds(
    lambda **fields: fields,
    timestamp=times,
    metadata=metadata,
    type=optional_words,
    player=optional_words,
    server=st.sampled_from(WORDS),
    tick=st.one_of(st.none(), floats),
    importance=st.sampled_from([0.0, 3.0, 5.0, 0.1 + 0.2]),
    pos=coordinates,
)
own_fields = st.sampled_from(
    ["type", "player", "server", "tick", "timestamp", "importance", "pos.x", "pos.y"]
)
fields = st.one_of(
    st.lists(keys, min_size=1, max_size=2).map(lambda parts: Field(("metadata", *parts))),
    own_fields.map(lambda name: Field((name,))),
)
wanted = st.one_of(scalars, times, st.floats(allow_nan=False, allow_infinity=False), st.just(10**400))
numbers = st.one_of(st.sampled_from(NEAR), times, st.just(10**400))
conditions = st.one_of(
    st.builds(Condition, fields, st.sampled_from([Op.EQ, Op.CONTAINS]), wanted),
    st.builds(Condition, fields, st.just(Op.IN), st.lists(wanted, max_size=4).map(tuple)),
    st.builds(Condition, fields, st.sampled_from([Op.GT, Op.GTE, Op.LT, Op.LTE]), numbers),
    st.builds(Condition, fields, st.just(Op.EXISTS), st.booleans()),
)
filters = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def store():
    """One store for all examples, each of which has an agent of its own: to make one takes a while."""
    opened = EdgeStore.open(None, model_id="hash", dim=4)
    yield opened
    asyncio.run(opened.close())


@pytest.fixture(scope="module")
def corpus(store):
    """Memories with every notable value, plain, in a list, and one level down."""
    kept = []
    for value in [*NEAR, *WORDS, True, False, None, [], {}, [[]], [[3]], [None], [None, 3], [{"a": 3}]]:
        shapes = {"a": value, "a b": [value, "oak"], "o": {"b": value}, "back\\slash": value, "l": [value]}
        # Apart, since a memory is treated with care as soon as one of its numbers needs it.
        for fields in (
            {"metadata": shapes},
            {"tick": _float(value), "metadata": {"a": 3}},
            {"pos": {"x": _float(value) or 0.0}},
        ):
            number = len(kept)
            kept.append(_memory("corpus", number, {"timestamp": 1.7e9 + number // 7, **fields}))
    asyncio.run(store.insert(kept, _vectors(len(kept))))
    return kept


@pytest.mark.parametrize(
    "path",
    [
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
    ],
)
async def test_every_comparison_with_every_notable_value(store, corpus, path):
    """Where numbers are rounded, types are mixed and paths cannot be written, one by one."""
    field = Field(path)
    values = [*NEAR, *WORDS, True, False, 10**400, *{memory.timestamp for memory in corpus}]
    chosen = [Condition(field, op, value) for op in (Op.EQ, Op.CONTAINS) for value in values]
    chosen += [
        Condition(field, op, value)
        for op in (Op.GT, Op.GTE, Op.LT, Op.LTE)
        for value in values
        if type(value) in (int, float)
    ]
    chosen += [Condition(field, Op.IN, (value, "oak", 3)) for value in values]
    chosen += [Condition(field, Op.EXISTS, value=value) for value in (True, False)]
    for condition in chosen:
        for filter_ in (condition, Not(condition)):
            expected = {memory.id for memory in corpus if reference(filter_, memory)}
            page = PageQuery(Scope("default", ("corpus",)), len(corpus), NOW, filter_)
            assert {memory.id for memory in await store.page(page)} == expected, filter_
            assert await store.count(page) == len(expected), filter_


@given(condition=filters)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
async def test_every_combination_over_notable_values(store, corpus, condition):
    await _compare(store, corpus, condition)


@given(stored=st.lists(memories, min_size=1, max_size=12), chosen=st.lists(filters, min_size=1, max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
async def test_every_filter_over_generated_memories(store, stored, chosen):
    agent = str(uuid.uuid4())
    kept = [_memory(agent, number, fields) for number, fields in enumerate(stored)]
    await store.insert(kept, _vectors(len(kept)))
    for condition in chosen:
        await _compare(store, kept, condition)


async def _compare(store, kept, condition):
    scope = Scope("default", (kept[0].agent_id,))
    expected = [memory for memory in kept if reference(condition, memory)]
    expected.sort(key=lambda memory: memory.order, reverse=True)
    page = PageQuery(scope, len(kept) + 1, NOW, condition)
    assert await store.page(page) == expected
    assert await store.count(page) == len(expected)
    hits = await store.search(VectorQuery(scope, [1.0, 0.0, 0.0, 0.0], 3, NOW, condition))
    assert [hit.memory for hit in hits] == expected[:3]  # all are equally near


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
