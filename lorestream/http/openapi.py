"""The OpenAPI 3.1 document of a service, generated from its operations and their msgspec types."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
import orjson

from lorestream import __version__
from lorestream.http.errors import ErrorResponse
from lorestream.http.operation import (
    BYTES,
    EVENTS,
    JSON,
    OLDER_NAMES,
    SERVICE,
    BinaryBody,
    EventStream,
    Example,
    Operation,
    Page,
)
from lorestream.http.request import MAX_BODY_BYTES

SECURITY_SCHEME = "key"
_SCHEMAS = "#/components/schemas/{name}"
_RESPONSES = "#/components/responses/"
_HEADERS = "#/components/headers/"
_FIRST_ERROR_STATUS = 300
"""Statuses below this one are documented as success; the others as errors."""

_DESCRIPTION = (
    "Memory for game agents. JSON both ways; ids in paths are percent-encoded; there are no redirects."
    " PUT is the same as POST on every POST route. Times are Unix seconds, positions are in nodes, integers may be"
    " sent as 3.0, and null is the same as leaving a field out unless the field says otherwise. An unknown field of"
    " a read is refused, one of an event is ignored. `X-Request-Id`, at most 64 letters, digits, dots, dashes and"
    " underscores, identifies a request in logs and responses; without one, the server generates it."
)
_BODY_DESCRIPTION = (
    "Plain, or compressed with `Content-Encoding: gzip` or `zstd`; at most {} MiB after decompression."
)

_BINARY = {BYTES: {"schema": {"type": "string", "format": "binary"}}}

_SUCCESS = {200: "Done", 201: "Made: it is durable", 202: "Accepted: it is durable"}
_ERRORS = {
    400: (
        "BadRequest",
        "The request can never succeed as it is. `error.details.path` names the invalid field, if there is one.",
    ),
    401: ("Unauthorized", "No API key, or not a valid one."),
    403: ("Forbidden", "The key lacks the scope."),
    404: ("NotFound", "What the request names does not exist."),
    409: ("Conflict", "The write was refused in the present state. It changed nothing."),
    410: ("Gone", "What the request names is no longer kept."),
    413: ("TooLarge", "The body, or what it contains, is larger than one request may be."),
    415: ("UnknownEncoding", "A `Content-Encoding` other than identity, gzip and zstd."),
    429: ("TooManyRequests", "Nothing was done: the caller is over its rate limit, or a queue is full."),
    503: (
        "Unavailable",
        "A part that this needs is unavailable. The same request, with the same ids, may succeed later.",
    ),
}
_WITH_RETRY_AFTER = frozenset({429, 503})
_UNAUTHORIZED = 401
_ONLY_WITH_KEYS = frozenset({401, 403})


def openapi_document(
    service: str,
    operations: Sequence[Operation],
    pages: Sequence[Page] = (),
    *,
    needs_keys: bool = False,
    peer: str | None = None,
) -> bytes:
    """The document as JSON. With keys it has the security scheme, and the scope that each operation needs.

    Hidden operations are left out. `peer`: the service of the same deployment that has the other operations.
    """
    shown = [op for op in operations if not op.hidden]
    kinds = [
        ErrorResponse,
        *(op.body for op in shown if not isinstance(op.body, BinaryBody)),
        *(_type_of(op.response) for op in shown if not isinstance(op.response, BinaryBody)),
        *(page.response for page in pages),
    ]
    schemas = _Schemas(kinds)
    paths: dict[str, dict[str, Any]] = {}
    for op in shown:
        for method in op.methods:
            paths.setdefault(op.path, {})[method.lower()] = _operation(
                op, method, schemas, needs_keys=needs_keys
            )
    for page in pages:
        paths[page.path] = {"get": _page(page, schemas, needs_keys=needs_keys)}
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Lorestream" if service == "lorestream" else f"Lorestream {service}",
                "version": __version__,
                "description": _DESCRIPTION
                if peer is None
                else f"{_DESCRIPTION} The other routes are answered by {peer}.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "tags": [{"name": tag} for tag in _tags(shown)],
            "paths": paths,
            "components": _components(schemas, needs_keys=needs_keys),
        },
        option=orjson.OPT_NON_STR_KEYS,
    )


class _Schemas:
    """The JSON Schemas of some types (None is skipped), and of the types that they refer to."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        chosen = [kind for kind in kinds if kind is not None]
        schemas, self.components = msgspec.json.schema_components(chosen, ref_template=_SCHEMAS)
        self._by_kind = {id(kind): schema for kind, schema in zip(chosen, schemas, strict=True)}

    def of(self, kind: object) -> dict[str, Any]:
        return self._by_kind[id(kind)]


def _tags(operations: Sequence[Operation]) -> list[str]:
    """The tags in the order of the operations; the two that `operation` defines come last."""
    tags = dict.fromkeys([*(op.tag for op in operations), SERVICE])
    return sorted(tags, key=lambda tag: tag in {OLDER_NAMES, SERVICE})


def _components(schemas: _Schemas, *, needs_keys: bool) -> dict[str, Any]:
    components: dict[str, Any] = {
        "schemas": schemas.components,
        "responses": {
            name: {
                "description": description,
                "headers": _headers(status),
                "content": {JSON: {"schema": schemas.of(ErrorResponse)}},
            }
            for status, (name, description) in _ERRORS.items()
            if needs_keys or status not in _ONLY_WITH_KEYS
        },
        "headers": {
            "X-Request-Id": {
                "description": "Identifies this request in the logs: the caller's own id, or a new one.",
                "schema": {"type": "string"},
            },
            "Retry-After": {
                "description": "Seconds, `retry_after_ms` rounded up.",
                "schema": {"type": "integer", "minimum": 1},
            },
        },
    }
    if needs_keys:
        components["securitySchemes"] = {
            SECURITY_SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "ID.SECRET"},
        }
        components["headers"]["WWW-Authenticate"] = {"schema": {"const": "Bearer"}}
    return components


def _headers(status: int) -> dict[str, Any]:
    names = ["X-Request-Id"]
    if status in _WITH_RETRY_AFTER:
        names.append("Retry-After")
    if status == _UNAUTHORIZED:
        names.append("WWW-Authenticate")
    return {name: {"$ref": _HEADERS + name} for name in names}


def _operation(op: Operation, method: str, schemas: _Schemas, *, needs_keys: bool) -> dict[str, Any]:
    example = op.example or Example(None)
    described: dict[str, Any] = {
        "operationId": _operation_id(method, op.path),
        "summary": op.summary,
        "tags": [op.tag],
        "parameters": [
            *_parameters("path", op.path_params, example.path),
            *_parameters("query", op.query_params, example.query),
        ],
    }
    if op.description:
        described["description"] = op.description
    if op.body is not None:
        described["requestBody"] = _request_body(op.body, schemas, example)
    described["responses"] = _responses(op, schemas, needs_keys=needs_keys)
    if needs_keys:
        described["security"] = [{SECURITY_SCHEME: [scope]} for scope in op.scopes]
    return described


def _request_body(body: object, schemas: _Schemas, example: Example) -> dict[str, Any]:
    if isinstance(body, BinaryBody):
        content, max_bytes = _BINARY, body.max_bytes
    else:
        content, max_bytes = {JSON: _content(schemas.of(body), example.body)}, MAX_BODY_BYTES
    return {
        "required": True,
        "description": _BODY_DESCRIPTION.format(max_bytes // 2**20),
        "content": content,
    }


def _operation_id(method: str, path: str) -> str:
    return "_".join(re.findall(r"[a-z0-9]+", f"{method} {path}".lower()))


def _content(schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _responses(op: Operation, schemas: _Schemas, *, needs_keys: bool) -> dict[str, Any]:
    meanings: dict[int, str] = {op.status: _SUCCESS[op.status], 400: "", 401: "", 403: "", 429: "", 503: ""}
    if op.body is not None:
        meanings |= {413: "", 415: ""}
    meanings |= op.other_statuses
    if not needs_keys:
        meanings = {status: meaning for status, meaning in meanings.items() if status not in _ONLY_WITH_KEYS}
    example = None if op.example is None else op.example.response
    responses: dict[str, Any] = {}
    for status, meaning in sorted(meanings.items()):
        if status == HTTPStatus.NOT_MODIFIED:
            responses[str(status)] = {"description": meaning, "headers": _headers(status)}
        elif status >= _FIRST_ERROR_STATUS:
            responses[str(status)] = {"$ref": _RESPONSES + _ERRORS[status][0]}
            if meaning:
                responses[str(status)]["description"] = meaning
        else:
            responses[str(status)] = {
                "description": meaning,
                "headers": _headers(status),
                "content": _response_content(op, schemas, example if status == op.status else None),
            }
    return responses


def _response_content(op: Operation, schemas: _Schemas, example: object) -> dict[str, Any]:
    if isinstance(op.response, BinaryBody):
        return _BINARY
    if isinstance(op.response, EventStream):
        data = schemas.of(op.response.data)
        return {
            EVENTS: _content({"type": "string", "contentMediaType": JSON, "contentSchema": data}, example)
        }
    return {JSON: _content(schemas.of(op.response), example)}


def _type_of(response: object) -> object:
    return response.data if isinstance(response, EventStream) else response


def _parameters(where: str, kind: Any, examples: Mapping[str, Any]) -> list[dict[str, Any]]:  # noqa: ANN401 (a type)
    """The fields of a struct as OpenAPI parameters in `where` ("path" or "query")."""
    if kind is None:
        return []
    schema = msgspec.json.schema(kind)
    schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return [
        _parameter(where, name, field, required=name in schema["required"], example=examples.get(name))
        for name, field in schema["properties"].items()
    ]


def _parameter(
    where: str, name: str, schema: dict[str, Any], *, required: bool, example: object
) -> dict[str, Any]:
    schema = dict(schema)
    described: dict[str, Any] = {"name": name, "in": where, "required": required}
    if description := schema.pop("description", None):
        described["description"] = description
    described["schema"] = schema
    return described if example is None else {**described, "example": example}


def _page(page: Page, schemas: _Schemas, *, needs_keys: bool) -> dict[str, Any]:
    schema = {"type": "string"} if page.media_type != JSON else {"type": "object"}
    content = {page.media_type: {"schema": schema if page.response is None else schemas.of(page.response)}}
    described: dict[str, Any] = {
        "operationId": _operation_id("get", page.path),
        "summary": page.summary,
        "tags": [SERVICE],
        "parameters": [],
        "responses": {
            str(status): {"description": meaning, "content": content}
            for status, meaning in page.statuses.items()
        },
    }
    if needs_keys:
        described["security"] = []
    return described
