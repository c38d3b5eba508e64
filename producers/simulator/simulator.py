"""Runs a plan: many game servers send to real gateways, open loop.

Batches that become due while a server waits for an answer are queued without limit. Latencies are measured from the
times that the plan intended, so that the waiting time behind a slow gateway is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import BinaryIO

import httpx2

from lorestream import supervision
from producers.simulator.game_server import GameServer, RunClock
from producers.simulator.ledger import Results
from producers.simulator.plan import Batch, Batcher, Plan, events

START_DELAY_S = 0.5
"""Time from the call of `run` to the beginning of the run, in seconds."""
LOOK_AHEAD_S = 1.0
"""Events are generated this long before they are due, so that generating them delays none."""
_YIELD_EVERY = 32
"""Events generated before the event loop runs: half a millisecond during which no answer is read."""
_YIELD_EVERY_WHEN_LATE = 8 * _YIELD_EVERY
"""As `_YIELD_EVERY`, while generating events falls behind."""
_SAMPLE_INTERVAL_S = 0.1


class Simulator:
    """Sends the events of a plan to the gateways at `urls`. `clients`: one for each server of the plan.

    `drain_s`: how long to send the backlog after the last event, in seconds. `ledger`: see Results.
    """

    def __init__(
        self,
        plan: Plan,
        urls: Sequence[str],
        clients: Sequence[httpx2.AsyncClient],
        *,
        drain_s: float = 30.0,
        ledger: BinaryIO | None = None,
    ) -> None:
        self.plan = plan
        self.clock = RunClock()
        self.results = Results(ledger)
        self.backlog_peak = self.backlog_at_end = 0
        self.complete = False
        """Whether the plan ran to its end, and no event is left over."""
        paths = [url.rstrip("/") + "/v1/events" for url in urls]
        self._servers = [
            GameServer(number, plan, paths, http=http, clock=self.clock, results=self.results)
            for number, http in enumerate(clients)
        ]
        self._queues = [asyncio.Queue[Batch | None]() for _ in self._servers]
        self._drain_s = drain_s
        self._stopped = asyncio.Event()

    @property
    def backlog(self) -> int:
        """The number of events that should have been sent, and are not completed."""
        return max(0, self.plan.due(self.clock.now() - self.plan.flush_s) - self.results.completed)

    def stop(self) -> None:
        """End the run early: `run` returns."""
        self._stopped.set()

    async def run(self) -> None:
        """Run the plan. Raises ApiError or Unreachable if a gateway will never accept anything."""
        self.clock.start(in_s=START_DELAY_S)
        try:
            await supervision.run_together(
                {"send": self._send_all(), "sample": self._sample_backlog(), "stop": self._stopped.wait()}
            )
        finally:
            figures = self.results.events
            figures.scheduled = self.plan.due(self.clock.now())
            figures.left = figures.scheduled - self.results.completed
            figures.unsure = sum(server.in_flight for server in self._servers)

    async def _send_all(self) -> None:
        """Send all events; returns when all are completed."""
        deliveries = (
            _deliver_all(server, queue) for server, queue in zip(self._servers, self._queues, strict=True)
        )
        await supervision.run_all(self._generate(), *deliveries)
        self.complete = True

    async def _sample_backlog(self) -> None:
        """Sample the backlog; returns when the time of the plan is over, including `drain_s`."""
        end = self.plan.seconds + self.plan.flush_s
        while (now := self.clock.now()) <= end + self._drain_s:
            backlog = self.backlog
            self.backlog_peak = max(self.backlog_peak, backlog)
            if now <= end:
                self.backlog_at_end = backlog
            await asyncio.sleep(_SAMPLE_INTERVAL_S)

    async def _generate(self) -> None:
        batcher = Batcher(self.plan)
        for number, one in enumerate(events(self.plan), 1):
            self._enqueue(batcher.add(one))
            if number % _YIELD_EVERY == 0:
                ahead = one.at - self.clock.now()
                if ahead > LOOK_AHEAD_S / 2 or number % _YIELD_EVERY_WHEN_LATE == 0:
                    await asyncio.sleep(max(0.0, ahead - LOOK_AHEAD_S))
        self._enqueue(batcher.flush_all())
        for queue in self._queues:
            queue.put_nowait(None)

    def _enqueue(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self._queues[batch.server].put_nowait(batch)


async def _deliver_all(server: GameServer, queue: asyncio.Queue[Batch | None]) -> None:
    while (batch := await queue.get()) is not None:
        await server.deliver(batch)
