"""The schedule of a simulated load: when which agent of which server has which event, and what is sent together.

Pure: the seed and the parameters fix every event, its id, its words and its moment. How fast anybody answers
changes nothing, which is what makes a load open. Endless schedules cost no memory: events are made one by one.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import orjson

from producers.simulator import game_life

FLUSH_S = 0.5
"""How long the Luanti mod gathers events (`lorestream.flush_interval`)."""
MAX_BATCH = 199
"""The most events that the Luanti mod sends in one request."""
RESENT_WITHIN_S = 5.0
TICKS_PER_S = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load is made of. Rates are per second.

    `rate`: new events of all servers together; those `resent` on purpose, a share of them, come on top.
    `zipf`: the exponent of the agents' popularity, 0 = all alike. `moves`: how likely an agent changes its server
    before an event. `start`: when it begins, in Unix seconds; the only part that the events' times depend on.
    """

    servers: int
    agents: int
    rate: float
    seconds: float
    seed: int
    zipf: float = 1.0
    moves: float = 0.001
    resend: float = 0.0
    flush_s: float = FLUSH_S
    max_batch: int = MAX_BATCH
    start: float = 0.0

    @property
    def events(self) -> int:
        """How many new events there are."""
        return self.due(self.seconds)

    def due(self, elapsed: float) -> int:
        """How many new events have happened after so many seconds."""
        return int(max(0.0, min(elapsed, self.seconds)) * self.rate + 1e-6)

    @property
    def name(self) -> str:
        """Stands in front of every event id, so that another load's ids name other events."""
        parts = [self.servers, self.agents, self.rate, self.zipf, self.moves, self.resend]
        shape = hashlib.blake2b(orjson.dumps(parts), digest_size=4).hexdigest()
        return f"sim-{self.seed}-{shape}"


class Happening(NamedTuple):
    """One event: when (seconds from the beginning), on which server, and its JSON. `again`: it was there before."""

    at: float
    server: int
    body: bytes
    again: bool = False


class Batch(NamedTuple):
    """What one server sends at `due`, in seconds from the beginning."""

    due: float
    server: int
    happenings: Sequence[Happening]


def server_name(server: int) -> str:
    """The name of the server with this number."""
    return f"server-{server + 1}"


class Popularity:
    """Chooses agents by Zipf's law: the n-th is asked for 1/n^exponent as often as the first."""

    def __init__(self, agents: int, exponent: float) -> None:
        self._ranks = range(agents)
        self._weights = list(accumulate(1 / (rank + 1) ** exponent for rank in self._ranks))

    def agent(self, chance: random.Random) -> int:
        """The number of the agent whose turn it is."""
        (agent,) = chance.choices(self._ranks, cum_weights=self._weights)
        return agent


def events(plan: Plan) -> Iterator[Happening]:
    """Every event in the order of time."""
    chance = random.Random(plan.seed)  # noqa: S311 (a game, no secret)
    popularity = Popularity(plan.agents, plan.zipf)
    homes = [agent % plan.servers for agent in range(plan.agents)]
    chance.shuffle(homes)
    names = [game_life.agent_name(agent) for agent in range(plan.agents)]
    prefix = plan.name
    again: list[Happening] = []
    for number in range(plan.events):
        at = (number + 1) / plan.rate
        while again and again[0].at <= at:
            yield heapq.heappop(again)
        agent = popularity.agent(chance)
        if chance.random() < plan.moves:
            homes[agent] = int(chance.random() * plan.servers)
        event = {
            "id": f"{prefix}-{number}",
            "agent_id": names[agent],
            "pos": _place(chance),
            "tick": float(int(at * TICKS_PER_S)),
            "time": round(plan.start + at, 3),
            "importance": int(chance.random() * 10),
            **game_life.happening(chance),
        }
        one = Happening(at, homes[agent], orjson.dumps(event))
        if chance.random() < plan.resend:
            later = at + chance.random() * min(RESENT_WITHIN_S, plan.seconds - at)
            heapq.heappush(again, one._replace(at=later, again=True))
        yield one
    while again:
        yield heapq.heappop(again)


def _place(chance: random.Random) -> dict[str, float]:
    x, z = (round((chance.random() - 0.5) * 2 * game_life.REACH, 1) for _ in range(2))
    return {"x": x, "y": float(int(chance.random() * 80) - 30), "z": z}


class Gathering:
    """Gathers the events of each server as the Luanti mod does: until its next flush, or until a batch is full.

    Servers flush at moments of their own, spread over the interval.
    """

    def __init__(self, plan: Plan) -> None:
        self._interval_s = plan.flush_s
        self._phases = [plan.flush_s * server / plan.servers for server in range(plan.servers)]
        self._max_batch = plan.max_batch
        self._open: dict[int, list[Happening]] = {}
        self._flushes: list[tuple[float, int]] = []

    def add(self, one: Happening) -> list[Batch]:
        """Take an event; returns the batches that are complete now, in the order in which they are due."""
        done = self._flush(one.at) if self._flushes and self._flushes[0][0] < one.at else []
        mine = self._open.get(one.server)
        if mine is None:
            mine = self._open[one.server] = []
            heapq.heappush(self._flushes, (self._next_flush(one), one.server))
        mine.append(one)
        if len(mine) >= self._max_batch:
            del self._open[one.server]
            done.append(Batch(one.at, one.server, mine))
        return done

    def rest(self) -> list[Batch]:
        """What no event pushes out any more."""
        return self._flush(float("inf"))

    def _flush(self, now: float) -> list[Batch]:
        done: list[Batch] = []
        while self._flushes and self._flushes[0][0] < now:
            due, server = heapq.heappop(self._flushes)
            if server in self._open:  # a batch that was full left its flush behind
                done.append(Batch(due, server, self._open.pop(server)))
        return done

    def _next_flush(self, one: Happening) -> float:
        phase = self._phases[one.server]
        passed = -(-(one.at - phase) // self._interval_s)
        return max(phase + passed * self._interval_s, one.at)


def batches(plan: Plan) -> Iterator[Batch]:
    """Everything that is sent, in the order in which it is due."""
    gathering = Gathering(plan)
    for one in events(plan):
        yield from gathering.add(one)
    yield from gathering.rest()
