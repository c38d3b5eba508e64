"""What the door accepts, every other part can carry: nothing raises, and everything comes back equal."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from lorestream.cli import terminal
from lorestream.client.blocking import json_lines
from lorestream.client.models import FoundMemory
from lorestream.grpc import memory_pb2
from lorestream.langgraph import LorestreamStore
from lorestream.langgraph.items import MEMORY_KEY_PREFIX, namespace_of
from lorestream.ports import DeadLetter
from lorestream.settings import load_settings
from lorestream.wiring import restores
from tests.everything_accepted import (
    EXTREME_STATE,
    EXTREMES,
    State,
    Whole,
    batches,
    open_whole,
    states,
    streamed,
    with_ids,
)
from tests.qdrant_stand_in.fixtures import Qdrant

Sent = dict[str, Any]


def path(agent_id: str) -> str:
    """The agent's path, with dots escaped as our clients do."""
    return "/v1/agents/" + quote(agent_id, safe="").replace(".", "%2E")


async def send(whole: Whole, batch: Sequence[Sent]) -> dict[str, Sent]:
    """Write the events and wait until they are found; returns each by its memory id. All must be accepted."""
    # One server name for all: the id of a memory depends on it.
    answer = await whole.http.post(
        "/v1/events",
        params={"wait": "indexed", "timeout_ms": 60_000},
        content=json.dumps({"server": "S\u2028" * 60, "events": batch}, ensure_ascii=False).encode(),
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["rejected"] == []
    return dict(zip(answer.json()["ids"], batch, strict=True))


def assert_equal(memory: FoundMemory, event: Sent) -> None:
    """The memory is the event."""
    given = {"importance": 5.0, "type": None, "tick": None, "pos": None} | event
    assert memory.text == given["text"]
    assert memory.metadata == {**given.get("data", {}), **given.get("metadata", {})}
    assert memory.timestamp == given.get("time", memory.accepted_at)
    for name in ("type", "tick", "pos", "importance"):
        assert getattr(memory, name) == given[name], name


async def check_reads(whole: Whole, agent_id: str, expected: dict[str, Sent]) -> None:
    """Pages, search, get, context, summary, the older route and gRPC show the agent's memories as they were sent."""
    found: dict[str, FoundMemory] = {}
    cursor = None
    while True:
        page = await whole.client.recent(agent_id, 2, cursor=cursor)
        found |= {memory.id: memory for memory in page.memories}
        assert page.total == len(expected)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found.keys() == expected.keys()
    for memory_id, event in expected.items():
        assert_equal(found[memory_id], event)
        assert found[memory_id].agent_id == agent_id
        assert await whole.client.get(memory_id.upper(), agent_id) == found[memory_id]
        assert terminal.local_time(found[memory_id].timestamp)
    query = next(iter(expected.values()))["text"]
    for mode in ("dense", "keyword", "hybrid", None):
        answer = await whole.client.search(agent_id, query if mode else None, 100, mode=mode)
        assert all(found[memory.id].metadata == memory.metadata for memory in answer.memories)
        assert mode == "keyword" or {memory.id for memory in answer.memories} == expected.keys()
    context = await whole.client.context(agent_id, query, token_budget=100_000)
    assert {memory.id for memory in [*context.recent, *context.relevant]} <= expected.keys()
    assert (await whole.http.get(f"{path(agent_id)}/summary")).json()["total"] == len(expected)
    old = await whole.http.post("/memory/get", json={"agent_id": agent_id, "query": query, "k": 100})
    assert len(old.json()["memories"]) == len(expected)
    encoded = await whole.reads.get(whole.principal, agent_id, query, 100, None)
    for message in memory_pb2.GetMemoryResponse.FromString(encoded).memories:
        assert json.loads(message.metadata) == found[message.id].metadata
        assert (message.time, message.text) == (found[message.id].timestamp, found[message.id].text)
        assert message.timestamp == math.floor(message.time)


async def check_langgraph(whole: Whole, agent_id: str, expected: dict[str, Sent]) -> None:
    """Memories of an agent that is a namespace are items."""
    namespace = namespace_of(agent_id)
    if namespace is None:
        return
    store = LorestreamStore(asynchronous=whole.client)
    items = await store.asearch(namespace, limit=100)
    own = [item for item in items if item.namespace == namespace]
    assert {item.key for item in own} == {MEMORY_KEY_PREFIX + memory_id for memory_id in expected}
    for item in own:
        assert item.updated_at.tzinfo is not None
        assert await store.aget(namespace, item.key) is not None


def escaped(name: str) -> str:
    """A part of a path, with dots escaped as our clients do."""
    return quote(name, safe="").replace(".", "%2E")


async def write_state(whole: Whole, state: State) -> None:
    """Write the documents, values and policies, and wait until they are applied."""

    async def write(method: str, path: str, params: Any = None, **sent: Any) -> None:
        applied = {"wait": "applied", "timeout_ms": 60_000, **(params or {})}
        answer = await whole.http.request(method, path, params=applied, **sent)
        assert answer.status_code == 200, answer.text
        assert answer.json()["applied"]

    for one in state.documents:
        body = {name: one[name] for name in ("event_id", "data", "tick") if name in one}
        text = json.dumps(body, ensure_ascii=False).encode()
        await write("PUT", f"/v1/entities/{escaped(one['type'])}/{escaped(one['agent_id'])}", content=text)
    for one in state.q_values:
        update = {name: one[name] for name in ("state", "action", "value")}
        body = {"table": one["table"], "event_id": one["event_id"], "updates": [{**update, "op": "set"}]}
        text = json.dumps(body, ensure_ascii=False).encode()
        await write("POST", f"/v1/q/{escaped(one['agent_id'])}/update", content=text)
    for one in state.policies:
        params = {"name": one["name"], "event_id": one["event_id"]}
        await write("PUT", f"/v1/policies/{escaped(one['agent_id'])}", params, content=one["content"])


async def check_state(whole: Whole, state: State) -> None:
    """Every read shows what was written."""
    for one in state.documents:
        path = f"/v1/entities/{escaped(one['type'])}/{escaped(one['agent_id'])}"
        found = (await whole.http.get(path)).json()
        assert (found["data"], found["version"], found["tick"]) == (one["data"], 1, one.get("tick"))
        assert (found["type"], found["id"]) == (one["type"], one["agent_id"])
        answer = (await whole.http.get(f"{path}/writes/{escaped(one['event_id'])}")).json()
        assert (answer["applied"], answer["version"]) == (True, 1)
        [version] = (await whole.http.get(f"{path}/versions")).json()["versions"]
        assert version["version"] == 1
    for one in state.q_values:
        path = f"/v1/q/{escaped(one['agent_id'])}"
        asked = {"table": one["table"], "states": [one["state"]]}
        found = (await whole.http.post(f"{path}/values", json=asked)).json()["values"]
        assert found[one["state"]][one["action"]] == {"q": one["value"], "n": 1}
        everything = (await whole.http.get(path, params={"table": one["table"]})).json()["values"]
        assert everything[one["state"]] == found[one["state"]]
    for one in state.policies:
        answer = await whole.http.get(
            f"/v1/policies/{escaped(one['agent_id'])}", params={"name": one["name"]}
        )
        assert answer.content == one["content"]


async def check_dead_letters(whole: Whole) -> None:
    """Each record as a dead letter: listed, shown, retried."""
    records = await whole.runtime.log.read("dead", limit=10_000, wait_s=0)
    await whole.runtime.log.append_dead_letters(
        [DeadLetter(record, "test", "x\u2028y", 1) for record in records]
    )
    rows, _ = await whole.run("dlq-ls", limit=10_000)
    assert len(rows) == len(records)
    for row in rows:
        [shown], _ = await whole.run("dlq-show", id=row["id"])
        assert shown["value"]["op"] in {"put", "document", "q_update", "policy_part"}
    _, outcome = await whole.run("dlq-retry", every=True)
    assert outcome["retried"] == len(records)


async def check_rebuilds(whole: Whole, directory: Path, rows: list[dict[str, Any]], state: State) -> None:
    """Memories and state are the same in a collection that was replayed, and in a snapshot that was restored."""
    _, outcome = await whole.run("replay", to="again")
    assert outcome["gate"] == "passed", outcome["reasons"]
    await whole.run("alias-swap", to="again")
    await check_state(whole, state)
    assert in_order((await whole.run("export"))[0]) == in_order(rows)
    _, outcome = await whole.run("snapshot", to=str(directory / "copy"))
    target = load_settings(data_dir=directory / "restored", embedder={"kind": "hash"}, player_key="k1:test")
    reports = [
        report async for report in restores.restore(target, Path(outcome["snapshot"]), ledger_from=None)
    ]
    assert reports
    async with open_whole(target.data_dir, **EDGE) as restored:
        await check_state(restored, state)
        assert in_order((await restored.run("export"))[0]) == in_order(rows)


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of an export in one order."""
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


async def check(
    directory: Path,
    batch: Sequence[Sent],
    state: State,
    first: Any = None,
    second: Any = None,
    *,
    rebuilds: bool = False,
) -> None:
    """Send the batch and the state through every part. `first`, `second`: settings of the system, and of the one that imports.

    `rebuilds`: replay and restore, too.
    """
    by_agent: dict[str, dict[str, Sent]] = {}
    async with open_whole(directory / "first", **(first or {})) as whole:
        began = asyncio.Event()
        streaming = asyncio.create_task(streamed(whole.feed, len(batch), began))
        await began.wait()
        for memory_id, event in (await send(whole, batch)).items():
            by_agent.setdefault(event["agent_id"], {})[memory_id] = event
        lines = await asyncio.wait_for(streaming, 60)
        assert sorted(line["text"] for line in lines) == sorted(event["text"] for event in batch)
        for agent_id, expected in by_agent.items():
            await check_reads(whole, agent_id, expected)
            await check_langgraph(whole, agent_id, expected)
        listed = (await whole.http.get("/v1/agents", params={"limit": 1000})).json()["agents"]
        assert sum(agent["total"] for agent in listed) == len(batch)
        for agent in listed:
            page = await whole.http.get(f"{path(agent['agent_id'])}/memories")
            # The plain id of an agent that is also named after a player finds both.
            assert page.json()["total"] >= agent["total"], agent
        await write_state(whole, state)
        await check_state(whole, state)
        rows, outcome = await whole.run("export")
        assert outcome["memories"] == len(batch)
        await check_dead_letters(whole)
        assert (await whole.run("export"))[0] == rows
        if rebuilds:
            await check_rebuilds(whole, directory, rows, state)
    file = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    read = list(json_lines([file]))
    async with open_whole(directory / "second", **(second or {})) as other:
        numbered = list(enumerate((line.decode() for line in read), start=2))
        bad, counts = await other.run("import", lines=numbered)
        assert (bad, counts["imported"]) == ([], len(batch))
        _, indexed = await other.run("indexed", positions=counts["positions"])
        assert indexed["indexed"]
        await check_state(other, state)
        assert in_order((await other.run("export"))[0]) == in_order(rows)


EDGE = {"store": {"kind": "edge"}}
UNSHRUNK = {
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes
    "suppress_health_check": list(HealthCheck),
    "deadline": None,
}


@given(batch=batches, state=states)
@settings(max_examples=2, **UNSHRUNK)
async def test_what_the_embedded_shape_accepts_comes_back_equal_everywhere(
    tmp_path_factory: pytest.TempPathFactory, batch: list[Sent], state: State
) -> None:
    await check(tmp_path_factory.mktemp("whole"), with_ids(batch), state)


async def test_the_extremes_of_each_limit_survive_export_replay_and_restore(tmp_path: Path) -> None:
    await check(tmp_path, with_ids(EXTREMES), EXTREME_STATE, EDGE, rebuilds=True)


def on(qdrant: Qdrant) -> dict[str, Any]:
    """The settings of a store on a Qdrant server, in a collection of its own."""
    store = {"kind": "qdrant", "url": qdrant.url, "grpc_port": qdrant.grpc_port, "timeout_s": 30}
    return {"store": {**store, "api_key": qdrant.api_key, "collection": f"c-{uuid.uuid4().hex}"}}


@given(batch=batches, state=states)
@settings(max_examples=1, **UNSHRUNK)
async def test_what_is_accepted_over_a_qdrant_server_comes_back_equal_everywhere(
    tmp_path_factory: pytest.TempPathFactory, qdrant: Qdrant, batch: list[Sent], state: State
) -> None:
    await check(tmp_path_factory.mktemp("whole"), with_ids(batch), state, on(qdrant), on(qdrant))


@pytest.mark.soak
@pytest.mark.timeout(3000)
@given(batch=batches, state=states)
@settings(max_examples=200, **UNSHRUNK)
async def test_many_batches_come_back_equal_everywhere(
    tmp_path_factory: pytest.TempPathFactory, qdrant: Qdrant, batch: list[Sent], state: State
) -> None:
    directory = tmp_path_factory.mktemp("whole")
    try:
        await check(directory / "embedded", with_ids(batch), state, EDGE, EDGE, rebuilds=True)
        await check(directory / "server", with_ids(batch), state, on(qdrant), on(qdrant))
    finally:  # each example has stores of 600 MB, and temporary files may lie in memory
        shutil.rmtree(directory)
