"""The watermarks of a group, read from its committed offsets at the broker, which are polled while callers wait.

The commit of the offsets is the publication, so this is a WatermarkReader only.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Protocol

from lorestream.adapters.in_process.watermarks import LocalWatermarks
from lorestream.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

POLL_INTERVAL_S = 0.1
"""All callers within this time share one request (`offsets.COMMITTED_CACHE_TTL_S`)."""
MIN_REQUEST_TIMEOUT_S = 0.25
"""Limit of the first request, which is made even when the caller does not want to wait."""


class CommittedOffsets(Protocol):
    """A source of the committed offsets of a group, such as an EventLog."""

    async def committed(self, group: str) -> Mapping[int, int]:
        """The committed offset (next to read) of each partition. Raises Unavailable."""
        ...


class KafkaWatermarks:
    """The WatermarkReader (lorestream.ports.watermarks) of one group."""

    def __init__(self, commits: CommittedOffsets, *, group: str) -> None:
        self._commits = commits
        self._group = group
        self._known = LocalWatermarks()

    async def reached(self, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is committed, waiting at most `timeout_s`.

        Also False when the broker did not answer in that time.
        """
        deadline = time.monotonic() + timeout_s
        request_timeout_s = max(timeout_s, MIN_REQUEST_TIMEOUT_S)
        while not (reached := await self._known.reached(offsets, 0)):
            await self._refresh(request_timeout_s)
            request_timeout_s = deadline - time.monotonic()
            if (reached := await self._known.reached(offsets, 0)) or request_timeout_s <= 0:
                break
            await asyncio.sleep(min(POLL_INTERVAL_S, request_timeout_s))
        return reached

    async def finished(self) -> Mapping[int, int]:
        """The committed offsets. Those known before if the broker does not answer within `MIN_REQUEST_TIMEOUT_S`."""
        await self._refresh(MIN_REQUEST_TIMEOUT_S)
        return await self._known.finished()

    async def _refresh(self, timeout_s: float) -> None:
        """Read the committed offsets. An outage or a timeout leaves the known ones as they are."""
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(timeout_s):
                committed = await self._commits.committed(self._group)
            await self._known.publish(committed)
