"""The watermarks of whatever collection is searched at present."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lorestream.errors import LorestreamError

if TYPE_CHECKING:
    from lorestream.collections.open_collections import OpenCollection, OpenCollections
    from lorestream.ports import WatermarkReader

_KNOWN_S = 1.0
_ASK_S = 0.1
_ASKING_S = (0.25, 1.0)
"""How long one question may take: so long even when there is no time to wait, and never longer."""


class ActiveWatermarks:
    """Watermarks for those who hold no store: those of the group that feeds the collection.

    `active` gives that group, none as long as there is no collection, and several while the alias turns: what is
    finished is finished in all of them then. It may raise Unavailable. `of_group` gives a group's watermarks.
    """

    def __init__(
        self,
        active: Callable[[], Awaitable[Sequence[str]]],
        of_group: Callable[[str], Awaitable[WatermarkReader]],
    ) -> None:
        self._active = active
        self._of_group = of_group
        self._groups: dict[str, WatermarkReader] = {}
        self._current: Sequence[WatermarkReader] = ()
        self._asked_at = -_KNOWN_S
        self._asking = asyncio.Lock()

    async def reached(self, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is finished, waiting at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not (current := await self._watermarks(deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(min(_ASK_S, max(0.0, deadline - time.monotonic())))
        left_s = max(0.0, deadline - time.monotonic())
        return all(await asyncio.gather(*(one.reached(offsets, left_s) for one in current)))

    async def _watermarks(self, left_s: float) -> Sequence[WatermarkReader]:
        """Those of the collection that was active a moment ago, the ones before while the store does not say."""
        if time.monotonic() - self._asked_at >= _KNOWN_S:
            with contextlib.suppress(
                LorestreamError, TimeoutError
            ):  # what is set up wrongly costs no write either
                async with asyncio.timeout(min(max(left_s, _ASKING_S[0]), _ASKING_S[1])), self._asking:
                    if time.monotonic() - self._asked_at >= _KNOWN_S:
                        await self._ask()
        return self._current

    async def _ask(self) -> None:
        try:
            if names := await self._active():
                for name in names:
                    if name not in self._groups:
                        self._groups[name] = await self._of_group(name)
                self._current = [self._groups[name] for name in names]
        finally:
            if self._current:
                self._asked_at = time.monotonic()


class CurrentWatermarks:
    """The watermarks of the collection that is searched at the moment, and of that which will be in the next."""

    def __init__(self, collections: OpenCollections) -> None:
        self._collections = collections

    async def reached(self, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is finished, waiting at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        reached: set[OpenCollection] = set()
        # While it waits for one, the alias may begin to turn.
        while missing := [one for one in self._collections.serving() if one not in reached]:
            for opened in missing:
                if not await opened.watermarks.reached(offsets, max(0.0, deadline - time.monotonic())):
                    return False
                reached.add(opened)
        return True
