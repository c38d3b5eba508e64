"""The HTTP routes that write documents, Q-tables and policies."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec

from lorestream.access.key_file import KeyScope
from lorestream.access.rate_limits import RateLimits
from lorestream.errors import InvalidRequest
from lorestream.http.operation import BinaryBody, Operation
from lorestream.http.request import ApiRequest, ApiResponse, json_response
from lorestream.state.documents import check_type
from lorestream.state.policies import MAX_BYTES, policy_type
from producers.intake import traceparent
from producers.schemas import MAX_WAIT_MS
from producers.state import examples
from producers.state.bodies import json_body
from producers.state.policies import PolicyUploads
from producers.state.schemas import (
    AppliedParams,
    DeleteBody,
    DeleteParams,
    DocumentBody,
    DocumentPath,
    PatchBody,
    PolicyDeleteParams,
    PolicyParams,
    PolicyUploadParams,
    QUpdateBody,
    RollbackBody,
    StatePath,
    StateReceipt,
    WriteFields,
)
from producers.state.writer import Action, Owner, StateWriter, Written, checked_data

_STATUSES = {
    200: "With `wait=applied`: it is applied, and `version` is the new one",
    409: "With `wait=applied`: `version_conflict`, with the present version in `details.current`; nothing was changed",
}
_ROLLBACK_STATUSES = _STATUSES | {
    404: "With `wait=applied`: there was never such a version, or no document",
    410: "With `wait=applied`: `version_gone`, the version is no longer kept",
}
_DOCUMENTS = "A write with the same `event_id` again changes nothing, and gets the first one's answer."


def operations(writer: StateWriter, limits: RateLimits) -> list[Operation]:
    """The routes that write state."""
    routes = _Routes(writer, limits)
    write = partial(
        Operation,
        scope=KeyScope.INGEST,
        response=StateReceipt,
        status=202,
        other_statuses=_STATUSES,
        query_params=AppliedParams,
        tag="State: writes",
        description=_DOCUMENTS,
    )
    document = partial(write, path_params=DocumentPath)
    delete = partial(write, scope=KeyScope.ERASE)
    policy = partial(write, path_params=StatePath, query_params=PolicyParams)
    return [
        document(
            "POST",
            "/v1/entities/{type}/{id}",
            routes.put,
            "Create or replace a document",
            body=DocumentBody,
            example=examples.PUT,
        ),
        document(
            "PATCH",
            "/v1/entities/{type}/{id}",
            routes.patch,
            "Change some fields of a document",
            body=PatchBody,
            example=examples.PATCH,
        ),
        document(
            "POST",
            "/v1/entities/{type}/{id}/patch",
            routes.patch,
            "Change some fields of a document by POST",
            body=PatchBody,
            example=examples.PATCH,
        ),
        document(
            "POST",
            "/v1/entities/{type}/{id}/rollback",
            routes.roll_back,
            "Return a document to an earlier version",
            body=RollbackBody,
            other_statuses=_ROLLBACK_STATUSES,
            example=examples.ROLLBACK,
        ),
        delete(
            "DELETE",
            "/v1/entities/{type}/{id}",
            routes.delete,
            "Delete a document",
            path_params=DocumentPath,
            query_params=DeleteParams,
            example=examples.DELETE,
        ),
        delete(
            "POST",
            "/v1/entities/{type}/{id}/delete",
            routes.delete_by_post,
            "Delete a document by POST",
            path_params=DocumentPath,
            body=DeleteBody,
            example=examples.DELETE_BY_POST,
        ),
        write(
            "POST",
            "/v1/q/{id}/update",
            routes.update_q,
            "Update a Q-table",
            path_params=StatePath,
            body=QUpdateBody,
            other_statuses=_STATUSES
            | {409: "With `wait=applied`: the table would grow beyond its limits; nothing was changed"},
            example=examples.Q_UPDATE,
        ),
        policy(
            "POST",
            "/v1/policies/{id}",
            routes.put_policy,
            "Store a new version of a policy",
            query_params=PolicyUploadParams,
            body=BinaryBody(MAX_BYTES),
            description=f"{_DOCUMENTS} A version is there as a whole or not at all. Its bytes are never unpickled. An"
            " upload counts as one event for each 256 KiB of its Content-Length, without one as the largest.",
            example=examples.PUT_POLICY,
        ),
        policy(
            "POST",
            "/v1/policies/{id}/rollback",
            routes.roll_back_policy,
            "Return a policy to an earlier version",
            body=RollbackBody,
            other_statuses=_ROLLBACK_STATUSES,
            example=examples.ROLLBACK_POLICY,
        ),
        policy(
            "DELETE",
            "/v1/policies/{id}",
            routes.delete_policy,
            "Delete a policy",
            scope=KeyScope.ERASE,
            query_params=PolicyDeleteParams,
            example=examples.DELETE_POLICY,
        ),
        policy(
            "POST",
            "/v1/policies/{id}/delete",
            routes.delete_policy_by_post,
            "Delete a policy by POST",
            scope=KeyScope.ERASE,
            body=DeleteBody,
            example=examples.DELETE_POLICY_BY_POST,
        ),
    ]


class _Routes:
    def __init__(self, writer: StateWriter, limits: RateLimits) -> None:
        self._writer = writer
        self._limits = limits
        self._uploads = PolicyUploads(writer, limits)

    # --- documents ---

    async def put(self, request: ApiRequest) -> ApiResponse:
        return await self._write_data(request, "put", DocumentBody)

    async def patch(self, request: ApiRequest) -> ApiResponse:
        return await self._write_data(request, "patch", PatchBody)

    async def roll_back(self, request: ApiRequest) -> ApiResponse:
        document = self._document(request)
        params, body = request.query_params(AppliedParams), await json_body(request, RollbackBody)
        return await self._write(request, document, "rollback", params, body, to=body.to)

    async def delete(self, request: ApiRequest) -> ApiResponse:
        document = self._document(request)
        params = request.query_params(DeleteParams)
        return await self._write(request, document, "delete", params, await _fields(request, params))

    async def delete_by_post(self, request: ApiRequest) -> ApiResponse:
        document = self._document(request)
        params = request.query_params(AppliedParams)
        body = await json_body(request, DeleteBody, may_be_empty=True)
        return await self._write(request, document, "delete", params, body)

    # --- Q-tables ---

    async def update_q(self, request: ApiRequest) -> ApiResponse:
        owner, params = self._owner(request), request.query_params(AppliedParams)
        body = await json_body(request, QUpdateBody)
        await self._writer.intake.check_rate(self._limits, request.principal, 1)
        written = await self._writer.update_q(owner, body, traceparent(request.headers))
        return await self._respond(written, params)

    # --- policies ---

    async def put_policy(self, request: ApiRequest) -> ApiResponse:
        owner, params = self._owner(request), request.query_params(PolicyUploadParams)
        manifest = await self._uploads.store(request, owner, params.name, params.format)
        # The rate limit has counted the upload with its parts.
        written = await self._writer.write_document(
            owner,
            policy_type(params.name),
            "put",
            WriteFields(params.tick, params.if_version, params.event_id),
            data=msgspec.to_builtins(manifest),
            traceparent=traceparent(request.headers),
        )
        return await self._respond(written, params)

    async def roll_back_policy(self, request: ApiRequest) -> ApiResponse:
        owner, params = self._owner(request), request.query_params(PolicyParams)
        body = await json_body(request, RollbackBody)
        return await self._write(
            request, (owner, policy_type(params.name)), "rollback", params, body, to=body.to
        )

    async def delete_policy(self, request: ApiRequest) -> ApiResponse:
        owner, params = self._owner(request), request.query_params(PolicyDeleteParams)
        fields = await _fields(request, params)
        return await self._write(request, (owner, policy_type(params.name)), "delete", params, fields)

    async def delete_policy_by_post(self, request: ApiRequest) -> ApiResponse:
        owner, params = self._owner(request), request.query_params(PolicyParams)
        body = await json_body(request, DeleteBody, may_be_empty=True)
        return await self._write(request, (owner, policy_type(params.name)), "delete", params, body)

    # --- all of them ---

    def _document(self, request: ApiRequest) -> tuple[Owner, str]:
        """The owner and the type of the document that the path names."""
        path = request.path_params(DocumentPath)
        check_type(path.type)
        return self._writer.owner(request.tenant, path.id), path.type

    def _owner(self, request: ApiRequest) -> Owner:
        return self._writer.owner(request.tenant, request.path_params(StatePath).id)

    async def _write_data(
        self, request: ApiRequest, action: Literal["put", "patch"], kind: type[DocumentBody | PatchBody]
    ) -> ApiResponse:
        document = self._document(request)
        params, body = request.query_params(AppliedParams), await json_body(request, kind)
        data = await checked_data(document[1], body.data)
        return await self._write(request, document, action, params, body, data=data)

    async def _write(
        self,
        request: ApiRequest,
        document: tuple[Owner, str],
        action: Action,
        params: AppliedParams,
        fields: WriteFields,
        *,
        data: dict[str, Any] | None = None,
        to: float | None = None,
    ) -> ApiResponse:
        await self._writer.intake.check_rate(self._limits, request.principal, 1)
        written = await self._writer.write_document(
            *document, action, fields, data=data, to=to, traceparent=traceparent(request.headers)
        )
        return await self._respond(written, params)

    async def _respond(self, written: Written, params: AppliedParams) -> ApiResponse:
        waits = params.wait is not msgspec.UNSET
        receipt = await self._writer.receipt(
            written, min(params.timeout_ms, MAX_WAIT_MS) / 1000 if waits else None
        )
        return json_response(receipt, 200 if receipt.applied is True else 202)


async def _fields(request: ApiRequest, params: DeleteParams) -> WriteFields:
    """The fields of a DELETE. Raises InvalidRequest for a body, whose `if_version` would have no effect."""
    if await request.body():
        raise InvalidRequest(
            "a DELETE has no body: send if_version, event_id and tick as parameters, or use POST"
        )
    return WriteFields(params.tick, params.if_version, params.event_id)
