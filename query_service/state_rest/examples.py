"""One example request and response for each route that reads state."""

from __future__ import annotations

from typing import Any

from lorestream.http.operation import Example

_AGENT = "npc:woodcutter-1"
_EVENT = "survival-1:8412"
_ENTITY: dict[str, Any] = {
    "type": "character",
    "id": _AGENT,
    "version": 7,
    "data": {"name": "Ada", "goals": ["fill the barn with wood"]},
    "tick": 8412.0,
    "created_at": 1760000000.0,
    "updated_at": 1760000400.0,
}
_PATH = {"type": "character", "id": _AGENT}
_OWNER = {"id": _AGENT}
_VALUES = {"near pines": {"dig": {"q": 0.4, "n": 12}, "walk": {"q": 0.1, "n": 3}}}

ENTITY = Example(path=_PATH, response={**_ENTITY, "fresh": True})
VERSIONS = Example(
    path=_PATH,
    query={"limit": 20},
    response={"versions": [{**_ENTITY, "deleted": False}], "next_cursor": None, "fresh": True},
)
WRITE = Example(path={**_PATH, "event_id": _EVENT}, response={"applied": True, "version": 7})
ENTITIES = Example(
    path={"type": "character"},
    query={"prefix": _AGENT, "limit": 100},
    response={"entities": [_ENTITY], "next_cursor": None, "fresh": True},
)
Q_VALUES = Example(
    path=_OWNER,
    body={"table": "q", "states": ["near pines", "at home"]},
    response={"values": _VALUES, "fresh": True},
)
Q_TABLE = Example(
    path=_OWNER, query={"table": "q"}, response={"values": _VALUES, "next_cursor": None, "fresh": True}
)
Q_WRITE = Example(path={**_OWNER, "event_id": _EVENT}, query={"table": "q"}, response={"applied": True})
POLICY = Example(path=_OWNER, query={"name": "main"}, response=None)
POLICY_VERSIONS = Example(
    path=_OWNER,
    query={"name": "main"},
    response={
        "versions": [
            {
                "version": 7,
                "format": "safetensors",
                "size": 10_485_760,
                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "created_at": 1760000000.0,
                "updated_at": 1760000400.0,
                "deleted": False,
            }
        ],
        "next_cursor": None,
        "fresh": True,
    },
)
POLICY_WRITE = Example(
    path={**_OWNER, "event_id": _EVENT}, query={"name": "main"}, response={"applied": True, "version": 7}
)
