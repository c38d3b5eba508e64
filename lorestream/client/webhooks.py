"""Calls of webhooks: addresses that get memories as they become findable. They need the scope admin where there are keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lorestream.client.call import Call, decoder, given, write_call
from lorestream.client.encoding import quoted

PATH = "/v1/webhooks"


class Webhook(msgspec.Struct, frozen=True):
    """A webhook and how far it has come. Times are Unix seconds; `delivered` counts memories.

    `state`: "active", "failing", or "failed" when it was set aside. `secret`: only of a new webhook that was given one.
    """

    id: str
    url: str
    filter: dict[str, Any]
    state: str
    created_at: float
    secret_fingerprint: str
    delivered: int = 0
    delivered_at: float | None = None
    failing_since: float | None = None
    last_error: str | None = None
    secret: str | None = None


class WebhookTried(msgspec.Struct, frozen=True):
    """What a request without memories has brought."""

    id: str
    ok: bool
    status: int | None
    error: str | None
    took_ms: float


class _List(msgspec.Struct, frozen=True):
    webhooks: list[Webhook]


def create_webhook(
    url: str,
    *,
    filter: Mapping[str, Any] | None = None,  # noqa: A002 (the name in the API)
    secret: str | None = None,
) -> Call[Webhook]:
    """Let the address get memories as they become findable, signed with the secret; without one, one is made.

    `filter`: "agent_id" (one or a list), "player", "type" (one or a list), "min_importance". A retry may make a second
    webhook.
    """
    return write_call(Webhook, PATH, given(url=url, filter=filter, secret=secret))


def webhooks() -> Call[list[Webhook]]:
    """The webhooks of the tenant, the oldest first."""
    decode = decoder(_List)
    return Call(lambda reply: decode(reply).webhooks, "GET", PATH, to_writer=True)


def delete_webhook(webhook_id: str) -> Call[None]:
    """Remove a webhook. May be repeated."""
    return Call(lambda _: None, "DELETE", _path(webhook_id), to_writer=True)


def resume_webhook(webhook_id: str) -> Call[Webhook]:
    """Let a webhook that was set aside go on where it stood. Raises NotFound."""
    return write_call(Webhook, _path(webhook_id) + "/resume", None)


def try_webhook(webhook_id: str) -> Call[WebhookTried]:
    """Send a signed request without memories. Raises NotFound."""
    return write_call(WebhookTried, _path(webhook_id) + "/test", None, wait_s=10.0)


def _path(webhook_id: str) -> str:
    return f"{PATH}/{quoted(webhook_id, 'webhook_id')}"
