"""The last call of each admin task in this process: whether it runs, how far it is, what came out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from lorestream.admin import Failure, Outcome, Progress, Report


@dataclass(slots=True)
class Run:
    """One call. Times in Unix seconds. `state` is "aborted" when the caller left or the service stopped."""

    task: str
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    state: Literal["running", "done", "failed", "aborted"] = "running"
    progress: Mapping[str, Any] | None = None
    outcome: Mapping[str, Any] | None = None
    error: str | None = None

    def note(self, report: Report | Failure) -> None:
        """Take over what a report says about the call."""
        match report:
            case Progress():
                self.progress = msgspec.to_builtins(report)
            case Outcome():
                self.state, self.outcome = "done", report.value
            case Failure():
                self.state, self.error = "failed", report.message
            case _:
                pass

    def end(self) -> None:
        """Note that no more reports come."""
        self.ended_at = time.time()
        if self.state == "running":
            self.state = "aborted"


class TaskRuns:
    """The last call of each task."""

    def __init__(self) -> None:
        self._last: dict[str, Run] = {}

    def begin(self, task: str) -> Run:
        """The entry of a new call, which replaces the last one of this task."""
        run = self._last[task] = Run(task)
        return run

    def newest(self) -> list[Run]:
        """The last call of each task that was called, the newest first."""
        return sorted(self._last.values(), key=lambda run: -run.started_at)
