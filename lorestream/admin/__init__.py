"""What operators do to the data of a running Lorestream: dead letters, exports, replays.

Each task is an async generator of reports: how far it is, remarks, rows of data, and at its end one Outcome. In
the embedded shape `lorestream up` runs it and streams the reports, in the distributed shape the verb's own process.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec


class Progress(msgspec.Struct, frozen=True, tag_field="report", tag="progress", omit_defaults=True):
    """How far a task is: `done` of `total` `unit`; total None where nobody knows."""

    doing: str
    done: int
    total: int | None = None
    unit: str = ""
    left_s: float | None = None
    """About how many seconds it will still take."""


class Remark(msgspec.Struct, frozen=True, tag_field="report", tag="remark"):
    """Something that an operator should know, as one sentence."""

    text: str


class Row(msgspec.Struct, frozen=True, tag_field="report", tag="row"):
    """One piece of the data that the task is about: a dead letter, a memory."""

    value: dict[str, Any]


class Outcome(msgspec.Struct, frozen=True, tag_field="report", tag="outcome"):
    """How it ended: the last report of a task that was not broken off. Counts, names, durations in seconds."""

    value: dict[str, Any]


class Failure(msgspec.Struct, frozen=True, tag_field="report", tag="failure"):
    """What broke it off, for people; only in a stream of reports, where a generator would raise."""

    message: str


Report: TypeAlias = Progress | Remark | Row | Outcome
Reports: TypeAlias = AsyncGenerator[Report]


@dataclass(frozen=True, slots=True)
class Task:
    """One task of care: its name in routes and verbs, what it takes, and what runs it.

    `run` raises LorestreamError: InvalidRequest for what it was asked wrongly, Refusal for what would do harm.
    """

    name: str
    wants: type[msgspec.Struct]
    """The arguments, a struct that forbids unknown fields."""
    run: Callable[[Any], Reports]


Tasks: TypeAlias = Mapping[str, Task]


def tasks(*each: Task) -> Tasks:
    """By their names."""
    return {task.name: task for task in each}
