"""What an agent should have in mind, as text for a prompt: within a budget of tokens, the oldest first.

One line a memory: its time in UTC, then its text with all white space made plain blanks. The date stands on the
first line of each day only, which saves five of eight tokens a time:

    2025-10-09 08:53 dug 3 pine trees north of the lake
    08:57 a player said: good morning
    2025-10-10 17:20 the lake is frozen

A memory whose time no calendar holds has a line without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorestream.memories import Memory
    from query_service.ranking import Ranked


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The memories of a context, the relevant ones by score and the recent ones from the newest; their text."""

    relevant: Sequence[Ranked]
    recent: Sequence[Memory]
    text: str
    tokens: int


def excerpt(
    relevant: Sequence[Ranked], recent: Sequence[Memory], *, budget: int, count: Callable[[str], int]
) -> Excerpt:
    """As much as fits: relevant ones, then recent ones, each memory once; what does not fit whole is left out.

    `count` gives the tokens of a text. It is asked once a memory, so this may take long: not on an event loop.
    """
    chosen = _fitting([*(one.memory for one in relevant), *recent], budget, count)
    text = _text(chosen)
    tokens = count(text) if chosen else 0
    while tokens > budget:  # of some tokenizers the whole has more than its lines have
        del chosen[-1]
        text = _text(chosen)
        tokens = count(text) if chosen else 0
    in_it = {memory.id for memory in chosen}
    best = [one for one in relevant if one.memory.id in in_it]
    in_it -= {one.memory.id for one in best}
    return Excerpt(best, [memory for memory in recent if memory.id in in_it], text, tokens)


def _fitting(memories: Sequence[Memory], budget: int, count: Callable[[str], int]) -> list[Memory]:
    """Those that fit, in the order in which they were chosen."""
    chosen: list[Memory] = []
    seen: set[str] = set()
    dates = {"": 0}
    left = budget
    for memory in memories:
        if memory.id in seen or left <= 0:
            continue
        seen.add(memory.id)
        date, line = _parts(memory)
        if line.count(" ") >= left:
            continue  # no tokenizer makes less than a token of a word: this one need not be counted
        cost = count(f"{line}\n") + (0 if date in dates else count(date))
        if cost <= left:
            left -= cost
            dates[date] = 0
            chosen.append(memory)
    return chosen


def _text(memories: Sequence[Memory]) -> str:
    lines: list[str] = []
    last = ""
    for memory in sorted(memories, key=lambda one: one.position):
        date, line = _parts(memory)
        lines.append(line if date == last or not date else f"{date} {line}")
        last = date or last
    return "\n".join(lines)


def _parts(memory: Memory) -> tuple[str, str]:
    """The date, empty where there is none, and the rest of the line."""
    text = " ".join(memory.text.split())
    try:
        time = datetime.fromtimestamp(memory.timestamp, UTC)
    except (ValueError, OverflowError, OSError):
        return "", text
    return f"{time:%Y-%m-%d}", f"{time:%H:%M} {text}"
