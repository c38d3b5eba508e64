"""Delivers to one webhook: its memories in order, again and again until they are accepted or the webhook is set aside."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from lorestream import supervision
from lorestream.errors import InvalidToken, Unavailable
from lorestream.push.selection import Selection
from lorestream.push.stream import MemoryStream
from lorestream.webhooks import DeliveryFailed, Webhook, WebhookProgress, WebhookState

if TYPE_CHECKING:
    from prometheus_client import Counter

    from lorestream.memories import Memory
    from lorestream.ports import Clock, WebhookPost, Webhooks
    from lorestream.push.feed import Feed

SET_ASIDE_AFTER_S = 86_400.0
"""How long the requests to a webhook may fail before it is set aside."""
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 300.0
"""The pause after a failed request doubles up to this one; each is shortened at random by up to a half."""
NOTE_INTERVAL_S = 1.0
"""How often the progress is stored. After a crash the requests of this time are sent again."""
IDLE_NOTE_INTERVAL_S = 60.0
"""The same while there was nothing to send."""

_RETRY_DELAY_S = 1.0

_log = structlog.get_logger("lorestream.webhooks")


@dataclass(frozen=True, slots=True)
class Delivering:
    """What the deliveries of a process share."""

    feed: Feed
    webhooks: Webhooks
    post: WebhookPost
    encode: Callable[[Memory], bytes]
    """A memory as JSON, as reads return it."""
    clock: Clock
    results: Counter
    """Counts requests by `result`: delivered, failed, set_aside."""


class Delivery:
    """Sends what becomes findable to one webhook. Ends when that is set aside, or the feed is closed."""

    def __init__(self, state: WebhookState, shared: Delivering) -> None:
        self._webhook = state.webhook
        self._shared = shared
        self._progress = _begun(state)
        self._noted = self._progress
        self._noted_at = 0.0
        self._backoff_s = FIRST_BACKOFF_S
        self._stream: MemoryStream | None = None

    @property
    def lag(self) -> int:
        """How many records of the log lie between what was delivered and what can be found."""
        if self._stream is None:
            return 0
        positions = self._stream.positions
        return sum(
            max(0, end - positions.get(partition, end))
            for partition, end in self._shared.feed.positions.items()
        )

    async def run(self) -> None:
        """Deliver until the webhook is set aside or the feed is closed. Waits out an outage of the log."""
        position: dict[int, int] | None = dict(enumerate(self._progress.position))
        while True:
            try:
                async with MemoryStream.open(
                    self._shared.feed, selection_of(self._webhook), position
                ) as self._stream:
                    await self._follow(self._stream)
            except InvalidToken:
                _log.warning(
                    "a webhook was ahead of the log, which was restored or replaced: it goes on with what becomes findable"
                    " from now on",
                    webhook=self._webhook.id,
                )
                position = None
                continue
            except DeliveryFailed as error:
                if not await self._go_on_after(error):
                    return
            except Unavailable as error:
                _log.warning(
                    "a webhook waits until its memories can be read",
                    error=str(error),
                    webhook=self._webhook.id,
                )
                await asyncio.sleep(_RETRY_DELAY_S)
            else:
                return
            # The memories are read again: what was erased while their receiver failed is not sent.
            position = dict(enumerate(self._progress.position))

    async def _follow(self, stream: MemoryStream) -> None:
        """Send what the stream brings. Raises DeliveryFailed, Unavailable."""
        loop = asyncio.get_running_loop()
        try:
            async with contextlib.aclosing(supervision.with_ticks(stream.items(), NOTE_INTERVAL_S)) as steps:
                async for items in steps:
                    if memories := [item.memory for item in items or () if item.memory is not None]:
                        await self._deliver(memories)
                    for item in items or ():
                        stream.take(item)
                    if not items:
                        stream.skip_unwanted()
                    self._progress = replace(self._progress, position=_position(stream))
                    sent = self._progress.delivered != self._noted.delivered
                    if loop.time() - self._noted_at >= (NOTE_INTERVAL_S if sent else IDLE_NOTE_INTERVAL_S):
                        await self._note()
        finally:  # also when this process stops: the next one need not send it again
            await self._note()

    async def _deliver(self, memories: Sequence[Memory]) -> None:
        """Send one request. Raises DeliveryFailed."""
        webhook = self._webhook
        parts = webhook.id.encode(), b",".join(map(self._shared.encode, memories))
        body = b'{"webhook_id":"%b","memories":[%b]}' % parts
        headers = request_headers(webhook, body, [one.id for one in memories])
        await self._shared.post.send(webhook.url, body, headers)
        self._shared.results.labels("delivered").inc()
        self._backoff_s = FIRST_BACKOFF_S
        self._progress = replace(
            self._progress,
            delivered=self._progress.delivered + len(memories),
            delivered_at=self._shared.clock.now(),
            failing_since=None,
            last_error=None,
        )

    async def _go_on_after(self, error: DeliveryFailed) -> bool:
        """Note the failure, and wait before the next attempt. Returns False if the webhook is set aside instead."""
        now = self._shared.clock.now()
        since = now if self._progress.failing_since is None else self._progress.failing_since
        set_aside = error.gone or now - since >= SET_ASIDE_AFTER_S
        self._progress = replace(self._progress, failing_since=since, last_error=str(error), failed=set_aside)
        self._shared.results.labels("set_aside" if set_aside else "failed").inc()
        if set_aside:
            _log.warning(
                "a webhook was set aside and gets nothing more: repair its receiver, then `lorestream hooks resume`",
                webhook=self._webhook.id,
                tenant=self._webhook.tenant,
                error=str(error),
            )
        await self._note()
        if set_aside:
            while self._noted != self._progress:  # until it is stored, the webhook counts as one to send to
                await asyncio.sleep(_RETRY_DELAY_S)
                await self._note()
            return False
        await asyncio.sleep(self._backoff_s * random.uniform(0.5, 1.0))  # noqa: S311
        self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)
        return True

    async def _note(self) -> None:
        """Store the progress if it has changed. In an outage it is stored later."""
        self._noted_at = asyncio.get_running_loop().time()
        if self._progress != self._noted:
            with contextlib.suppress(Unavailable):
                await self._shared.webhooks.note(self._progress)
                self._noted = self._progress


def request_headers(webhook: Webhook, body: bytes, memory_ids: Sequence[str]) -> dict[str, str]:
    """The headers of a request to the webhook."""
    return {
        "X-Lorestream-Signature": webhook.signature(body),
        "X-Lorestream-Webhook": webhook.id,
        "Idempotency-Key": ",".join(memory_ids),
    }


def selection_of(webhook: Webhook) -> Selection:
    """Which memories the webhook wants."""
    agents, players, types = (
        None if given is None else frozenset(given)
        for given in (webhook.agents, webhook.players, webhook.types)
    )
    return Selection(webhook.tenant, agents, players, types, webhook.min_importance)


def _begun(state: WebhookState) -> WebhookProgress:
    """The progress with which a delivery begins."""
    webhook, progress = state.webhook, state.progress
    if progress is None:
        return WebhookProgress(webhook.id, webhook.tenant, webhook.since, resumes=webhook.resumes)
    if progress.resumes != webhook.resumes:
        return replace(progress, failed=False, failing_since=None, resumes=webhook.resumes)
    return progress


def _position(stream: MemoryStream) -> tuple[int, ...]:
    positions = stream.positions
    return tuple(positions.get(partition, 0) for partition in range(max(positions, default=-1) + 1))
