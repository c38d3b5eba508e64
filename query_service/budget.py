"""How much work one read may cause, and all reads of a process at the same time. Checked before the work is done.

Most conditions of a filter are looked up in an index. The others read each memory of the agents in question: `exists`,
the comparisons and `contains` with a string on metadata, and all conditions on `tick`. Their number times the number
of these memories is the cost of a read, in checks. A check takes about five microseconds in the embedded store.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator

from lorestream.errors import OverBudget, Overloaded

MAX_CHECKS = 500_000
"""Checks that one request may cause; all searches of a batch together."""
MAX_CHECKS_AT_ONCE = 4 * MAX_CHECKS
"""Checks that all requests of one process may be doing at the same time."""
TIMEOUT_S = 10.0
"""How long one request may be worked on, apart from waiting for a write token. Measured in wall time."""


class RequestBudget:
    """What one request may still cost. Create it when the work begins."""

    def __init__(self) -> None:
        self._checks_left = MAX_CHECKS
        self._deadline = asyncio.get_running_loop().time() + TIMEOUT_S

    def spend(self, checks: int) -> None:
        """Take a number of checks off the budget. Raises OverBudget when they are more than what is left."""
        if checks > self._checks_left:
            raise OverBudget(
                f"this read needs {checks:,} checks and {self._checks_left:,} are left of the {MAX_CHECKS:,} that a"
                " request may cause: the number of memories times the conditions that need each of them (exists,"
                " gt, gte, lt, lte and contains on metadata, and those on tick). Use fewer of them or fewer agents,"
                " or send the searches of a batch separately",
                path="filters",
            )
        self._checks_left -= checks

    @contextlib.asynccontextmanager
    async def deadline(self) -> AsyncGenerator[None]:
        """Cancel the block at the deadline of the request. Raises Overloaded then."""
        timeout = asyncio.timeout_at(self._deadline)
        try:
            async with timeout:
                yield
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise Overloaded(
                f"the read was stopped after {TIMEOUT_S:g} s, because the service is busy or the read needs too much"
                " work: send it again later, or with fewer conditions or agents"
            ) from error


class Capacity:
    """The checks that all requests of a process are doing at present."""

    def __init__(self) -> None:
        self._checks = 0

    @contextlib.contextmanager
    def hold(self, checks: int) -> Generator[None]:
        """Count checks while the block runs. Raises Overloaded where that makes too many; a single read always runs."""
        if self._checks and self._checks + checks > MAX_CHECKS_AT_ONCE:
            raise Overloaded("too many reads with costly filters are in progress: send this one again later")
        self._checks += checks
        try:
            yield
        finally:
            self._checks -= checks
