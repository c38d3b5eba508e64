"""Webhooks: the requests to them, and the process that sends them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from lorestream import supervision
from lorestream.push.delivery import Delivering
from lorestream.push.senders import Senders

if TYPE_CHECKING:
    from lorestream.memories import Memory
    from lorestream.ports import WebhookPost
    from lorestream.push.feed import Feed
    from lorestream.settings import Settings
    from lorestream.wiring.parts import WorkerParts


def open_post(settings: Settings) -> AbstractAsyncContextManager[WebhookPost]:
    """What sends requests to webhooks."""
    from lorestream.adapters.webhooks.addresses import AllowedAddresses  # noqa: PLC0415
    from lorestream.adapters.webhooks.post import HttpWebhookPost  # noqa: PLC0415

    # Without keys, only programs of this machine are served. They reach its loopback addresses themselves.
    loopback = not settings.distributed and settings.api_keys_file is None
    return HttpWebhookPost.open(AllowedAddresses(private=settings.webhooks.allow_private, loopback=loopback))


@contextlib.asynccontextmanager
async def sending(
    parts: WorkerParts,
    feed: Feed,
    encode: Callable[[Memory], bytes],
    partitions: Callable[[], Collection[int]] | None = None,
) -> AsyncGenerator[None]:
    """Deliver to the webhooks until the context ends. `partitions`: those of the log that are this worker's, see `Senders`."""
    shared = Delivering(
        feed, parts.ledger.webhooks, parts.webhook_post, encode, parts.clock, parts.metrics.webhook_deliveries
    )
    senders = Senders(shared, parts.metrics, partitions)
    async with supervision.restarting(senders.run, "webhooks"):
        yield
