"""One example request and response for each route that writes state."""

from __future__ import annotations

from lorestream.http.operation import Example

_AGENT = "npc:woodcutter-1"
_EVENT = "survival-1:8412"
_RECEIPT = {"event_id": _EVENT, "token": "w1.IpUkuFtbMCw0MV1d", "applied": True, "version": 7}
_Q_RECEIPT = {"event_id": _EVENT, "token": "w1.IpUkuFtbMCw0MV1d", "applied": True}
_CHARACTER = {"type": "character", "id": _AGENT}

PUT = Example(
    path=_CHARACTER,
    query={"wait": "applied"},
    body={
        "data": {
            "name": "Ada",
            "personality": {"patience": 0.8},
            "beliefs": {"pines": "north of the lake"},
            "goals": ["fill the barn with wood"],
            "last_decision_time": 8400,
        },
        "tick": 8412,
        "event_id": _EVENT,
    },
    response=_RECEIPT,
)
PATCH = Example(
    path=_CHARACTER,
    query={"wait": "applied"},
    body={"data": {"goals": ["build a cart"], "beliefs": {"pines": None}}, "tick": 8413},
    response=_RECEIPT,
)
ROLLBACK = Example(path=_CHARACTER, query={"wait": "applied"}, body={"to": 1}, response=_RECEIPT)
DELETE = Example(path=_CHARACTER, query={"event_id": _EVENT}, response=_RECEIPT)
DELETE_BY_POST = Example(path=_CHARACTER, body={"event_id": _EVENT}, response=_RECEIPT)
Q_UPDATE = Example(
    path={"id": _AGENT},
    query={"wait": "applied"},
    body={
        "table": "q",
        "event_id": _EVENT,
        "updates": [
            {"state": "at the pine", "action": "dig", "op": "toward", "value": 1.0, "alpha": 0.1},
            {"state": "at the pine", "action": "wait", "op": "add", "value": -0.01},
        ],
    },
    response=_Q_RECEIPT,
)
_POLICY = {"id": _AGENT}
PUT_POLICY = Example(
    path=_POLICY, query={"name": "main", "format": "raw", "wait": "applied"}, response=_RECEIPT
)
ROLLBACK_POLICY = Example(
    path=_POLICY, query={"name": "main", "wait": "applied"}, body={"to": 1}, response=_RECEIPT
)
DELETE_POLICY = Example(path=_POLICY, query={"name": "main"}, response=_RECEIPT)
DELETE_POLICY_BY_POST = Example(path=_POLICY, query={"name": "main"}, body={}, response=_RECEIPT)
