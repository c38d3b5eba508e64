"""The texts that wait for a local model: the calls that wait take turns, text by text."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lorestream.adapters.embedders.texts import CachedVector
    from lorestream.ports import Priority


@dataclass(slots=True, eq=False)
class Call:
    """One call of `embed`. `missing`: how many distinct texts have no vector yet."""

    vectors: NDArray[np.float32]
    truncated: list[bool]
    missing: int
    done: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class QueuedText:
    """A text in the queue. `rows`: the rows of the call that it belongs to."""

    key: bytes
    text: str
    cut: bool
    """The text was cut to what the model reads."""
    call: Call
    rows: list[int]
    priority: Priority

    def fill(self, entry: CachedVector) -> None:
        """Give the call its vector; a call that has all of them is done."""
        self.call.vectors[self.rows] = entry.vector
        for row in self.rows:
            self.call.truncated[row] = entry.truncated or self.cut
        self.call.missing -= 1
        if not self.call.missing and not self.call.done.done():
            self.call.done.set_result(None)


class CallQueue:
    """The queued texts of one priority: each call has its own queue, and the calls take turns, text by text."""

    def __init__(self) -> None:
        self._calls: OrderedDict[int, deque[QueuedText]] = OrderedDict()
        self.texts = 0
        """The number of texts."""

    def add(self, texts: Sequence[QueuedText]) -> None:
        """Append the texts of one call."""
        self._calls[id(texts[0].call)] = deque(texts)
        self.texts += len(texts)

    def next(self) -> QueuedText | None:
        """The text whose turn it is; None if there is none."""
        return next(iter(self._calls.values()))[0] if self._calls else None

    def take(self) -> None:
        """Remove the text whose turn it is; then it is the turn of the next call."""
        call, queue = self._calls.popitem(last=False)
        queue.popleft()
        self.texts -= 1
        if queue:
            self._calls[call] = queue

    def remove(self, call: Call) -> None:
        """Remove all texts of a call."""
        self.texts -= len(self._calls.pop(id(call), ()))

    def clear(self) -> list[QueuedText]:
        """Remove all texts, and return them."""
        items = [item for queue in self._calls.values() for item in queue]
        self._calls.clear()
        self.texts = 0
        return items
