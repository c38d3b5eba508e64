"""Parsing of JSON filters: results, errors with their paths, limits."""
# ruff: noqa: FBT003

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.adapters.qdrant.exact_filter import matches
from lorestream.errors import InvalidFilter
from lorestream.memories import And, Condition, Field, Memory, Not, Op, Or
from query_service.filter_parser import MAX_CONDITIONS, MAX_OBJECTS, MAX_VALUES, parse_filter

DIG = Field(("metadata", "node"))
TYPE = Field(("type",))


def players(name: str) -> tuple[str, ...]:
    return (f"k1:{name}", f"k2:{name}")


def parse(value: object):
    return parse_filter(value, stored_forms={"player": players})


def matches_memory(value: object, **fields: object) -> bool:
    memory = Memory(
        **{"id": "m", "tenant": "t", "agent_id": "a", "text": "x", "timestamp": 1.0}
        | {"accepted_at": 1.0}
        | fields
    )
    return matches(parse(value), memory)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, And()),
        ({}, And()),
        ({"type": "dig"}, Condition(TYPE, Op.EQ, "dig")),
        ({"type": ["dig", "place"]}, Condition(TYPE, Op.IN, ("dig", "place"))),
        ({"type": []}, Condition(TYPE, Op.IN, ())),
        ({"node": 3.0}, Condition(DIG, Op.EQ, 3.0)),
        ({"metadata.node": True}, Condition(DIG, Op.EQ, True)),
        ({"node": {"ne": 1}}, Not(Condition(DIG, Op.EQ, 1))),
        ({"node": {"nin": [1, "a"]}}, Not(Condition(DIG, Op.IN, (1, "a")))),
        ({"node": {"exists": False}}, Condition(DIG, Op.EXISTS, False)),
        ({"node": {"contains": "pine"}}, Condition(DIG, Op.CONTAINS, "pine")),
        (
            {"tick": {"gte": 1, "lt": 2.5}},
            And((Condition(Field(("tick",)), Op.GTE, 1), Condition(Field(("tick",)), Op.LT, 2.5))),
        ),
        ({"pos.x": {"gt": 1}}, Condition(Field(("pos.x",)), Op.GT, 1)),
        ({"a.b": 1}, Condition(Field(("metadata", "a", "b")), Op.EQ, 1)),
        ({"metadata.type": "x"}, Condition(Field(("metadata", "type")), Op.EQ, "x")),
        ({"type": "dig", "node": 1}, And((Condition(TYPE, Op.EQ, "dig"), Condition(DIG, Op.EQ, 1)))),
        (
            {"OR": [{"type": "dig"}, {"node": 1}]},
            Or((Condition(TYPE, Op.EQ, "dig"), Condition(DIG, Op.EQ, 1))),
        ),
        ({"OR": []}, Or()),
        ({"AND": []}, And()),
        ({"NOT": {"type": "dig"}}, Not(Condition(TYPE, Op.EQ, "dig"))),
        (
            {"NOT": [{"type": "dig"}, {"node": 1}]},
            Not(And((Condition(TYPE, Op.EQ, "dig"), Condition(DIG, Op.EQ, 1)))),
        ),
        ({"player": "ann"}, Condition(Field(("player",)), Op.IN, ("k1:ann", "k2:ann"))),
        ({"player": {"ne": "ann"}}, Not(Condition(Field(("player",)), Op.IN, ("k1:ann", "k2:ann")))),
        (
            {"player": ["ann", "bob"]},
            Condition(Field(("player",)), Op.IN, ("k1:ann", "k2:ann", "k1:bob", "k2:bob")),
        ),
        ({"player": {"exists": True}}, Condition(Field(("player",)), Op.EXISTS, True)),
    ],
)
def test_parsed_filters(value: object, expected: object) -> None:
    assert parse(value) == expected


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([], "filters"),
        ("type", "filters"),
        ({"timestamp": {"gtee": 1}}, "filters.timestamp.gtee"),
        ({"timestamp": {}}, "filters.timestamp"),
        ({"node": {"deeper": {"eq": 1}}}, "filters.node.deeper"),
        ({"tick": {"gt": "1"}}, "filters.tick.gt"),
        ({"tick": {"gt": True}}, "filters.tick.gt"),
        ({"node": {"lt": "1"}}, "filters.node.lt"),
        ({"node": {"lte": [1]}}, "filters.node.lte"),
        ({"node": {"exists": 1}}, "filters.node.exists"),
        ({"node": None}, "filters.node"),
        ({"node": {"eq": None}}, "filters.node.eq"),
        ({"node": [1, None]}, "filters.node[1]"),
        ({"node": {"in": 1}}, "filters.node.in"),
        ({"node": {"in": [[1]]}}, "filters.node.in[0]"),
        ({"node": {"contains": {"a": 1}}}, "filters.node.contains"),
        ({"node": 2**63}, "filters.node"),
        ({"node": -(2**63) - 1}, "filters.node"),
        ({"node": float("nan")}, "filters.node"),
        ({"node": {"gt": float("inf")}}, "filters.node.gt"),
        ({"a..b": 1}, "filters.a..b"),
        ({".a": 1}, "filters..a"),
        ({"": 1}, "filters."),
        ({"metadata.": 1}, "filters.metadata."),
        ({"metadata": 1}, "filters.metadata"),
        ({'a"b': 1}, 'filters.a"b'),
        ({"type": 5}, "filters.type"),
        ({"type": {"gt": 5}}, "filters.type.gt"),
        ({"tick": "5"}, "filters.tick"),
        ({"tick": [5, "5"]}, "filters.tick[1]"),
        ({"tick": {"contains": 5}}, "filters.tick.contains"),
        ({"player": {"gt": 1}}, "filters.player.gt"),
        ({"player": {"contains": "an"}}, "filters.player.contains"),
        ({"player": 1}, "filters.player"),
        ({"AND": {"type": "dig"}}, "filters.AND"),
        ({"OR": None}, "filters.OR"),
        ({"OR": [{"type": "dig"}, 3]}, "filters.OR[1]"),
        ({"NOT": None}, "filters.NOT"),
        ({"NOT": {"NOT": {"NOT": {"NOT": {"type": "dig"}}}}}, "filters.NOT.NOT.NOT.NOT"),
        ({"node": {"AND": [1]}}, "filters.node.AND"),
    ],
)
def test_invalid_filters_are_rejected_with_a_path(value: object, path: str) -> None:
    with pytest.raises(InvalidFilter) as refused:
        parse(value)
    assert refused.value.path == path


def test_null_is_rejected_with_a_hint_to_exists() -> None:
    with pytest.raises(InvalidFilter, match="exists"):
        parse({"node": None})


def test_limits() -> None:
    assert parse({"NOT": {"NOT": {"NOT": {"type": "dig"}}}})
    assert parse({f"n{number}": number for number in range(MAX_CONDITIONS)})
    assert parse({"node": list(range(MAX_VALUES))})
    for refused in (
        {f"n{number}": number for number in range(MAX_CONDITIONS + 1)},
        {"node": list(range(MAX_VALUES + 1))},
        {"OR": [{"node": list(range(MAX_VALUES))}, {"zone": [1]}]},
        {"AND": [{}] * MAX_OBJECTS},
    ):
        with pytest.raises(InvalidFilter):
            parse(refused)


@pytest.mark.parametrize(
    ("value", "metadata", "expected"),
    [
        ({"node": {"ne": 1}}, {}, True),
        ({"node": {"ne": 1}}, {"node": [1, 2]}, False),
        ({"node": {"nin": [1]}}, {"node": None}, True),
        ({"node": 3}, {"node": 3.0}, True),
        ({"node": 1}, {"node": True}, False),
        ({"a.b": "x"}, {"a": {"b": "x"}}, True),
        ({"node": {"contains": "tree"}}, {"node": "pine_tree"}, True),
        ({"node": {"contains": 3}}, {"node": [1, 3.0]}, True),
        ({"node": {"exists": False}}, {"node": []}, True),
        ({"NOT": {"OR": []}}, {}, True),
    ],
)
def test_filters_match_as_the_contract_defines(
    value: object, metadata: dict[str, object], expected: bool
) -> None:
    assert matches_memory(value, metadata=metadata) is expected


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=4)
            | st.sampled_from(
                ["AND", "OR", "NOT", "type", "tick", "pos.x", "player", "eq", "in", "gt", "exists"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_json)
def test_any_json_is_parsed_or_rejected_with_a_path(value: object) -> None:
    path = "filters"
    try:
        parsed = parse(value)
    except InvalidFilter as refused:
        path = refused.path or ""
    else:
        assert matches(parsed, Memory("m", "t", "a", "x", 1.0, 1.0)) in (True, False)
    assert path.startswith("filters")
