"""The OpenAPI document of a service, made from the types that its operations decode and answer with."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from engram import __version__

if TYPE_CHECKING:
    from engram.http.operations import Operation

_REF = "#/components/schemas/{name}"
_SCHEME = "key"


class ErrorBody(msgspec.Struct):
    """What went wrong. `details.path` names the field at fault."""

    code: str
    message: str
    details: dict[str, Any]
    request_id: str
    retry_after_ms: int | None = None


class ErrorAnswer(msgspec.Struct):
    """The answer to every call that failed."""

    error: ErrorBody
    retry_after_ms: int | None = None


def document(service: str, operations: Sequence[Operation], *, needs_keys: bool = False) -> bytes:
    """OpenAPI 3.1 as JSON; with keys, it names the scheme and the scope that each operation needs."""
    types = [kind for op in operations for kind in (op.body, op.answer, op.params) if kind is not None]
    schemas, components = msgspec.json.schema_components([*types, ErrorAnswer], ref_template=_REF)
    by_type = {id(kind): schema for kind, schema in zip([*types, ErrorAnswer], schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for op in operations:
        for method in op.methods:
            described = _operation(op, method, by_type, components)
            if needs_keys:
                described["security"] = [{_SCHEME: [op.needs]}]
            paths.setdefault(op.path, {})[method.lower()] = described
    parts: dict[str, Any] = {"schemas": components}
    if needs_keys:
        parts["securitySchemes"] = {
            _SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "ID.SECRET"}
        }
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": f"Engram {service}", "version": __version__},
            "paths": paths,
            "components": parts,
        }
    )


def _operation(
    op: Operation, method: str, by_type: dict[int, dict[str, Any]], components: dict[str, Any]
) -> dict[str, Any]:
    words = re.findall(r"[a-z]+", f"{method} {op.path}".lower())
    errors = {"description": "An error", "content": _json(by_type[id(ErrorAnswer)])}
    described: dict[str, Any] = {
        "operationId": "_".join(words),
        "summary": op.summary,
        "parameters": _path_parameters(op.path),
        "responses": {
            str(op.status): {"description": "Success", "content": _json(by_type[id(op.answer)])},
            "4XX": errors,
            "5XX": errors,
        },
    }
    if op.body is not None:
        described["requestBody"] = {"required": True, "content": _json(by_type[id(op.body)])}
    if op.params is not None:
        described["parameters"] += _query_parameters(by_type[id(op.params)], components)
    return described


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(schema: dict[str, Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    schema = components[schema["$ref"].rpartition("/")[2]]
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": described}
        for name, described in schema["properties"].items()
    ]


def render(description: bytes) -> str:
    """The document as a page that needs nothing from anywhere else."""
    api = orjson.loads(description)
    rows = [
        f"<section><h2><b>{method.upper()}</b> <code>{html.escape(path)}</code></h2>"
        f"<p>{html.escape(op['summary'])}{_needs(op)}</p>{_details(op)}</section>"
        for path, methods in api["paths"].items()
        for method, op in methods.items()
        if method != "put"
    ]
    types = [
        f"<details id='{html.escape(name)}'><summary><code>{html.escape(name)}</code></summary>{_pre(schema)}</details>"
        for name, schema in api["components"]["schemas"].items()
    ]
    title = html.escape(api["info"]["title"])
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f"<main><h1>{title}</h1><p>Version {html.escape(api['info']['version'])} ·"
        " <a href=/openapi.json>openapi.json</a> · every POST takes PUT as the same</p>"
        f"{''.join(rows)}<h1>Types</h1>{''.join(types)}</main></html>"
    )


def _needs(op: dict[str, Any]) -> str:
    scopes = [scope for scheme in op.get("security", ()) for scope in scheme[_SCHEME]]
    return "".join(f" · key with the scope <code>{html.escape(scope)}</code>" for scope in scopes)


def _details(op: dict[str, Any]) -> str:
    parts = [("Parameters", op["parameters"])] if op["parameters"] else []
    if body := op.get("requestBody"):
        parts.append(("Body", body["content"]["application/json"]["schema"]))
    status, answer = next(iter(op["responses"].items()))
    parts.append((f"Answer {status}", answer["content"]["application/json"]["schema"]))
    return "".join(f"<details><summary>{name}</summary>{_pre(value)}</details>" for name, value in parts)


def _pre(value: object) -> str:
    return f"<pre>{html.escape(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())}</pre>"


STYLE = (
    ":root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}main{max-width:56rem;margin:2rem auto;"
    "padding:0 1rem}h2{font-size:1rem;margin:1.5rem 0 0}pre{overflow:auto;padding:.75rem;border:1px solid #8886;"
    "border-radius:6px}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .75rem .35rem 0;"
    "border-bottom:1px solid #8884;vertical-align:top}code,pre{font-family:ui-monospace,monospace;font-size:.875rem}"
    "a{color:inherit}summary{cursor:pointer}.ok{color:#2a9d4a}.bad{color:#d33}"
)
"""The look of every page that Engram serves."""
