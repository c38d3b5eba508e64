"""The page at /docs: the OpenAPI document for people, rendered once, at the first request, by templates/docs.html."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from lorestream.http.openapi import SECURITY_SCHEME
from lorestream.http.operation import JSON
from lorestream.http.templating import html_response, prose, render

_URL_VARIABLE = "$LORESTREAM_URL"
_DEFAULT_ORIGIN = "http://127.0.0.1:8080"
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,255}")
_ORIGIN_PLACEHOLDER = "\N{REPLACEMENT CHARACTER}origin\N{REPLACEMENT CHARACTER}"

_METHODS = ("get", "post", "patch", "delete")
"""PUT is left out: it is the same as POST."""


class DocsPage:
    """The page of one OpenAPI document (as JSON)."""

    def __init__(self, document: bytes) -> None:
        self._document = document

    async def respond(self, request: Request) -> Response:
        """The response to a request for the page."""
        origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
        # In a thread, because the first call renders the page, which takes a tenth of a second.
        return html_response(await asyncio.to_thread(self.html, origin))

    def html(self, origin: str) -> str:
        """The page, with the address of the service as its reader sees it, such as http://127.0.0.1:8080.

        An origin with other characters than those of an address is replaced by the default address.
        """
        return self._page.replace(
            _ORIGIN_PLACEHOLDER, origin if _ORIGIN.fullmatch(origin) else _DEFAULT_ORIGIN
        )

    @cached_property
    def _page(self) -> str:
        return render("docs.html", origin=_ORIGIN_PLACEHOLDER, **_values(orjson.loads(self._document)))


def _values(api: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the template."""
    by_tag: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in api["tags"]}
    for path, methods in api["paths"].items():
        for method in _METHODS:
            if op := methods.get(method):
                by_tag[op["tags"][0]].append(_operation(path, method, op))
    return {
        "title": api["info"]["title"],
        "version": api["info"]["version"],
        "description": api["info"]["description"],
        "needs_keys": SECURITY_SCHEME in api["components"].get("securitySchemes", {}),
        "tags": [{"name": name, "operations": operations} for name, operations in by_tag.items()],
        "errors": _errors(api),
        "types": [
            {"name": name, "description": schema.get("description", ""), "fields": _fields(schema)}
            for name, schema in api["components"]["schemas"].items()
        ],
    }


def _operation(path: str, method: str, op: Mapping[str, Any]) -> dict[str, Any]:
    body = op.get("requestBody")
    return {
        "id": op["operationId"],
        "method": method,
        "path": path,
        "summary": op["summary"],
        "description": op.get("description"),
        "scopes": [scope for scheme in op.get("security", ()) for scope in scheme[SECURITY_SCHEME]],
        "parameters": [_parameter(parameter) for parameter in op["parameters"]],
        "body": body and _body(body),
        "curl": _curl(path, method, op),
        "responses": [
            _response(status, response)
            for status, response in op["responses"].items()
            if "$ref" not in response
        ],
        "errors": [
            {"status": status, "description": response.get("description")}
            for status, response in op["responses"].items()
            if "$ref" in response
        ],
    }


def _body(body: Mapping[str, Any]) -> dict[str, Any]:
    [(media_type, content)] = body["content"].items()
    return {
        "type": _type(content["schema"]) if media_type == JSON else media_type,
        "description": body["description"],
    }


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": parameter["name"],
        "type": Markup("{}, in the {}").format(_type(parameter["schema"]), parameter["in"]),
        "notes": _notes(parameter, parameter["schema"], required=parameter["required"]),
    }


def _response(status: str, response: Mapping[str, Any]) -> dict[str, Any]:
    if "content" not in response:
        return {"status": status, "description": response["description"], "type": "no body", "example": None}
    [(media_type, content)] = response["content"].items()
    return {
        "status": status,
        "description": response["description"],
        "type": _type(content["schema"]) if media_type == JSON else media_type,
        "example": _shown(content["example"]) if "example" in content else None,
    }


def _shown(example: object) -> str:
    return example if isinstance(example, str) else json.dumps(example, indent=2, ensure_ascii=False)


def _curl(path: str, method: str, op: Mapping[str, Any]) -> str:
    """The example as a shell command."""
    query: dict[str, Any] = {}
    for parameter in op["parameters"]:
        if parameter["in"] == "path":
            example = quote(str(parameter.get("example", "ID")), safe="")
            path = path.replace(f"{{{parameter['name']}}}", example)
        elif "example" in parameter:
            query[parameter["name"]] = parameter["example"]
    words = ["curl -s"]
    if method not in {"get", "post"}:
        words.append(f"-X {method.upper()}")
    if op.get("security"):
        words.append('-H "Authorization: Bearer $LORESTREAM_API_KEY"')
    words.append(f'"{_URL_VARIABLE}{path}{"?" + urlencode(query) if query else ""}"')
    if body := op.get("requestBody"):
        if JSON in body["content"]:
            example = json.dumps(body["content"][JSON].get("example", {}), ensure_ascii=False)
            words.append(f"-d {shlex.quote(example)}")
        else:
            words.append("--data-binary @FILE")
    return " ".join(words)


def _errors(api: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The statuses of all errors, each with its general meaning."""
    found: dict[str, str] = {}
    for methods in api["paths"].values():
        for op in methods.values():
            for status, response in op["responses"].items():
                if "$ref" in response:
                    name = response["$ref"].rpartition("/")[2]
                    found[status] = api["components"]["responses"][name]["description"]
    return sorted(found.items())


def _fields(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    return [
        {"name": name, "type": _type(field), "notes": _notes(field, field, required=name in required)}
        for name, field in schema.get("properties", {}).items()
    ]


def _notes(described: Mapping[str, Any], schema: Mapping[str, Any], *, required: bool) -> Markup:
    """Whether a field or parameter is required, its default, its descriptions."""
    notes = [Markup("required")] if required else []
    if schema.get("default") is not None:
        notes.append(Markup("default {}").format(_json_code(schema["default"])))
    parts = [described, *described.get("anyOf", ())]
    notes += [prose(part["description"]) for part in parts if "description" in part]
    return Markup("; ").join(notes)


def _type(schema: Mapping[str, Any]) -> Markup:  # noqa: PLR0911 (one for each form)
    """A schema in words, with links to the types that it refers to."""
    if "$ref" in schema:
        return Markup('<a href="#{0}">{0}</a>').format(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return Markup(" or ").join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return Markup(" or ").join(_json_code(value) for value in schema["enum"])
    match schema.get("type"):
        case "string":
            return Markup("string") + _range(schema, "minLength", "maxLength", " characters")
        case "number" | "integer" as kind:
            integer = kind == "integer" or schema.get("multipleOf") == 1
            name = Markup("integer") if integer else Markup("number")
            return name + _range(schema, "minimum", "maximum")
        case "array" if schema.get("maxItems") == 0:
            return Markup("empty list")
        case "array":
            items = _type(schema["items"]) if schema.get("items") else Markup("any value")
            return Markup("list of ") + items + _range(schema, "minItems", "maxItems")
        case "object" if isinstance(inner := schema.get("additionalProperties"), dict) and inner:
            return Markup("object of ") + _type(inner)
        case str() as kind:
            return Markup("{}").format(kind)
        case _:
            return Markup("any value")


def _range(schema: Mapping[str, Any], minimum: str, maximum: str, unit: str = "") -> str:
    low, high = schema.get(minimum), schema.get(maximum)
    if low is not None and high is not None:
        return f", {low:,} to {high:,}{unit}"
    if high is not None:
        return f", at most {high:,}{unit}"
    return "" if low is None else f", at least {low:,}{unit}"


def _json_code(value: object) -> Markup:
    return Markup("<code>{}</code>").format(json.dumps(value))
