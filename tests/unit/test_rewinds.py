"""Rewinds through the whole application in this process: what they hide, what they leave, and their undoing."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lorestream import identity
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.memories import Memory, PageQuery, Scope
from lorestream.ports import VectorStore
from lorestream.rewinds import Rewind
from stream_workers.indexing.indexer import Indexer
from tests.parts import pipeline_over
from tests.whole_app import WholeApp, open_app

AGENTS = ("npc:a", "npc:b")
SEEDS = range(12, 16)
"""Acts with which an undone correction had come back, and others."""
NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[WholeApp]:
    async with open_app(tmp_path) as opened:
        yield opened


async def write(up: WholeApp, server: str, *events: dict[str, Any]) -> list[dict[str, Any]]:
    """Write events of one server, and wait until they can be found; the memories as a read by id shows them."""
    body = {"server": server, "events": list(events)}
    answer = await up.ask("POST", "/v1/events?wait=indexed", json=body)
    assert answer["indexed"], answer
    return [
        await up.ask("GET", f"/v1/memories/{id_}", params={"agent_id": event["agent_id"]})
        for id_, event in zip(answer["ids"], events, strict=True)
    ]


async def rewind(up: WholeApp, server: str, to: float) -> str:
    """Rewind a server, and wait until that is processed; the id."""
    answer = await up.ask("POST", "/v1/rewinds", json={"server": server, "to": to})
    await processed(up, answer["token"])
    return answer["rewind_id"]


async def undo(up: WholeApp, rewind_id: str) -> None:
    answer = await up.ask("DELETE", f"/v1/rewinds/{rewind_id}")
    assert answer["rewind_id"] == rewind_id
    await processed(up, answer["token"])


async def processed(up: WholeApp, token: str) -> None:
    question = {"agent_id": "nobody", "after": token, "wait_ms": 20_000}
    assert (await up.ask("POST", "/v1/memories/search", json=question))["fresh"]


async def state(up: WholeApp, rewind_id: str) -> str:
    return (await up.ask("GET", f"/v1/rewinds/{rewind_id}"))["state"]


async def shown(up: WholeApp, agent: str) -> list[str]:
    """The texts that the reads of an agent show, all of which have to agree."""
    page = await up.ask("GET", f"/v1/agents/{agent}/memories?limit=1000")
    recent = sorted(one["text"] for one in page["memories"])
    assert page["total"] == len(recent)
    assert (await up.ask("GET", f"/v1/agents/{agent}/summary"))["total"] == len(recent)
    for how in ({}, {"query": "saw"}, {"query": "saw", "mode": "dense", "weights": {"recency": 1}}):
        question = {"agent_id": agent, "k": 100, **how}
        for _ in range(2):  # the second time from the cache
            found = await up.ask("POST", "/v1/memories/search", json=question)
            assert sorted(one["text"] for one in found["memories"]) == recent, how
    return recent


async def test_a_rewind_hides_what_the_server_sent_since_and_its_undoing_shows_it_again(up: WholeApp) -> None:
    a, b = AGENTS
    [first] = await write(up, "one", {"agent_id": a, "text": "saw the old mill"})
    later = await write(
        up,
        "one",
        {"agent_id": a, "text": "saw the mill burn", "type": "fire", "metadata": {"ore": "iron"}},
        {"agent_id": b, "text": "saw smoke"},
        {"agent_id": b, "type": "reward", "data": {"value": 1}, "recall": False},
    )
    await write(up, "two", {"agent_id": a, "text": "saw the sea"})
    await up.ask("PUT", "/v1/entities/character/npc:a?wait=applied", json={"data": {"name": "Ada"}})
    whole = {agent: await shown(up, agent) for agent in AGENTS}

    size = {"server": "one", "to": first["accepted_at"]}
    assert await up.ask("POST", "/v1/rewinds/preview", json=size) == {"memories": 3, "agents": 2}
    rewind_id = await rewind(up, "one", first["accepted_at"])
    assert await up.ask("POST", "/v1/rewinds/preview", json=size) == {"memories": 0, "agents": 0}
    assert await shown(up, a) == ["saw the old mill", "saw the sea"]
    assert await shown(up, b) == []
    assert [one["agent_id"] for one in (await up.ask("GET", "/v1/agents"))["agents"]] == [a]
    for one, agent in zip(later, (a, b, b), strict=True):
        answer = await up.http.get(f"/v1/memories/{one['id']}", params={"agent_id": agent})
        assert answer.status_code == 404
    assert (await up.ask("GET", f"/v1/agents/{b}/memories?type=reward"))["memories"] == []
    assert (await up.ask("GET", "/v1/entities/character/npc:a"))["data"] == {"name": "Ada"}
    await write(up, "one", {"agent_id": b, "text": "saw the morning"})
    assert await shown(up, b) == ["saw the morning"]

    view = await up.ask("GET", f"/v1/rewinds/{rewind_id}")
    assert (view["server"], view["to"], view["undone_at"]) == ("one", first["accepted_at"], None)
    assert view["accepted_at"] > later[-1]["accepted_at"]
    assert await state(up, rewind_id) == "done"
    for _ in range(2):
        await undo(up, rewind_id)
        assert await state(up, rewind_id) == "undone"
    assert await shown(up, a) == whole[a]
    assert await shown(up, b) == sorted([*whole[b], "saw the morning"])
    for one, agent in zip(later, (a, b, b), strict=True):
        assert await up.ask("GET", f"/v1/memories/{one['id']}", params={"agent_id": agent}) == one
    assert [one["rewind_id"] for one in (await up.ask("GET", "/v1/rewinds"))["rewinds"]] == [rewind_id]


async def test_an_event_id_may_be_given_again_in_the_world_that_goes_on(up: WholeApp) -> None:
    [before] = await write(up, "s", {"id": "1", "agent_id": "a", "text": "saw the gate"})
    await write(up, "s", {"id": "2", "agent_id": "a", "text": "saw it fall"})
    await rewind(up, "s", before["accepted_at"])
    events = [
        {"id": "1", "agent_id": "a", "text": "again"},
        {"id": "2", "agent_id": "a", "text": "saw it stand"},
    ]
    await up.ask("POST", "/v1/events?wait=indexed", json={"server": "s", "events": events})
    assert await shown(up, "a") == ["saw it stand", "saw the gate"]


async def test_what_was_given_an_id_again_stays_when_the_rewind_is_undone_and_in_a_replay(
    up: WholeApp,
) -> None:
    [old] = await write(up, "other", {"agent_id": "a", "text": "saw the gate"})
    [first] = await write(
        up, "s", {"id": "1", "agent_id": "a", "text": "saw it fall", "supersedes": old["id"]}
    )
    assert await shown(up, "a") == ["saw it fall"]
    rewind_id = await rewind(up, "s", first["accepted_at"] - 1e-6)
    [again] = await write(up, "s", {"id": "1", "agent_id": "a", "text": "saw it stand"})
    assert again["id"] == first["id"]
    for group in ("while it is rewound", "undone"):
        assert await shown(up, "a") == ["saw it stand", "saw the gate"]
        async with opened_store() as other:
            await refilled(up, other, group)
            assert await held(other, 0.0) == await held(up.runtime.store, 0.0)
        await undo(up, rewind_id)


async def test_requests_that_cannot_be_right_are_refused_and_unknown_servers_are_not(up: WholeApp) -> None:
    now = up.runtime.clock.now()
    for body, path in (
        ({"server": "s", "to": now + 3600}, "to"),
        ({"server": "s", "to": 1e300}, "to"),
        ({"server": "", "to": now}, "server"),
        ({"server": "s"}, None),
        ({"server": "s", "to": now, "dry_run": True}, None),
    ):
        for route in ("/v1/rewinds", "/v1/rewinds/preview"):
            answer = await up.http.post(route, json=body)
            assert answer.status_code == 400, (route, body)
            if path is not None:
                assert answer.json()["error"]["details"]["path"] == path, answer.text
    assert (await up.ask("GET", "/v1/rewinds"))["rewinds"] == []
    for method in ("GET", "DELETE"):
        assert (await up.http.request(method, f"/v1/rewinds/{NOWHERE}")).status_code == 404
    rewind_id = await rewind(up, "nobody knows it", -1e9)
    assert await state(up, rewind_id) == "done"


async def test_an_indexer_applies_what_its_ledger_learns_of_without_the_record(up: WholeApp) -> None:
    """As after the late write of a worker that was suspended: the record was processed by another one."""
    await write(up, "s", {"agent_id": "a", "text": "saw the gate"})
    rewind = Rewind("r", "default", "s", 0.0, up.runtime.clock.now())
    for change, total in ((rewind, 0), (replace(rewind, undone_at=rewind.accepted_at + 1), 1)):
        await up.runtime.ledger.rewinds.put(change)
        async with asyncio.timeout(60):
            while (await up.ask("GET", "/v1/agents/a/summary"))["total"] != total:
                await asyncio.sleep(0.01)
        assert len(await shown(up, "a")) == total


async def test_a_repeated_request_makes_no_second_rewind(up: WholeApp) -> None:
    [first] = await write(up, "s", {"agent_id": "a", "text": "saw the gate"})
    body = {"server": "s", "to": first["accepted_at"] - 1, "id": "restore of monday"}
    put: Any = mock.AsyncMock(wraps=up.runtime.ledger.rewinds.put)
    with mock.patch.object(up.runtime.ledger.rewinds, "put", put):  # at the same time, and then once more
        answers = await asyncio.gather(*(up.ask("POST", "/v1/rewinds", json=body) for _ in range(2)))
        answers.append(await up.ask("POST", "/v1/rewinds", json=body))
    assert len({answer["rewind_id"] for answer in answers}) == 1
    assert len({call.args[0].accepted_at for call in put.await_args_list}) == 1
    other = await up.http.post("/v1/rewinds", json={**body, "server": "t"})
    assert (other.status_code, other.json()["error"]["details"]["path"]) == (400, "id")
    await processed(up, answers[1]["token"])
    assert await shown(up, "a") == []
    async with up.client() as client:
        [only] = await client.rewinds()
        assert only == await client.find_rewind(answers[0]["rewind_id"])
        await processed(up, (await client.undo_rewind(only.rewind_id)).token)
        assert await shown(up, "a") == ["saw the gate"]
        undone = await up.http.post("/v1/rewinds", json=body)
        assert (undone.status_code, undone.json()["error"]["details"]["path"]) == (400, "id")
        size = await client.rewind_size("s", body["to"])
        assert (size.memories, size.agents) == (1, 1)
        again = await client.rewind("s", body["to"])
        assert again.rewind_id != only.rewind_id


# --- any order of writes, rewinds, undoings and removals ----------------------------------------------------


@dataclass
class Model:
    """What one server's agents should know.

    `memories` by id, each as a read shows it; `rewinds` by id, those that are not undone; `deleted` are ids.
    """

    memories: dict[str, dict[str, Any]] = field(default_factory=dict)
    rewinds: dict[str, tuple[float, float]] = field(default_factory=dict)
    undone: list[str] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)

    def is_hidden(self, memory: dict[str, Any]) -> bool:
        return any(to < memory["accepted_at"] <= until for to, until in self.rewinds.values())

    def takes(self, memory_id: str) -> bool:
        """Whether an event of that id is stored now."""
        if memory_id in self.deleted:
            return False
        return memory_id not in self.memories or self.is_hidden(self.memories[memory_id])

    def known(self, agent: str) -> list[str]:
        own = [one for one in self.memories.values() if one["agent_id"] == agent and not self.is_hidden(one)]
        return sorted(
            one["text"]
            for one in own
            if not any(
                new.get("supersedes") == one["id"]
                and ("supersedes" not in one or new["accepted_at"] > one["accepted_at"])
                for new in own
            )
        )


async def act(
    up: WholeApp, rng: random.Random, model: Model, server: str, numbers: Callable[[], int]
) -> None:
    """One random act, on the application and on the model."""
    agent = f"{server}:{rng.choice(AGENTS)}"

    def event() -> dict[str, Any]:
        return {"agent_id": agent, "text": f"saw {numbers()}"}

    match rng.choice(["write"] * 4 + ["again"] * 2 + ["rewind"] * 3 + ["undo"] * 2 + ["delete", "erase"]):
        case "again":
            await put(up, rng, model, server, {**event(), "id": "again"})
            await rewind_some(up, rng, model, server)
            await put(up, rng, model, server, {**event(), "id": "again"})
        case "rewind":
            await rewind_some(up, rng, model, server)
        case "undo" if model.rewinds or model.undone:
            chosen = rng.choice([*model.rewinds, *model.undone])
            await undo(up, chosen)
            model.rewinds.pop(chosen, None)
            model.undone.append(chosen)
        case "delete" if model.memories:
            chosen = rng.choice([*model.memories])
            owner = model.memories.pop(chosen)["agent_id"]
            model.deleted.add(chosen)
            await up.erase(agent_id=owner, memory_id=chosen)
        case "erase" if rng.random() < 0.3:
            await up.erase(agent_id=agent)
            model.memories = {key: one for key, one in model.memories.items() if one["agent_id"] != agent}
        case _:
            await put(up, rng, model, server, event() | rng.choice([{}, {"id": "again"}]))


async def rewind_some(up: WholeApp, rng: random.Random, model: Model, server: str) -> None:
    times = sorted(one["accepted_at"] for one in model.memories.values())[-3:] or [0.0]
    to = rng.choice(times) - rng.choice([0.0, 1e-6, 0.5])
    rewind_id = await rewind(up, server, to)
    model.rewinds[rewind_id] = to, (await up.ask("GET", f"/v1/rewinds/{rewind_id}"))["accepted_at"]


async def put(up: WholeApp, rng: random.Random, model: Model, server: str, event: dict[str, Any]) -> None:
    """Write an event, maybe as one that supersedes a memory of this or another agent, be it shown, hidden or deleted."""
    agent = event["agent_id"]
    own = identity.memory_id("default", server, agent, event.get("id", ""))
    others = sorted({*model.memories, *model.deleted} - {own})
    if others and rng.random() < 0.5:
        event["supersedes"] = rng.choice(others)
    answer = await up.ask("POST", "/v1/events?wait=indexed", json={"server": server, "events": [event]})
    [written] = answer["ids"]
    if model.takes(written):
        stored = await up.ask("GET", f"/v1/memories/{written}", params={"agent_id": agent})
        assert (stored["text"], stored.get("supersedes")) == (event["text"], event.get("supersedes"))
        model.memories[written] = stored


async def held(store: VectorStore, now: float) -> dict[str, Memory]:
    """Everything in a store that its reads show, by id; also what they show only if they are asked to."""
    query = PageQuery(Scope("default", superseded=True), 1, now)
    return {one.id: one async for some in store.each(query) for one in some}


async def refilled(up: WholeApp, store: VectorStore, group: str) -> None:
    """Fill another store from the log."""
    pipeline = pipeline_over(up.runtime, store)
    await Indexer(up.runtime.log, pipeline, None, cache=None, group=group).run(burst=True)


async def test_any_order_of_acts_gives_what_a_model_says_and_a_replay_gives_the_same(up: WholeApp) -> None:
    numbers, models = count(1).__next__, dict[str, Model]()
    for seed in SEEDS:
        rng, server = random.Random(seed), f"s{seed}"
        model = models[server] = Model()
        for _ in range(12):
            await act(up, rng, model, server, numbers)
        for agent in AGENTS:
            assert await shown(up, f"{server}:{agent}") == model.known(f"{server}:{agent}"), seed
    now = up.runtime.clock.now()
    assert any(model.rewinds for model in models.values())
    async with opened_store() as other, opened_store() as last:
        await refilled(up, other, "other")
        assert await held(other, now) == await held(up.runtime.store, now)
        for model in models.values():
            for rewind_id in [*model.rewinds]:
                await undo(up, rewind_id)
                del model.rewinds[rewind_id]
        await refilled(up, other, "other")
        back = await held(other, now)
        assert back == await held(up.runtime.store, now)
        await refilled(up, last, "last")
        assert await held(last, now) == back
        texts: Sequence[str] = [
            text
            for server, model in models.items()
            for agent in AGENTS
            for text in model.known(f"{server}:{agent}")
        ]
        assert sorted(one.text for one in back.values() if one.superseded_at is None) == sorted(texts)


def opened_store() -> contextlib.AbstractAsyncContextManager[VectorStore]:
    """An empty store, in memory."""
    return EdgeStore.open(None, model_id="hash", dim=384)
