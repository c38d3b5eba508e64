"""Two tenants and a thousand agents, each with a canary of its own: no question gets another one's, however it is put.

Every text holds a token that no other one has. Whatever an answer holds of them, anywhere in it, has to be of the
tenant who asks and of the agents that it asked for.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx2
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.local.process import free_port
from lorestream.access.authentication import ApiKeyAuthenticator
from lorestream.grpc import memory_pb2 as pb
from lorestream.grpc import memory_pb2_grpc
from lorestream.grpc.server import Handlers, serving
from lorestream.http.application import application
from lorestream.identity import memory_id
from query_service.recall import Recall
from query_service.rest import operations
from query_service.rpc import Reads
from tests.api_keys import bearer
from tests.http_gateway import SetClock
from tests.parts import open_parts, put
from tests.retrieval.reader import NOW, over

pytestmark = pytest.mark.asyncio(loop_scope="module")

TENANTS = ("a", "b")
AGENTS = 500
"""Number of agents of each tenant; both tenants use the same names."""
_TOKEN = re.compile(r"[ab]canary\d{3}")


def token(tenant: str, number: int) -> str:
    """A text that occurs only in the memory of one agent."""
    return f"{tenant}canary{number:03}"


def agent(number: int) -> str:
    """The name of an agent of both tenants."""
    return f"npc:{number}"


@dataclass
class Tenant:
    """The access of one tenant, with a key that has all of its scopes."""

    name: str
    http: httpx2.AsyncClient
    rpc: Any
    authorization: str

    def all(self) -> set[str]:
        """The tokens of all of its agents."""
        return {token(self.name, number) for number in range(AGENTS)}

    def of(self, agents: Collection[str]) -> set[str]:
        """The tokens of these agents of its own."""
        return {token(self.name, number) for number in range(AGENTS) if agent(number) in agents}

    async def post(self, path: str, body: object, allowed: set[str]) -> httpx2.Response:
        """Send a request, and check that a successful response contains only allowed tokens."""
        answer = await self.http.post(path, json=body)
        self.check(answer, allowed, json.dumps(body))
        return answer

    async def get(self, path: str, allowed: set[str]) -> httpx2.Response:
        """As `post`, for a GET."""
        answer = await self.http.get(path)
        self.check(answer, allowed, path)
        return answer

    @staticmethod
    def check(answer: httpx2.Response, allowed: set[str], sent: str) -> None:
        held = set(_TOKEN.findall(answer.text))
        if answer.status_code == 200:
            assert held <= allowed, (answer.request.url, sent, held - allowed)
        else:
            assert answer.status_code in {400, 403, 404}, answer.text
            assert held <= set(_TOKEN.findall(sent)), answer.text

    async def rpc_get(self, agent_id: str, query: str, filters: str) -> list[str] | None:
        """The texts of a gRPC response, None for an error."""
        request = pb.GetMemoryRequest(agent_id=agent_id, query_text=query, k=100, filters_json=filters)
        try:
            found = await self.rpc.GetMemory(
                request, metadata=(("authorization", self.authorization),), timeout=30
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return None
        return [memory.text for memory in found.memories]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tenants(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sequence[Tenant]]:
    folder = tmp_path_factory.mktemp("lorestream")
    key_file = folder / "keys.json"
    key_file.write_bytes(b'{"version": 1, "keys": []}')
    keys = {name: bearer(key_file, tenant=name) for name in TENANTS}
    async with open_parts(folder / "data") as runtime, over(runtime) as reader:
        await reader.write(*(_memory(runtime.pseudonyms, name, n) for name in TENANTS for n in range(AGENTS)))
        async with _served(reader.recall, key_file) as (app, port):
            channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}") for _ in TENANTS]
            transport = httpx2.ASGITransport(app=app)
            yield [
                Tenant(
                    name,
                    httpx2.AsyncClient(
                        transport=transport,
                        base_url="http://lorestream",
                        headers={"Authorization": keys[name]},
                    ),
                    memory_pb2_grpc.MemoryServiceStub(channel),
                    keys[name],
                )
                for name, channel in zip(TENANTS, channels, strict=True)
            ]
            for channel in channels:
                await channel.close()


@contextlib.asynccontextmanager
async def _served(recall: Recall, key_file: Path) -> AsyncIterator[tuple[Any, int]]:
    """The service with a key file: HTTP in this process, gRPC on a port."""
    authenticator = ApiKeyAuthenticator(key_file, SetClock(NOW))
    app = application(
        "query", operations(lambda: recall), metrics=recall.metrics, authenticator=authenticator
    )
    async with serving(
        Handlers(get=Reads(lambda: recall).get), "127.0.0.1", free_port(), authenticator=authenticator
    ) as port:
        yield app, port


def _memory(pseudonyms: Any, tenant: str, number: int) -> Any:
    other = "b" if tenant == "a" else "a"
    return put(
        f"the {token(tenant, number)} sings of gold",
        tenant=tenant,
        agent=agent(number),
        event_id="same",
        at=NOW - 1 - number,
        type="song",
        player=pseudonyms.player(tenant, "sam"),
        pos={"x": float(number), "y": 0.0, "z": 0.0},
        tick=float(number),
        # Metadata with the names of fields that isolate tenants and agents: it must have no effect.
        metadata={"n": number, "tenant": other, "agent_id": agent(number + 1), "agent_key": f'["{other}"]'},
    )


# --- strategies ------------------------------------------------------------------------------------------

_agents = st.integers(0, AGENTS - 1).map(agent) | st.sampled_from(
    ["*", "%", "npc:", '["b","npc:1"]', "b\x00npc:1", "b/npc:1", "npc:1\n", "player:sam", "NPC:1", "../b"]
)
_OWN = "tenant agent_id agent agent_key key id memory_id point_id text type player server tick timestamp importance"
_MORE = "expires_at accepted_at tombstone pos.x pos n $ * [] a[].b payload.tenant"
_METADATA = ("n", "tenant", "agent_id", "agent_key", "metadata")
_fields = st.sampled_from([*_OWN.split(), *_MORE.split(), *(f"metadata.{name}" for name in _METADATA)])
_scalars = (
    st.sampled_from(
        [*TENANTS, "default", "song", "sam", "s", "bcanary001", "acanary001", '["b"]', True, False]
    )
    | st.integers(-1, AGENTS)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _agents
)
_operator = st.sampled_from(
    ["eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "contains", "exists", "match"]
)
_condition = _scalars | st.lists(_scalars, max_size=4) | st.none()
_condition |= st.dictionaries(_operator, _condition, max_size=2)
_filters = st.recursive(
    st.dictionaries(_fields, _condition, max_size=3),
    lambda inner: (
        st.dictionaries(st.sampled_from(["AND", "OR", "NOT"]), st.lists(inner, max_size=3), max_size=2)
        | st.dictionaries(st.just("NOT"), inner, max_size=1)
    ),
    max_leaves=4,
)
_near = st.fixed_dictionaries(
    {"radius": st.sampled_from([0, 1, 1e3, 1e308])},
    optional={axis: st.sampled_from([0, -1e308, 1e308, 3]) for axis in "xyz"},
)
_weight = st.sampled_from([0, 1, 5e-324, 1e308])
_weights = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("relevance", "recency", "importance", "half_life_s"), _weight)
)
_scope = (
    _agents.map(lambda one: {"agent_id": one})
    | st.lists(_agents, max_size=5).map(lambda some: {"agent_ids": some})
    | st.just({"scope": "tenant"})
    | st.fixed_dictionaries(
        {}, optional={"agent_id": _agents, "scope": st.sampled_from(["tenant", "b", "*"])}
    )
)
_query = st.sampled_from(
    ["gold", "the bcanary001 sings of gold", "acanary001", "tenant:b", '{"tenant": "b"}']
)
_search = st.fixed_dictionaries(
    {"k": st.just(100)},
    optional={
        "query": _query,
        "mode": st.sampled_from(["dense", "keyword", "hybrid"]),
        "filters": _filters,
        "near": _near,
        "weights": _weights,
        "min_score": st.sampled_from([-1e308, -1, 0]),
        "explain": st.booleans(),
        "tenant": st.sampled_from(TENANTS),
    },
)


# --- properties ------------------------------------------------------------------------------------------


async def test_every_agent_finds_its_own_memory(tenants: Sequence[Tenant]) -> None:
    """Without this the other tests could not fail."""
    for tenant in tenants:
        own = token(tenant.name, 7)
        body = {"agent_id": agent(7), "query": "gold"}
        for path in ("/v1/memories/search", "/memory/get"):
            assert own in (await tenant.post(path, body, {own})).text
        answer = await tenant.post("/v1/memories/search", {"scope": "tenant", "k": 100}, tenant.all())
        assert len(answer.json()["memories"]) == 100
        assert own in (await tenant.get("/v1/agents/npc%3A7/memories", {own})).text
        assert await tenant.rpc_get(agent(7), "gold", "") == [f"the {own} sings of gold"]


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(scope=_scope, search=_search, other=_scope)
async def test_no_search_returns_memories_of_others(
    tenants: Sequence[Tenant], scope: dict[str, Any], search: dict[str, Any], other: dict[str, Any]
) -> None:
    """Both tenants send the same search in turn: a cached answer of one must not be served to the other."""
    body = {**scope, **search}
    for tenant in tenants:
        allowed, others = (_allowed(tenant, each) for each in (scope, other))
        await tenant.post("/v1/memories/search", body, allowed)
        batch = {"searches": [{**other, **search}, body, search]}
        answer = await tenant.post("/v1/memories/search/batch", batch, allowed | others)
        results = answer.json()["results"]
        for result, its in zip(results, (others, allowed, set[str]()), strict=True):
            assert "error" in result or set(_TOKEN.findall(json.dumps(result))) <= its


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(
    name=_agents, query=_query, filters=_filters, bounds=st.sampled_from(["", "&tick_from=-1", "&type=song"])
)
async def test_no_read_of_one_agent_returns_memories_of_others(
    tenants: Sequence[Tenant], name: str, query: str, filters: dict[str, Any], bounds: str
) -> None:
    encoded, text = quote(name, safe=""), json.dumps(filters)
    for tenant in tenants:
        allowed = tenant.of([name])
        await tenant.post(f"/v1/agents/{encoded}/context", {"query": query, "filters": filters}, allowed)
        await tenant.post(
            "/memory/get", {"agent_id": name, "query": query, "filters": filters, "k": 100}, allowed
        )
        page = f"/v1/agents/{encoded}/memories?limit=1000&filters={quote(text, safe='')}{bounds}"
        await tenant.get(page, allowed)
        await tenant.get(f"/v1/agents/{encoded}/summary", allowed)
        found = await tenant.rpc_get(name, query, text) or []
        assert set(_TOKEN.findall(" ".join(found))) <= allowed


async def test_ids_cursors_and_tokens_of_others_give_no_access(tenants: Sequence[Tenant]) -> None:
    for tenant, other in (tenants, tenants[::-1]):
        for number in range(0, AGENTS, 25):
            own = memory_id(tenant.name, "s", agent(number), "same")
            foreign = memory_id(other.name, "s", agent(number), "same")
            where = f"?agent_id={quote(agent(number))}"
            allowed = tenant.of([agent(number)])
            assert (await tenant.get(f"/v1/memories/{own}{where}", allowed)).status_code == 200
            for one, name in ((foreign, agent(number)), (own, agent(number + 1)), (own, "*")):
                answer = await tenant.get(f"/v1/memories/{one}?agent_id={quote(name)}", set())
                assert answer.status_code == 404
        page = (await other.get("/v1/agents/npc%3A3/memories?limit=1", other.of([agent(3)]))).json()
        summary = (await tenant.get("/v1/agents/npc%3A3/summary", set())).json()
        assert (page["total"], summary["total"]) == (1, 1)
        agents = (await tenant.get("/v1/agents?limit=1000", set())).json()["agents"]
        assert {one["agent_id"]: one["total"] for one in agents} == {agent(n): 1 for n in range(AGENTS)}


def _allowed(tenant: Tenant, scope: dict[str, Any]) -> set[str]:
    if scope.get("scope") == "tenant":
        return tenant.all()
    return tenant.of([scope.get("agent_id", ""), *scope.get("agent_ids", [])])
