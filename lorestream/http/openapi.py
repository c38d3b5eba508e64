"""The OpenAPI document of a service, made from the types that its operations decode and answer with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from lorestream import __version__
from lorestream.http.errors import ErrorAnswer

if TYPE_CHECKING:
    from lorestream.http.application import Operation

OLDER = "Under older names"
SERVICE = "The service itself"
"""The topics that come last."""

JSON = "application/json"
SCHEME = "key"
_SCHEMAS = "#/components/schemas/{name}"
_RESPONSES = "#/components/responses/"
_HEADERS = "#/components/headers/"
_OK = 300
"""Statuses below it are those of success."""

_ABOUT = (
    "Memory for game agents. JSON both ways; ids in paths are percent-encoded; there are no redirects."
    " Every POST takes PUT as the same. Times are Unix seconds, places are in nodes, numbers may arrive as 3.0, and"
    " null is the same as leaving a field out unless the field says otherwise. An unknown field of a read is refused,"
    " one of an event is ignored. `X-Request-Id`, at most 64 letters, digits, dots, dashes and underscores, names a"
    " request in logs and answers; one is made where none is sent."
)
_PACKED = "As it is, or packed with `Content-Encoding: gzip` or `zstd`; 1 MiB at most when unpacked."

_SUCCESS = {200: "Done", 202: "Accepted: it is durable"}
_ERRORS = {
    400: (
        "BadRequest",
        "It can never succeed as it is. `error.details.path` names the field at fault, if one is.",
    ),
    401: ("Unauthorized", "No key, or none that is valid."),
    403: ("Forbidden", "The key lacks the scope."),
    404: ("NotFound", "There is no such thing."),
    413: ("TooLarge", "The body or what it holds is more than one request may carry."),
    415: ("UnknownEncoding", "A `Content-Encoding` other than identity, gzip and zstd."),
    429: ("TooManyRequests", "Nothing of it was done: the caller is over its rate, or a queue is full."),
    503: (
        "Unavailable",
        "A part that this needs is away. The same request, with the same ids, may succeed later.",
    ),
}
_LATER = frozenset({429, 503})
_CHALLENGED = 401
_KEYS = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Example:
    """One call as it is shown: the parameters of the path and of the query, the body, and what it answers."""

    answer: Any
    body: Any = None
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """A GET without parameters that is open to everybody. `answer` is a type where it is JSON.

    `statuses`: what each means.
    """

    path: str
    summary: str
    media: str = JSON
    answer: Any = None
    statuses: Mapping[int, str] = field(default_factory=lambda: {200: "Done"})


def document(
    service: str,
    operations: Sequence[Operation],
    pages: Sequence[Page] = (),
    *,
    needs_keys: bool = False,
    other: str | None = None,
) -> bytes:
    """OpenAPI 3.1 as JSON; with keys, it names the scheme and the scope that each operation needs.

    Operations that are hidden are left out. `other`: the service of the same deployment that does the rest.
    """
    shown = [op for op in operations if not op.hidden]
    schemas = _Schemas(
        [ErrorAnswer, *(op.body for op in shown), *(op.answer for op in shown), *_answers(pages)]
    )
    paths: dict[str, dict[str, Any]] = {}
    for op in shown:
        for method in op.methods:
            described = _operation(op, method, schemas, needs_keys=needs_keys)
            paths.setdefault(op.path, {})[method.lower()] = described
    for page in pages:
        paths[page.path] = {"get": _page(page, schemas, needs_keys=needs_keys)}
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Lorestream" if service == "lorestream" else f"Lorestream {service}",
                "version": __version__,
                "description": _ABOUT if other is None else f"{_ABOUT} The rest is answered by {other}.",
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "tags": [{"name": topic} for topic in _topics(shown)],
            "paths": paths,
            "components": _components(schemas, needs_keys=needs_keys),
        },
        option=orjson.OPT_NON_STR_KEYS,
    )


class _Schemas:
    """The JSON Schemas of some types, and what they refer to."""

    def __init__(self, kinds: Iterable[Any]) -> None:
        chosen = [kind for kind in kinds if kind is not None]
        schemas, self.components = msgspec.json.schema_components(chosen, ref_template=_SCHEMAS)
        self._by_kind = {id(kind): schema for kind, schema in zip(chosen, schemas, strict=True)}

    def of(self, kind: object) -> dict[str, Any]:
        return self._by_kind[id(kind)]


def _topics(operations: Sequence[Operation]) -> list[str]:
    """In the order in which they are best read."""
    topics = dict.fromkeys([*(op.topic for op in operations), SERVICE])
    return sorted(topics, key=lambda topic: topic in {OLDER, SERVICE})


def _answers(pages: Sequence[Page]) -> list[Any]:
    return [page.answer for page in pages]


def _components(schemas: _Schemas, *, needs_keys: bool) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "schemas": schemas.components,
        "responses": {
            name: {
                "description": description,
                "headers": _headers(status),
                "content": {JSON: {"schema": schemas.of(ErrorAnswer)}},
            }
            for status, (name, description) in _ERRORS.items()
            if needs_keys or status not in _KEYS
        },
        "headers": {
            "X-Request-Id": {
                "description": "By which the logs speak of this request: the caller's own, or a new one.",
                "schema": {"type": "string"},
            },
            "Retry-After": {
                "description": "Seconds, `retry_after_ms` rounded up.",
                "schema": {"type": "integer", "minimum": 1},
            },
        },
    }
    if needs_keys:
        parts["securitySchemes"] = {
            SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "ID.SECRET"},
        }
        parts["headers"]["WWW-Authenticate"] = {"schema": {"const": "Bearer"}}
    return parts


def _headers(status: int) -> dict[str, Any]:
    names = ["X-Request-Id"]
    if status in _LATER:
        names.append("Retry-After")
    if status == _CHALLENGED:
        names.append("WWW-Authenticate")
    return {name: {"$ref": _HEADERS + name} for name in names}


def _operation(op: Operation, method: str, schemas: _Schemas, *, needs_keys: bool) -> dict[str, Any]:
    example = op.example or Example(None)
    described: dict[str, Any] = {
        "operationId": _operation_id(method, op.path),
        "summary": op.summary,
        "tags": [op.topic],
        "parameters": [
            *_parameters("path", op.place, example.path),
            *_parameters("query", op.params, example.query),
        ],
    }
    if op.details:
        described["description"] = op.details
    if op.body is not None:
        described["requestBody"] = {
            "required": True,
            "description": _PACKED,
            "content": {JSON: _media(schemas.of(op.body), example.body)},
        }
    described["responses"] = _responses(op, schemas, needs_keys=needs_keys)
    if needs_keys:
        described["security"] = [{SCHEME: [op.needs]}]
    return described


def _operation_id(method: str, path: str) -> str:
    return "_".join(re.findall(r"[a-z0-9]+", f"{method} {path}".lower()))


def _media(schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _responses(op: Operation, schemas: _Schemas, *, needs_keys: bool) -> dict[str, Any]:
    meanings: dict[int, str] = {op.status: _SUCCESS[op.status], 400: "", 401: "", 403: "", 429: "", 503: ""}
    if op.body is not None:
        meanings |= {413: "", 415: ""}
    meanings |= op.also
    if not needs_keys:
        meanings = {status: meaning for status, meaning in meanings.items() if status not in _KEYS}
    example = None if op.example is None else op.example.answer
    found: dict[str, Any] = {}
    for status, meaning in sorted(meanings.items()):
        if status >= _OK:
            found[str(status)] = {"$ref": _RESPONSES + _ERRORS[status][0]}
            if meaning:
                found[str(status)]["description"] = meaning
        else:
            found[str(status)] = {
                "description": meaning,
                "headers": _headers(status),
                "content": {JSON: _media(schemas.of(op.answer), example if status == op.status else None)},
            }
    return found


def _parameters(where: str, kind: Any, example: Mapping[str, Any]) -> list[dict[str, Any]]:  # noqa: ANN401 (a type)
    """The fields of a struct as parameters."""
    if kind is None:
        return []
    schema = msgspec.json.schema(kind)
    schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return [
        _parameter(where, name, one, required=name in schema["required"], example=example.get(name))
        for name, one in schema["properties"].items()
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
    schema = {"type": "string"} if page.media != JSON else {"type": "object"}
    content = {page.media: {"schema": schema if page.answer is None else schemas.of(page.answer)}}
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
