"""The ports of webhooks: which there are and how far each has come, and the requests to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorestream.webhooks import Webhook, WebhookProgress, WebhookState


class Webhooks(Protocol):
    """All webhooks, kept until they are removed, and in the memory of every process that lists or sends them."""

    def all(self) -> Sequence[WebhookState]:
        """Those that are not removed, as far as this process knows. Answers from memory; does not block or raise."""
        ...

    async def of_tenant(self, tenant: str) -> Sequence[WebhookState]:
        """Those of a tenant that are not removed, the oldest first.

        Finds those that another process has put before the call. Raises Unavailable.
        """
        ...

    async def put(self, webhook: Webhook) -> None:
        """Store a webhook durably, in place of the one with its id. Raises Unavailable."""
        ...

    async def note(self, progress: WebhookProgress) -> None:
        """Store the progress of a webhook durably, unless it is removed. Raises Unavailable."""
        ...


class WebhookPost(Protocol):
    """Sends requests to webhooks."""

    def check(self, url: str) -> None:
        """Raises InvalidRequest for an address that webhooks cannot have."""
        ...

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """POST the body once. Returns the status, which is one of success. Raises DeliveryFailed.

        Follows no redirects, and refuses addresses of private networks unless the settings allow them.
        """
        ...
