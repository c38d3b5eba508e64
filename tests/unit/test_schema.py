"""The published JSON Schema of the log is that of the code."""

from __future__ import annotations

import json
from pathlib import Path

from lorestream import events

PUBLISHED = Path(__file__).parents[2] / "docs" / "schemas" / "lorestream.events.v1.json"


def test_the_published_schema_is_that_of_the_envelope() -> None:
    assert json.loads(PUBLISHED.read_text()) == json.loads(json.dumps(events.schema())), (
        "lorestream.events has changed: if readers of version 1 still understand it, publish the new schema"
    )
