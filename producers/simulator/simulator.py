"""Many game servers at once, sending what a plan says to real gateways, open loop.

What becomes due while a server waits for an answer queues up behind it, without limit; latencies count from the
moments that the plan intended, so that a gateway that stalls cannot hide what it kept waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import BinaryIO

import httpx2

from lorestream.errors import LorestreamError
from producers.simulator.game_server import GameServer, Pace
from producers.simulator.ledger import Account
from producers.simulator.plan import Batch, Gathering, Plan, events

HEAD_START_S = 0.5
LOOK_AHEAD_S = 1.0
"""Events are made so long before they are due, so that making them delays none."""
_GRAIN = 32
"""Events made in one go: half a millisecond in which no answer is heard."""
_LARGE_GRAIN = 8 * _GRAIN
"""As many where it falls behind."""
_SAMPLE_S = 0.1


class Simulator:
    """Plays a plan into the gateways at `urls`. `clients`: one for each server of the plan.

    `drain_s`: how long what is left may still be sent when no more events happen. `ledger`: see Account.
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
        self.pace = Pace()
        self.account = Account(ledger)
        self.backlog_peak = self.backlog_at_end = 0
        self.complete = False
        """Whether the plan was played to its end, and nothing is left."""
        paths = [url.rstrip("/") + "/v1/events" for url in urls]
        self._servers = [
            GameServer(number, plan, paths, http=http, pace=self.pace, account=self.account)
            for number, http in enumerate(clients)
        ]
        self._queues = [asyncio.Queue[Batch | None]() for _ in self._servers]
        self._drain_s = drain_s
        self._stopped = asyncio.Event()

    @property
    def backlog(self) -> int:
        """How many events should have been sent, and are not settled."""
        return max(0, self.plan.due(self.pace.now() - self.plan.flush_s) - self.account.settled)

    def stop(self) -> None:
        """Cut the run off: `run` returns."""
        self._stopped.set()

    async def run(self) -> None:
        """Play the plan. Raises ApiError or Unreachable when a gateway says that nothing will ever be accepted."""
        self.pace.begin(in_s=HEAD_START_S)
        tasks = [asyncio.create_task(part) for part in (self._play(), self._watch(), self._stopped.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            figures = self.account.events
            figures.scheduled = self.plan.due(self.pace.now())
            figures.left = figures.scheduled - self.account.settled
            figures.unsure = sum(server.in_hand for server in self._servers)
        for one in ended:
            if isinstance(one, Exception):
                raise one
        self.complete = ended[0] is None

    async def _play(self) -> None:
        """Returns when everything is settled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._make())
                for server, queue in zip(self._servers, self._queues, strict=True):
                    group.create_task(_serve(server, queue))
        except* LorestreamError as errors:
            raise errors.exceptions[0] from None

    async def _watch(self) -> None:
        """Sample the backlog; returns when the plan has had its time."""
        end = self.plan.seconds + self.plan.flush_s
        while (now := self.pace.now()) <= end + self._drain_s:
            backlog = self.backlog
            self.backlog_peak = max(self.backlog_peak, backlog)
            if now <= end:
                self.backlog_at_end = backlog
            await asyncio.sleep(_SAMPLE_S)

    async def _make(self) -> None:
        gathering = Gathering(self.plan)
        for number, one in enumerate(events(self.plan), 1):
            self._queue(gathering.add(one))
            if number % _GRAIN == 0:
                ahead = one.at - self.pace.now()
                if ahead > LOOK_AHEAD_S / 2 or number % _LARGE_GRAIN == 0:
                    await asyncio.sleep(max(0.0, ahead - LOOK_AHEAD_S))
        self._queue(gathering.rest())
        for queue in self._queues:
            queue.put_nowait(None)

    def _queue(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self._queues[batch.server].put_nowait(batch)


async def _serve(server: GameServer, queue: asyncio.Queue[Batch | None]) -> None:
    while (batch := await queue.get()) is not None:
        await server.deliver(batch)
