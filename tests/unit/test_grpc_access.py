"""Access over gRPC: every call of MemoryService with every scope."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from lorestream.access import key_file
from lorestream.access.authentication import ApiKeyAuthenticator, Principal
from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidEvent, InvalidRequest
from lorestream.grpc import memory_pb2 as pb
from lorestream.grpc import memory_pb2_grpc
from lorestream.grpc.server import Handlers, serving
from lorestream.telemetry import Metrics
from query_service.queries import get_request
from tests.api_keys import POLL_INTERVAL_S, ShiftedClock, bearer, is_valid, wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


RPCS = {
    "PutMemory": (pb.PutMemoryRequest(agent_id="a", text="x"), KeyScope.INGEST),
    "GetMemory": (pb.GetMemoryRequest(agent_id="a", query_text="x"), KeyScope.QUERY),
    "DeleteMemory": (pb.DeleteMemoryRequest(agent_id="a"), KeyScope.ERASE),
}


@dataclass
class Rpc:
    """A MemoryService that needs keys; `callers` are the principals whose calls reached a handler."""

    channel: grpc.aio.Channel
    authenticator: ApiKeyAuthenticator
    callers: list[Principal] = field(default_factory=list)

    async def code(self, method: str, *authorizations: Any, data: bytes | None = None) -> grpc.StatusCode:
        """The status code of a call."""
        call = self.channel.unary_unary(f"/memory.MemoryService/{method}")
        request = RPCS[method][0].SerializeToString() if data is None else data
        metadata = tuple(("authorization", each) for each in authorizations)
        try:
            await call(request, metadata=metadata, timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.fixture
async def rpc(path: Path, clock: ShiftedClock) -> AsyncIterator[Rpc]:
    bearer(path)
    async with contextlib.AsyncExitStack() as stack:
        authenticator = await stack.enter_async_context(
            ApiKeyAuthenticator.open(path, clock, poll_interval_s=POLL_INTERVAL_S)
        )
        callers: list[Principal] = []

        async def put(principal: Principal, *_arguments: object) -> str:
            callers.append(principal)
            return "id"

        async def get(principal: Principal, *arguments: object) -> bytes:
            callers.append(principal)
            if arguments[1] == "revoke":
                key_file.revoke(path, principal.key)
                await wait_until(lambda: principal.key not in authenticator._entries)
            return b""

        async def delete(principal: Principal, *_arguments: object) -> None:
            callers.append(principal)

        handlers = Handlers(put=put, get=get, delete=delete)
        port = await stack.enter_async_context(serving(handlers, "127.0.0.1", 0, authenticator=authenticator))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        yield Rpc(channel, authenticator, callers)


async def test_every_call_against_every_scope(rpc: Rpc, path: Path):
    sent = {scope: bearer(path, scope, tenant=f"t-{scope}") for scope in KeyScope}
    await wait_until(lambda: all(is_valid(rpc.authenticator, each) for each in sent.values()))
    for method, (_, needed) in RPCS.items():
        for scope, authorization in sent.items():
            expected = grpc.StatusCode.OK if scope is needed else grpc.StatusCode.PERMISSION_DENIED
            assert await rpc.code(method, authorization) is expected, f"{method} with {scope}"
            garbled = grpc.StatusCode.INVALID_ARGUMENT if scope is needed else expected
            assert await rpc.code(method, authorization, data=b"\xff\xff") is garbled
    assert rpc.callers == [Principal(f"t-{needed}", frozenset({needed})) for _, needed in RPCS.values()]


@pytest.mark.parametrize(
    "sent",
    [(), ("",), ("Bearer nobody.nothing",), ("Bearer x",), ("two", "two"), ("Bearer " + "x" * 4096,)],
    ids=lambda sent: str(sent)[:30],
)
async def test_every_call_refuses_callers_without_a_valid_key(rpc: Rpc, path: Path, sent: tuple[str, ...]):
    good = bearer(path)
    await wait_until(lambda: is_valid(rpc.authenticator, good))
    chosen = [good, bearer(path)] if sent == ("two", "two") else sent
    for method in RPCS:
        for data in (None, b"\xff\xff"):
            assert await rpc.code(method, *chosen, data=data) is grpc.StatusCode.UNAUTHENTICATED
    assert rpc.callers == []


async def test_metadata_over_the_limit_reaches_no_handler(rpc: Rpc):
    for method in RPCS:
        code = await rpc.code(method, "Bearer " + "x" * 2**20)
        assert code in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAUTHENTICATED}
    assert rpc.callers == []


async def test_calls_of_the_peer_service_name_it_without_a_key(path: Path, clock: ShiftedClock):
    bearer(path)
    async with (
        serving(
            Handlers(peer="the query service"), "127.0.0.1", 0, authenticator=ApiKeyAuthenticator(path, clock)
        ) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError, match="the query service") as caught:
            await memory_pb2_grpc.MemoryServiceStub(channel).GetMemory(RPCS["GetMemory"][0], timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_search_that_waited_is_refused_when_its_key_was_revoked_meanwhile(rpc: Rpc, path: Path):
    good = bearer(path)
    await wait_until(lambda: is_valid(rpc.authenticator, good))
    request = pb.GetMemoryRequest(agent_id="a", query_text="revoke").SerializeToString()
    assert await rpc.code("GetMemory", good, data=request) is grpc.StatusCode.UNAUTHENTICATED
    assert len(rpc.callers) == 1


@pytest.mark.parametrize("text", ["x", "\N{SNOWMAN}"])
async def test_a_long_error_message_is_cut_and_keeps_its_status(text: str):
    """It travels in a header: a client refuses the response when it is too long."""

    async def get(*_arguments: object) -> bytes:
        raise InvalidRequest(f"unknown operator {text * 200_000}")

    async with (
        serving(Handlers(get=get), "127.0.0.1", 0) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError, match="unknown operator") as caught:
            await memory_pb2_grpc.MemoryServiceStub(channel).GetMemory(RPCS["GetMemory"][0], timeout=5)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_connections_that_send_nothing_are_limited_and_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lorestream.grpc.server.free_files", lambda: 20)
    monkeypatch.setattr("lorestream.grpc.server.HANDSHAKE_TIMEOUT_MS", 3000)

    async def get(*_arguments: object) -> bytes:
        return b""

    async with serving(Handlers(get=get), "127.0.0.1", 0) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        greeted = 0
        for reader, writer in idle:  # each ends, whether it was refused or sent nothing in time
            with contextlib.suppress(ConnectionError):
                greeted += bool(await asyncio.wait_for(reader.read(), 30))
            writer.close()
        assert 0 < greeted < len(idle), "only accepted connections get the first frame of HTTP/2"
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await memory_pb2_grpc.MemoryServiceStub(channel).GetMemory(RPCS["GetMemory"][0], timeout=30)


async def test_an_error_names_the_field_of_the_message_and_is_cut_to_what_a_trailer_holds():
    async def refuse(*_arguments: object) -> Any:
        return get_request("a", "", 5, None)

    async def put(*arguments: Any) -> str:
        raise InvalidEvent(f"木{arguments[2]}" * 100_000, path="ttl")

    async with (
        serving(Handlers(put=put, get=refuse), "127.0.0.1", 0) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetMemory(pb.GetMemoryRequest(agent_id="a"))
        assert (caught.value.code(), str(caught.value.details()).partition(":")[0]) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "query_text",
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetMemory(pb.GetMemoryRequest(agent_id="a", filters_json="[1]"))
        assert str(caught.value.details()).startswith("filters_json: ")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.PutMemory(pb.PutMemoryRequest(agent_id="a", text="x"))
        details = str(caught.value.details())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith("ttl_seconds: 木x")
        assert len(details) < 600


async def test_calls_are_counted_by_the_code_of_their_answer() -> None:
    async def put(_principal: Principal, agent_id: str, *_: object) -> str:
        if agent_id == "bad":
            raise InvalidRequest("no", path="agent_id")
        if agent_id == "fault":
            raise RuntimeError
        return "id"

    metrics = Metrics()
    async with (
        serving(Handlers(put=put), "127.0.0.1", 0, metrics=metrics) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        for agent_id in ("a", "bad", "fault"):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.PutMemory(pb.PutMemoryRequest(agent_id=agent_id, text="x"))
        with contextlib.suppress(grpc.aio.AioRpcError):
            await stub.GetMemory(pb.GetMemoryRequest(agent_id="a", query_text="x"))
    counted = {
        (sample.labels["method"], sample.labels["code"]): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "lorestream_grpc_requests_total"
    }
    assert counted == {
        ("PutMemory", "OK"): 1,
        ("PutMemory", "INVALID_ARGUMENT"): 1,
        ("PutMemory", "UNKNOWN"): 1,
        ("GetMemory", "UNIMPLEMENTED"): 1,
    }
