"""The answers that are kept: forgotten on demand."""

from __future__ import annotations

import msgspec

from lorestream.admin import Outcome, Reports, Task
from lorestream.ports import Cache


class ClearArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing."""


def clearing(cache: Cache | None) -> Task:
    """The task that makes every kept answer void. Raises Unavailable."""

    async def clear(_asked: ClearArguments) -> Reports:
        if cache is not None:
            await cache.clear()
        yield Outcome({"cleared": cache is not None})

    return Task("cache-clear", ClearArguments, clear)
