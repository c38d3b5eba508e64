"""How far a group has come, published in Redis by those who work and read there by those who wait.

One hash per group, partition -> first unfinished offset. What Redis forgets or never hears of is read from the
offsets that the group has committed, which are true as well, only later: of two marks the higher one counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

import orjson

from lorestream.adapters.in_process.watermarks import LocalWatermarks
from lorestream.adapters.redis.client import RedisClient, Script
from lorestream.errors import Unavailable

REPUBLISH_INTERVAL_S = 0.5
"""So long marks are away after Redis has lost them."""
POLL_INTERVAL_S = 0.02
"""How often somebody who waits looks into Redis: one command, however many wait."""
COMMITS_POLL_INTERVAL_S = 0.2
IMMEDIATE_TIMEOUT_S = 0.25
"""How long it may take to answer those who do not wait."""

_LIFE_MS = 10 * 60 * 1000
"""Marks that nobody publishes any more go: the commits have come as far by then."""

_RAISE = Script("""
for i = 2, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or tonumber(known) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
""")
"""life in ms, then partition and offset by turns -> nothing; offsets below 2^53."""


class RedisWatermarks:
    """Watermarks of one group, shared by the processes of a deployment."""

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
        self._mine: dict[int, int] = {}
        self._changed = asyncio.Event()
        self._waiting = 0
        self._followers: dict[float, asyncio.Task[None]] = {}

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
        """`identity` names the life of the topic: in another one offsets begin anew, and old marks would lie.

        `committed` gives the first offset of each partition that the group has not committed, and may raise
        Unavailable (`EventLog.committed` of the group).
        """
        marks = cls(redis, group=group, identity=identity, committed=committed)
        publishing = asyncio.create_task(marks._republish(), name="lorestream-watermarks")
        try:
            yield marks
        finally:
            tasks = [publishing, *marks._followers.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await marks._send()

    async def publish(self, positions: Mapping[int, int]) -> None:
        """Everything below these offsets is finished. Never lowered. Returns before Redis knows."""
        for partition, position in positions.items():
            self._mine[partition] = max(position, self._mine.get(partition, 0))
        self._changed.set()
        await self._known.publish(positions)

    async def reached(self, positions: Mapping[int, int], timeout_s: float) -> bool:
        """Whether everything up to and including these offsets is finished, waiting at most `timeout_s`.

        Without time to wait it is looked up once.
        """
        if await self._known.reached(positions, 0):
            return True
        if timeout_s <= 0:
            return await self._look_once(positions)
        self._waiting += 1
        try:
            self._follow(self._look, POLL_INTERVAL_S)
            self._follow(self._look_at_commits, COMMITS_POLL_INTERVAL_S)
            return await self._known.reached(positions, timeout_s)
        finally:
            self._waiting -= 1

    # --- reading -------------------------------------------------------------------------------------------

    async def _look_once(self, positions: Mapping[int, int]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IMMEDIATE_TIMEOUT_S):
                await self._look()
                if not await self._known.reached(positions, 0):
                    await self._look_at_commits()
        return await self._known.reached(positions, 0)

    def _follow(self, look: Callable[[], Awaitable[None]], every_s: float) -> None:
        """Look again and again, for all who wait, as long as anybody does."""

        async def follow() -> None:
            while self._waiting:
                await look()
                await asyncio.sleep(every_s)

        follower = self._followers.get(every_s)
        if follower is None or follower.done():
            self._followers[every_s] = asyncio.create_task(follow(), name="lorestream-watermarks")

    async def _look(self) -> None:
        with contextlib.suppress(Unavailable):
            marks: list[bytes] = await self._redis.try_command("HGETALL", self._key)
            pairs = zip(marks[::2], marks[1::2], strict=True)
            await self._known.publish({int(partition): int(offset) for partition, offset in pairs})

    async def _look_at_commits(self) -> None:
        with contextlib.suppress(Unavailable):
            await self._known.publish(await self._committed())

    # --- publishing ----------------------------------------------------------------------------------------

    async def _republish(self) -> None:
        """Send what has changed at once, and everything from time to time, because Redis may forget it."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPUBLISH_INTERVAL_S):
                    await self._changed.wait()
            self._changed.clear()
            await self._send()

    async def _send(self) -> None:
        if self._mine:
            marks = [number for mark in self._mine.items() for number in mark]
            with contextlib.suppress(Unavailable):
                await self._redis.try_script(_RAISE, self._key, _LIFE_MS, *marks)
