"""The search methods that are compared: each is a name and the options that it adds to a search."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

LATEST = {"relevance": 1, "recency": 0.3, "half_life_s": 21_600}
"""Weights for questions about the present state, in a game whose days have 24 hours."""
METHODS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "dense": {"mode": "dense"},
    "keyword": {"mode": "keyword"},
    "hybrid": {"mode": "hybrid"},
    "hybrid, no neighbours": {"mode": "hybrid", "neighbours": 0},
    "dense, time words": {"mode": "dense", "time_words": True},
    "hybrid, time words": {"mode": "hybrid", "time_words": True},
    "dense, weighted": {"mode": "dense", "weights": LATEST},
    "hybrid, weighted": {"mode": "hybrid", "weights": LATEST},
}
COMPARED = ("default", "dense", "keyword", "hybrid", "hybrid, no neighbours")
"""The methods that are measured where none are chosen."""


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
