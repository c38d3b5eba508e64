"""Access over HTTP: every route with every scope, streams, the routes of the peer service."""

from __future__ import annotations

import asyncio
import itertools
import re
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.responses import StreamingResponse

from lorestream.access import authentication, key_file
from lorestream.access.authentication import ApiKeyAuthenticator
from lorestream.access.key_file import KeyScope
from lorestream.cli.admin.tasks import tasks_over
from lorestream.cli.serve import operators
from lorestream.http import other_service
from lorestream.http.application import application
from lorestream.http.operation import Operation
from lorestream.http.request import ApiRequest, json_response
from lorestream.http.status_page import StatusRow, status_page
from lorestream.telemetry import Metrics
from lorestream.wiring import Runtime
from lorestream.wiring.feeds import feed_over
from producers import gateway as writes
from producers.gateway import Gateway
from query_service import rest as reads
from query_service import stream_routes
from query_service.recall import CurrentRecall
from tests.api_keys import POLL_INTERVAL_S, ShiftedClock, bearer, is_valid, key_id, wait_until
from tests.parts import open_parts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


NEEDS = {
    ("POST", "/v1/events"): KeyScope.INGEST,
    ("POST", "/memory/put"): KeyScope.INGEST,
    ("DELETE", "/v1/memories/{id}"): KeyScope.ERASE,
    ("DELETE", "/v1/agents/{agent_id}"): KeyScope.ERASE,
    ("DELETE", "/v1/players/{name}"): KeyScope.ERASE,
    ("POST", "/v1/erasures"): KeyScope.ERASE,
    ("GET", "/v1/erasures"): KeyScope.ERASE,
    ("GET", "/v1/erasures/{erasure_id}"): KeyScope.ERASE,
    ("POST", "/v1/rewinds"): KeyScope.ERASE,
    ("GET", "/v1/rewinds"): KeyScope.ERASE,
    ("GET", "/v1/rewinds/{id}"): KeyScope.ERASE,
    ("DELETE", "/v1/rewinds/{id}"): KeyScope.ERASE,
    ("POST", "/memory/delete"): KeyScope.ERASE,
    ("POST", "/v1/entities/{type}/{id}"): KeyScope.INGEST,
    ("PATCH", "/v1/entities/{type}/{id}"): KeyScope.INGEST,
    ("POST", "/v1/entities/{type}/{id}/patch"): KeyScope.INGEST,
    ("POST", "/v1/entities/{type}/{id}/rollback"): KeyScope.INGEST,
    ("DELETE", "/v1/entities/{type}/{id}"): KeyScope.ERASE,
    ("POST", "/v1/entities/{type}/{id}/delete"): KeyScope.ERASE,
    ("POST", "/v1/q/{id}/update"): KeyScope.INGEST,
    ("POST", "/v1/policies/{id}"): KeyScope.INGEST,
    ("POST", "/v1/policies/{id}/rollback"): KeyScope.INGEST,
    ("DELETE", "/v1/policies/{id}"): KeyScope.ERASE,
    ("POST", "/v1/policies/{id}/delete"): KeyScope.ERASE,
    ("POST", "/v1/memories/search"): KeyScope.QUERY,
    ("POST", "/v1/memories/search/batch"): KeyScope.QUERY,
    ("GET", "/v1/memories/{id}"): KeyScope.QUERY,
    ("GET", "/v1/agents/{agent_id}/memories"): KeyScope.QUERY,
    ("GET", "/v1/agents/{agent_id}/summary"): KeyScope.QUERY,
    ("POST", "/v1/agents/{agent_id}/context"): KeyScope.QUERY,
    ("POST", "/memory/get"): KeyScope.QUERY,
    ("GET", "/v1/entities/{type}"): KeyScope.ADMIN,
    ("GET", "/v1/entities/{type}/{id}"): KeyScope.QUERY,
    ("GET", "/v1/entities/{type}/{id}/versions"): KeyScope.QUERY,
    ("GET", "/v1/entities/{type}/{id}/writes/{event_id}"): KeyScope.QUERY,
    ("POST", "/v1/q/{id}/values"): KeyScope.QUERY,
    ("GET", "/v1/q/{id}"): KeyScope.QUERY,
    ("GET", "/v1/q/{id}/writes/{event_id}"): KeyScope.QUERY,
    ("GET", "/v1/policies/{id}"): KeyScope.QUERY,
    ("GET", "/v1/policies/{id}/versions"): KeyScope.QUERY,
    ("GET", "/v1/policies/{id}/writes/{event_id}"): KeyScope.QUERY,
    ("POST", "/v1/memories/get"): KeyScope.QUERY,
    ("POST", "/v1/memories/explain"): KeyScope.QUERY,
    ("POST", "/v1/memories/places"): KeyScope.QUERY,
    ("POST", "/v1/memories/likeness"): KeyScope.QUERY,
    ("POST", "/v1/memories/{id}/supersede"): KeyScope.INGEST,
    ("GET", "/v1/agents/{agent_id}/relations"): KeyScope.QUERY,
    ("POST", "/v1/rewinds/preview"): KeyScope.ERASE,
    ("POST", "/v1/agents/{agent_id}/aggregate"): KeyScope.QUERY,
    ("GET", "/v1/agents"): KeyScope.ADMIN,
    ("GET", "/v1/stream"): KeyScope.QUERY,
    ("POST", "/v1/webhooks"): KeyScope.ADMIN,
    ("GET", "/v1/webhooks"): KeyScope.ADMIN,
    ("DELETE", "/v1/webhooks/{id}"): KeyScope.ADMIN,
    ("POST", "/v1/webhooks/{id}/resume"): KeyScope.ADMIN,
    ("POST", "/v1/webhooks/{id}/test"): KeyScope.ADMIN,
    **{
        ("GET", f"/v1/admin/{name}"): KeyScope.OPERATOR
        for name in ("pipeline", "settings", "keys", "audit", "tasks")
    },
    **{
        ("POST", f"/v1/admin/{task}"): KeyScope.OPERATOR
        for task in (
            *("dlq-ls", "dlq-show", "dlq-retry", "dlq-drop", "snapshot", "replay", "cache-clear"),
            *("alias-list", "alias-swap", "alias-rollback", "drop", "doctor"),
        )
    },
    **{
        ("POST", f"/v1/admin/{task}"): (KeyScope.ADMIN, KeyScope.OPERATOR)
        for task in ("export", "import", "indexed")
    },
}
"""The scope of each route, or the scopes of which one is needed.

A route that is missing here fails the test below: add its scope.
"""

OPEN = ["/health", "/ready", "/metrics", "/docs", "/openapi.json", "/"]

BODIES: dict[str, object] = {
    "/v1/webhooks": {"url": "https://example.com/in"},
    "/v1/events": {"events": [{"agent_id": "a", "text": "x"}]},
    "/memory/put": {"agent_id": "a", "text": "x"},
    "/v1/erasures": {"agent_id": "a"},
    "/v1/rewinds": {"server": "s", "to": 1.0},
    "/memory/delete": {"agent_id": "a"},
    "/v1/entities/{type}/{id}": {"data": {}},
    "/v1/entities/{type}/{id}/patch": {"data": {}},
    "/v1/entities/{type}/{id}/rollback": {"to": 1},
    "/v1/entities/{type}/{id}/delete": {},
    "/v1/q/{id}/update": {"updates": [{"state": "s", "action": "a", "op": "set", "value": 1}]},
    "/v1/policies/{id}": {},
    "/v1/policies/{id}/rollback": {"to": 1},
    "/v1/policies/{id}/delete": {},
    "/v1/q/{id}/values": {"states": ["s"]},
    "/v1/memories/get": {"agent_id": "a", "ids": ["x"]},
    "/v1/memories/explain": {"agent_id": "a", "query": "x", "id": "x"},
    "/v1/memories/places": {"agent_id": "a"},
    "/v1/agents/{agent_id}/aggregate": {"type": "reward", "field": "metadata.value", "every_s": 60},
    "/v1/memories/likeness": {"agent_id": "a"},
    "/v1/memories/{id}/supersede": {"text": "x"},
    "/v1/rewinds/preview": {"server": "s", "to": 1.0},
    "/v1/memories/search": {"agent_id": "a", "query": "x"},
    "/v1/memories/search/batch": {"searches": [{"agent_id": "a", "query": "x"}]},
    "/v1/agents/{agent_id}/context": {},
    "/memory/get": {"agent_id": "a", "query": "x"},
    "/v1/admin/dlq-ls": {},
    "/v1/admin/dlq-show": {"id": "0-0"},
    "/v1/admin/dlq-retry": {"every": True, "dry_run": True},
    "/v1/admin/dlq-drop": {"every": True, "dry_run": True},
    "/v1/admin/snapshot": {},
    "/v1/admin/replay": {"to": "agent_memories"},
    "/v1/admin/cache-clear": {},
    "/v1/admin/alias-list": {},
    "/v1/admin/alias-swap": {"to": "agent_memories"},
    "/v1/admin/alias-rollback": {},
    "/v1/admin/drop": {"name": "agent_memories"},
    "/v1/admin/export": {},
    "/v1/admin/import": {"lines": []},
    "/v1/admin/indexed": {"positions": {}},
    "/v1/admin/doctor": {},
}
"""Admin tasks get arguments that change nothing: they are refused, or there is nothing to do."""


@dataclass
class Service:
    """An application with all operations that needs keys, and an HTTP client without a key."""

    runtime: Runtime
    operations: list[Operation]
    authenticator: ApiKeyAuthenticator
    http: httpx2.AsyncClient

    async def send(self, method: str, route: str, authorization: str | None = None) -> httpx2.Response:
        """Send a request with a valid body for the route."""
        # Only what supersedes a memory needs an id that could be one.
        path = re.sub(r"{\w+}", str(uuid.UUID(int=0)) if route.endswith("/supersede") else "a", route)
        if (method == "DELETE" and "memor" in route) or route.startswith(("/v1/memories/{id}", "/v1/stream")):
            path += "?agent_id=a"
        headers = {} if authorization is None else {"Authorization": authorization}
        body = None if method == "DELETE" else BODIES.get(route)
        return await self.http.request(method, path, json=body, headers=headers)


@pytest.fixture
async def service(tmp_path: Path, path: Path, clock: ShiftedClock) -> AsyncIterator[Service]:
    bearer(path)
    async with (
        open_parts(tmp_path / "data") as runtime,
        ApiKeyAuthenticator.open(path, clock, poll_interval_s=POLL_INTERVAL_S) as authenticator,
        feed_over(runtime) as feed,
    ):
        feed.close()  # so that a stream ends
        offered = [
            *writes.operations(Gateway.over(runtime)),
            *reads.operations(CurrentRecall(runtime)),
            *stream_routes.operations(CurrentRecall(runtime), feed),
            *operators.operations("lorestream", runtime, [], tasks_over(runtime)),
        ]

        async def rows() -> list[StatusRow]:
            return [StatusRow("Memories", "12")]

        app = application(
            "lorestream",
            offered,
            metrics=runtime.metrics,
            authenticator=authenticator,
            pages=[status_page("Lorestream", rows, needs_keys=authenticator.needs_keys)],
        )
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://lorestream") as http:
            yield Service(runtime, offered, authenticator, http)


def needed_scopes(operation: Operation) -> tuple[KeyScope, ...]:
    """The scopes of which the route needs one, by the table above."""
    needed = NEEDS[operation.method, operation.path]
    return (needed,) if isinstance(needed, KeyScope) else needed


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    return answer.json()["error"]


async def test_every_route_against_every_scope(service: Service, path: Path):
    assert {(each.method, each.path) for each in service.operations} == set(NEEDS)
    sent = {scope: bearer(path, scope) for scope in KeyScope}
    await wait_until(lambda: all(is_valid(service.authenticator, each) for each in sent.values()))
    for operation in service.operations:
        for method in operation.methods:
            for scope, authorization in sent.items():
                before = await service.runtime.log.end()
                answer = await service.send(method, operation.path, authorization)
                where = f"{method} {operation.path} with {scope}"
                if scope in needed_scopes(operation):
                    assert answer.status_code in {200, 201, 202, 404, 409}, f"{where}: {answer.text}"
                    continue
                assert answer.status_code == 403, where
                assert error_of(answer)["code"] == "forbidden", where
                assert await service.runtime.log.end() == before, f"{where} wrote something"


INVALID_KEYS = ["", "Bearer nobody.nothing", "Bearer nonsense", "Basic YTpi", "Bearer \xe9.\xe9", "x" * 2**20]


async def test_every_route_refuses_callers_without_a_valid_key(service: Service):
    for operation, authorization in itertools.product(service.operations, [None, *INVALID_KEYS]):
        for method in operation.methods:
            before = await service.runtime.log.end()
            headers = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]
            answer = await service.http.request(
                method, operation.path.replace("{", "").replace("}", ""), headers=headers
            )
            assert answer.status_code == 401, (operation, str(authorization)[:20])
            assert answer.headers["www-authenticate"] == "Bearer"
            assert error_of(answer)["code"] == "unauthorized"
            expected = authentication.MISSING_KEY if authorization is None else authentication.INVALID_KEY
            assert error_of(answer)["message"] == expected
            assert await service.runtime.log.end() == before


async def test_two_authorization_headers_are_refused(service: Service, path: Path):
    first, second = bearer(path), bearer(path, tenant="b")
    await wait_until(lambda: is_valid(service.authenticator, second))
    for pair in ((first, second), (second, first), (first, "Bearer x")):
        headers = [("Authorization", each) for each in pair]
        answer = await service.http.get("/v1/agents", headers=headers)
        assert answer.status_code == 401


async def test_open_pages_need_no_key(service: Service):
    for route in OPEN:
        assert (await service.http.get(route)).status_code == 200, route
    assert (await service.http.get("/v1/nowhere")).status_code == 404
    assert (await service.http.patch("/v1/agents")).status_code == 405


async def test_the_whole_tenant_is_for_admins(service: Service, path: Path):
    search = {"scope": "tenant", "query": "x"}
    reader, admin = bearer(path, KeyScope.QUERY), bearer(path, KeyScope.QUERY, KeyScope.ADMIN)
    await wait_until(lambda: is_valid(service.authenticator, admin))
    answers = [
        await service.http.post("/v1/memories/search", json=search, headers={"Authorization": sent})
        for sent in (reader, admin)
    ]
    assert [answer.status_code for answer in answers] == [403, 200]
    batch = await service.http.post(
        "/v1/memories/search/batch", json={"searches": [search]}, headers={"Authorization": reader}
    )
    assert batch.json()["results"][0]["error"]["code"] == "forbidden"


async def test_the_document_names_the_keys_and_their_scopes(service: Service):
    document = (await service.http.get("/openapi.json")).json()
    [(name, scheme)] = document["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    documented = {route: scope for route, scope in NEEDS.items() if not route[1].startswith("/v1/admin/")}
    for (method, path), scope in documented.items():
        assert document["paths"][path][method.lower()]["security"] == [{name: [scope]}]
    page = (await service.http.get("/docs")).text
    assert page.count("key with the scope <code>admin</code>") == 7
    assert "export LORESTREAM_API_KEY" in (await service.http.get("/")).text


async def test_without_keys_the_document_names_none():
    app = application("x", [_echo()], metrics=Metrics())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as http:
        assert "security" not in (await http.get("/openapi.json")).text
        assert "scope" not in (await http.get("/docs")).text
        assert (await http.get("/echo", headers={"Authorization": "Bearer a.b"})).status_code == 200


async def test_a_parameter_given_twice_is_refused_everywhere(service: Service, path: Path):
    headers = {"Authorization": bearer(path)}
    await wait_until(lambda: is_valid(service.authenticator, headers["Authorization"]))
    for operation in service.operations:
        answer = await service.http.request(
            operation.method,
            operation.path.replace("{", "").replace("}", "") + "?x=1&x=1",
            json=BODIES.get(operation.path),
            headers=headers,
        )
        assert answer.status_code == 400, operation
        assert error_of(answer)["details"]["path"] == "x"


# --- answers without end -------------------------------------------------------------------------------------


def _echo(handler: Callable[[ApiRequest], Any] | None = None) -> Operation:
    async def echo(call: ApiRequest) -> Any:
        return json_response({"tenant": call.tenant})

    return Operation("GET", "/echo", handler or echo, "Echo", KeyScope.QUERY, dict)


async def test_a_stream_ends_when_its_key_is_revoked(path: Path, clock: ShiftedClock):
    sent = bearer(path)
    closed = asyncio.Event()

    async def stream(_call: ApiRequest) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"."
                    await asyncio.sleep(0.001)
            finally:
                closed.set()

        return StreamingResponse(chunks())

    async with ApiKeyAuthenticator.open(path, clock, poll_interval_s=POLL_INTERVAL_S) as authenticator:
        app = application("x", [_echo(stream)], metrics=Metrics(), authenticator=authenticator)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://x") as http:
            answering = asyncio.create_task(http.get("/echo", headers={"Authorization": sent}))
            await asyncio.sleep(0.1)
            assert not answering.done()
            key_file.revoke(path, key_id(sent))
            answer = await asyncio.wait_for(answering, 5)
            assert answer.status_code == 200
            assert closed.is_set()


async def test_no_chunk_is_sent_after_a_revocation(path: Path, clock: ShiftedClock):
    """A chunk that was pending when the key was revoked is not sent either."""
    sent = bearer(path)
    more = asyncio.Event()
    authenticator = ApiKeyAuthenticator(path, clock)

    async def stream(_call: ApiRequest) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first "
            await more.wait()
            yield b"second"

        return StreamingResponse(chunks())

    app = application("x", [_echo(stream)], metrics=Metrics(), authenticator=authenticator)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as http:
        answering = asyncio.create_task(http.get("/echo", headers={"Authorization": sent}))
        await asyncio.sleep(0.05)
        key_file.revoke(path, key_id(sent))
        authenticator._read_if_changed()
        more.set()
        assert (await answering).text == "first "


async def test_a_search_that_waited_is_refused_when_its_key_was_revoked_meanwhile(
    path: Path, clock: ShiftedClock
):
    """A write that is done is answered as such: only what was stored for the tenant is withheld."""
    bearer(path)
    authenticator = ApiKeyAuthenticator(path, clock)

    async def wait(call: ApiRequest) -> Any:
        key_file.revoke(path, call.principal.key)
        authenticator._read_if_changed()
        return json_response({"tenant": call.tenant})

    for scope, status in ((KeyScope.QUERY, 401), (KeyScope.ADMIN, 401), (KeyScope.INGEST, 200)):
        sent = bearer(path, scope)
        authenticator._read_if_changed()
        wanted = Operation("GET", "/wait", wait, "Wait", scope, dict)
        app = application("x", [wanted], metrics=Metrics(), authenticator=authenticator)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as http:
            answer = await http.get("/wait", headers={"Authorization": sent})
            assert answer.status_code == status
            assert ("tenant" in answer.json()) is (status == 200)


# --- the other service's routes ------------------------------------------------------------------------------


async def test_each_service_names_the_peer_service(tmp_path: Path, path: Path, clock: ShiftedClock):
    sent = bearer(path)
    async with open_parts(tmp_path / "data") as runtime:
        authenticator = ApiKeyAuthenticator(path, clock)
        write, read = writes.operations(Gateway.over(runtime)), reads.operations(CurrentRecall(runtime))
        for own, others, there in ((write, read, other_service.READS), (read, write, other_service.WRITES)):
            assert {(each.method, each.path) for each in others} <= set(there.routes)
            app = application("x", own, metrics=runtime.metrics, authenticator=authenticator, peer=there)
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://x") as http:
                for other in others:
                    route = other.path.replace("{", "").replace("}", "%2F")
                    for method in other.methods:
                        for headers in ({}, {"Authorization": sent}):
                            answer = await http.request(method, route, headers=headers)
                            assert answer.status_code == 404, (method, route)
                            assert error_of(answer)["code"] == "wrong_service"
                            assert error_of(answer)["details"] == {"service": there.name}
                            assert there.name in error_of(answer)["message"]
                for mine in own:
                    route = mine.path.replace("{", "").replace("}", "")
                    assert (await http.request(mine.method, route)).status_code == 401, mine
                assert error_of(await http.get("/nowhere"))["code"] == "not_found"
                assert error_of(await http.patch("/v1/memories/x"))["code"] == "method_not_allowed"
