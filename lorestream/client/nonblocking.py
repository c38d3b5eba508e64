"""AsyncMemoryClient: the client for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2
import stamina

from lorestream.client import calls, corrections, documents, insight, learning, records
from lorestream.client import rewinds as rewinding
from lorestream.client import webhooks as hooks
from lorestream.client.call import Call, Reply, given
from lorestream.client.endpoint import Endpoint, RetryBudget, as_method
from lorestream.client.exceptions import api_error
from lorestream.client.streams import AsyncMemoryStream

P = ParamSpec("P")
T = TypeVar("T")


def _method(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncMemoryClient, P], Coroutine[Any, Any, T]]:
    async def method(client: AsyncMemoryClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client.send(build(*args, **kwargs))

    return as_method(method, build)


class AsyncMemoryClient(Endpoint[httpx2.AsyncClient]):
    """A client for the tasks of one event loop. `calls`, `records`, `documents`, `insight`, `learning` and `rewinds` document its methods."""

    add = _method(calls.add)
    add_batch = _method(calls.add_batch)
    supersede = _method(corrections.supersede)
    delete = _method(calls.delete)
    forget = _method(calls.forget)
    forget_player = _method(calls.forget_player)
    erasure_done = _method(calls.erasure_done)
    erasures = _method(calls.erasures)
    search = _method(calls.search)
    context = _method(calls.context)
    get = _method(calls.get)
    get_many = _method(calls.get_many)
    recent = _method(calls.recent)
    summary = _method(calls.summary)
    relations = _method(corrections.relations)
    agents = _method(calls.agents)
    check = _method(calls.check)
    ready = _method(calls.ready)
    version = _method(calls.version)

    rewind = _method(rewinding.rewind)
    undo_rewind = _method(rewinding.undo_rewind)
    find_rewind = _method(rewinding.find_rewind)
    rewind_size = _method(rewinding.rewind_size)
    rewinds = _method(rewinding.rewinds)

    message = _method(records.message)
    messages = _method(records.messages)
    tool = _method(records.tool)
    reward = _method(records.reward)
    rewards = _method(records.rewards)
    interaction = _method(records.interaction)
    interactions = _method(records.interactions)
    put_state = _method(records.put_state)
    state = _method(records.state)
    states = _method(records.states)
    aggregate = _method(records.aggregate)

    explain = _method(insight.explain)
    places = _method(insight.places)
    likeness = _method(insight.likeness)

    create_webhook = _method(hooks.create_webhook)
    webhooks = _method(hooks.webhooks)
    delete_webhook = _method(hooks.delete_webhook)
    resume_webhook = _method(hooks.resume_webhook)
    try_webhook = _method(hooks.try_webhook)

    put_entity = _method(documents.put_entity)
    patch_entity = _method(documents.patch_entity)
    delete_entity = _method(documents.delete_entity)
    rollback = _method(documents.rollback)
    entity = _method(documents.entity)
    entities = _method(documents.entities)
    versions = _method(documents.versions)
    entity_write = _method(documents.entity_write)

    q_update = _method(learning.q_update)
    q_values = _method(learning.q_values)
    q_table = _method(learning.q_table)
    q_write = _method(learning.q_write)
    put_policy = _method(learning.put_policy)
    policy = _method(learning.policy)
    policy_versions = _method(learning.policy_versions)
    policy_write = _method(learning.policy_write)
    rollback_policy = _method(learning.rollback_policy)
    delete_policy = _method(learning.delete_policy)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Send a call that a function of `lorestream.client.calls` has built; return its result."""
        return self._read(call, await self._reply(call))

    async def _reply(self, call: Call[Any]) -> Reply:
        budget = self._retry_budget(call)
        async for attempt in stamina.retry_context(budget.backoff, attempts=None, timeout=None):
            with attempt:
                with self._connection_errors(self._base_url(call)):
                    async with asyncio.timeout(budget.timeout_s()):
                        response = await self._http.send(self._request(call, None))
                return self._success(call, response, response.content)
        raise AssertionError  # unreachable: the last attempt raises

    def stream(
        self,
        agent_id: str | None = None,
        *,
        player: str | None = None,
        type: str | None = None,  # noqa: A002 (the parameter's name in the contract)
        last_event_id: str | None = None,
    ) -> AsyncMemoryStream:
        """Memories as they become findable, without end: as `MemoryClient.stream`, for `async for`."""
        return AsyncMemoryStream(
            partial(self._connect, given(agent_id=agent_id, player=player, type=type)), last_event_id
        )

    async def _connect(self, params: Mapping[str, str], last_event_id: str | None) -> httpx2.Response:
        budget = RetryBudget(self._retry_timeout_s, self._timeout_s)
        async for attempt in stamina.retry_context(budget.backoff, attempts=None, timeout=None):
            with attempt, self._connection_errors(self.query_url):
                request = self._stream_request(params, last_event_id, budget.timeout_s())
                response = await self._http.send(request, stream=True)
                if response.is_success:
                    return response
                try:
                    raise api_error(response.status_code, await response.aread(), self.query_url)
                finally:
                    await response.aclose()
        raise AssertionError  # unreachable: the last attempt raises

    def _open(
        self, headers: Mapping[str, str], limits: httpx2.Limits, *, trust_env: bool
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(headers=headers, limits=limits, trust_env=trust_env)
