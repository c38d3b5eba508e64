"""One example request and response for each route of the gateway, for its documentation."""

from __future__ import annotations

from typing import Any

from lorestream.http.operation import Example

_AGENT = "npc:woodcutter-1"
_MEMORY = "5f0c1f0e-6d0a-5d0b-9b59-0c7f6a1d2e3f"
_NEWER = "f3b8a7e0-4c43-4d6c-8d4e-58f6a0d9c2b1"
_ERASURE = "0b8f5d0e-7c1d-4f2a-8a63-4f1f4f3f9c55"
_TOKEN = "w1.IpUkuFtbMCw0MV1d"  # noqa: S105 (opaque, not secret)
_RECEIPT = {"erasure_id": _ERASURE, "token": _TOKEN}

EVENTS = Example(
    body={
        "server": "survival-1",
        "events": [
            {
                "id": "b7f3:42",
                "agent_id": _AGENT,
                "type": "dig",
                "data": {"node": "default:pine_tree", "count": 3},
                "player": "singleplayer",
                "pos": {"x": 12.0, "y": 3.0, "z": -40.0},
                "tick": 8412.0,
                "time": 1760000000.0,
                "importance": 5,
                "metadata": {"outcome": "success"},
            },
            {"agent_id": _AGENT, "text": "pine trees stand north of the lake", "ttl": 0},
        ],
    },
    response={
        "accepted": 2,
        "rejected": [],
        "ids": [_MEMORY, _NEWER],
        "token": _TOKEN,
        "retry_after_ms": 0,
        "indexed": True,
    },
    query={"wait": "indexed"},
)
SUPERSEDE = Example(
    body={"text": "the pine trees stand south of the lake", "about": ["npc:smith"], "sources": [_NEWER]},
    response={"id": _NEWER, "token": _TOKEN, "indexed": True},
    path={"id": _MEMORY},
    query={"agent_id": _AGENT, "wait": "indexed"},
)
PUT = Example(
    body={"agent_id": _AGENT, "text": "pine trees stand north of the lake", "metadata": {"zone": "north"}},
    response={"success": True, "id": _MEMORY},
)
DELETE_MEMORY = Example(response=_RECEIPT, path={"id": _MEMORY}, query={"agent_id": _AGENT})
ERASE_AGENT = Example(response=_RECEIPT, path={"agent_id": _AGENT})
ERASE_PLAYER = Example(response=_RECEIPT, path={"name": "singleplayer"})
ERASE = Example(body={"agent_id": _AGENT, "memory_id": _MEMORY}, response=_RECEIPT)
FORGET = Example(body={"player": "singleplayer"}, response={"success": True})
PROGRESS = Example(
    response={
        "erasure_id": _ERASURE,
        "state": "done",
        "log_gone_by": 1762592000.0,
        "dead_letters_gone_by": 1763801600.0,
    },
    path={"erasure_id": _ERASURE},
)

_REWIND = "7c2d9a14-3f0e-4b6b-9f57-2a1f6f0f7d10"
_REWOUND = {"rewind_id": _REWIND, "token": _TOKEN}
_REWIND_VIEW = {
    "rewind_id": _REWIND,
    "server": "survival-1",
    "to": 1760000000.0,
    "accepted_at": 1760003600.5,
    "undone_at": None,
    "state": "done",
}
REWIND = Example(body={"server": "survival-1", "to": 1760000000.0}, response=_REWOUND)
REWINDS = Example(response={"rewinds": [_REWIND_VIEW]}, query={"limit": 10})
ONE_REWIND = Example(response=_REWIND_VIEW, path={"id": _REWIND})
UNDO_REWIND = Example(response=_REWOUND, path={"id": _REWIND})
ERASURES = Example(
    query={"limit": 20},
    response={
        "erasures": [
            {
                "erasure_id": _ERASURE,
                "state": "done",
                "log_gone_by": 1762592000.0,
                "dead_letters_gone_by": 1763801600.0,
                "kind": "agent",
                "subjects": [_AGENT],
                "accepted_at": 1760000000.0,
            }
        ]
    },
)

_WEBHOOK: dict[str, Any] = {
    "id": "4d0f8d5e-7a4e-4e0e-8a1c-7c5f4f9f3f0b",
    "url": "https://example.com/lorestream",
    "filter": {"agent_id": ["npc:woodcutter-1"], "type": ["chat", "trade"]},
    "state": "active",
    "created_at": 1760000000.0,
    "secret_fingerprint": "2bb80d537b1d",
    "delivered": 0,
    "delivered_at": None,
    "failing_since": None,
    "last_error": None,
}
WEBHOOK = Example(
    body={
        "url": "https://example.com/lorestream",
        "filter": {"agent_id": "npc:woodcutter-1", "type": ["chat", "trade"]},
        "secret": "a long random text",
    },
    response={**_WEBHOOK, "secret": None},
)
WEBHOOKS = Example(response={"webhooks": [_WEBHOOK]})
_PATH = {"id": _WEBHOOK["id"]}
REMOVED_WEBHOOK = Example(path=_PATH, response=_PATH)
RESUMED_WEBHOOK = Example(path=_PATH, response=_WEBHOOK)
TRIED_WEBHOOK = Example(
    path=_PATH, response={**_PATH, "ok": True, "status": 204, "error": None, "took_ms": 41.7}
)
