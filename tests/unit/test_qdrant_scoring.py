"""The scoring formula equals the blend, within the tolerance of 32-bit constants."""

import math
import struct

from hypothesis import given
from hypothesis import strategies as st

from lorestream.adapters.qdrant.engine import (
    AbsoluteValue,
    Constant,
    ExponentialDecay,
    Negation,
    Product,
    Sum,
    Variable,
)
from lorestream.adapters.qdrant.payload import ticks
from lorestream.adapters.qdrant.scoring import TOLERANCE, blend_formula
from lorestream.memories import Blend
from tests.contracts.stored import NOW, memory


def evaluate(term, keys):
    """Evaluate a term as the engine does."""
    match term:
        case Constant(number):
            return struct.unpack("<f", struct.pack("<f", number))[0]
        case Variable(name):
            return keys[name]
        case Sum(terms):
            return sum(evaluate(one, keys) for one in terms)
        case Product(terms):
            return math.prod(evaluate(one, keys) for one in terms)
        case Negation(inner):
            return -evaluate(inner, keys)
        case AbsoluteValue(inner):
            return abs(evaluate(inner, keys))
        case ExponentialDecay(inner):
            return 0.5 ** abs(evaluate(inner, keys))


@given(
    weights=st.dictionaries(
        st.sampled_from(["relevance", "recency", "importance"]), st.floats(5e-324, 1), min_size=1
    ),
    half_life_s=st.sampled_from([5e-324, 1e-3, 1.0, 30.0, 86_400.0, 1.7e308]),
    age=st.floats(-300, 300) | st.floats(-1e9, 1.7e9),
    importance=st.floats(-5, 20),
    relevance=st.floats(-1, 1),
    now=st.floats(NOW, NOW + 1000),
)
def test_the_formula_equals_the_blend(weights, half_life_s, age, importance, relevance, now):  # noqa: PLR0917
    heaviest = max(weights.values())
    blend = Blend({name: one / heaviest for name, one in weights.items()}, half_life_s, 1000)
    one = memory(timestamp=now - age, importance=importance)
    keys = {"$score": relevance, "t": ticks(one.timestamp), "importance": importance}
    exact = blend.mean(blend.parts(one, relevance, now))
    # Times are stored in ticks of 2 ** -22 s: too coarse for recent memories with half-lives below a second.
    if half_life_s >= 1.0 or not 0 <= age < 1:
        assert abs(evaluate(blend_formula(blend, now), keys) - exact) <= TOLERANCE
