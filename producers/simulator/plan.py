"""The schedule of a simulated load: which event occurs when, for which agent on which server, and in which batch.

Pure: the seed and the parameters determine every event, its id, its text and its time. Slow answers change nothing:
the load is open loop. Events are generated one by one, so that long schedules need no more memory than short ones.
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
"""The default flush interval of the Luanti mod in seconds (`lorestream.flush_interval`)."""
MAX_BATCH = 199
"""The maximum number of events that the Luanti mod sends in one request."""
RESEND_WITHIN_S = 5.0
TICKS_PER_S = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """The parameters of a load.

    `rate`: new events per second, of all servers together. `resend`: the share of events that are sent a second time on
    purpose, in addition. `zipf`: exponent of the popularity of agents, 0 = uniform. `moves`: the probability that an
    agent changes its server before an event. `start`: Unix seconds of the beginning; affects only the events' times.
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
        """The number of new events."""
        return self.due(self.seconds)

    def due(self, elapsed: float) -> int:
        """The number of new events that have occurred after `elapsed` seconds."""
        return int(max(0.0, min(elapsed, self.seconds)) * self.rate + 1e-6)

    @property
    def name(self) -> str:
        """The prefix of all event ids. Different parameters have different prefixes, and so different ids."""
        parts = [self.servers, self.agents, self.rate, self.zipf, self.moves, self.resend]
        shape = hashlib.blake2b(orjson.dumps(parts), digest_size=4).hexdigest()
        return f"sim-{self.seed}-{shape}"


class PlannedEvent(NamedTuple):
    """One event: its time in seconds from the beginning, its server, its JSON. `resend`: it was sent before."""

    at: float
    server: int
    body: bytes
    resend: bool = False


class Batch(NamedTuple):
    """The events that one server sends in one request at `due` seconds from the beginning."""

    due: float
    server: int
    events: Sequence[PlannedEvent]


def server_name(server: int) -> str:
    """The name of the server with this number."""
    return f"server-{server + 1}"


class Popularity:
    """Chooses agents by Zipf's law: agent n is chosen 1/n^exponent times as often as agent 1."""

    def __init__(self, agents: int, exponent: float) -> None:
        self._ranks = range(agents)
        self._weights = list(accumulate(1 / (rank + 1) ** exponent for rank in self._ranks))

    def agent(self, rng: random.Random) -> int:
        """The number of the next agent."""
        (agent,) = rng.choices(self._ranks, cum_weights=self._weights)
        return agent


def events(plan: Plan) -> Iterator[PlannedEvent]:
    """All events in the order of time."""
    rng = random.Random(plan.seed)  # noqa: S311 (not a secret)
    popularity = Popularity(plan.agents, plan.zipf)
    homes = [agent % plan.servers for agent in range(plan.agents)]
    rng.shuffle(homes)
    names = [game_life.agent_name(agent) for agent in range(plan.agents)]
    prefix = plan.name
    resends: list[PlannedEvent] = []
    for number in range(plan.events):
        at = (number + 1) / plan.rate
        while resends and resends[0].at <= at:
            yield heapq.heappop(resends)
        agent = popularity.agent(rng)
        if rng.random() < plan.moves:
            homes[agent] = int(rng.random() * plan.servers)
        event = {
            "id": f"{prefix}-{number}",
            "agent_id": names[agent],
            "pos": _position(rng),
            "tick": float(int(at * TICKS_PER_S)),
            "time": round(plan.start + at, 3),
            "importance": int(rng.random() * 10),
            **game_life.random_event(rng),
        }
        one = PlannedEvent(at, homes[agent], orjson.dumps(event))
        if rng.random() < plan.resend:
            later = at + rng.random() * min(RESEND_WITHIN_S, plan.seconds - at)
            heapq.heappush(resends, one._replace(at=later, resend=True))
        yield one
    while resends:
        yield heapq.heappop(resends)


def _position(rng: random.Random) -> dict[str, float]:
    x, z = (round((rng.random() - 0.5) * 2 * game_life.REACH, 1) for _ in range(2))
    return {"x": x, "y": float(int(rng.random() * 80) - 30), "z": z}


class Batcher:
    """Collects the events of each server as the Luanti mod does: until its next flush, or until a batch is full.

    The flush times of the servers are spread over the interval.
    """

    def __init__(self, plan: Plan) -> None:
        self._interval_s = plan.flush_s
        self._phases = [plan.flush_s * server / plan.servers for server in range(plan.servers)]
        self._max_batch = plan.max_batch
        self._open: dict[int, list[PlannedEvent]] = {}
        self._flushes: list[tuple[float, int]] = []

    def add(self, one: PlannedEvent) -> list[Batch]:
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

    def flush_all(self) -> list[Batch]:
        """The remaining batches, after the last event."""
        return self._flush(float("inf"))

    def _flush(self, now: float) -> list[Batch]:
        done: list[Batch] = []
        while self._flushes and self._flushes[0][0] < now:
            due, server = heapq.heappop(self._flushes)
            if server in self._open:  # otherwise the batch was full and has been sent
                done.append(Batch(due, server, self._open.pop(server)))
        return done

    def _next_flush(self, one: PlannedEvent) -> float:
        phase = self._phases[one.server]
        passed = -(-(one.at - phase) // self._interval_s)
        return max(phase + passed * self._interval_s, one.at)


def batches(plan: Plan) -> Iterator[Batch]:
    """All batches, in the order in which they are due."""
    batcher = Batcher(plan)
    for one in events(plan):
        yield from batcher.add(one)
    yield from batcher.flush_all()
