"""The tools that language models use: what their schemas allow is what the routes behind them allow."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lorestream.client import InvalidValue, Receipt, Reject, Rejected
from lorestream.integrations.toolset import TOOLS
from lorestream.integrations.toolset.schemas import arguments_schema
from lorestream.integrations.writes import add_all
from lorestream.limits import MAX_EVENT_BYTES, MAX_SOURCES
from producers.schemas import Event
from query_service.schemas import Context, RecentParams, Search
from query_service.state_rest.schemas import EntityPath

BY_NAME = {tool.name: tool for tool in TOOLS}
BOUNDS = ("minimum", "maximum", "maxLength", "minItems", "maxItems", "pattern")
"""Not minLength: an empty string of a model is a mistake, where Luanti sends it for what is missing."""
OWN = {"text": {"maxLength": MAX_EVENT_BYTES}}
"""What only the tool bounds: the route measures the whole event."""


def bounds(described: dict[str, Any]) -> dict[str, Any]:
    return {name: described[name] for name in BOUNDS if name in described}


@pytest.mark.parametrize(
    ("tool", "route"),
    [
        ("remember", Event),
        ("recall", Search),
        ("about", Search),
        ("context", Context),
        ("recent", RecentParams),
        ("get_state", EntityPath),
        ("put_state", EntityPath),
    ],
)
def test_arguments_have_the_bounds_of_the_route(tool: str, route: type[msgspec.Struct]) -> None:
    taken = BY_NAME[tool].input_schema["properties"]
    allowed = arguments_schema(route)["properties"]
    shared = taken.keys() & allowed.keys()
    assert shared
    assert {name: bounds(taken[name]) for name in shared} == {
        name: OWN.get(name, bounds(allowed[name])) for name in shared
    }


def test_a_memory_rests_on_as_many_others_as_the_route_takes() -> None:
    remember = BY_NAME["remember"]
    sources = ["00000000-0000-0000-0000-000000000000"] * MAX_SOURCES
    given = {"agent_id": "npc:smith", "text": "a summary", "sources": sources}
    sent = next(remember.call(given)).content or b""
    assert msgspec.json.decode(sent)["events"][0]["sources"] == sources
    with pytest.raises(InvalidValue) as refused:
        next(remember.call({**given, "sources": [*sources, *sources]}))
    assert refused.value.path == "sources"


def test_a_refused_event_is_named_by_its_number_among_all() -> None:
    steps = add_all([{"agent_id": "npc:smith", "text": "day"}] * 150)
    first = msgspec.json.decode(next(steps).content or b"")["events"]
    sent = len(first)
    assert sent < 150
    steps.send(Receipt(sent, [], ["id"] * sent, "token", indexed=True))
    with pytest.raises(Rejected, match=f"number {sent + 3} of 150: too long"):
        steps.send(Receipt(149 - sent, [Reject(2, "event_too_large", "too long")], [None], "token"))
