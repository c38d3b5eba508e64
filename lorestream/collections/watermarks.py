"""The watermarks of the collection that is active at present."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lorestream import supervision
from lorestream.errors import LorestreamError

if TYPE_CHECKING:
    from lorestream.ports import WatermarkReader

CACHE_TTL_S = 1.0
"""How long the names of the active consumer groups are used before they are looked up again."""
RETRY_DELAY_S = 0.1
MIN_LOOKUP_TIMEOUT_S = 0.25
"""The shortest timeout of one lookup, for callers that do not wait."""
MAX_LOOKUP_TIMEOUT_S = 1.0


class ActiveWatermarks:
    """A WatermarkReader for processes that open no store (gateways): it follows the active collection by its group.

    While the alias is being switched there are two groups, and a write is finished when it is in both.
    """

    def __init__(
        self,
        active: Callable[[], Awaitable[Sequence[str]]],
        of_group: Callable[[str], Awaitable[WatermarkReader]],
    ) -> None:
        """`active` returns the names of the active groups, empty while there is no collection.

        It may raise Unavailable. `of_group` opens the watermarks of a group; each is opened once.
        """
        self._active = active
        self._of_group = of_group
        self._groups: dict[str, WatermarkReader] = {}
        self._current: Sequence[WatermarkReader] = ()
        self._looked_up_at = -CACHE_TTL_S
        self._looking_up = asyncio.Lock()

    async def reached(self, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is finished, waiting at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not (current := await self._watermarks(deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(min(RETRY_DELAY_S, max(0.0, deadline - time.monotonic())))
        left_s = max(0.0, deadline - time.monotonic())
        return all(await supervision.run_all(*(one.reached(offsets, left_s) for one in current)))

    async def finished(self) -> Mapping[int, int]:
        """The watermarks of the active groups, for each partition the lowest of them."""
        current = await self._watermarks(0.0)
        return lowest(await supervision.run_all(*(one.finished() for one in current)))

    async def _watermarks(self, left_s: float) -> Sequence[WatermarkReader]:
        """The watermarks of the active groups; while the lookup fails, those of the last successful lookup."""
        if time.monotonic() - self._looked_up_at >= CACHE_TTL_S:
            timeout_s = min(max(left_s, MIN_LOOKUP_TIMEOUT_S), MAX_LOOKUP_TIMEOUT_S)
            with contextlib.suppress(LorestreamError, TimeoutError):  # a write must not fail for this
                async with asyncio.timeout(timeout_s), self._looking_up:
                    if time.monotonic() - self._looked_up_at >= CACHE_TTL_S:
                        await self._look_up()
        return self._current

    async def _look_up(self) -> None:
        try:
            if names := await self._active():
                for name in names:
                    if name not in self._groups:
                        self._groups[name] = await self._of_group(name)
                self._current = [self._groups[name] for name in names]
        finally:
            if self._current:
                self._looked_up_at = time.monotonic()


def lowest(watermarks: Sequence[Mapping[int, int]]) -> Mapping[int, int]:
    """The lowest watermark of each partition that all of them have."""
    first, *others = watermarks or [{}]
    return {
        partition: min(position, *(one[partition] for one in others)) if others else position
        for partition, position in first.items()
        if all(partition in one for one in others)
    }
