"""The task that clears the answer cache."""

from __future__ import annotations

from lorestream.admin import AdminTask, NoArguments, Outcome, ReportStream
from lorestream.ports import Cache


def cache_clear_task(cache: Cache | None) -> AdminTask:
    """The task `cache-clear`: invalidates every cached answer. Its outcome is `{"cleared": false}` without a cache.

    The task raises Unavailable when the cache cannot be reached.
    """

    async def clear(_arguments: NoArguments) -> ReportStream:
        if cache is not None:
            await cache.clear()
        yield Outcome({"cleared": cache is not None})

    return AdminTask("cache-clear", NoArguments, clear)
