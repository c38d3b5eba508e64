"""Webhooks: addresses that get the memories of a tenant as they become findable."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import msgspec

from lorestream.errors import LorestreamError


class Webhook(msgspec.Struct, frozen=True, omit_defaults=True):
    """A webhook as its tenant has made it. Agents and players are in their stored form; None: any.

    `since`: the position in each partition of the log where it began. `resumes`: how often it was resumed. A removed one
    has no address and no secret any more.
    """

    id: str
    tenant: str
    url: str
    secret: str
    created_at: float
    since: tuple[int, ...]
    agents: tuple[str, ...] | None = None
    players: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    min_importance: float = 0.0
    resumes: int = 0
    removed: bool = False

    def signature(self, body: bytes) -> str:
        """The value of the header `X-Lorestream-Signature`: the HMAC-SHA-256 of the body with the secret."""
        return "sha256=" + hmac.new(self.secret.encode(), body, hashlib.sha256).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Tells secrets apart without showing them."""
        return hashlib.sha256(self.secret.encode()).hexdigest()[:12]


class WebhookProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a webhook has come, as the process that sends it has noted. Times are Unix seconds.

    `position`: the next offset of each partition. `failing_since`: when the attempts began to fail, None while they do
    not. `failed`: it was set aside. `resumes`: those of the webhook that were taken into account.
    """

    id: str
    tenant: str
    position: tuple[int, ...]
    delivered: int = 0
    delivered_at: float | None = None
    failing_since: float | None = None
    last_error: str | None = None
    failed: bool = False
    resumes: int = 0


@dataclass(frozen=True, slots=True)
class WebhookState:
    """A webhook and its progress; None before the first."""

    webhook: Webhook
    progress: WebhookProgress | None

    @property
    def failed(self) -> bool:
        """Whether it was set aside, and not resumed since."""
        progress = self.progress
        return progress is not None and progress.failed and progress.resumes == self.webhook.resumes

    @property
    def position(self) -> tuple[int, ...]:
        """Where it goes on, for each partition."""
        return self.webhook.since if self.progress is None else self.progress.position


class DeliveryFailed(LorestreamError):
    """A request to a webhook was not answered with a status of success. `gone`: its receiver wants no more."""

    def __init__(self, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone
