"""Searches at a fixed rate during a simulated load, and the wait until everything is indexed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

import httpx2
import msgspec

from lorestream import supervision, tokens
from producers.simulator import game_life
from producers.simulator.game_server import RunClock
from producers.simulator.plan import Plan, Popularity
from producers.simulator.report import Indexed, Latencies, QueryFigures, count

REPEATED_QUERIES = 5
"""Number of queries per agent that are repeated."""
_MAX_WAIT_S = 10.0
_RETRY_DELAY_S = 0.2


class _Answer(msgspec.Struct):
    cache: str
    fresh: bool


class Readers:
    """Sends `rate` searches per second, open loop and without retries. Agents are chosen by popularity.

    `repeat`: the share of searches from a small set of queries per agent; the others are new.
    """

    def __init__(
        self, plan: Plan, url: str, http: httpx2.AsyncClient, clock: RunClock, *, rate: float, repeat: float
    ) -> None:
        self.figures = QueryFigures()
        self.latency = Latencies()
        self._plan = plan
        self._url = url.rstrip("/") + "/v1/memories/search"
        self._http = http
        self._clock = clock
        self._rate = rate
        self._repeat = repeat

    async def run(self) -> None:
        """Search until the plan ends; returns after the last answer."""
        rng = random.Random(f"{self._plan.seed}:questions")  # noqa: S311 (not a secret)
        popularity = Popularity(self._plan.agents, self._plan.zipf)
        async with supervision.together() as start:
            for number in range(int(self._plan.seconds * self._rate)):
                body = self._search(rng, popularity.agent(rng), number)
                moment = (number + 1) / self._rate
                await self._clock.sleep_until(moment)
                start(self._timed_search(body, moment))

    def _search(self, rng: random.Random, agent: int, number: int) -> bytes:
        if rng.random() < self._repeat:
            known = random.Random(f"{agent}:{rng.randrange(REPEATED_QUERIES)}")  # noqa: S311 (see above)
            query = game_life.question(known)
        else:
            query = f"{game_life.question(rng)} ({number})"
        return msgspec.json.encode({"agent_id": game_life.agent_name(agent), "query": query, "k": 5})

    async def _timed_search(self, body: bytes, moment: float) -> None:
        self.figures.asked += 1
        try:
            answer = await _search(self._http, self._url, body)
        except _Failed as error:
            count(self.figures.errors, str(error))
            return
        self.latency.add(self._clock.now() - moment)
        self.figures.answered += 1
        count(self.figures.cache, answer.cache)


async def wait_until_indexed(
    http: httpx2.AsyncClient, url: str, positions: Mapping[int, int], *, timeout_s: float
) -> Indexed:
    """Wait up to `timeout_s` until the log is indexed up to these offsets. `seconds`: how long that took."""
    started = time.monotonic()
    left = timeout_s
    agent = game_life.agent_name(0)
    token = tokens.token(positions)
    while left > 0:
        wait_ms = min(left, _MAX_WAIT_S / 2) * 1000
        body = msgspec.json.encode({"agent_id": agent, "k": 1, "after": token, "wait_ms": wait_ms})
        try:
            if (await _search(http, url.rstrip("/") + "/v1/memories/search", body)).fresh:
                return Indexed(findable=True, seconds=time.monotonic() - started)
        except _Failed:
            await asyncio.sleep(min(left, _RETRY_DELAY_S))
        left = timeout_s - (time.monotonic() - started)
    return Indexed(findable=False, seconds=time.monotonic() - started)


class _Failed(Exception):
    """A search failed; the message is the kind of the error."""


async def _search(http: httpx2.AsyncClient, url: str, body: bytes) -> _Answer:
    try:
        answer = await http.post(url, content=body, headers={"Content-Type": "application/json"})
    except httpx2.TimeoutException as error:
        raise _Failed("timeout") from error
    except httpx2.TransportError as error:
        raise _Failed("connect" if isinstance(error, httpx2.ConnectError) else "cut") from error
    if not answer.is_success:
        raise _Failed(f"http_{answer.status_code}")
    try:
        return msgspec.json.decode(answer.content, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Failed("not_lorestream") from error
