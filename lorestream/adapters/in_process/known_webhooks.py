"""The webhooks and their progress in the memory of a process, as both ledgers keep them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorestream.webhooks import Webhook, WebhookProgress, WebhookState

if TYPE_CHECKING:
    from collections.abc import Sequence


class KnownWebhooks:
    """Of each webhook and of each progress the last one that was applied counts. A removed webhook is forgotten."""

    def __init__(self) -> None:
        self._webhooks: dict[str, Webhook] = {}
        self._progress: dict[str, WebhookProgress] = {}

    def apply(self, entry: Webhook | WebhookProgress) -> None:
        """Take an entry into account that is stored."""
        if not isinstance(entry, Webhook):
            self._progress[entry.id] = entry
        elif not entry.removed:
            self._webhooks[entry.id] = entry
        else:
            self._webhooks.pop(entry.id, None)
            self._progress.pop(entry.id, None)

    def has(self, webhook_id: str) -> bool:
        """Whether there is such a webhook that is not removed."""
        return webhook_id in self._webhooks

    def all(self) -> Sequence[WebhookState]:
        """Those that are not removed."""
        return [WebhookState(one, self._progress.get(one.id)) for one in self._webhooks.values()]

    def of_tenant(self, tenant: str) -> Sequence[WebhookState]:
        """Those of a tenant, the oldest first."""
        own = (state for state in self.all() if state.webhook.tenant == tenant)
        return sorted(own, key=lambda state: (state.webhook.created_at, state.webhook.id))
