"""The search methods that are compared: each is a name and the options that it adds to a search."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

METHODS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "dense": {"mode": "dense"},
    "keyword": {"mode": "keyword"},
    "hybrid": {"mode": "hybrid"},
}


def chosen(names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """The methods of these arguments: a name of METHODS, or NAME=JSON with the options of a search.

    Raises ValueError for another one.
    """
    methods: dict[str, Mapping[str, Any]] = {}
    for one in names:
        name, has_options, options = one.partition("=")
        if has_options:
            methods[name] = json.loads(options)
        elif name in METHODS:
            methods[name] = METHODS[name]
        else:
            raise ValueError(f"there is no method {name!r}: use one of {', '.join(METHODS)}, or NAME=JSON")
    return methods
