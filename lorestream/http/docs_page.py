"""The OpenAPI document as a page to read. It is all there is: no script, nothing from any other address."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from lorestream.http.openapi import SECURITY_SCHEME
from lorestream.http.operation import JSON

_HERE = "$LORESTREAM_URL"
_DEFAULT = "http://127.0.0.1:8080"
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]{1,255}")

STYLE = (
    ":root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}main{max-width:56rem;margin:2rem auto;"
    "padding:0 1rem}h2{font-size:1rem;margin:1.5rem 0 0}pre{overflow:auto;padding:.75rem;border:1px solid #8886;"
    "border-radius:6px}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.35rem .75rem .35rem 0;"
    "border-bottom:1px solid #8884;vertical-align:top}code,pre{font-family:ui-monospace,monospace;font-size:.875rem}"
    "a{color:inherit}summary{cursor:pointer}.ok{color:#2a9d4a}.bad{color:#d33}"
)
"""The look of every page that Lorestream serves."""

_METHODS = ("get", "post", "delete")
"""PUT is POST, and is said once."""


def render(description: bytes, origin: str) -> str:
    """The page. `origin`: where its reader reaches the service, such as http://127.0.0.1:8080."""
    api = orjson.loads(description)
    topics: dict[str, list[str]] = {tag["name"]: [] for tag in api["tags"]}
    for path, methods in api["paths"].items():
        for method in _METHODS:
            if op := methods.get(method):
                topics[op["tags"][0]].append(_operation(path, method, op))
    title, keys = (
        html.escape(api["info"]["title"]),
        SECURITY_SCHEME in api["components"].get("securitySchemes", {}),
    )
    here = origin if _ORIGIN.fullmatch(origin) else _DEFAULT
    first = f"export LORESTREAM_URL={here}" + ("\nexport LORESTREAM_API_KEY=ID.SECRET" if keys else "")
    types = "".join(_type(name, schema) for name, schema in api["components"]["schemas"].items())
    sections = "".join(f"<h1>{html.escape(topic)}</h1>{''.join(parts)}" for topic, parts in topics.items())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1>"
        f"<p>Version {html.escape(api['info']['version'])} · <a href=/openapi.json>openapi.json</a></p>"
        f"<p>{_prose(api['info']['description'])}</p>"
        f"<p>To try the lines below, say first where it is{' and who you are' if keys else ''}:</p>{_pre(first)}"
        f"{sections}<h1 id=errors>Errors</h1>{_errors(api)}<h1>Types</h1>{types}</main></html>"
    )


def _operation(path: str, method: str, op: Mapping[str, Any]) -> str:
    parts = [
        f"<section><h2><b>{method.upper()}</b> <code>{html.escape(path)}</code></h2>",
        f"<p>{html.escape(op['summary'])}{_needs(op)}</p>",
    ]
    if "description" in op:
        parts.append(f"<p>{_prose(op['description'])}</p>")
    if op["parameters"]:
        rows = [
            (
                one["name"],
                f"{_words(one['schema'])}, in the {one['in']}",
                _notes(one, required=one["required"]),
            )
            for one in op["parameters"]
        ]
        parts.append(f"<details><summary>Parameters</summary>{_table(rows)}</details>")
    if body := op.get("requestBody"):
        schema = _words(body["content"][JSON]["schema"])
        parts.append(f"<p>Body: {schema}. {_prose(body['description'])}</p>")
    parts.append(_pre(_curl(path, method, op)))
    parts += [_success(status, one) for status, one in op["responses"].items() if "$ref" not in one]
    return "".join([*parts, _refusals(op["responses"]), "</section>"])


def _success(status: str, answer: Mapping[str, Any]) -> str:
    [(media, content)] = answer["content"].items()
    words = _words(content["schema"]) if media == JSON else html.escape(media)
    said = f"<code>{status}</code> {_prose(answer['description'])}: {words}"
    if "example" not in content:
        return f"<p>{said}</p>"
    return f"<details><summary>{said}</summary>{_pre(_json(content['example']))}</details>"


def _refusals(responses: Mapping[str, Any]) -> str:
    """The errors of an operation: those that mean something of their own with what they mean."""
    words = [
        f"<code>{status}</code>" + (f" {_prose(answer['description'])}" if "description" in answer else "")
        for status, answer in responses.items()
        if "$ref" in answer
    ]
    return f"<p><a href='#errors'>Errors</a>: {' '.join(words)}</p>" if words else ""


def _curl(path: str, method: str, op: Mapping[str, Any]) -> str:
    """The example as a line for a shell."""
    query: dict[str, Any] = {}
    for one in op["parameters"]:
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", quote(str(one.get("example", "ID")), safe=""))
        elif "example" in one:
            query[one["name"]] = one["example"]
    words = ["curl -s"]
    if method not in {"get", "post"}:
        words.append(f"-X {method.upper()}")
    if op.get("security"):
        words.append('-H "Authorization: Bearer $LORESTREAM_API_KEY"')
    words.append(f'"{_HERE}{path}{"?" + urlencode(query) if query else ""}"')
    if body := op.get("requestBody"):
        example = json.dumps(body["content"][JSON].get("example", {}), ensure_ascii=False)
        words.append(f"-d {shlex.quote(example)}")
    return " ".join(words)


def _needs(op: Mapping[str, Any]) -> str:
    scopes = [scope for scheme in op.get("security", ()) for scope in scheme[SECURITY_SCHEME]]
    return "".join(f" · key with the scope <code>{html.escape(scope)}</code>" for scope in scopes)


def _errors(api: Mapping[str, Any]) -> str:
    rows = [(status, words, "") for status, words in _meanings(api)]
    return f"<p>Every answer but success is an {_words({'$ref': 'ErrorResponse'})}.</p>{_table(rows)}"


def _meanings(api: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The statuses of errors, and what each means in general, as HTML."""
    found: dict[str, str] = {}
    for methods in api["paths"].values():
        for op in methods.values():
            for status, answer in op["responses"].items():
                if "$ref" in answer:
                    name = answer["$ref"].rpartition("/")[2]
                    found[status] = _prose(api["components"]["responses"][name]["description"])
    return sorted(found.items())


def _type(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    rows = [
        (field, _words(one), _notes(one, required=field in required))
        for field, one in schema.get("properties", {}).items()
    ]
    return (
        f"<section id='{html.escape(name)}'><h2><code>{html.escape(name)}</code></h2>"
        f"<p>{_prose(schema.get('description', ''))}</p>{_table(rows)}</section>"
    )


def _table(rows: Sequence[tuple[str, str, str]]) -> str:
    """`rows`: the name as text, the other two as HTML."""
    cells = (
        f"<tr><td><code>{html.escape(name)}</code></td><td>{words}</td><td>{notes}</td></tr>"
        for name, words, notes in rows
    )
    return f"<table>{''.join(cells)}</table>"


def _notes(one: Mapping[str, Any], *, required: bool) -> str:
    """What is to be said of a field or a parameter beside its type."""
    schema = one.get("schema", one)
    described = [one, *one.get("anyOf", ())]
    notes = ["needed"] if required else []
    if schema.get("default") is not None:
        notes.append(f"default {_code(schema['default'])}")
    notes += [_prose(part["description"]) for part in described if "description" in part]
    return "; ".join(notes)


def _words(schema: Mapping[str, Any]) -> str:  # noqa: PLR0911 (one for each form)
    """A schema as HTML."""
    if "$ref" in schema:
        name = html.escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_words(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(_code(value) for value in schema["enum"])
    match schema.get("type"):
        case "string":
            return "text" + _range(schema, "minLength", "maxLength", " characters")
        case "number" | "integer" as kind:
            whole = kind == "integer" or schema.get("multipleOf") == 1
            return ("whole number" if whole else "number") + _range(schema, "minimum", "maximum")
        case "array" if schema.get("maxItems") == 0:
            return "empty list"
        case "array":
            items = _words(schema["items"]) if schema.get("items") else "anything"
            return f"list of {items}" + _range(schema, "minItems", "maxItems")
        case "object" if isinstance(inner := schema.get("additionalProperties"), dict) and inner:
            return f"object of {_words(inner)}"
        case str() as kind:
            return html.escape(kind)
        case _:
            return "anything"


def _range(schema: Mapping[str, Any], least: str, most: str, unit: str = "") -> str:
    low, high = schema.get(least), schema.get(most)
    if low is not None and high is not None:
        return f", {low:,} to {high:,}{unit}"
    if high is not None:
        return f", at most {high:,}{unit}"
    return "" if low is None else f", at least {low:,}{unit}"


def _code(value: object) -> str:
    return f"<code>{html.escape(json.dumps(value))}</code>"


def _prose(text: str) -> str:
    """Text in which backquotes hold code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _pre(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"
