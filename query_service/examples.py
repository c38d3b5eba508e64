"""One example call of each operation of the query service, for its documentation."""

from __future__ import annotations

import json
from typing import Any

from lorestream.http.operation import Example

_AGENT = "npc:woodcutter-1"
_QUERY = "where did I find pine trees"
_ID = "5f0c1f0e-6d0a-5d0b-9b59-0c7f6a1d2e3f"
_STORED: dict[str, Any] = {
    "id": _ID,
    "agent_id": _AGENT,
    "text": "A player dug 3 pine tree.",
    "type": "dig",
    "metadata": {"node": "default:pine_tree", "count": 3, "outcome": "success"},
    "pos": {"x": 12.0, "y": 3.0, "z": -40.0},
    "tick": 8412.0,
    "timestamp": 1760000000.0,
    "importance": 5.0,
    "server": "survival-1",
    "player": "k1:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "accepted_at": 1760000000.4,
    "expires_at": None,
    "truncated": False,
}
_DETAILS = {"relevance": 0.81, "recency": 0.9, "importance": 0.5}
_FOUND = {**_STORED, "score": 0.784}
_TIMES = {"cache": "miss", "fresh": True, "took_ms": 1.204}

SEARCH = Example(
    body={
        "agent_id": _AGENT,
        "query": _QUERY,
        "k": 5,
        "filters": {"type": "dig", "timestamp": {"gte": 1759990000}, "NOT": {"zone": ["south", "east"]}},
        "near": {"x": 10, "y": 0, "z": -40, "radius": 50},
        "weights": {"relevance": 1, "recency": 0.3, "importance": 0.2, "normalise": True},
        "explain": True,
    },
    response={"memories": [{**_FOUND, "score_details": _DETAILS}], **_TIMES},
)
STREAM = Example(
    query={"agent_id": _AGENT},
    response=f"id: s1.wWSNp1s0XQ\nevent: memory\ndata: {json.dumps(_STORED, separators=(',', ':'))}\n\n",
)
_CHARACTER: dict[str, Any] = {
    "type": "character",
    "id": _AGENT,
    "version": 7,
    "data": {"name": "Ada", "goals": ["fill the barn with wood"]},
    "tick": 8412.0,
    "created_at": 1760000000.0,
    "updated_at": 1760000400.0,
}
_CONTEXT: dict[str, Any] = {
    "recent": [],
    "relevant": [_FOUND],
    "neighbours": [],
    "text": "2025-10-09 08:53 A player dug 3 pine tree.",
    "tokens": 18,
    "state": _CHARACTER,
    **_TIMES,
}
BATCH = Example(
    body={
        "searches": [
            {"agent_id": _AGENT, "query": _QUERY, "mode": "dense"},
            {"agent_id": _AGENT, "filters": {"tick": {"near": 8412}}},
        ],
        "contexts": [{"agent_id": _AGENT, "query": _QUERY}],
        "entities": [{"type": "character", "id": _AGENT}],
    },
    response={
        "results": [
            {"memories": [_FOUND], **_TIMES},
            {
                "error": {
                    "code": "invalid_filter",
                    "message": "'near' is not an operator",
                    "details": {"path": "filters.tick.near"},
                    "request_id": "3c9c2b5a0a3c4a0a8b6e5a4d3c2b1a09",
                }
            },
        ],
        "contexts": [_CONTEXT],
        "entities": [{**_CHARACTER, "fresh": True}],
    },
)
ONE = Example(response=_STORED, path={"id": _ID}, query={"agent_id": _AGENT})
RECENT = Example(
    response={"memories": [_STORED], "next_cursor": None, "total": 1},
    path={"agent_id": _AGENT},
    query={"limit": 20, "type": "dig", "filters": '{"outcome": "success"}'},
)
GET_MANY = Example(
    body={"agent_id": _AGENT, "ids": [_ID], "vectors": False},
    response={"memories": [_STORED]},
)
EXPLAIN = Example(
    body={"agent_id": _AGENT, "query": _QUERY, "k": 5, "id": _ID},
    response={
        "memory": {**_FOUND, "score_details": _DETAILS},
        "found": False,
        "rank": 9,
        "ranked": 114,
        "k": 5,
        "last_score": 0.81,
        "reasons": [
            {
                "code": "rank",
                "path": "k",
                "message": "it is number 9 with the score 0.7840, and k is 5; the last of these has the score 0.8100",
            }
        ],
        "fresh": True,
    },
)
PLACES = Example(
    body={"agent_id": _AGENT, "cell": 16, "y_from": -50, "y_to": 50},
    response={
        "places": [{"x": 0.0, "z": -48.0, "count": 12, "newest": 1760000000.0}],
        "cells": 1,
        "total": 12,
        "bounds": {"x": [12.0, 14.5], "y": [3.0, 9.0], "z": [-47.0, -40.0]},
    },
)
LIKENESS = Example(
    body={"agent_ids": [_AGENT], "type": "dig", "limit": 1000},
    response={
        "points": [
            {
                "id": _ID,
                "agent_id": _AGENT,
                "type": "dig",
                "timestamp": 1760000000.0,
                "text": "pine trees stand north of the lake",
                "x": 0.21,
                "y": -0.07,
            }
        ],
        "explained": [0.31, 0.12],
        "total": 1,
    },
)
AGGREGATE = Example(
    body={"type": "reward", "field": "metadata.value", "every_s": 3600, "since": 1760000000},
    response={
        "buckets": [
            {
                "start": 1759996800.0,
                "count": 3,
                "sum": 4.5,
                "mean": 1.5,
                "min": 0.5,
                "max": 2.5,
                "std": 0.816496580927726,
                "last": 2.5,
            }
        ]
    },
    path={"agent_id": _AGENT},
)
SUMMARY = Example(
    response={
        "agent_id": _AGENT,
        "total": 12,
        "by_type": {"dig": 9, "": 3},
        "first": 1759990000.0,
        "last": 1760000000.0,
    },
    path={"agent_id": _AGENT},
)
RELATIONS = Example(
    response={
        "relations": [
            {"with": "npc:smith", "total": 9, "last": 1760000000.0, "valence": 2.5},
            {"with": _STORED["player"], "total": 3, "last": 1759990000.0, "valence": 0.0},
        ]
    },
    path={"agent_id": _AGENT},
    query={"limit": 100},
)
AGENTS = Example(response={"agents": [{"agent_id": _AGENT, "total": 12}]}, query={"limit": 100})
REWIND_PREVIEW = Example(
    body={"server": "survival-1", "to": 1760000000.0}, response={"memories": 420, "agents": 12}
)
CONTEXT = Example(
    body={"query": _QUERY, "recent": 10, "relevant": 5, "token_budget": 1000},
    response=_CONTEXT,
    path={"agent_id": _AGENT},
)
GET = Example(
    body={"agent_id": _AGENT, "query": _QUERY, "k": 5},
    response={
        "memories": [
            {
                "agent_id": _AGENT,
                "text": "pine trees stand north of the lake",
                "metadata": {"zone": "north"},
                "timestamp": 1760000000.0,
                "score": 0.83,
            }
        ]
    },
)
