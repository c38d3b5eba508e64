"""The webhooks in the erasures topic, for which `KafkaErasureLedger` reads and writes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec
import orjson

from lorestream.adapters.in_process.known_webhooks import KnownWebhooks
from lorestream.ports import NewRecord
from lorestream.webhooks import Webhook, WebhookProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lorestream.webhooks import WebhookState

_KINDS: dict[str, type[Webhook | WebhookProgress]] = {
    "webhook": Webhook,
    "webhook_progress": WebhookProgress,
}

_encoder = msgspec.json.Encoder()


class KafkaWebhooks:
    """A Webhooks port (lorestream.ports.webhooks). Compaction keeps the last entry of each webhook, and of its progress."""

    def __init__(
        self,
        append: Callable[[Sequence[NewRecord]], Awaitable[None]],
        read_to_end: Callable[[], Awaitable[None]],
    ) -> None:
        """`append`: writes records and waits until they were read back. `read_to_end`: waits for all that is there by now."""
        self._append = append
        self._read_to_end = read_to_end
        self._known = KnownWebhooks()

    def apply(self, entry: Webhook | WebhookProgress) -> None:
        """Take an entry into account that was read from the topic."""
        self._known.apply(entry)

    def all(self) -> Sequence[WebhookState]:
        """Those that are not removed."""
        return self._known.all()

    async def of_tenant(self, tenant: str) -> Sequence[WebhookState]:
        """Those of a tenant, the oldest first. Raises Unavailable."""
        await self._read_to_end()
        return self._known.of_tenant(tenant)

    async def put(self, webhook: Webhook) -> None:
        """Store a webhook durably. Raises Unavailable."""
        await self._append([_record("webhook", webhook)])

    async def note(self, progress: WebhookProgress) -> None:
        """Store the progress of a webhook durably, unless it is removed. Raises Unavailable."""
        if self._known.has(progress.id):
            await self._append([_record("webhook_progress", progress)])


def entry_of(key: bytes, value: bytes | None) -> Webhook | WebhookProgress | None:
    """The entry in such a record, None for every other record."""
    with contextlib.suppress(orjson.JSONDecodeError, ValueError, TypeError, msgspec.DecodeError):
        _, kind, _ = orjson.loads(key)
        if kind in _KINDS:
            return msgspec.json.decode(value or b"", type=_KINDS[kind])
    return None


def _record(kind: str, entry: Webhook | WebhookProgress) -> NewRecord:
    return NewRecord(orjson.dumps([entry.tenant, kind, entry.id]), _encoder.encode(entry), {})
