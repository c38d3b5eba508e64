"""Inserts memories, some of which the store may refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lorestream.errors import InvalidEvent
from lorestream.memories import Memory
from lorestream.ports import MemoryWriter


async def insert(
    store: MemoryWriter,
    memories: Sequence[Memory],
    vectors: NDArray[np.float32],
    rows: Sequence[int],
    *,
    replaces: Callable[[Memory, Memory], bool] | None,
) -> dict[int, str]:
    """Insert those of the memories that are in `rows`. Returns the rows that the store refused, with its message.

    `replaces`: as in `MemoryWriter.insert`. A refused insert is tried again in halves, until each refused row is
    alone. Raises Unavailable.
    """
    if not rows:
        return {}
    try:
        await store.insert([memories[row] for row in rows], vectors[list(rows)], replaces=replaces)
    except InvalidEvent as error:
        if len(rows) == 1:
            return {rows[0]: error.message}
        middle = len(rows) // 2
        return {
            **await insert(store, memories, vectors, rows[:middle], replaces=replaces),
            **await insert(store, memories, vectors, rows[middle:], replaces=replaces),
        }
    return {}
