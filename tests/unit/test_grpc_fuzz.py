"""Fuzzing the gRPC services: whatever is sent, no call ends with UNKNOWN, INTERNAL or another fault of the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from lorestream.grpc import memory_pb2 as pb
from lorestream.grpc.server import Handlers, serving
from producers.gateway import Gateway
from producers.rpc import Writes
from query_service.recall import CurrentRecall
from query_service.rpc import Reads
from stream_workers.worker import Worker
from tests import fuzzing, large_agent
from tests.loop_watchdog import running_watched
from tests.parts import open_parts, read_dead_letters, running
from tests.processes import HASH, PLAYER_KEY

FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
}
CLIENTS_OWN = "Internal error from Core"
"""What the client says when it fails itself."""
CALL_TIMEOUT_S = 20.0
STREAM_TIMEOUT_S = 0.05
"""A stream may stay open for as long as its caller wants."""

MEMORY = "/memory.MemoryService/"
UNARY = [MEMORY + name for name in ("PutMemory", "GetMemory", "DeleteMemory", "Nothing")]
UNARY += ["/grpc.health.v1.Health/Check", "/nobody.Service/Call", "/"]
STREAMS = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    *UNARY,
]


@dataclass(frozen=True)
class Sent:
    """One call. `messages`: encoded requests; a unary call sends the first."""

    method: str
    messages: list[bytes]
    metadata: list[tuple[str, str | bytes]]
    streaming: bool


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
AGENTS = TEXT | st.sampled_from(
    [
        large_agent.AGENT,
        "a",
        "player:Bob",
        "smith:Bob",
        ":" * 256,
        "x" * 256,
        "x" * 257,
        "\x00",
        "smith:k1:" + "0" * 64,
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["type", "tick", "timestamp", "pos.x", "player", "a", "metadata.a.b", "a\\b", 'a"b', ""]
)
OPERATORS = st.sampled_from(["eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "contains", "exists", "near"])
FILTERS = st.recursive(
    st.dictionaries(FIELDS | TEXT, JSON | st.dictionaries(OPERATORS, JSON, max_size=3), max_size=4),
    lambda inner: st.dictionaries(
        st.sampled_from(["AND", "OR", "NOT"]), inner | st.lists(inner, max_size=4), min_size=1
    ),
    max_leaves=10,
)
INT32 = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1, 100, 101])


def _json(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    nested = st.sampled_from(
        ['{"a":' * 5000 + "1" + "}" * 5000, "[" * 100_000, '{"a": 1e400}', "{", "null", ""]
    )
    return values.map(json.dumps) | TEXT | nested


REQUESTS = st.one_of(
    st.builds(
        pb.PutMemoryRequest,
        agent_id=AGENTS,
        text=TEXT | st.sampled_from(["x" * 20_000]),
        metadata_json=_json(JSON | st.dictionaries(TEXT, JSON)),
        ttl_seconds=st.none() | INT32,
    ),
    st.builds(
        pb.GetMemoryRequest,
        agent_id=AGENTS,
        query_text=TEXT | st.sampled_from(["x", "x " * 4096, "x" * 8193]),
        k=INT32,
        filters_json=_json(FILTERS),
    ),
    st.builds(pb.DeleteMemoryRequest, agent_id=AGENTS),
    st.builds(health_pb2.HealthCheckRequest, service=TEXT | st.sampled_from(["", "memory.MemoryService"])),
    st.builds(reflection_pb2.ServerReflectionRequest, file_containing_symbol=TEXT),
    st.builds(reflection_pb2.ServerReflectionRequest, file_by_filename=TEXT),
    st.builds(
        reflection_pb2.ServerReflectionRequest,
        file_containing_extension=st.builds(
            reflection_pb2.ExtensionRequest, containing_type=TEXT, extension_number=INT32
        ),
    ),
).map(lambda message: message.SerializeToString())
METADATA = st.lists(
    st.tuples(
        st.sampled_from(["authorization", "x-request-id", "traceparent", "user-agent"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
    )
    | st.tuples(st.sampled_from(["x-bin", "grpc-trace-bin", "authorization-bin"]), st.binary(max_size=60)),
    max_size=4,
)
CALLS = st.one_of(
    st.builds(
        lambda method, message, metadata: Sent(method, [message], metadata, streaming=False),
        st.sampled_from(UNARY),
        REQUESTS | st.binary(max_size=300),
        METADATA,
    ),
    st.builds(
        lambda method, messages, metadata: Sent(method, messages, metadata, streaming=True),
        st.sampled_from(STREAMS),
        st.lists(REQUESTS | st.binary(max_size=100), max_size=3),
        METADATA,
    ),
)


async def status(channel: grpc.aio.Channel, sent: Sent) -> tuple[grpc.StatusCode, str]:
    """The status with which a call ends, and its message."""
    try:
        if sent.streaming:
            stream = channel.stream_stream(sent.method)(
                iter(sent.messages), metadata=sent.metadata, timeout=STREAM_TIMEOUT_S
            )
            try:
                async for _ in stream:
                    pass
            except asyncio.CancelledError:
                # grpc.aio cancels its own call when the server has ended it before all requests were written.
                if not stream.cancelled():
                    raise
                return grpc.StatusCode.CANCELLED, CLIENTS_OWN
        else:
            unary = channel.unary_unary(sent.method)
            await unary(sent.messages[0], metadata=sent.metadata, timeout=CALL_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def check(runner: asyncio.Runner, channel: grpc.aio.Channel, sent: Sent) -> None:
    code, message = runner.run(status(channel, sent))
    if sent.streaming and message == CLIENTS_OWN:
        return  # the server has ended the call, and the client could not send the rest
    assert code not in FAULTS, (code, message)
    assert code is not grpc.StatusCode.DEADLINE_EXCEEDED or sent.streaming
    assert code is not grpc.StatusCode.INVALID_ARGUMENT or message


@pytest.fixture
def in_process(tmp_path: Path) -> Iterator[tuple[asyncio.Runner, grpc.aio.Channel]]:
    async def serve() -> AsyncGenerator[grpc.aio.Channel]:
        async with open_parts(tmp_path) as runtime:
            writes = Writes(Gateway.over(runtime))
            handlers = Handlers(writes.put, Reads(CurrentRecall(runtime)).get, writes.delete)
            async with (
                running(Worker(runtime)),
                serving(handlers, "127.0.0.1", 0) as port,
                grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
            ):
                yield channel
            assert await read_dead_letters(runtime.log) == []

    with asyncio.Runner() as runner:
        opened = serve()
        yield runner, runner.run(anext(opened))
        runner.run(anext(opened, None))


def test_random_calls_are_answered_without_a_fault(
    in_process: tuple[asyncio.Runner, grpc.aio.Channel],
) -> None:
    @settings(
        max_examples=80,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(CALLS)
    @example(Sent(STREAMS[0], [b"\xff"], [], streaming=True))
    @example(Sent(STREAMS[1], [b"\xff"], [], streaming=True))
    def attempt(sent: Sent) -> None:
        check(*in_process, sent)

    attempt()


@pytest.mark.soak
@pytest.mark.timeout(fuzzing.SECONDS + 300)
def test_random_calls_for_ten_minutes(tmp_path: Path) -> None:
    large_agent.fill(tmp_path, now=time.time())
    with running_watched(tmp_path, {**HASH, **PLAYER_KEY}) as process, asyncio.Runner() as runner:

        async def connect() -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(f"127.0.0.1:{process.grpc_port}")

        channel = runner.run(connect())

        def attempt(sent: Sent) -> None:
            process.check_holds(lambda: check(runner, channel, sent))

        calls = fuzzing.fuzz(CALLS, attempt, until=time.monotonic() + fuzzing.SECONDS)
        runner.run(channel.close())
        assert calls
        process.stop()
        process.assert_no_traceback()
