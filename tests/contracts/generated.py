"""Hypothesis strategies for filters, and for memories with values that are hard to compare."""

import math

from hypothesis import strategies as st

from lorestream.memories import And, Condition, Field, Not, Op, Or

SPECIAL_NUMBERS = [
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
SPECIAL_STRINGS = [
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

scalars = st.one_of(st.sampled_from(SPECIAL_NUMBERS), st.sampled_from(SPECIAL_STRINGS), st.booleans())
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
floats = st.sampled_from(SPECIAL_NUMBERS).map(float)
coordinates = st.one_of(st.none(), st.dictionaries(st.sampled_from("xyz"), floats, max_size=3))
times = st.sampled_from(
    [0.0, 5.1, math.nextafter(5.1, 6), 1.7e9, 1.7e9 + 0.1, math.nextafter(1.7e9 + 0.1, 2e9)]
)
optional_words = st.one_of(st.none(), st.sampled_from(SPECIAL_STRINGS))

memories = st.builds(
    lambda **fields: fields,
    timestamp=times,
    metadata=metadata,
    type=optional_words,
    player=optional_words,
    server=st.sampled_from(SPECIAL_STRINGS),
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
numbers = st.one_of(st.sampled_from(SPECIAL_NUMBERS), times, st.just(10**400))
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
