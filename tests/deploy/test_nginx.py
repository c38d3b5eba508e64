"""A real nginx with deploy/nginx.conf, between clients and small servers that stand for gateway and query service."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deploy.local.nginx import Nginx
from deploy.local.process import free_port
from lorestream.grpc import memory_pb2, memory_pb2_grpc
from lorestream.grpc.server import Handlers, serving
from lorestream.http.other_service import READS, WRITES
from tests.brokers import running

MIB = 2**20


class Echo(BaseHTTPRequestHandler):
    """Says who it is and what reached it."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.body()
        self.server.connections.add(self.client_address)
        said = {
            "service": self.server.name,
            "method": self.command,
            "path": self.path,
            "bytes": len(body),
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        answer = json.dumps(said).encode()
        self.send_response(502 if self.path == "/its-own-502" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def body(self) -> bytes:
        """The whole body: an answer before its end would be lost where the proxy still sends."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def echo(name: str, port: int = 0) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", port), Echo)
    server.name, server.connections, server.daemon_threads = name, set(), True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def door(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """Nginx over a gateway and a query service that echo, and with nobody at their gRPC ports."""
    with echo("gateway") as gateway, echo("query") as query:
        nginx = Nginx(
            tmp_path_factory.mktemp("nginx"),
            gateways=[(gateway.server_port, free_port())],
            queries=[(query.server_port, free_port())],
        )
        with running(nginx):
            yield SimpleNamespace(nginx=nginx, gateway=gateway, query=query)


def call(door: SimpleNamespace, method: str, path: str, body: bytes | None = None, **headers: str):
    """Status, headers and JSON of one request on a connection of its own, its path sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", door.nginx.port, timeout=10)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    read = (
        answer.status,
        {name.lower(): value for name, value in answer.getheaders()},
        json.loads(answer.read()),
    )
    connection.close()
    return read


def filled(path: str) -> str:
    return re.sub(r"{\w+}", "npc%3Aguard", path)


@pytest.mark.parametrize(("method", "path"), WRITES.routes)
def test_writes_go_to_the_gateway(door, method, path):
    assert call(door, method, filled(path))[2]["service"] == "gateway"
    assert call(door, method, filled(path) + "?wait=indexed")[2]["service"] == "gateway"


@pytest.mark.parametrize(("method", "path"), READS.routes)
def test_reads_go_to_the_query_service(door, method, path):
    assert call(door, method, filled(path))[2]["service"] == "query"
    assert call(door, method, filled(path) + "?limit=3")[2]["service"] == "query"


@pytest.mark.parametrize(("method", "path"), [*WRITES.routes, *READS.routes])
def test_put_goes_where_post_goes(door, method, path):
    if method == "POST":
        as_post, as_put = (call(door, each, filled(path), b"{}")[2] for each in ("POST", "PUT"))
        assert as_put["service"] == as_post["service"]
        assert as_put["method"] == "PUT"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health",
        "/ready",
        "/metrics",
        "/docs",
        "/console",
        "/console/lib/preact.js",
        "/openapi.json",
        "/v1/eventsx",
        "/memory/putter",
        "/nowhere",
    ],
)
def test_everything_else_goes_to_the_query_service(door, path):
    assert call(door, "GET", path)[2]["service"] == "query"


def test_the_readiness_of_a_gateway_has_a_path_of_its_own(door):
    said = call(door, "GET", "/ready/writes")[2]
    assert (said["service"], said["path"]) == ("gateway", "/ready")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/agents/npc%3Aa%2Fb%20c/memories",
        "/v1/agents/a%2F..%2F..%2Fb/summary",
        "/v1/agents/..%2F/summary",
        "/v1/agents/%E6%97%A5%25%3F%23/memories?filters=%7B%22type%22%3A%22dig%22%7D&cursor=a+b%3D",
        "/v1/agents/a;b,c'd(e)/memories",
        "/v1/agents/a//b",
        "/v1/agents/a/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_ids_reach_the_services_as_they_were_sent(door, method, path):
    said = call(door, method, path)[2]
    assert said["path"] == path
    assert said["service"] == ("gateway" if method == "DELETE" else "query")


def test_no_path_is_redirected(door):
    for path in ("/v1/agents", "/v1/agents/", "/v1/events/", "/docs/"):
        assert call(door, "GET", path)[0] == 200


def test_headers_and_bodies_reach_the_services(door):
    sent = {
        "Authorization": "Bearer a.b",
        "Content-Encoding": "zstd",
        "X-Request-Id": "mine-1",
        "Host": "x:1",
    }
    said = call(door, "POST", "/v1/events", b"12345", **sent)[2]
    assert said["bytes"] == 5
    assert said["headers"].items() >= {name.lower(): value for name, value in sent.items()}.items()
    assert (
        call(door, "GET", "/health", **{"X-Request-Id": "bad id"})[2]["headers"]["x-request-id"] != "bad id"
    )


def test_a_chunked_body_reaches_the_gateway(door):
    connection = http.client.HTTPConnection("127.0.0.1", door.nginx.port, timeout=10)
    connection.request("POST", "/v1/events", iter([b"abc", b"defg"]), encode_chunked=True)
    assert json.loads(connection.getresponse().read())["bytes"] == 7
    connection.close()


def test_a_body_a_little_too_large_is_the_gateways_to_refuse(door):
    assert call(door, "POST", "/v1/events", bytes(MIB + 1))[2]["bytes"] == MIB + 1


def test_policies_may_be_larger_than_other_bodies(door):
    assert call(door, "PUT", "/v1/policies/a%2Fb?name=x", bytes(16 * MIB + 1))[2]["bytes"] == 16 * MIB + 1
    connection = http.client.HTTPConnection("127.0.0.1", door.nginx.port, timeout=10)
    connection.request("PUT", "/v1/policies/a", iter([bytes(MIB)] * 2), encode_chunked=True)
    said = json.loads(connection.getresponse().read())
    assert (said["service"], said["bytes"]) == ("gateway", 2 * MIB)
    connection.close()


def test_a_body_far_too_large_is_refused_in_lorestreams_words(door):
    status, _, said = call(door, "POST", "/v1/events", bytes(2 * MIB))
    assert (status, said["error"]["code"]) == (413, "too_large")


def test_a_long_query_string_passes(door):
    path = "/v1/agents/a/memories?filters=" + "%22" * 10_000
    assert call(door, "GET", path)[2]["path"] == path
    status, _, said = call(door, "GET", path + "x" * 100_000)
    assert (status, said["error"]["code"]) == (414, "too_large")


def test_what_is_no_http_is_refused_in_lorestreams_words(door):
    with socket.create_connection(("127.0.0.1", door.nginx.port), timeout=30) as connection:
        connection.sendall(b"GET /v1/agents/%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_request"


def test_an_answer_of_the_services_own_passes_as_it_is(door):
    status, _, said = call(door, "GET", "/its-own-502")
    assert (status, said["service"]) == (502, "query")


def test_connections_to_the_services_are_kept(door):
    door.gateway.connections.clear()
    for _ in range(40):
        call(door, "POST", "/v1/events", b"{}")
    assert len(door.gateway.connections) < 10


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/events"), ("GET", "/v1/agents")])
def test_nobody_there_is_an_outage_in_lorestreams_words(tmp_path: Path, method, path):
    nginx = Nginx(tmp_path, gateways=[(free_port(), free_port())], queries=[(free_port(), free_port())])
    with running(nginx):
        status, headers, said = call(SimpleNamespace(nginx=nginx), method, path, **{"X-Request-Id": "mine"})
    assert status == 503
    assert headers["content-type"] == "application/json"
    assert headers["retry-after"] == "1"
    assert said["retry_after_ms"] == said["error"]["details"]["retry_after_ms"] == 1000
    assert (said["error"]["code"], said["error"]["request_id"]) == ("unavailable", "mine")


def test_a_gateway_that_is_gone_is_passed_over(tmp_path: Path):
    with echo("gateway") as gateway, echo("query") as query:
        gateways = [(free_port(), free_port()), (gateway.server_port, free_port())]
        nginx = Nginx(tmp_path, gateways=gateways, queries=[(query.server_port, free_port())])
        with running(nginx):
            found = [call(SimpleNamespace(nginx=nginx), "POST", "/v1/events", b"{}")[0] for _ in range(10)]
    assert found == [200] * 10


def test_the_door_is_open_soon_after_all_gateways_are_back(tmp_path: Path):
    ports = [free_port(), free_port()]
    nginx = Nginx(
        tmp_path, gateways=[(port, free_port()) for port in ports], queries=[(free_port(), free_port())]
    )
    with running(nginx):
        door = SimpleNamespace(nginx=nginx)
        assert {call(door, "POST", "/v1/events", b"{}")[0] for _ in range(10)} == {503}
        with echo("gateway", ports[0]), echo("gateway", ports[1]):
            time.sleep(2.1)  # nginx counts whole seconds, and waits until more than one has passed
            assert {call(door, "POST", "/v1/events", b"{}")[0] for _ in range(10)} == {200}


# --- gRPC ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def stub(tmp_path: Path):
    """A channel to nginx over real gRPC servers of Lorestream, the one with writes and the other with reads."""

    async def put(principal, agent_id, text, metadata, ttl_s) -> str:
        return f"put {agent_id}"

    async def get(principal, agent_id, query, k, filters) -> bytes:
        return b""

    async def delete(principal, agent_id) -> None:
        return None

    writes = Handlers(put=put, delete=delete, peer="the query service")
    reads = Handlers(get=get, peer="the gateway")
    async with serving(writes, "127.0.0.1", 0) as gateway, serving(reads, "127.0.0.1", 0) as query:
        nginx = Nginx(tmp_path, gateways=[(free_port(), gateway)], queries=[(free_port(), query)])
        with running(nginx):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{nginx.grpc_port}") as channel:
                yield memory_pb2_grpc.MemoryServiceStub(channel), channel


async def test_grpc_calls_go_where_they_are_answered(stub):
    service, _ = stub
    put = await service.PutMemory(memory_pb2.PutMemoryRequest(agent_id="a", text="t"))
    assert put.id == "put a"
    assert (await service.DeleteMemory(memory_pb2.DeleteMemoryRequest(agent_id="a"))).success
    found = await service.GetMemory(memory_pb2.GetMemoryRequest(agent_id="a", query_text="q"))
    assert list(found.memories) == []


async def test_grpc_refusals_pass_as_they_are(stub):
    service, _ = stub
    with pytest.raises(grpc.aio.AioRpcError) as too_large:
        await service.PutMemory(memory_pb2.PutMemoryRequest(agent_id="a", text="t" * 2 * MIB))
    assert too_large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.aio.AioRpcError) as invalid:
        await service.PutMemory(memory_pb2.PutMemoryRequest(agent_id="a", text="t", metadata_json="{"))
    assert invalid.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_metadata_that_nginx_refuses_is_an_invalid_argument(stub):
    service, _ = stub
    two_keys = [("authorization", "Bearer a.b"), ("authorization", "Bearer c.d")]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.GetMemory(memory_pb2.GetMemoryRequest(agent_id="a", query_text="q"), metadata=two_keys)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_health_and_reflection_answer_through_the_door(stub):
    _, channel = stub
    seen = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert seen.status == health_pb2.HealthCheckResponse.SERVING
    asking = reflection_pb2.ServerReflectionRequest(list_services="")
    stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asking]))
    names = [service.name async for answer in stream for service in answer.list_services_response.service]
    assert "memory.MemoryService" in names


async def test_nobody_there_is_unavailable(door):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.nginx.grpc_port}") as channel:
        service = memory_pb2_grpc.MemoryServiceStub(channel)
        for rpc, request in (
            (service.PutMemory, memory_pb2.PutMemoryRequest(agent_id="a", text="t")),
            (service.GetMemory, memory_pb2.GetMemoryRequest(agent_id="a", query_text="q")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as outage:
                await rpc(request, timeout=10)
            assert outage.value.code() is grpc.StatusCode.UNAVAILABLE
            assert outage.value.details() == "no service can be reached"
