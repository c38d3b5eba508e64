"""The embedded webhooks: a table beside that of the erasures, and all of its rows in memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Self

import msgspec

from lorestream.adapters.in_process.known_webhooks import KnownWebhooks
from lorestream.webhooks import Webhook, WebhookProgress

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from lorestream.adapters.sqlite.database import Database
    from lorestream.webhooks import WebhookState

_KINDS: dict[str, type[Webhook | WebhookProgress]] = {"webhook": Webhook, "progress": WebhookProgress}

_encoder = msgspec.json.Encoder()


class SqliteWebhooks:
    """A Webhooks port (lorestream.ports.webhooks)."""

    def __init__(self, database: Database, known: KnownWebhooks) -> None:
        self._database = database
        self._known = known

    @classmethod
    async def open(cls, database: Database) -> Self:
        """The webhooks in `database`. Raises Unavailable."""
        known = KnownWebhooks()
        for entry in await database.read(_load):
            known.apply(entry)
        return cls(database, known)

    def all(self) -> Sequence[WebhookState]:
        """Those that are not removed."""
        return self._known.all()

    async def of_tenant(self, tenant: str) -> Sequence[WebhookState]:
        """Those of a tenant, the oldest first."""
        return self._known.of_tenant(tenant)

    async def put(self, webhook: Webhook) -> None:
        """Store a webhook durably; a removed one is deleted. Raises Unavailable."""
        step = partial(_delete, webhook_id=webhook.id) if webhook.removed else partial(_store, entry=webhook)
        await self._database.write(step)
        self._known.apply(webhook)

    async def note(self, progress: WebhookProgress) -> None:
        """Store the progress of a webhook durably, unless it is removed. Raises Unavailable."""
        if self._known.has(progress.id):
            await self._database.write(partial(_store, entry=progress))
            self._known.apply(progress)


def _load(connection: sqlite3.Connection) -> list[Webhook | WebhookProgress]:
    rows = connection.execute("SELECT kind, body FROM webhooks ORDER BY kind")  # progress comes first
    return [msgspec.json.decode(body, type=_KINDS[kind]) for kind, body in rows]


def _store(connection: sqlite3.Connection, entry: Webhook | WebhookProgress) -> None:
    kind = "webhook" if isinstance(entry, Webhook) else "progress"
    connection.execute(
        "INSERT INTO webhooks VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
        (entry.id, kind, _encoder.encode(entry)),
    )


def _delete(connection: sqlite3.Connection, webhook_id: str) -> None:
    connection.execute("DELETE FROM webhooks WHERE id = ?", (webhook_id,))
