"""A character's document as lines of a prompt.

One line for each field that says something:

    Name: Hilda
    Personality: gruff, kind to children
    Goals: find iron; repair the bridge
    Mood: joy 0.5, fear 0.1
    Last decision time: 8400
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

TYPE = "character"
"""The type of the document."""
_FIRST = ("name", "personality", "beliefs", "goals")
_LAST = "last_decision_time"


def character_lines(data: Mapping[str, Any]) -> list[str]:
    """The lines of a character's data: the known fields first, then the others in their order."""
    others = [name for name in data if name not in _FIRST and name != _LAST]
    lines: list[str] = []
    for name in (*_FIRST, *others, _LAST):
        if words := _words(data.get(name)):
            label = " ".join(name.replace("_", " ").split())
            lines.append(f"{label[:1].upper()}{label[1:]}: {words}")
    return lines


def _words(value: object) -> str:
    """A JSON value in words, on one line; empty for what says nothing."""
    match value:
        case str():
            words = " ".join(value.split())
        case list():
            words = "; ".join(filter(None, map(_words, cast("list[object]", value))))
        case dict():
            parts = {name: _words(part) for name, part in cast("dict[str, object]", value).items()}
            words = ", ".join(f"{_words(name)} {part}" for name, part in parts.items() if part)
        case bool():
            words = "yes" if value else "no"
        case float():
            words = f"{value:.15g}"
        case _:
            words = "" if value is None else str(value)
    return words
