"""JSON schemas of the arguments and results, in the form that tools take."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

import msgspec


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON schema of a struct, with an object at its root."""
    (root,), definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    schema = definitions.pop(root["$ref"].rpartition("/")[2])
    return {**schema, "$defs": definitions} if definitions else schema


def arguments_schema(kind: type[msgspec.Struct], without: Container[str] = ()) -> dict[str, Any]:
    """The JSON schema of the arguments, except those with these names.

    An argument that may be left out is not described as nullable: models would write null, and some hosts refuse
    schemas with `anyOf`.
    """
    schema = schema_of(kind)
    properties = {
        name: _not_null(described) for name, described in schema["properties"].items() if name not in without
    }
    required = [name for name in schema.get("required", []) if name in properties]
    shown = {key: value for key, value in schema.items() if key not in {"title", "description"}}
    return {**shown, "properties": properties, "required": required}


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    rest = {
        key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)
    }
    return {**options[0], **rest}


def path_of(error: msgspec.ValidationError) -> tuple[str, str | None]:
    """The message and the path of the argument that is wrong; msgspec ends its messages with "- at `$.a.b`"."""
    message, _, path = str(error).partition(" - at `")
    path = path.rstrip("`").removeprefix("$").removeprefix(".")
    if field := re.search(r"(?:unknown|missing required) field `(.*)`", message):
        path = f"{path}.{field[1]}" if path else field[1]
    return message, path or None
