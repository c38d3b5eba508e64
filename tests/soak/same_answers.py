"""One sequence of requests about state, and what a service answers to it, without what no two services have in common."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx2

from tests.soak.state import Caller, Service

AGENTS = ("npc:ada", "npc:ben", "player:cleo")
TYPES = ("character", "encoder", "notes")
OWN_FIELDS = frozenset(
    {
        "token",
        "request_id",
        "created_at",
        "updated_at",
        "accepted_at",
        "expires_at",
        "erasure_id",
        "took_ms",
        "next_cursor",
    }
)
"""What differs from service to service."""
_PAGES = 50


@dataclass(frozen=True)
class Step:
    """One request. `write`: it goes to a gateway, and what follows waits for it. `cursor`: all its pages are read."""

    method: str
    path: str
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    body: Any = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    write: bool = False
    waits: bool = False
    cursor: bool = False


def document(agent: str, type_: str = "character", more: str = "") -> str:
    return f"/v1/entities/{type_}/{quote(agent, safe='')}{more}"


def run(service: Service, steps: Sequence[Step], crashes: int = 0) -> Iterator[Any]:
    """The answer to each step: (status, headers, body). A process of the service is killed `crashes` times."""
    caller, token = Caller(service), None
    crash_at = {len(steps) * (n + 1) // (crashes + 1) for n in range(crashes)}
    for number, step in enumerate(steps):
        if number in crash_at:
            service.crash()
        if step.write:
            answer = _applied(caller, step)
            token = _json(answer).get("token", token)
            yield _comparable(answer)
            continue
        params = dict(step.params)
        if step.waits and token is not None:
            params |= {"after": token, "wait_ms": 10_000}
        pages = [_read(caller, step, params)]
        while step.cursor and len(pages) < _PAGES and (cursor := _json(pages[-1]).get("next_cursor")):
            pages.append(_read(caller, step, params | {"cursor": cursor}))
        yield [_comparable(one) for one in pages]


def _applied(caller: Caller, step: Step) -> httpx2.Response:
    request: dict[str, Any] = {"headers": step.headers}
    request |= {"content": step.content} if step.content is not None else {"json": step.body}
    until = time.monotonic() + 300
    while True:
        answer = caller.write(step.method, step.path, params=step.params, **request)
        if answer.status_code != 202 or "wait" not in step.params or time.monotonic() > until:
            return answer


def _read(caller: Caller, step: Step, params: dict[str, Any]) -> httpx2.Response:
    until = time.monotonic() + 300
    while True:
        request: dict[str, Any] = {"params": params, "headers": step.headers}
        if step.method == "POST":
            after = {name: value for name, value in params.items() if name in {"after", "wait_ms"}}
            request |= {"params": {}, "json": step.body | after if step.waits else step.body}
        answer = caller.read(step.method, step.path, **request)
        if _json(answer).get("fresh", True) or time.monotonic() > until:
            return answer


def _json(answer: httpx2.Response) -> dict[str, Any]:
    if answer.headers.get("content-type", "").startswith("application/json"):
        found = answer.json()
        if isinstance(found, dict):
            return found
    return {}


def _comparable(answer: httpx2.Response) -> Any:
    kind = answer.headers.get("content-type", "")
    named = {
        name: answer.headers[name] for name in ("etag", "x-lorestream-version") if name in answer.headers
    }
    if kind.startswith("application/json"):
        body: Any = _without_own(answer.json())
    elif "ndjson" in kind:
        body = [_without_own(json.loads(line)) for line in answer.text.splitlines()]
    else:
        body = hashlib.sha256(answer.content).hexdigest()
    return answer.status_code, kind, named, body


def _without_own(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_own(one) for name, one in value.items() if name not in OWN_FIELDS}
    if isinstance(value, list):
        return [_without_own(one) for one in value]
    return value


# --- the sequence ----------------------------------------------------------------------------------------------


def sequence(seed: int, length: int) -> list[Step]:
    """Writes of all kinds in random order, valid and invalid ones, each followed by the reads that show them."""
    chance = random.Random(seed)
    steps: list[Step] = []
    for number in range(length):
        steps += chance.choice(_KINDS)(chance, f"s{seed}-{number}")
    for agent in AGENTS:
        steps += _all_of(agent)
    return steps


def _wait(**params: Any) -> dict[str, Any]:
    return {"wait": "applied", "timeout_ms": 30_000, **params}


def _data(chance: random.Random, type_: str) -> Any:
    known: dict[str, list[Any]] = {
        "character": [{"name": "Ada"}, {"goals": ["a", {"b": 1}]}, {"name": 3}, {"last_decision_time": "x"}],
        "encoder": [
            {"input_dim": 4, "latent_dim": 2},
            {"input_dim": 0},
            {"feature_groups": {"social": [2, 1, 0]}},
        ],
        "notes": [
            {"a": 1.5, "b": None},
            {"a": {"c": 1}},
            {"deep": _deep(31)},
            {"deep": _deep(40)},
            {},
            5,
            None,
        ],
    }
    if chance.random() < 0.1:
        return {"text": "x" * chance.choice([100_000, 200_000, 300_000])}
    return chance.choice(known[type_] + [{"x": chance.randrange(5)}])


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"d": value}
    return value


def _event(chance: random.Random, name: str) -> dict[str, Any]:
    """Now and then the event_id of another write, which may be of this document."""
    return {
        "event_id": chance.choice([name, name, name, "again", "x" * 257 if chance.random() < 0.1 else name])
    }


def _write_document(chance: random.Random, name: str) -> list[Step]:
    agent, type_ = chance.choice(AGENTS), chance.choice(TYPES)
    more: dict[str, Any] = _event(chance, name)
    if chance.random() < 0.3:
        more["if_version"] = chance.choice([0, 1, 2, 3, 5, -1, "1"])
    if chance.random() < 0.3:
        more["tick"] = chance.choice([7, 8.5, "now", None])
    if chance.random() < 0.05:
        more["surprise"] = 1
    kind = chance.choice(["put", "put", "patch", "patch", "rollback", "delete"])
    body: dict[str, Any] = {"data": _data(chance, type_), **more}
    match kind:
        case "put":
            method, path = chance.choice([("PUT", ""), ("POST", "")])
        case "patch":
            method, path = chance.choice([("PATCH", ""), ("POST", "/patch")])
        case "rollback":
            method, path, body = "POST", "/rollback", {"to": chance.choice([1, 2, 3, 9, 0, "x"]), **more}
        case _:
            method, path, body = "POST", "/delete", more
    written = Step(method, document(agent, type_, path), _wait(), body, write=True)
    return [
        written,
        Step("GET", document(agent, type_), waits=True),
        Step("GET", document(agent, type_), {"version": chance.choice([1, 2, 3, 50])}, waits=True),
        Step("GET", document(agent, type_, f"/writes/{quote(str(more['event_id'])[:256])}"), waits=True),
        Step("GET", document(agent, type_, "/versions"), {"limit": 3}, waits=True, cursor=True),
    ]


def _write_q(chance: random.Random, name: str) -> list[Step]:
    agent, table = chance.choice(AGENTS), chance.choice(["q", "q", "other"])
    updates = [
        {
            "state": f"s{chance.randrange(6)}",
            "action": chance.choice(["go", "dig"]),
            "op": chance.choice(["set", "add", "add"]),
            "value": chance.choice([1, -2.5, 0.1, 1.7e308]),
        }
        for _ in range(chance.choice([1, 3, 50]))
    ]
    if chance.random() < 0.2:
        updates.append({"state": "s1", "action": "go", "op": "toward", "value": 1, "alpha": 0.3})
    if chance.random() < 0.15:
        updates[-1] |= chance.choice(
            [{"op": "sub"}, {"value": "1"}, {"alpha": 0.5}, {"state": ""}, {"action": "x" * 257}]
        )
    if chance.random() < 0.1:
        updates = [{"state": "full", "action": f"{name}-{n}", "op": "set", "value": n} for n in range(200)]
    event = _event(chance, name)
    path = f"/v1/q/{quote(agent, safe='')}"
    states = [f"s{n}" for n in range(6)] + ["full", "unknown"]
    return [
        Step("POST", f"{path}/update", _wait(), {"table": table, "updates": updates, **event}, write=True),
        Step("POST", f"{path}/values", body={"table": table, "states": states}, waits=True),
        Step("GET", f"{path}/writes/{quote(event['event_id'][:256])}", {"table": table}, waits=True),
    ]


def _write_policy(chance: random.Random, name: str) -> list[Step]:
    path, event = f"/v1/policies/{quote(AGENTS[0], safe='')}", _event(chance, name)
    kind = chance.choice(["put", "put", "rollback", "delete"])
    if kind == "put":
        content = random.Random(name).randbytes(chance.choice([0, 1, 5_000, 300_000, 700_000]))
        form = chance.choice(["raw", "raw", "npy", "safetensors", "pickle"])
        written = Step("PUT", path, _wait(format=form, **event), content=content, write=True)
    elif kind == "rollback":
        body = {"to": chance.choice([1, 2, 3, 9]), **event}
        written = Step("POST", f"{path}/rollback", _wait(), body, write=True)
    else:
        written = Step("POST", f"{path}/delete", _wait(), event, write=True)
    return [
        written,
        Step("GET", path, waits=True),
        Step("GET", path, {"version": chance.choice([1, 2, 3, 50])}, waits=True),
        Step("GET", f"{path}/versions", {"limit": 2}, waits=True, cursor=True),
        Step("GET", f"{path}/writes/{quote(event['event_id'][:256])}", waits=True),
    ]


_RECORDS: list[dict[str, Any]] = [
    {"type": "reward", "data": {"value": 0.1}},
    {"type": "reward", "data": {"value": 3, "components": {"a": 1}}},
    {"type": "reward", "data": {"value": "x"}},
    {"type": "message", "text": "good morning", "data": {"role": "user", "conversation": "c1"}},
    {"type": "tool", "data": {"tool": "forge", "ok": True, "took_ms": 1.5}},
    {"type": "tool", "data": {"tool": "forge", "ok": 1}},
    {"type": "agent_state", "data": {"bytes": base64.b64encode(b"x").decode(), "codec": "raw"}},
    {"type": "agent_state", "data": {"bytes": "x", "codec": "raw"}},
    {"type": "dig", "data": {"value": 1}, "recall": False, "text": "x" * 70_000},
]


def _write_records(chance: random.Random, name: str) -> list[Step]:
    agent = chance.choice(AGENTS)
    events = [
        {"agent_id": agent, "id": f"{name}-{n}", "time": 1_700_000_000 + n + chance.randrange(1000)}
        | {"tick": chance.randrange(100), **chance.choice(_RECORDS)}
        for n in range(chance.choice([1, 5]))
    ]
    path = f"/v1/agents/{quote(agent, safe='')}"
    return [
        Step("POST", "/v1/events", {"wait": "indexed", "timeout_ms": 30_000}, {"events": events}, write=True),
        Step("GET", document("npc:fence", "notes"), waits=True),
        Step("GET", f"{path}/memories", {"type": "reward", "limit": 4}, cursor=True),
        Step("GET", f"{path}/memories", {"type": "tool"}, headers={"accept": "application/x-ndjson"}),
        Step("POST", f"{path}/aggregate", body=chance.choice(_AGGREGATES)),
        Step("GET", f"{path}/summary"),
    ]


_AGGREGATES: list[dict[str, Any]] = [
    {"type": "reward", "field": "metadata.value"},
    {"type": "reward", "field": "value", "every_s": 100},
    {"type": "reward", "field": "value", "every_ticks": 10, "filters": {"value": {"gte": 0.1}}},
    {"type": "reward", "field": "value", "every_ticks": 0},
    {"type": "reward", "field": "text"},
]


def _erase(chance: random.Random, name: str) -> list[Step]:
    del name
    subject = chance.choice([{"agent_id": AGENTS[1]}, {"player": "cleo"}, {"agent_id": AGENTS[2]}])
    erased = Step("POST", "/v1/erasures", body=subject, write=True)
    return [
        erased,
        Step("GET", document("npc:fence", "notes"), waits=True),
        *_all_of(AGENTS[1]),
        *_all_of(AGENTS[2]),
    ]


def _all_of(agent: str) -> list[Step]:
    quoted = quote(agent, safe="")
    return [
        *(Step("GET", document(agent, type_), waits=True) for type_ in TYPES),
        *(Step("GET", document(agent, type_, "/versions"), waits=True, cursor=True) for type_ in TYPES),
        Step("GET", "/v1/entities/notes", {"limit": 1}, waits=True, cursor=True),
        Step("GET", f"/v1/q/{quoted}", waits=True),
        Step("GET", f"/v1/q/{quoted}", {"table": "other"}, waits=True),
        Step("GET", f"/v1/policies/{quoted}", waits=True),
        Step("GET", f"/v1/policies/{quoted}/versions", waits=True),
        Step(
            "POST",
            f"/v1/agents/{quoted}/context",
            body={"query": "morning", "include_state": True},
            waits=True,
        ),
    ]


_KINDS = (_write_document,) * 5 + (_write_q,) * 3 + (_write_policy,) * 2 + (_write_records,) * 3 + (_erase,)
