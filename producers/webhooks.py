"""Webhooks: made, listed, removed, resumed and tried out. The process that sends them reads them from the ledger."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import structlog

from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidRequest
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest, ApiResponse, found_response, json_response
from lorestream.limits import check_agent_id
from lorestream.push.delivery import request_headers
from lorestream.webhooks import DeliveryFailed, Webhook, WebhookState
from producers import examples
from producers.log_writer import WRITE_TIMEOUT_S, write_timeout
from producers.schemas import NoParams
from producers.webhook_schemas import (
    NewWebhook,
    WebhookBody,
    WebhookFilterBody,
    WebhookFilterView,
    WebhookList,
    WebhookPath,
    WebhookRemoved,
    WebhookTried,
    WebhookView,
)

if TYPE_CHECKING:
    from lorestream.identity import Pseudonyms
    from lorestream.ports import Clock, EventLog, WatermarkReader, WebhookPost, Webhooks

MAX_WEBHOOKS = 20
"""Webhooks of a tenant."""

_SECRET_BYTES = 32
_UNKNOWN = "no webhook has this id"

_log = structlog.get_logger("lorestream.webhooks")


@dataclass(frozen=True, slots=True)
class WebhookDesk:
    """The webhooks of all tenants. The methods raise Unavailable when the ledger or the log cannot be used."""

    webhooks: Webhooks
    log: EventLog
    watermarks: WatermarkReader
    pseudonyms: Pseudonyms
    post: WebhookPost
    clock: Clock

    async def create(self, tenant: str, body: WebhookBody) -> NewWebhook:
        """A webhook that gets what becomes findable from now on. Raises InvalidRequest."""
        self.post.check(body.url)
        if len(await self.webhooks.of_tenant(tenant)) >= MAX_WEBHOOKS:
            raise InvalidRequest(f"a tenant has at most {MAX_WEBHOOKS} webhooks: delete one first")
        wanted = body.filter or WebhookFilterBody()
        made = None if body.secret else secrets.token_urlsafe(_SECRET_BYTES)
        async with write_timeout(WRITE_TIMEOUT_S, "the log"):
            positions = {**await self.log.end(), **await self.watermarks.finished()}
            webhook = Webhook(
                id=str(uuid.uuid4()),
                tenant=tenant,
                url=body.url,
                secret=body.secret or made or "",
                created_at=self.clock.now(),
                since=tuple(positions[partition] for partition in sorted(positions)),
                agents=self._stored_agents(tenant, wanted.agent_id),
                players=None if wanted.player is None else self.pseudonyms.players(tenant, wanted.player),
                types=_names(wanted.type),
                min_importance=wanted.min_importance,
            )
            await self.webhooks.put(webhook)
        _log.info("webhook created", webhook=webhook.id, tenant=tenant)
        view = msgspec.structs.asdict(_view(WebhookState(webhook, None)))
        return NewWebhook(**view, secret=made)

    async def all_of(self, tenant: str) -> WebhookList:
        """The webhooks of a tenant."""
        return WebhookList([_view(state) for state in await self.webhooks.of_tenant(tenant)])

    async def remove(self, tenant: str, webhook_id: str) -> WebhookRemoved:
        """Remove a webhook, with its address and its secret. May be repeated."""
        if (state := await self._find(tenant, webhook_id)) is not None:
            await self.webhooks.put(msgspec.structs.replace(state.webhook, url="", secret="", removed=True))
            _log.info("webhook removed", webhook=webhook_id, tenant=tenant)
        return WebhookRemoved(webhook_id)

    async def resume(self, tenant: str, webhook_id: str) -> WebhookView | None:
        """Let a webhook that was set aside go on where it stood. None if the tenant has none with this id."""
        state = await self._find(tenant, webhook_id)
        if state is None or not state.failed:
            return None if state is None else _view(state)
        webhook = msgspec.structs.replace(state.webhook, resumes=state.webhook.resumes + 1)
        await self.webhooks.put(webhook)
        return _view(WebhookState(webhook, state.progress))

    async def attempt(self, tenant: str, webhook_id: str) -> WebhookTried | None:
        """Send a signed request without memories. None if the tenant has no webhook with this id."""
        state = await self._find(tenant, webhook_id)
        if state is None:
            return None
        body = msgspec.json.encode({"webhook_id": webhook_id, "memories": [], "test": True})
        headers = request_headers(state.webhook, body, [str(uuid.uuid4())])
        began = time.perf_counter()
        status, failure = None, None
        try:
            status = await self.post.send(state.webhook.url, body, headers)
        except DeliveryFailed as error:
            failure = str(error)
        took_ms = round((time.perf_counter() - began) * 1000, 1)
        return WebhookTried(webhook_id, failure is None, status, failure, took_ms)

    async def _find(self, tenant: str, webhook_id: str) -> WebhookState | None:
        own = await self.webhooks.of_tenant(tenant)
        return next((state for state in own if state.webhook.id == webhook_id), None)

    def _stored_agents(self, tenant: str, given: str | Sequence[str] | None) -> tuple[str, ...] | None:
        names = _names(given)
        if names is None:
            return None
        for name in names:
            check_agent_id(name, "filter.agent_id")
        return tuple(
            dict.fromkeys(stored for name in names for stored in self.pseudonyms.agents(tenant, name))
        )


def _names(given: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return None if given is None else (given,) if isinstance(given, str) else tuple(given)


def _view(state: WebhookState) -> WebhookView:
    webhook, progress = state.webhook, state.progress
    players, agents, types = (
        None if names is None else list(names) for names in (webhook.players, webhook.agents, webhook.types)
    )
    failing = progress is not None and progress.failing_since is not None
    resumed = progress is not None and progress.resumes != webhook.resumes
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        filter=WebhookFilterView(agents, players, types, webhook.min_importance),
        state="failed" if state.failed else "failing" if failing and not resumed else "active",
        created_at=webhook.created_at,
        secret_fingerprint=webhook.fingerprint,
        delivered=0 if progress is None else progress.delivered,
        delivered_at=None if progress is None else progress.delivered_at,
        failing_since=None if progress is None or resumed else progress.failing_since,
        last_error=None if progress is None else progress.last_error,
    )


# --- HTTP ------------------------------------------------------------------------------------------------


def operations(desk: WebhookDesk) -> list[Operation]:
    """The routes of webhooks."""
    routes = _Routes(desk)
    route = partial(Operation, scope=KeyScope.ADMIN, query_params=NoParams, tag="Webhooks")
    one = partial(route, path_params=WebhookPath)
    unknown = {404: "The tenant has no webhook with this id."}
    return [
        route(
            "POST",
            "/v1/webhooks",
            routes.create,
            "Let an address get memories as they become findable",
            body=WebhookBody,
            response=NewWebhook,
            status=201,
            description=(
                'It gets POST requests with `{"webhook_id", "memories": […]}`, at most 100 memories each, signed with'
                " `X-Lorestream-Signature: sha256=HMAC`, until it answers with 2xx: at least once, in order for each agent."
                " After a day without success it is set aside. See docs/push.md."
            ),
            example=examples.WEBHOOK,
        ),
        route(
            "GET",
            "/v1/webhooks",
            routes.all,
            "The webhooks of the tenant",
            response=WebhookList,
            example=examples.WEBHOOKS,
        ),
        one(
            "DELETE",
            "/v1/webhooks/{id}",
            routes.remove,
            "Remove a webhook",
            response=WebhookRemoved,
            status=202,
            description="A request that is on its way may still arrive. It may be repeated.",
            example=examples.REMOVED_WEBHOOK,
        ),
        one(
            "POST",
            "/v1/webhooks/{id}/resume",
            routes.resume,
            "Let a webhook that was set aside go on where it stood",
            response=WebhookView,
            other_statuses=unknown,
            example=examples.RESUMED_WEBHOOK,
        ),
        one(
            "POST",
            "/v1/webhooks/{id}/test",
            routes.attempt,
            "Send a signed request without memories",
            response=WebhookTried,
            other_statuses=unknown,
            example=examples.TRIED_WEBHOOK,
        ),
    ]


class _Routes:
    def __init__(self, desk: WebhookDesk) -> None:
        self._desk = desk

    async def create(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        return json_response(await self._desk.create(request.tenant, await request.json(WebhookBody)), 201)

    async def all(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        return json_response(await self._desk.all_of(request.tenant))

    async def remove(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        return json_response(
            await self._desk.remove(request.tenant, request.path_params(WebhookPath).id), 202
        )

    async def resume(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        webhook_id = request.path_params(WebhookPath).id
        return found_response(await self._desk.resume(request.tenant, webhook_id), _UNKNOWN)

    async def attempt(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        webhook_id = request.path_params(WebhookPath).id
        return found_response(await self._desk.attempt(request.tenant, webhook_id), _UNKNOWN)
