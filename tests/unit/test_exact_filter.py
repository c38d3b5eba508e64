"""Filters evaluated on memories, compared with the reference evaluator."""

import pytest
from hypothesis import given, settings

from lorestream.adapters.qdrant.exact_filter import matches
from lorestream.errors import InvalidFilter
from lorestream.memories import Condition, Field, Memory, Op
from tests.contracts.generated import filters, memories
from tests.contracts.reference_filters import reference
from tests.contracts.stored import memory


@given(fields=memories, condition=filters)
@settings(max_examples=150)
def test_matches_equals_the_reference_evaluator(fields, condition):
    one = memory(**fields)
    assert matches(condition, one) is reference(condition, one)


@pytest.mark.parametrize(
    ("metadata", "op", "value", "expected"),
    [
        ({"x": [1, "oak"]}, Op.CONTAINS, 1, True),
        ({"x": 1}, Op.CONTAINS, 1, False),
        ({"x": [True]}, Op.CONTAINS, 1, False),
        ({"x": "Oak tree"}, Op.CONTAINS, "oak", False),
        ({"x": ["an oak"]}, Op.CONTAINS, "oak", True),
        ({"x": 3.0}, Op.EQ, 3, True),
        ({"x": True}, Op.EQ, 1, False),
        ({"x": 2**53 + 1}, Op.EQ, 2**53, False),
        ({"x": 2**53 + 1}, Op.GT, 2**53, True),
        ({"x": [[3]]}, Op.EQ, 3, False),
        ({"x": "3"}, Op.GTE, 3, False),
        ({"x": []}, Op.EXISTS, True, False),
        ({"x": None}, Op.EXISTS, False, True),
        ({"x": [None]}, Op.EXISTS, True, True),
        ({"x": 0}, Op.IN, ("0", False), False),
    ],
)
def test_cases_named_in_the_contract(metadata, op, value, expected):
    assert matches(Condition(Field(("metadata", "x")), op, value), memory(metadata=metadata)) is expected


def test_unknown_field():
    with pytest.raises(InvalidFilter, match="text"):
        matches(Condition(Field(("text",)), Op.EQ, "a"), Memory("m", "t", "a", "a", 0.0, 0.0))
