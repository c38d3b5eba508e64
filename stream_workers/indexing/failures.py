"""What an indexer does when a step fails.

An outage is retried for as long as it lasts. A record that cannot be processed becomes a dead letter, and too many of
them stop the indexer.
"""

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

INITIAL_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0

T = TypeVar("T")


class IndexingFailed(LorestreamError):
    """The indexer cannot or must not continue. The message says what to correct; then restart the worker."""


class RetryUntilAvailable:
    """Repeats a call while it raises Unavailable, without a limit; other errors are raised at once."""

    def __init__(self) -> None:
        self.problem: str | None = "not started"
        """What the indexer is waiting for at present, "PART: MESSAGE"; None while it works."""
        self._unavailable_part: str | None = None

    async def __call__(self, part: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `call`. The pauses between attempts grow from 0.1 s to `MAX_PAUSE_S`.

        `part` names what is called ("log", "store", "embedder", "ledger"), for `problem`.
        """
        retries = stamina.retry_context(
            on=Unavailable, attempts=None, timeout=None, wait_initial=INITIAL_PAUSE_S, wait_max=MAX_PAUSE_S
        )
        async for attempt in retries:
            with attempt:
                try:
                    result = await call()
                except Unavailable as error:
                    self.problem, self._unavailable_part = f"{part}: {error.message}", part
                    raise
                # Also after a first attempt: the call that noticed the outage may have failed for another reason.
                if self._unavailable_part == part:
                    self.problem = self._unavailable_part = None
                return result
        raise AssertionError("unlimited attempts came to an end")


class DeadLetterPolicy:
    """Writes dead letters, and counts failures: an indexer that fails for every record must not empty the log."""

    MAX_CONSECUTIVE_FAULTS = 20
    """How many unexpected errors, without a batch that succeeds in between, stop the indexer."""
    MAX_CONSECUTIVE_DEAD_LETTERS = 1000
    """How many dead letters, without a memory or a state event that is stored in between, stop the indexer."""

    def __init__(self, log: EventLog, metrics: Metrics, retry: RetryUntilAvailable) -> None:
        self._event_log = log
        self._metrics = metrics
        self._retry = retry
        self._faults = 0
        self._dead_letters = 0

    def record_success(self, stored: int) -> None:
        """A batch was applied, and stored this many memories and state events."""
        self._faults = 0
        if stored:
            self._dead_letters = 0

    def record_fault(self, error: Exception) -> None:
        """Count an unexpected error. Raises IndexingFailed when there are too many, and for Misconfigured at once.

        InvalidRequest is not counted: with it the store or the model has refused the record.
        """
        if isinstance(error, IndexingFailed):
            raise error
        if isinstance(error, Misconfigured):
            raise IndexingFailed(str(error)) from error
        _log.error(
            "a batch or record failed with an unexpected error: its records are processed one by one, and those that"
            " fail become dead letters",
            exc_info=error,
        )
        self._faults += not isinstance(error, InvalidRequest)
        if self._faults >= self.MAX_CONSECUTIVE_FAULTS:
            raise IndexingFailed(
                f"{self._faults} records in a row failed, the last with {error!r}: see the errors above in this log"
            ) from error

    async def append(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Append them durably to the dead letters. Raises IndexingFailed when there are too many in a row."""
        if not dead_letters:
            return
        dead_letters = [with_attempts(dead_letter) for dead_letter in dead_letters]
        await self._retry("log", lambda: self._event_log.append_dead_letters(dead_letters))
        for dead_letter in dead_letters:
            self._metrics.dlq_records.labels(dead_letter.reason).inc()
            position = {"partition": dead_letter.record.partition, "offset": dead_letter.record.offset}
            _log.warning(
                "a record became a dead letter: see `lorestream dlq ls`",
                reason=dead_letter.reason,
                error=dead_letter.error,
                **position,
            )
        self._dead_letters += len(dead_letters)
        if self._dead_letters >= self.MAX_CONSECUTIVE_DEAD_LETTERS:
            raise IndexingFailed(
                f"{self._dead_letters} records in a row became dead letters, the last: {dead_letters[-1].error}"
            )
