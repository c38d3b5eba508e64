"""Those who ask while a simulated load runs: searches at a fixed rate, and the wait until everything is findable."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

import httpx2
import msgspec

from lorestream import tokens
from producers.simulator import game_life
from producers.simulator.game_server import Pace
from producers.simulator.plan import Plan, Popularity
from producers.simulator.report import Indexed, Latencies, QueryFigures, count

KNOWN_QUESTIONS = 5
"""Every agent has so many questions that are asked again and again."""
_WAIT_S = 10.0
_PAUSE_S = 0.2


class _Answer(msgspec.Struct):
    cache: str
    fresh: bool


class Readers:
    """Ask `rate` questions a second of agents by their popularity, open loop and without trying again.

    `repeat`: the share of questions that were asked of that agent before; the others are new.
    """

    def __init__(
        self, plan: Plan, url: str, http: httpx2.AsyncClient, pace: Pace, *, rate: float, repeat: float
    ) -> None:
        self.figures = QueryFigures()
        self.latency = Latencies()
        self._plan = plan
        self._url = url.rstrip("/") + "/v1/memories/search"
        self._http = http
        self._pace = pace
        self._rate = rate
        self._repeat = repeat

    async def run(self) -> None:
        """Ask until the plan ends; returns when the last answer is there."""
        chance = random.Random(f"{self._plan.seed}:questions")  # noqa: S311 (a game, no secret)
        popularity = Popularity(self._plan.agents, self._plan.zipf)
        async with asyncio.TaskGroup() as group:
            for number in range(int(self._plan.seconds * self._rate)):
                body = self._search(chance, popularity.agent(chance), number)
                moment = (number + 1) / self._rate
                await self._pace.until(moment)
                group.create_task(self._ask(body, moment))

    def _search(self, chance: random.Random, agent: int, number: int) -> bytes:
        if chance.random() < self._repeat:
            known = random.Random(f"{agent}:{chance.randrange(KNOWN_QUESTIONS)}")  # noqa: S311 (see above)
            query = game_life.question(known)
        else:
            query = f"{game_life.question(chance)} ({number})"
        return msgspec.json.encode({"agent_id": game_life.agent_name(agent), "query": query, "k": 5})

    async def _ask(self, body: bytes, moment: float) -> None:
        self.figures.asked += 1
        try:
            answer = await _search(self._http, self._url, body)
        except _Failed as error:
            count(self.figures.errors, str(error))
            return
        self.latency.add(self._pace.now() - moment)
        self.figures.answered += 1
        count(self.figures.cache, answer.cache)


async def findable(
    http: httpx2.AsyncClient, url: str, positions: Mapping[int, int], *, within_s: float
) -> Indexed:
    """Wait until the log is processed past these offsets. `seconds`: how long that took."""
    began = time.monotonic()
    left = within_s
    agent = game_life.agent_name(0)
    token = tokens.token(positions)
    while left > 0:
        wait_ms = min(left, _WAIT_S / 2) * 1000
        body = msgspec.json.encode({"agent_id": agent, "k": 1, "after": token, "wait_ms": wait_ms})
        try:
            if (await _search(http, url.rstrip("/") + "/v1/memories/search", body)).fresh:
                return Indexed(findable=True, seconds=time.monotonic() - began)
        except _Failed:
            await asyncio.sleep(min(left, _PAUSE_S))
        left = within_s - (time.monotonic() - began)
    return Indexed(findable=False, seconds=time.monotonic() - began)


class _Failed(Exception):
    """What kept an answer away."""


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
