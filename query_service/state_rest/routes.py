"""The HTTP routes that read documents, Q-tables and policies."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from lorestream.access.key_file import KeyScope
from lorestream.http.operation import BinaryBody, Operation
from lorestream.http.request import ApiRequest, ApiResponse, HttpError, encoded_json_response, json_response
from lorestream.memories import EVERYTHING, AgentKey, Scope
from lorestream.state.documents import check_type, document_topic
from lorestream.state.policies import MAX_BYTES, manifest_of, policy_type
from lorestream.state.q_tables import DEFAULT_TABLE, q_topic
from query_service.encoding import entity
from query_service.queries import StateOwner, resolve_owner
from query_service.routes import Routes
from query_service.schemas import NoParams
from query_service.state import documents, policies, q_tables
from query_service.state_rest import examples
from query_service.state_rest.entity import entity_read, entity_response
from query_service.state_rest.params import given, wait_of, which_of
from query_service.state_rest.policy_response import PolicyMemory, is_known, not_modified, whole
from query_service.state_rest.schemas import (
    EntitiesParams,
    EntitiesResponse,
    EntityParams,
    EntityPath,
    EntityResponse,
    EntityVersion,
    EntityWritePath,
    OwnerPath,
    OwnerWritePath,
    PolicyParams,
    PolicyVersion,
    PolicyVersionsParams,
    PolicyVersionsResponse,
    PolicyWriteParams,
    TableParams,
    TableResponse,
    TableWriteParams,
    TypePath,
    Values,
    ValuesResponse,
    VersionsParams,
    VersionsResponse,
    WaitParams,
    WriteResponse,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from lorestream.access.rate_limits import RateLimits
    from lorestream.state.documents import Document
    from query_service.recall import Recall
    from query_service.state.rows import Page, VisibleRows

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode

_NOT_FOUND = {404: "There is none, it is deleted, or there was never such a version."}
_VERSION = _NOT_FOUND | {410: "`version_gone`: this version is no longer kept."}
_WRITE = {
    404: "No such write is known: it was not processed yet (`details.fresh` is false where `after` was not reached),"
    " its answer is no longer kept (7 days), or it was erased."
}
_ADMIN = "It shows all agents of the tenant, so it needs the scope `admin`, as `GET /v1/agents` does."


def operations(recall: Callable[[], Recall], limits: RateLimits) -> list[Operation]:
    """The routes that read state. `recall`: returns the Recall over the active collection."""
    routes = _Routes(recall, limits)
    read = partial(Operation, scope=KeyScope.QUERY, tag="State: reads", read_only=True)
    of_document = partial(read, path_params=EntityPath)
    of_owner = partial(read, path_params=OwnerPath)
    document, policy = "/v1/entities/{type}/{id}", "/v1/policies/{id}"
    return [
        of_document(
            "GET",
            document,
            routes.entity,
            "One version of a document",
            response=EntityResponse,
            query_params=EntityParams,
            other_statuses=_VERSION,
            example=examples.ENTITY,
        ),
        of_document(
            "GET",
            f"{document}/versions",
            routes.versions,
            "The kept versions of a document",
            response=VersionsResponse,
            query_params=VersionsParams,
            other_statuses=_NOT_FOUND,
            example=examples.VERSIONS,
        ),
        read(
            "GET",
            f"{document}/writes/{{event_id}}",
            routes.entity_write,
            "What became of a write to a document",
            response=WriteResponse,
            path_params=EntityWritePath,
            query_params=WaitParams,
            other_statuses=_WRITE,
            example=examples.WRITE,
        ),
        read(
            "GET",
            "/v1/entities/{type}",
            routes.entities,
            "The documents of a type, by id",
            scope=KeyScope.ADMIN,
            response=EntitiesResponse,
            path_params=TypePath,
            query_params=EntitiesParams,
            description=_ADMIN,
            example=examples.ENTITIES,
        ),
        of_owner(
            "POST",
            "/v1/q/{id}/values",
            routes.q_values,
            "The values of some states of a Q-table",
            response=ValuesResponse,
            query_params=NoParams,
            body=Values,
            example=examples.Q_VALUES,
        ),
        of_owner(
            "GET",
            "/v1/q/{id}",
            routes.q_table,
            "A Q-table, page by page",
            response=TableResponse,
            query_params=TableParams,
            example=examples.Q_TABLE,
        ),
        read(
            "GET",
            "/v1/q/{id}/writes/{event_id}",
            routes.q_write,
            "What became of an update of a Q-table",
            response=WriteResponse,
            path_params=OwnerWritePath,
            query_params=TableWriteParams,
            other_statuses=_WRITE,
            example=examples.Q_WRITE,
        ),
        of_owner(
            "GET",
            policy,
            routes.policy,
            "The bytes of a policy",
            response=BinaryBody(MAX_BYTES),
            query_params=PolicyParams,
            other_statuses=_VERSION | {304: "`If-None-Match` has the ETag of this version."},
            description="The ETag is the SHA-256 of the bytes, which is checked before the first byte is sent. The headers"
            " `X-Lorestream-Version`, `X-Lorestream-Format` and `X-Lorestream-Fresh` have the version, the format and"
            " whether the write of `after` is contained.",
            example=examples.POLICY,
        ),
        of_owner(
            "GET",
            f"{policy}/versions",
            routes.policy_versions,
            "The kept versions of a policy",
            response=PolicyVersionsResponse,
            query_params=PolicyVersionsParams,
            other_statuses=_NOT_FOUND,
            example=examples.POLICY_VERSIONS,
        ),
        read(
            "GET",
            f"{policy}/writes/{{event_id}}",
            routes.policy_write,
            "What became of a write to a policy",
            response=WriteResponse,
            path_params=OwnerWritePath,
            query_params=PolicyWriteParams,
            other_statuses=_WRITE,
            example=examples.POLICY_WRITE,
        ),
    ]


class _Routes(Routes):
    """One method per operation."""

    def __init__(self, recall: Callable[[], Recall], limits: RateLimits) -> None:
        super().__init__(recall, limits)
        self._policy_memory = PolicyMemory()

    # --- documents ---

    async def entity(self, request: ApiRequest) -> ApiResponse:
        params, path = request.query_params(EntityParams), request.path_params(EntityPath)
        recall = self._recall
        read = entity_read(recall, request.tenant, path.type, path.id, params)
        await self._limits.count_queries(request.principal, read.scope.agents)
        return encoded_json_response(entity_response(await recall.answer(read)))

    async def versions(self, request: ApiRequest) -> ApiResponse:
        params, type_ = request.query_params(VersionsParams), _type(request)
        owner = self._owner(request)

        def encode(document: Document) -> bytes:
            return _encode(
                EntityVersion(
                    type=type_,
                    id=owner.name,
                    version=document.version,
                    data=None if document.deleted else document.data,
                    tick=document.tick,
                    created_at=document.created_at,
                    updated_at=document.updated_at,
                    deleted=document.deleted,
                )
            )

        return await self._versions(request, owner, type_, params, encode, api="versions")

    async def entities(self, request: ApiRequest) -> ApiResponse:
        params, type_ = request.query_params(EntitiesParams), _type(request)

        def encode(agent_id: str, document: Document) -> bytes:
            return _encode(entity(document, type_, agent_id))

        async with self._reading(request, None, params, "entities") as (rows, fresh):
            page = await documents.list_documents(
                rows,
                request.tenant,
                type_,
                encode,
                prefix=params.prefix,
                limit=params.limit,
                cursor=given(params.cursor),
            )
        return _list_response("entities", page, fresh=fresh)

    async def entity_write(self, request: ApiRequest) -> ApiResponse:
        return await self._write(request, request.query_params(WaitParams), document_topic(_type(request)))

    # --- Q-tables ---

    async def q_values(self, request: ApiRequest) -> ApiResponse:
        request.query_params(NoParams)
        owner, body = self._owner(request), await request.json(Values)
        async with self._reading(request, owner.key, body, "q_values") as (rows, fresh):
            values = await q_tables.get_values(rows, owner.key, body.table or DEFAULT_TABLE, body.states)
        return encoded_json_response(b'{"values":{' + b",".join(values) + b"}," + _fresh(fresh=fresh) + b"}")

    async def q_table(self, request: ApiRequest) -> ApiResponse:
        params, owner = request.query_params(TableParams), self._owner(request)
        async with self._reading(request, owner.key, params, "q_table") as (rows, fresh):
            page = await q_tables.get_table(
                rows, owner.key, params.table, limit=params.limit, cursor=given(params.cursor)
            )
        return _list_response("values", page, fresh=fresh, brackets=b"{}")

    async def q_write(self, request: ApiRequest) -> ApiResponse:
        params = request.query_params(TableWriteParams)
        return await self._write(request, params, q_topic(params.table))

    # --- policies ---

    async def policy(self, request: ApiRequest) -> ApiResponse:
        params, owner = request.query_params(PolicyParams), self._owner(request)
        which, known = which_of(params), request.headers.get(b"if-none-match", b"").decode("latin-1")
        async with self._reading(request, owner.key, params, "policy") as (rows, fresh):
            policy = await policies.find(rows, owner.key, params.name, which)
            if is_known(policy, known):
                return not_modified(policy, fresh=fresh)
            policy, parts, share = await policies.read(
                rows, owner.key, params.name, which, policy, take=self._policy_memory.take
            )
        return whole(policy, parts, share, fresh=fresh)

    async def policy_versions(self, request: ApiRequest) -> ApiResponse:
        params, owner = request.query_params(PolicyVersionsParams), self._owner(request)
        type_ = policy_type(params.name)
        return await self._versions(request, owner, type_, params, _policy_version, api="policy_versions")

    async def policy_write(self, request: ApiRequest) -> ApiResponse:
        params = request.query_params(PolicyWriteParams)
        return await self._write(request, params, document_topic(policy_type(params.name)))

    # --- what they share ---

    def _owner(self, request: ApiRequest) -> StateOwner:
        """The agent in the path."""
        return resolve_owner(self._recall.pseudonyms, request.tenant, request.path_params(OwnerPath).id)

    async def _versions(
        self,
        request: ApiRequest,
        owner: StateOwner,
        type_: str,
        params: VersionsParams,
        encode: Callable[[Document], bytes],
        *,
        api: str,
    ) -> ApiResponse:
        async with self._reading(request, owner.key, params, api) as (rows, fresh):
            page = await documents.get_versions(
                rows, owner.key, type_, encode, limit=params.limit, cursor=given(params.cursor)
            )
        return _list_response("versions", page, fresh=fresh)

    async def _write(self, request: ApiRequest, params: WaitParams, topic: str) -> ApiResponse:
        owner, event_id = self._owner(request), request.path_params(OwnerWritePath).event_id
        async with self._reading(request, owner.key, params, "write") as (rows, fresh):
            answer = await documents.find_answer(rows, owner.key, topic, event_id)
        if answer is None:
            raise HttpError(
                404,
                "not_found",
                "no such write is known: it was not processed yet, or its answer is no longer kept",
                fresh=fresh,
            )
        given = {name: value for name, value in msgspec.structs.asdict(answer).items() if value is not None}
        return json_response(WriteResponse(**given))

    @contextlib.asynccontextmanager
    async def _reading(
        self, request: ApiRequest, agent: AgentKey | None, waiting: WaitParams | Values, api: str
    ) -> AsyncGenerator[tuple[VisibleRows, bool]]:
        """The work of a read that is not cached: rate limits, the write to wait for, budget, metric.

        `agent`: None for all agents of the tenant. Yields the rows, and whether the write is contained in them.
        """
        recall = self._recall
        await self._limits.count_queries(request.principal, () if agent is None else [agent.agent_id])
        with self._timed(api):
            fresh = await recall.reached(*wait_of(waiting))
            async with recall.working(_scope(agent) if agent else Scope(request.tenant), EVERYTHING):
                yield recall.rows, fresh


def _scope(agent: AgentKey) -> Scope:
    return Scope(agent.tenant, (agent.agent_id,))


def _type(request: ApiRequest) -> str:
    """The type in the path. Raises InvalidRequest."""
    type_ = request.path_params(TypePath).type
    check_type(type_)
    return type_


def _policy_version(document: Document) -> bytes:
    manifest = manifest_of(document)
    return _encode(
        PolicyVersion(
            document.version,
            None if manifest is None else manifest.format,
            None if manifest is None else manifest.size,
            None if manifest is None else manifest.sha256,
            document.created_at,
            document.updated_at,
            document.deleted,
        )
    )


def _fresh(*, fresh: bool) -> bytes:
    return b'"fresh":true' if fresh else b'"fresh":false'


def _list_response(name: str, page: Page, *, fresh: bool, brackets: bytes = b"[]") -> ApiResponse:
    """A page as JSON: its entries under `name`, `next_cursor` and `fresh`."""
    entries = brackets[:1] + b",".join(page.entries) + brackets[1:]
    return encoded_json_response(
        b'{"%b":%b,"next_cursor":%b,%b}'
        % (name.encode(), entries, _encode(page.next_cursor), _fresh(fresh=fresh))
    )
