"""A whole Lorestream in process, and Hypothesis strategies for events that the door accepts, at the extremes of each limit."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from hypothesis import strategies as st

from lorestream import limits
from lorestream.access.authentication import NO_AUTHENTICATION, Principal
from lorestream.admin import AdminTasks, Outcome, Progress, Remark, Row
from lorestream.cli.admin.tasks import tasks_over
from lorestream.client import AsyncMemoryClient
from lorestream.http.application import application
from lorestream.memories import Scope
from lorestream.push.feed import Feed
from lorestream.push.selection import Selection
from lorestream.state.q_tables import MAX_NAME_CHARS
from lorestream.wiring import Runtime
from lorestream.wiring.feeds import feed_over
from producers import gateway
from producers.gateway import Gateway
from query_service import rest
from query_service.queries import ResolvedAgents
from query_service.recall import CurrentRecall
from query_service.rpc import Reads
from query_service.stream_routes import _events
from stream_workers.worker import Worker
from tests.parts import open_parts, running

# --- events ------------------------------------------------------------------------------------------------

ODD = (
    "\u2028",
    "\u2029",
    "\x85",
    "\x1c",
    "\x00",
    "\ufeff",
    "\u202e",
    "\x1b]8;;x\x07",
    "\U0010ffff",
    "İ",
    "ß",
    '"',
    "\\",
    "\n",
)
characters = st.characters(exclude_categories=["Cs"])


def texts(most: int) -> st.SearchStrategy[str]:
    """Texts of 1 to `most` characters, often with those that end a line somewhere or control a terminal."""
    plain = st.text(characters, min_size=1, max_size=min(most, 30))
    return st.one_of(
        plain,
        st.tuples(plain, st.sampled_from(ODD), plain).map(lambda parts: "".join(parts)[:most]),
        st.sampled_from(["x" * most, "木" * most, "A"]),
    )


finite = st.one_of(
    st.sampled_from([0.0, -0.0, 5e-324, 1.7976931348623157e308, -1e300, 0.1, 2.0**53 + 2]),
    st.floats(allow_nan=False, allow_infinity=False),
)
integers = st.one_of(st.sampled_from([2**63 - 1, -(2**63), 2**53 + 1, 0]), st.integers(-(2**63), 2**63 - 1))
keys = st.one_of(st.sampled_from(["", ".", '"', "a.b", "\\", "metadata", "player", "tick"]), texts(20))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), integers, finite, st.text(characters, max_size=20)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def _deep(value: Any) -> dict[str, Any]:
    """An object of as many levels as are allowed, with `value` in the innermost."""
    for level in range(limits.MAX_DEPTH - 1):
        value = [value] if level % 2 else {"a": value}
    return {"deep": value}


objects = st.one_of(st.dictionaries(keys, values, max_size=4), st.booleans().map(_deep))
agent_ids = st.one_of(
    st.sampled_from(
        [
            "npc:a",
            "NPC:A",
            ".",
            "..",
            "a/b?c#d%2F",
            "x.y",
            "L" * 240 + ":player:bob",
            "player:" + "p" * 249,
            "player:k9:" + "0" * 64,
            "miner:bob",
        ]
    ),
    texts(limits.MAX_AGENT_ID_CHARS),
)
optional: dict[str, st.SearchStrategy[Any]] = {
    "type": texts(limits.MAX_TYPE_CHARS).filter(lambda kind: not kind.startswith("lorestream.")),
    "data": objects,
    "metadata": objects,
    "player": st.one_of(st.just("bob"), texts(limits.MAX_PLAYER_CHARS)),
    "pos": st.dictionaries(st.sampled_from("xyz"), finite, min_size=1),
    "tick": finite,
    "time": st.one_of(st.sampled_from([limits.MIN_TIME, -1.5, 0.0]), st.floats(limits.MIN_TIME, 1.7e9)),
    "importance": st.floats(0, 10),
    "ttl": st.sampled_from([0, 1e6, 1e300]),
}
events = st.fixed_dictionaries({"agent_id": agent_ids, "text": texts(2000)}, optional=optional).filter(
    lambda event: len(json.dumps(event, ensure_ascii=False).encode()) < limits.MAX_EVENT_BYTES - 512
)
batches = st.lists(events, min_size=4, max_size=10)


EXTREMES: Sequence[Mapping[str, Any]] = [
    {"agent_id": "npc:a", "text": "good\u2028bye\u2029 \x85 \x1c \x00 \ufeff \U0010ffff \x1b]8;;x\x07"},
    {"agent_id": "L" * 240 + ":player:bob", "text": "x", "player": "bob", "ttl": 0},
    {"agent_id": "木" * limits.MAX_AGENT_ID_CHARS, "text": "x" * 2000, "type": "t" * limits.MAX_TYPE_CHARS},
    {"agent_id": "..", "text": "A", "metadata": _deep(value=False), "data": _deep(value=True)},
    {"agent_id": "miner:bob", "text": "x", "player": "bob", "time": limits.MIN_TIME, "ttl": 1e300},
    {"agent_id": "miner:bob", "text": "x", "time": -1.5, "importance": 10, "tick": -1.7976931348623157e308},
    {
        "agent_id": "NPC:A",
        "text": '"\\\n',
        "pos": {"x": -0.0, "y": 5e-324, "z": 1e300},
        "metadata": {"": {".": [2**63 - 1, -(2**63), None, "\u2028"], '"': True}, "a.b": 0.1, "\\": {}},
    },
]
"""Events at the extremes of each limit."""


def with_ids(batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The events with ids of their own, of up to the longest length."""
    return [{**event, "id": f"{'I' * 250 * (at % 2)}{at}"} for at, event in enumerate(batch)]


# --- state -------------------------------------------------------------------------------------------------

event_ids = texts(limits.MAX_EVENT_ID_CHARS)
names = texts(MAX_NAME_CHARS)
documents = st.fixed_dictionaries(
    {
        "agent_id": agent_ids,
        "type": st.sampled_from(["any", ".", "..", "a_b-c.9", "x" * 64]),
        "event_id": event_ids,
        "data": objects,
    },
    optional={"tick": finite},
)
q_values = st.fixed_dictionaries(
    {
        "agent_id": agent_ids,
        "table": names,
        "event_id": event_ids,
        "state": names,
        "action": names,
        "value": finite,
    }
)
policies = st.fixed_dictionaries(
    {
        "agent_id": agent_ids,
        "name": names,
        "event_id": event_ids,
        "content": st.binary(min_size=1, max_size=50),
    }
)


@dataclass(frozen=True)
class State:
    """Writes of state; no two of them are of the same key."""

    documents: Sequence[Mapping[str, Any]]
    q_values: Sequence[Mapping[str, Any]]
    policies: Sequence[Mapping[str, Any]]


def _distinct(of: st.SearchStrategy[Any], *key: str) -> st.SearchStrategy[list[Any]]:
    return st.lists(of, min_size=2, max_size=4, unique_by=lambda one: tuple(one[name] for name in key))


states = st.builds(
    State,
    _distinct(documents, "agent_id", "type"),
    _distinct(q_values, "agent_id", "table"),
    _distinct(policies, "agent_id", "name"),
)

EXTREME_STATE = State(
    documents=[
        {"agent_id": "..", "type": "..", "event_id": "./..", "data": {"x": "x" * (256 * 1024 - 8)}},
        {
            "agent_id": "木" * 256,
            "type": "t" * 64,
            "event_id": "木" * 256,
            "data": _deep(value=True),
            "tick": -0.0,
        },
        {
            "agent_id": "L" * 240 + ":player:bob",
            "type": "any",
            "event_id": "\u2028",
            "data": {"": {"\u2028": None}},
        },
        {
            "agent_id": "player:bob",
            "type": "any",
            "event_id": "\x00",
            "data": {},
            "tick": 1.7976931348623157e308,
        },
    ],
    q_values=[
        {
            "agent_id": "..",
            "table": "\u2028",
            "event_id": "%2F",
            "state": "\x00",
            "action": "a/b",
            "value": 5e-324,
        },
        {
            "agent_id": "a",
            "table": "木" * 256,
            "event_id": "e",
            "state": "木" * 256,
            "action": "木" * 256,
            "value": 0,
        },
    ],
    policies=[
        {"agent_id": "player:bob", "name": "a/b\u2028", "event_id": "e", "content": bytes(range(256)) * 1025},
        {"agent_id": "..", "name": "木" * 256, "event_id": "e", "content": b"\x00"},
    ],
)
"""State at the extremes of each limit. The first policy has two parts."""


# --- the system --------------------------------------------------------------------------------------------

PRINCIPAL = NO_AUTHENTICATION.authenticate(None)


class _InProcess(AsyncMemoryClient):
    """A client that calls an application in process."""

    app: Any = None

    def _open(
        self, headers: Mapping[str, str], limits: httpx2.Limits, *, trust_env: bool
    ) -> httpx2.AsyncClient:
        del limits, trust_env
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=type(self).app), headers=headers)


@dataclass
class Whole:
    """Gateway, worker and query service over the parts of one process."""

    runtime: Runtime
    http: httpx2.AsyncClient
    client: AsyncMemoryClient
    reads: Reads
    feed: Feed
    tasks: AdminTasks

    @property
    def principal(self) -> Principal:
        """A caller who may do everything."""
        return PRINCIPAL

    async def run(self, task: str, **arguments: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The rows and the outcome of an admin task, which have passed through JSON as over HTTP."""
        chosen = self.tasks[task]
        checked = msgspec.json.decode(msgspec.json.encode(arguments), type=chosen.arguments)
        reports = [msgspec.json.encode(report) async for report in chosen.run(checked)]
        read = [msgspec.json.decode(report, type=Progress | Remark | Row | Outcome) for report in reports]
        rows = [one.value for one in read if isinstance(one, Row)]
        return rows, next(one.value for one in read if isinstance(one, Outcome))


@contextlib.asynccontextmanager
async def open_whole(data: Path, **overrides: Any) -> AsyncIterator[Whole]:
    """The system on an empty data directory; `overrides` are settings."""
    async with open_parts(data, **overrides) as runtime:
        recall = CurrentRecall(runtime)
        app = application(
            "lorestream",
            [*gateway.operations(Gateway.over(runtime)), *rest.operations(recall)],
            metrics=runtime.metrics,
        )
        _InProcess.app = app
        transport = httpx2.ASGITransport(app=app)
        async with (
            running(Worker(runtime)),
            feed_over(runtime) as feed,
            httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http,
            _InProcess("http://127.0.0.1") as client,
        ):
            yield Whole(runtime, http, client, Reads(recall), feed, tasks_over(runtime))


async def streamed(feed: Feed, count: int, began: asyncio.Event) -> list[dict[str, Any]]:
    """The next `count` memories of the stream, each read from its event; `began` is set once it listens."""
    found: list[dict[str, Any]] = []
    agents = ResolvedAgents(Scope("default"), {})
    async with contextlib.aclosing(_events(feed, Selection("default"), None, agents)) as chunks:
        async for chunk in chunks:
            began.set()
            *blocks, end = chunk.split(b"\n\n")
            assert end == b""
            events = [block.split(b"\n") for block in blocks]
            found += [json.loads(lines[-1][6:]) for lines in events if b"event: memory" in lines]
            if len(found) == count:
                break
    return found
