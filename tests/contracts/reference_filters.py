"""A reference evaluator of filters, written from the text of the contract alone."""

from fractions import Fraction

from lorestream.memories import And, Condition, Not, Op, Or

_ABSENT = object()


def reference(condition, memory):
    """True if a memory satisfies a filter."""
    if isinstance(condition, And):
        verdicts = [reference(part, memory) for part in condition.parts]
        return False not in verdicts
    if isinstance(condition, Or):
        verdicts = [reference(part, memory) for part in condition.parts]
        return True in verdicts
    if isinstance(condition, Not):
        return reference(condition.part, memory) is False
    assert isinstance(condition, Condition)
    found = _look_up(memory, list(condition.field.path))
    if condition.op == Op.EXISTS:
        exists = not (found is _ABSENT or found is None or (isinstance(found, list) and len(found) == 0))
        return exists == condition.value
    if found is _ABSENT:
        return False
    if isinstance(found, list):
        if condition.op == Op.CONTAINS:
            return any(
                _same(element, condition.value) or _has_substring(element, condition.value)
                for element in found
            )
        return any(_meets(element, condition.op, condition.value) for element in found)
    if condition.op == Op.CONTAINS:
        return _has_substring(found, condition.value)
    return _meets(found, condition.op, condition.value)


def _look_up(memory, path):
    if path[0] != "metadata":
        name = path[0]
        if name.startswith("pos."):
            return (memory.pos or {}).get(name[4:], _ABSENT)
        return getattr(memory, name)
    here = memory.metadata
    for key in path[1:]:
        if not isinstance(here, dict) or key not in here:
            return _ABSENT
        here = here[key]
    return here


def _meets(value, op, wanted):
    if op == Op.EQ:
        return _same(value, wanted)
    if op == Op.IN:
        return any(_same(value, one) for one in wanted)
    left, right = _as_number(value), _as_number(wanted)
    if left is None or right is None:
        return False
    return {Op.GT: left > right, Op.GTE: left >= right, Op.LT: left < right, Op.LTE: left <= right}[op]


def _same(value, wanted):
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    if isinstance(value, str) or isinstance(wanted, str):
        return isinstance(value, str) and isinstance(wanted, str) and value == wanted
    left, right = _as_number(value), _as_number(wanted)
    return left is not None and left == right


def _has_substring(value, wanted):
    return isinstance(value, str) and isinstance(wanted, str) and value.find(wanted) >= 0


def _as_number(value):
    """An exact fraction, so that rounding here does not hide rounding in a store."""
    if type(value) not in (int, float):
        return None
    return Fraction(value)
