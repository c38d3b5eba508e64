"""The route that replaces one memory by another: a new event, which names the memory that it supersedes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

import msgspec

from lorestream import tokens
from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidRequest
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest, ApiResponse, decode, json_response
from lorestream.limits import ServerName, canonical_memory_id
from producers import examples
from producers.admission import DEFAULT_SERVER
from producers.intake import traceparent
from producers.schemas import MAX_WAIT_MS, MemoryPath, SupersedeBody, SupersedeParams, SupersedeResponse

if TYPE_CHECKING:
    from lorestream.access.rate_limits import RateLimits
    from producers.intake import Intake


class Puts(Protocol):
    """What the route needs of the gateway."""

    intake: Intake

    async def put(
        self, tenant: str, event: bytes, *, server: str, traceparent: bytes | None
    ) -> tuple[str, dict[int, int]]:
        """Append one event; its memory id, and its offset by partition."""
        ...


class _Named(msgspec.Struct):
    """What the path and the query string name as well."""

    agent_id: str | None = None
    supersedes: str | None = None
    server: ServerName | None = None


def operations(gateway: Puts, limits: RateLimits) -> list[Operation]:
    """The route of corrections."""
    write = partial(Operation, scope=KeyScope.INGEST, status=202, tag="Writes")
    return [
        write(
            "POST",
            "/v1/memories/{id}/supersede",
            partial(_supersede, gateway, limits),
            "Replace a memory by a new one",
            response=SupersedeResponse,
            path_params=MemoryPath,
            body=SupersedeBody,
            query_params=SupersedeParams,
            other_statuses={200: "With `wait=indexed`: the new memory can be found, and `indexed` is true"},
            description=(
                'The old memory stays, and reads leave it out unless they ask for it (`"superseded": true`). Deleting'
                " the new memory brings it back. Accepted also where the agent has no memory of this id: then the new"
                " memory supersedes it as soon as it has. The body has the fields of an event."
            ),
            example=examples.SUPERSEDE,
        )
    ]


async def _supersede(gateway: Puts, limits: RateLimits, request: ApiRequest) -> ApiResponse:
    params = request.query_params(SupersedeParams)
    old = canonical_memory_id(request.path_params(MemoryPath).id)
    if old is None:
        raise InvalidRequest(
            "not a memory id: these are UUIDs, as answers to writes and reads have them", path="id"
        )
    body = await request.body()
    fields, named = decode(body, dict[str, msgspec.Raw]), decode(body, _Named)
    if named.agent_id not in {None, params.agent_id}:
        raise InvalidRequest("another agent than in the query string", path="agent_id")
    if named.supersedes is not None and canonical_memory_id(named.supersedes) != old:
        raise InvalidRequest("another memory than in the path", path="supersedes")
    event = msgspec.json.encode({**fields, "agent_id": params.agent_id, "supersedes": old})
    await gateway.intake.check_rate(limits, request.principal, 1)
    memory_id, positions = await gateway.put(
        request.tenant, event, server=named.server or DEFAULT_SERVER, traceparent=traceparent(request.headers)
    )
    response = SupersedeResponse(memory_id, tokens.token(positions))
    if params.wait is not msgspec.UNSET:
        timeout_s = min(params.timeout_ms, MAX_WAIT_MS) / 1000
        response.indexed = await gateway.intake.wait_until_processed(positions, timeout_s)
    return json_response(response, 200 if response.indexed is True else 202)
