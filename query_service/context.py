"""The context of an agent as text for a prompt: relevant and recent memories within a token budget, oldest first.

What the budget has left is used for the memories next to the relevant ones: often they hold the answer.

One line per memory: its time in UTC, then its text with all white space reduced to single blanks. The date stands
only on the first line of each day, which saves five of the eight tokens of a time:

    2025-10-09 08:53 dug 3 pine trees north of the lake
    08:57 a player said: good morning
    08:58 Hilda: good morning to you
    2025-10-10 17:20 the lake is frozen

A line of a dialogue begins with its speaker, as far as the memory says who that was: `speaker` in its metadata, and in
memories of the types of DIALOGUE also `name` or `role`. A player, also one that is named there, is "a player".

A memory whose timestamp is outside the calendar (years 1 to 9999) has a line without a time.

Lines about the agent itself may stand before them (`query_service.state.character`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from lorestream.limits import is_time, utc

DIALOGUE = frozenset({"chat", "dialogue", "message", "say", "talk"})
"""The types of events whose text is what somebody said."""
_PLAYER = "a player"
_MAX_SPEAKER_CHARS = 64

_Lines: TypeAlias = "Mapping[str, tuple[str, str]]"
"""Memory id -> (date, rest of the line)."""

if TYPE_CHECKING:
    from lorestream.memories import Memory
    from query_service.ranking import Ranked


@dataclass(frozen=True, slots=True)
class ContextExcerpt:
    """The memories of a context, and their text. `relevant` by score, `recent` from the newest.

    `neighbours`: what stands next to the relevant ones. `tokens`: the number of tokens of `text`.
    """

    relevant: Sequence[Ranked]
    recent: Sequence[Memory]
    neighbours: Sequence[Memory]
    text: str
    tokens: int


def build_excerpt(
    relevant: Sequence[Ranked],
    recent: Sequence[Memory],
    neighbours: Sequence[Memory] = (),
    *,
    about: Sequence[str] = (),
    budget: int,
    count_tokens: Callable[[str], int],
    is_player: Callable[[str, Memory], bool],
) -> ContextExcerpt:
    """Select what fits into `budget` tokens: relevant memories first, then recent ones, then neighbours, each once.

    The lines `about` the agent come before all of them. A line that does not fit is left out. `is_player`: whether a name is that of the memory's player.
    `count_tokens` is called once per memory, so this may take long: do not call it on an event loop.
    """
    candidates = [*(one.memory for one in relevant), *recent, *neighbours]
    lines = {memory.id: _date_and_line(memory, is_player) for memory in candidates}
    head, left = _fitting(about, budget, count_tokens)
    chosen = _select(candidates, lines, left, count_tokens)
    text = _render(head, chosen, lines)
    tokens = count_tokens(text) if text else 0
    while tokens > budget:  # with some tokenizers the whole text has more tokens than its lines
        del (chosen or head)[-1]
        text = _render(head, chosen, lines)
        tokens = count_tokens(text) if text else 0
    ids = {memory.id for memory in chosen}
    chosen_relevant = [one for one in relevant if one.memory.id in ids]
    ids -= {one.memory.id for one in chosen_relevant}
    chosen_recent = [memory for memory in recent if memory.id in ids]
    ids -= {memory.id for memory in chosen_recent}
    chosen_neighbours = [memory for memory in chosen if memory.id in ids]
    return ContextExcerpt(chosen_relevant, chosen_recent, chosen_neighbours, text, tokens)


def _fitting(lines: Sequence[str], budget: int, count_tokens: Callable[[str], int]) -> tuple[list[str], int]:
    """The lines that fit into the budget, in their order, and what they leave of it."""
    fitting: list[str] = []
    for line in lines:
        if line.count(" ") < budget and (cost := count_tokens(f"{line}\n")) <= budget:
            fitting.append(line)
            budget -= cost
    return fitting, budget


def _select(
    memories: Sequence[Memory], lines: _Lines, budget: int, count_tokens: Callable[[str], int]
) -> list[Memory]:
    """The memories whose lines fit into the budget, in the given order."""
    chosen: list[Memory] = []
    seen: set[str] = set()
    dates = {""}
    left = budget
    for memory in memories:
        if memory.id in seen or left <= 0:
            continue
        seen.add(memory.id)
        date, line = lines[memory.id]
        if line.count(" ") >= left:
            continue  # every word has at least one token: no need to count
        cost = count_tokens(f"{line}\n") + (0 if date in dates else count_tokens(date))
        if cost <= left:
            left -= cost
            dates.add(date)
            chosen.append(memory)
    return chosen


def _render(head: Sequence[str], memories: Sequence[Memory], lines_of: _Lines) -> str:
    lines = [*head]
    last_date = ""
    for memory in sorted(memories, key=lambda one: one.position):
        date, line = lines_of[memory.id]
        lines.append(line if date == last_date or not date else f"{date} {line}")
        last_date = date or last_date
    return "\n".join(lines)


def _date_and_line(memory: Memory, is_player: Callable[[str, Memory], bool]) -> tuple[str, str]:
    """(date, rest of the line); the date is empty if the timestamp is outside the calendar."""
    text = " ".join(memory.text.split())
    speaker = _speaker(memory, is_player)
    if speaker and not text.casefold().startswith(speaker.casefold()):
        text = f"{speaker}: {text}"
    if not is_time(memory.timestamp):
        return "", text
    time = utc(memory.timestamp)
    return time.date().isoformat(), f"{time:%H:%M} {text}"


def _speaker(memory: Memory, is_player: Callable[[str, Memory], bool]) -> str:
    """Who said the text, empty if the memory does not say it."""
    is_dialogue = memory.type in DIALOGUE
    for field in ("speaker", "name", "role") if is_dialogue else ("speaker",):
        value = memory.metadata.get(field)
        name = " ".join(value.split())[:_MAX_SPEAKER_CHARS] if isinstance(value, str) else ""
        if name:
            return _PLAYER if is_player(str(value), memory) else name
    return _PLAYER if is_dialogue and memory.player is not None else ""
