"""Calls that are repeated for as long as an outage lasts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from lorestream.errors import LorestreamError, Unavailable

INITIAL_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0

T = TypeVar("T")


class IndexingFailed(LorestreamError):
    """The indexer must not or cannot go on. The process has to be examined, or restarted."""


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
