"""Filter messages in the types of Qdrant Edge; only the conditions that the adapter sends are implemented."""

from __future__ import annotations

import qdrant_edge as edge
from qdrant_client import grpc as wire

from tests.qdrant_stand_in.refusals import allow_fields, invalid, unimplemented


def edge_filter(sent: wire.Filter) -> edge.Filter:
    allow_fields(sent, "must", "should", "must_not")
    return edge.Filter(
        must=[_condition(one) for one in sent.must] or None,
        should=[_condition(one) for one in sent.should] or None,
        must_not=[_condition(one) for one in sent.must_not] or None,
    )


def _condition(sent: wire.Condition) -> edge.ConditionType:
    match sent.WhichOneof("condition_one_of"):
        case "filter":
            return edge_filter(sent.filter)
        case "is_empty":
            return edge.IsEmptyCondition(sent.is_empty.key)
        case "has_id":
            return edge.HasIdCondition({one.uuid for one in sent.has_id.has_id})
        case "field":
            allow_fields(sent.field, "key", "match", "range")
            if sent.field.HasField("match") == sent.field.HasField("range"):
                raise invalid("a condition on a field is either a match or a range")
            if sent.field.HasField("match"):
                return edge.FieldCondition(sent.field.key, match=_match(sent.field.match))
            return edge.FieldCondition(sent.field.key, range=_range(sent.field.range))
        case other:
            raise unimplemented(f"the condition {other}")


def _match(sent: wire.Match) -> edge.MatchType:
    match sent.WhichOneof("match_value"):
        case "keyword":
            return edge.MatchValue(sent.keyword)
        case "integer":
            return edge.MatchValue(sent.integer)
        case "keywords":
            return edge.MatchAny(list(sent.keywords.strings))
        case "integers":
            return edge.MatchAny(list(sent.integers.integers))
        case "text":
            return edge.MatchSubstring(sent.text)  # as 1.18 takes it where a field has no text index
        case other:
            raise unimplemented(f"the match {other}")


def _range(sent: wire.Range) -> edge.RangeFloat:
    bounds = {name: getattr(sent, name) for name in ("gt", "gte", "lt", "lte") if sent.HasField(name)}
    return edge.RangeFloat(**bounds)
