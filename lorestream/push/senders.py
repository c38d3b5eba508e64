"""The webhooks that a process sends: one delivery for each, started and stopped as they change."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import structlog

from lorestream import supervision
from lorestream.errors import Unavailable
from lorestream.push.delivery import Delivering, Delivery

if TYPE_CHECKING:
    from lorestream.telemetry import Metrics
    from lorestream.webhooks import Webhook, WebhookState

POLL_INTERVAL_S = 0.5
"""How often the list of webhooks is compared with what is running."""
RETRY_DELAY_S = 30.0
"""Pause before a delivery that has ended unexpectedly is started again."""

_log = structlog.get_logger("lorestream.webhooks")


class Senders:
    """Delivers to the webhooks that this process is responsible for. One that hangs or fails does not block another."""

    def __init__(
        self, shared: Delivering, metrics: Metrics, partitions: Callable[[], Collection[int]] | None = None
    ) -> None:
        """`partitions`: those of the log that are this worker's at present; None: the process sends all webhooks.

        A worker sends the webhooks that belong to its partitions, so that the workers share them.
        """
        self._shared = shared
        self._metrics = metrics
        self._partitions = partitions
        self._running: dict[str, tuple[Webhook, Delivery, asyncio.Task[None]]] = {}
        self._not_before: dict[str, float] = {}
        """When a delivery that has ended unexpectedly may be started again, in loop time."""

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                wanted = await self._wanted()
                self._not_before = {one: at for one, at in self._not_before.items() if one in wanted}
                await self._stop_unwanted(wanted)
                self._start_missing(wanted)
                lags = (delivery.lag for _, delivery, _ in self._running.values())
                self._metrics.webhook_lag_records.set(max(lags, default=0))
                await asyncio.sleep(POLL_INTERVAL_S)
        finally:
            await supervision.stop_tasks([task for _, _, task in self._running.values()])

    async def _wanted(self) -> dict[str, WebhookState]:
        """The webhooks that this process has to send, by id. Those that were set aside are only counted."""
        states = {state.webhook.id: state for state in self._shared.webhooks.all()}
        if states and self._partitions is not None:
            try:
                count = len(await self._shared.feed.log.end())
            except Unavailable:  # the log of events cannot be read either: nothing changes until it can
                return {
                    one: state for one, state in states.items() if one in self._running and not state.failed
                }
            owned = self._partitions()
            states = {
                one: state for one, state in states.items() if zlib.crc32(one.encode()) % count in owned
            }
        active = {one: state for one, state in states.items() if not state.failed}
        self._metrics.webhooks_set_aside.set(len(states) - len(active))
        return active

    async def _stop_unwanted(self, wanted: dict[str, WebhookState]) -> None:
        for webhook_id, (webhook, _, task) in list(self._running.items()):
            if task.done():
                self._report(webhook, task)
            elif webhook_id in wanted and wanted[webhook_id].webhook == webhook:
                continue
            await supervision.stop_tasks([task])
            del self._running[webhook_id]

    def _start_missing(self, wanted: dict[str, WebhookState]) -> None:
        now = asyncio.get_running_loop().time()
        for webhook_id, state in wanted.items():
            if webhook_id not in self._running and now >= self._not_before.get(webhook_id, 0.0):
                delivery = Delivery(state, self._shared)
                task = supervision.start_shared(delivery.run(), f"webhook {webhook_id}")
                self._running[webhook_id] = state.webhook, delivery, task

    def _report(self, webhook: Webhook, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._not_before[webhook.id] = asyncio.get_running_loop().time() + RETRY_DELAY_S
            _log.error(
                "the delivery to a webhook ended unexpectedly, it is started again",
                webhook=webhook.id,
                restart_in_s=RETRY_DELAY_S,
                exc_info=error,
            )
