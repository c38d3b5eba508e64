"""Watermarks in Redis: indexers publish them, and processes that wait for finished work poll them.

One hash per group: partition -> first offset that is not finished. What is missing in Redis is read from the committed
offsets of the group, which are correct too but rise later. Of two values the higher one counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

import orjson

from lorestream import supervision
from lorestream.adapters.in_process.watermarks import LocalWatermarks
from lorestream.adapters.redis.client import RedisClient, Script
from lorestream.errors import Unavailable

REPUBLISH_INTERVAL_S = 0.5
"""How often all watermarks are published again, in case Redis has lost them."""
POLL_INTERVAL_S = 0.02
"""How often Redis is polled while there are waiting callers: one command for all of them."""
COMMITS_POLL_INTERVAL_S = 0.2
"""How often the committed offsets are read while there are waiting callers."""
IMMEDIATE_TIMEOUT_S = 0.25
"""Limit of the single look-up for callers that do not want to wait."""

_TTL_MS = 10 * 60 * 1000
"""Watermarks that are no longer published expire; by then the offsets are committed."""

_RAISE = Script("""
for i = 2, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or tonumber(known) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
""")
"""Arguments: TTL in ms, then partition and offset in turn (offsets below 2^53). Never lowers a value."""


class RedisWatermarks:
    """The Watermarks (lorestream.ports.watermarks) of one group, shared by all processes of a deployment."""

    def __init__(
        self,
        redis: RedisClient,
        *,
        group: str,
        identity: str,
        committed: Callable[[], Awaitable[Mapping[int, int]]],
    ) -> None:
        self._redis = redis
        self._key = f"{redis.prefix}:w:{orjson.dumps([identity, group]).decode()}"
        self._committed = committed
        self._known = LocalWatermarks()
        self._published: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._waiters = 0
        self._pollers: dict[float, asyncio.Task[object]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        redis: RedisClient,
        *,
        group: str,
        identity: str,
        committed: Callable[[], Awaitable[Mapping[int, int]]],
    ) -> AsyncGenerator[RedisWatermarks]:
        """Open the watermarks of `group` and start publishing in the background; on exit they are published once more.

        `identity` identifies the topic, across deletions: a new topic of the same name starts at offset 0 again, and
        must not find the watermarks of the old one. `committed` returns the committed offsets of the group
        (`EventLog.committed`) and may raise Unavailable.
        """
        watermarks = cls(redis, group=group, identity=identity, committed=committed)
        try:
            async with supervision.restarting(watermarks._publish_changes, "watermarks"):
                yield watermarks
        finally:
            await supervision.stop_tasks(watermarks._pollers.values())
            await watermarks._send()

    async def publish(self, positions: Mapping[int, int]) -> None:
        """Raise the watermarks. Never lowers one. Returns before Redis has them; an outage of Redis is not raised."""
        for partition, position in positions.items():
            self._published[partition] = max(position, self._published.get(partition, 0))
        self._changed.set()
        await self._known.publish(positions)

    async def reached(self, offsets: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is finished, waiting at most `timeout_s`.

        With a timeout of 0 it makes one look-up, of at most `IMMEDIATE_TIMEOUT_S`.
        """
        if await self._known.reached(offsets, 0):
            return True
        if timeout_s <= 0:
            return await self._poll_once(offsets)
        self._waiters += 1
        try:
            self._keep_polling(self._read_redis, POLL_INTERVAL_S)
            self._keep_polling(self._read_commits, COMMITS_POLL_INTERVAL_S)
            return await self._known.reached(offsets, timeout_s)
        finally:
            self._waiters -= 1

    async def finished(self) -> Mapping[int, int]:
        """The watermarks in Redis, and the committed offsets where they are higher, within `IMMEDIATE_TIMEOUT_S`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IMMEDIATE_TIMEOUT_S):
                await self._read_redis()
                await self._read_commits()
        return await self._known.finished()

    # --- reading -------------------------------------------------------------------------------------------

    async def _poll_once(self, offsets: Mapping[int, int]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IMMEDIATE_TIMEOUT_S):
                await self._read_redis()
                if not await self._known.reached(offsets, 0):
                    await self._read_commits()
        return await self._known.reached(offsets, 0)

    def _keep_polling(self, read: Callable[[], Awaitable[None]], interval_s: float) -> None:
        """Call `read` in a task every `interval_s` while there are waiting callers; one task for all of them."""

        async def poll() -> None:
            while self._waiters:
                await read()
                await asyncio.sleep(interval_s)

        poller = self._pollers.get(interval_s)
        if poller is None or poller.done():
            self._pollers[interval_s] = supervision.start_detached(poll(), "poll of the watermarks")

    async def _read_redis(self) -> None:
        with contextlib.suppress(Unavailable):
            flat: list[bytes] = await self._redis.try_command("HGETALL", self._key)
            pairs = zip(flat[::2], flat[1::2], strict=True)
            await self._known.publish({int(partition): int(offset) for partition, offset in pairs})

    async def _read_commits(self) -> None:
        with contextlib.suppress(Unavailable):
            await self._known.publish(await self._committed())

    # --- publishing ----------------------------------------------------------------------------------------

    async def _publish_changes(self) -> None:
        """Publish all watermarks whenever one has changed, and every `REPUBLISH_INTERVAL_S`: Redis may lose them."""
        await self._changed.wait()  # a process that only reads publishes none
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPUBLISH_INTERVAL_S):
                    await self._changed.wait()
            self._changed.clear()
            await self._send()

    async def _send(self) -> None:
        if self._published:
            flat = [number for item in self._published.items() for number in item]
            with contextlib.suppress(Unavailable):
                await self._redis.try_script(_RAISE, self._key, _TTL_MS, *flat)
