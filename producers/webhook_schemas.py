"""The msgspec types of the routes of webhooks."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from lorestream.limits import MAX_TYPE_CHARS, AgentId, PlayerName

MAX_NAMES = 64
"""Agents or types in one filter."""

TypeName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_TYPE_CHARS)]


class WebhookFilterBody(Struct, forbid_unknown_fields=True):
    """Which memories a webhook gets. All that is given must hold; a list: any of it."""

    agent_id: AgentId | Annotated[list[AgentId], Meta(min_length=1, max_length=MAX_NAMES)] | None = None
    player: Annotated[PlayerName, Meta(description="The player's plain name.")] | None = None
    type: (
        TypeName
        | Annotated[
            list[TypeName],
            Meta(
                min_length=1,
                max_length=MAX_NAMES,
                description="Records are sent only if their type is named.",
            ),
        ]
        | None
    ) = None
    min_importance: Annotated[float, Meta(ge=0, le=10)] = 0.0


class WebhookBody(Struct, forbid_unknown_fields=True):
    """A new webhook. Without a filter it gets all memories of the tenant, without a secret it is given one."""

    url: Annotated[
        str, Meta(min_length=1, description="An address of HTTP or HTTPS; by default only public ones.")
    ]
    filter: WebhookFilterBody | None = None
    secret: (
        Annotated[str, Meta(min_length=1, max_length=256, description="The key of the signatures.")] | None
    ) = None


class WebhookFilterView(Struct, omit_defaults=True):
    """A filter as it is stored: players, and agents named after players, are pseudonyms."""

    agent_id: list[str] | None = None
    player: list[str] | None = None
    type: list[str] | None = None
    min_importance: float = 0.0


class WebhookView(Struct):
    """A webhook and how far it has come. Times are Unix seconds.

    `state`: `failed` when it was set aside, after a day without success. `secret`: only in the answer that made it.
    `secret_fingerprint`: the first digits of the SHA-256 of the secret. `delivered`: memories.
    """

    id: str
    url: str
    filter: WebhookFilterView
    state: Literal["active", "failing", "failed"]
    created_at: float
    secret_fingerprint: str
    delivered: int
    delivered_at: float | None
    failing_since: float | None
    last_error: str | None


class NewWebhook(WebhookView):
    """A webhook that was just made, with its secret if that was made, too."""

    secret: str | None


class WebhookList(Struct):
    """The webhooks of the tenant, the oldest first."""

    webhooks: list[WebhookView]


class WebhookRemoved(Struct):
    """The webhook that gets nothing more, but what is on its way."""

    id: str


class WebhookTried(Struct):
    """What a request without memories has brought: the status of the answer, or why there was none."""

    id: str
    ok: bool
    status: int | None
    error: str | None
    took_ms: float


class WebhookPath(Struct):
    """Path parameters."""

    id: str
