"""The demo village, played through the real gateway, log, worker and store with the real model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from msgspec import structs

from lorestream.access.authentication import ANONYMOUS
from lorestream.adapters.qdrant.exact_filter import matches
from lorestream.http.application import application
from lorestream.memories import Memory, PageQuery
from lorestream.ports import Priority
from lorestream.wiring import Runtime
from producers import gateway
from producers.demo import village
from query_service.queries import parse_search
from query_service.schemas import Near, Search
from tests.models import real_model
from tests.parts import indexer_over, open_parts
from tests.retrieval.background import add_background
from tests.retrieval.bench.corpus import Question
from tests.retrieval.reader import Reader, over

SEED = 7
SERVER = "village"
EXPIRED_AFTER_S = 60.0
"""TTL of the memories that have expired when the questions are asked."""


@dataclass
class Played:
    """`events`: of one day. `ids`: event id -> memory id. `hidden`: memory ids that no answer may contain."""

    reader: Reader
    events: list[dict[str, Any]]
    questions: list[village.Question]
    ids: Mapping[str, str]
    hidden: frozenset[str]

    async def ask(self, question: village.Question | Question, **more: Any) -> list[dict[str, Any]]:
        """The memories that the query service returns."""
        body = {"agent_id": question.agent_id, "k": 5, **question.where, **more}
        return (await self.reader.search(question.query, **body))["memories"]

    async def exact(self, question: village.Question) -> list[tuple[float, str]]:
        """(cosine, memory id) of all memories in the question's scope and filter, computed by NumPy, the best first."""
        runtime, now = self.reader.runtime, self.reader.clock.now()
        near = question.where.get("near")
        search = Search(
            agent_id=question.agent_id,
            filters=question.where.get("filters"),
            near=Near(**near) if near else None,
        )
        asked = parse_search(search, ANONYMOUS, runtime.pseudonyms)
        memories = await runtime.store.page(PageQuery(asked.agents.scope, 10_000, now))
        fitting = [one for one in memories if matches(asked.filter, one) and _within(asked.sphere, one)]
        texts = [question.query, *(one.text for one in fitting)]
        vectors = (await runtime.embedder.embed(texts, Priority.INGEST)).vectors.astype(np.float64)
        cosines = vectors[1:] @ vectors[0]
        newest_first = np.argsort(-cosines, kind="stable")  # a page comes newest first
        return [(float(cosines[row]), fitting[row].id) for row in newest_first]


def _within(sphere: Any, memory: Memory) -> bool:
    return sphere is None or sphere.contains(memory)


@contextlib.asynccontextmanager
async def play(data: Path, *, memories: int = 0, seed: int = SEED) -> AsyncIterator[Played]:
    """Play the village, with copies of every answer's event that must stay hidden.

    `memories`: the least number of memories in all; background memories are added to reach it.
    """
    real_model()
    async with open_parts(data, embedder={"kind": "openvino"}) as runtime, over(runtime) as reader:
        start = runtime.clock.now() - village.DAY_S
        events, questions = village.events(seed, start), village.questions(seed, start)
        gold = {event_id for question in questions for event_id in question.gold}
        twins = [event for event in events if event["id"] in gold]
        service = gateway.Gateway.over(runtime)
        app = application("gateway", gateway.operations(service), metrics=runtime.metrics)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            ids = await _send(client, events)
            expired = await _send(
                client, [{**_twin(one, "expired"), "ttl": EXPIRED_AFTER_S} for one in twins]
            )
            deleted = await _send(client, [_twin(one, "deleted") for one in twins])
            for one in twins:
                target = {"agent_id": one["agent_id"], "memory_id": deleted[f"{one['id']} deleted"]}
                assert (await client.post("/v1/erasures", json=target)).status_code == 202
        await indexer_over(runtime).run(burst=True)
        await add_background(runtime, max(0, memories - len(events)), start)
        foreign = await _copy_elsewhere(runtime, reader, [ids[one["id"]] for one in twins])
        reader.clock.time = runtime.clock.now() + EXPIRED_AFTER_S
        hidden = frozenset({*expired.values(), *deleted.values(), *foreign})
        yield Played(reader, events, questions, ids, hidden)


def _twin(event: dict[str, Any], fate: str) -> dict[str, Any]:
    return {**event, "id": f"{event['id']} {fate}"}


async def _send(client: httpx2.AsyncClient, events: list[dict[str, Any]]) -> dict[str, str]:
    """Send the events; return event id -> memory id."""
    answer = await client.post("/v1/events", json={"server": SERVER, "events": events})
    assert answer.status_code == 202, answer.text
    assert answer.json()["rejected"] == []
    return dict(zip((event["id"] for event in events), answer.json()["ids"], strict=True))


async def _copy_elsewhere(runtime: Runtime, reader: Reader, ids: list[str]) -> list[str]:
    """Insert copies of the memories for another tenant and for another agent; return their ids."""
    wanted, copies = set(ids), []
    for role in village.VILLAGERS:
        scope = parse_search(Search(agent_id=f"npc:{role}-1"), ANONYMOUS, runtime.pseudonyms).agents.scope
        for one in await runtime.store.page(PageQuery(scope, 1_000_000, runtime.clock.now())):
            if one.id in wanted:
                copies.append(structs.replace(one, id=f"{one.id} tenant", tenant="other"))
                copies.append(structs.replace(one, id=f"{one.id} agent", agent_id="npc:double-1"))
    assert len(copies) == 2 * len(ids)
    vectors = (await runtime.embedder.embed([one.text for one in copies])).vectors
    await runtime.store.insert(copies, vectors)
    return [one.id for one in copies]
