"""A rewind over Kafka, a Qdrant server and Redis: each service has a ledger of its own, and learns of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from deploy.local.kafka import KafkaBroker
from deploy.local.redis_server import RedisServer
from lorestream.http.application import application
from lorestream.http.operation import Operation
from lorestream.settings import load_settings
from lorestream.telemetry import Metrics
from lorestream.wiring import WorkerParts, open_gateway, open_query, open_worker
from producers import gateway as writes
from producers.gateway import Gateway
from query_service import rest as reads
from query_service.recall import CurrentRecall
from tests.parts import running_worker
from tests.qdrant_stand_in.fixtures import Qdrant


@dataclass
class Services:
    """HTTP clients of the gateway and the query service, and the parts of the worker."""

    gateway: httpx2.AsyncClient
    query: httpx2.AsyncClient
    worker: WorkerParts

    async def write(self, path: str, body: dict[str, Any] | None, *, method: str = "POST") -> dict[str, Any]:
        answer = await self.gateway.request(method, path, json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def shown(self, agent: str, token: str) -> list[str]:
        """The texts that a search shows, which waits for the write of that token; a page has to agree."""
        question = {"agent_id": agent, "k": 100, "after": token, "wait_ms": 30_000}
        answer = (await self.query.post("/v1/memories/search", json=question)).json()
        assert answer["fresh"], answer
        page = (await self.query.get(f"/v1/agents/{agent}/memories")).json()
        texts = sorted(one["text"] for one in answer["memories"])
        assert (page["total"], sorted(one["text"] for one in page["memories"])) == (len(texts), texts)
        return texts


@contextlib.asynccontextmanager
async def client(name: str, operations: Sequence[Operation], metrics: Metrics) -> AsyncIterator[Any]:
    transport = httpx2.ASGITransport(app=application(name, operations, metrics=metrics))
    async with httpx2.AsyncClient(transport=transport, base_url="http://lorestream") as http:
        yield http


@contextlib.asynccontextmanager
async def services(
    folder: Path, unique: str, kafka: KafkaBroker, qdrant: Qdrant, redis: RedisServer
) -> AsyncIterator[Services]:
    topics = {"topic": unique, "dlq_topic": f"{unique}.dlq", "erasures_topic": f"{unique}.erasures"}
    chosen = load_settings(
        data_dir=folder,
        log={"bootstrap": kafka.bootstrap, "partitions": 2, **topics},
        store={"url": qdrant.url, "grpc_port": qdrant.grpc_port, "collection": unique},
        cache={"kind": "redis", "url": redis.url},
        embedder={"kind": "hash"},
        player_key="k1:test",
    )
    async with open_worker(chosen) as worker, open_gateway(chosen) as gateway, open_query(chosen) as query:
        async with (
            running_worker(worker),
            client("gateway", writes.operations(Gateway.over(gateway)), gateway.metrics) as to_gateway,
            client("query", reads.operations(CurrentRecall(query)), query.metrics) as to_query,
        ):
            yield Services(to_gateway, to_query, worker)
        await qdrant.drop(worker.collections.current.name)


async def test_every_service_learns_of_a_rewind_and_of_its_undoing(
    tmp_path: Path, unique: str, kafka: KafkaBroker, qdrant: Qdrant, redis_server: RedisServer
) -> None:
    agent = f"npc:{unique}"

    def events(*texts: str, server: str = "one") -> dict[str, Any]:
        return {"server": server, "events": [{"agent_id": agent, "text": text} for text in texts]}

    async with services(tmp_path, unique, kafka, qdrant, redis_server) as up:
        first = await up.write("/v1/events", events("saw the mill"))
        assert await up.shown(agent, first["token"]) == ["saw the mill"]
        path = f"/v1/memories/{first['ids'][0]}"
        to = (await up.query.get(path, params={"agent_id": agent})).json()["accepted_at"]
        await up.write("/v1/events", events("saw it burn"))
        last = await up.write("/v1/events", events("saw the sea", server="two"))
        assert len(await up.shown(agent, last["token"])) == 3
        size = await up.query.post("/v1/rewinds/preview", json={"server": "one", "to": to})
        assert size.json() == {"memories": 1, "agents": 1}

        rewound = await up.write("/v1/rewinds", {"server": "one", "to": to})
        assert await up.shown(agent, rewound["token"]) == ["saw the mill", "saw the sea"]
        [state] = await up.worker.ledger.rewinds.states("default")
        assert (state.rewind.id, state.done) == (rewound["rewind_id"], True)
        again = await up.write("/v1/events", events("saw the morning"))
        left = ["saw the mill", "saw the morning", "saw the sea"]
        assert await up.shown(agent, again["token"]) == left

        undone = await up.write(f"/v1/rewinds/{rewound['rewind_id']}", None, method="DELETE")
        assert await up.shown(agent, undone["token"]) == sorted([*left, "saw it burn"])
        view = (await up.gateway.get(f"/v1/rewinds/{rewound['rewind_id']}")).json()
        assert view["state"] == "undone"
