"""Outages are waited out; what fails for another reason is counted, and too much of it ends the worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import stamina
import structlog

from lorestream.errors import InvalidRequest, LorestreamError, Misconfigured, Unavailable
from lorestream.ports import DeadLetter, EventLog
from lorestream.retry_headers import with_attempts
from lorestream.telemetry import Metrics

_log = structlog.get_logger("lorestream.indexer")

MAX_PAUSE_S = 5.0

T = TypeVar("T")


class Broken(LorestreamError):
    """Going on would do harm, or nothing goes on: the process has to be looked at, or started anew."""


class Patience:
    """Calls until it is no longer an outage that stops them."""

    def __init__(self) -> None:
        self.problem: str | None = "not started"
        """What keeps the worker from its work at present, None while it works."""
        self._away: str | None = None

    async def __call__(self, part: str, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` returns, however long `part` is away; pauses grow up to `MAX_PAUSE_S`."""
        retries = stamina.retry_context(
            on=Unavailable, attempts=None, timeout=None, wait_initial=0.1, wait_max=MAX_PAUSE_S
        )
        async for attempt in retries:
            with attempt:
                try:
                    result = await call()
                except Unavailable as error:
                    self.problem, self._away = f"{part}: {error.message}", part
                    raise
                # Not only after a failure of its own: the call that saw the outage may have ended otherwise.
                if self._away == part:
                    self.problem = self._away = None
                return result
        raise AssertionError("unlimited attempts came to an end")


class Rejects:
    """What cannot be processed: set aside, and counted, because a worker that fails everything must stop."""

    MAX_CONSECUTIVE_FAULTS = 20
    MAX_CONSECUTIVE_DEAD_LETTERS = 1000

    def __init__(self, log: EventLog, metrics: Metrics, patience: Patience) -> None:
        self._event_log = log
        self._metrics = metrics
        self._patience = patience
        self._faults = 0
        self._dead_letters = 0

    def progress(self, memories: int) -> None:
        """A batch went through, and brought so many memories."""
        self._faults = 0
        if memories:
            self._dead_letters = 0

    def count(self, error: Exception) -> None:
        """Errors that are nobody's word about a record: a few are bad records, a row of them is a bad worker.

        Raises Broken then, and at once for what is set up wrongly: no record is to blame for that.
        """
        if isinstance(error, Broken):
            raise error
        if isinstance(error, Misconfigured):
            raise Broken(str(error)) from error
        _log.error("unexpected error", exc_info=error)
        self._faults += not isinstance(error, InvalidRequest)
        if self._faults >= self.MAX_CONSECUTIVE_FAULTS:
            raise Broken(f"{self._faults} records in a row failed, the last with {error!r}") from error

    async def set_aside(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Make them dead letters, durably. Raises Broken when nothing else comes any more."""
        if not dead_letters:
            return
        dead_letters = [with_attempts(dead_letter) for dead_letter in dead_letters]
        await self._patience("log", lambda: self._event_log.append_dead_letters(dead_letters))
        for dead_letter in dead_letters:
            self._metrics.dlq_records.labels(dead_letter.reason).inc()
            position = {"partition": dead_letter.record.partition, "offset": dead_letter.record.offset}
            _log.warning("dead letter", reason=dead_letter.reason, error=dead_letter.error, **position)
        self._dead_letters += len(dead_letters)
        if self._dead_letters >= self.MAX_CONSECUTIVE_DEAD_LETTERS:
            raise Broken(
                f"{self._dead_letters} records in a row became dead letters, the last: {dead_letters[-1].error}"
            )
