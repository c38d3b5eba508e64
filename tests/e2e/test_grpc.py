"""memory.MemoryService of a running lorestream, called with the generated stubs and by reflection."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import httpx2
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from lorestream.grpc import memory_pb2 as pb
from lorestream.grpc import memory_pb2_grpc
from tests.processes import HASH, LorestreamProcess, running

Stub = memory_pb2_grpc.MemoryServiceStub


@pytest.fixture(scope="module")
def lorestream_hash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LorestreamProcess]:
    """One process for all tests, which use different agents or change nothing."""
    with running(tmp_path_factory.mktemp("lorestream"), HASH) as process:
        yield process


@pytest.fixture
def channel(lorestream_hash: LorestreamProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{lorestream_hash.grpc_port}") as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.Channel) -> Stub:
    return Stub(channel)


def wait_until_indexed(url: str) -> None:
    answer = httpx2.post(
        f"{url}/v1/events?wait=indexed", json={"events": [{"agent_id": "npc:x", "text": "x"}]}
    )
    assert answer.status_code == 200


def test_put_get_delete(stub: Stub, lorestream_hash: LorestreamProcess) -> None:
    put = stub.PutMemory(
        pb.PutMemoryRequest(agent_id="npc:a", text="pines in the north", metadata_json='{"tree": "pine"}'),
        timeout=30,
    )
    assert put.success
    stub.PutMemory(pb.PutMemoryRequest(agent_id="npc:a", text="something else"), timeout=30)
    wait_until_indexed(lorestream_hash.url)
    request = pb.GetMemoryRequest(
        agent_id="npc:a", query_text="pines in the north", filters_json='{"tree": "pine"}'
    )
    [memory] = stub.GetMemory(request, timeout=30).memories
    assert (memory.agent_id, memory.text, memory.id) == ("npc:a", "pines in the north", put.id)
    assert json.loads(memory.metadata) == {"tree": "pine"}
    assert memory.score == pytest.approx(1)
    assert memory.timestamp == int(memory.time)
    assert stub.DeleteMemory(pb.DeleteMemoryRequest(agent_id="npc:a"), timeout=30).success
    wait_until_indexed(lorestream_hash.url)
    assert list(stub.GetMemory(request, timeout=30).memories) == []


def test_ttl_0_is_for_ever_and_an_absent_one_the_default(
    stub: Stub, lorestream_hash: LorestreamProcess
) -> None:
    ids = {
        ttl: stub.PutMemory(
            pb.PutMemoryRequest(agent_id="npc:ttl", text=f"ttl {ttl}", ttl_seconds=ttl), timeout=30
        ).id
        for ttl in (None, 0, 90)
    }
    wait_until_indexed(lorestream_hash.url)
    lives: dict[int | None, float | None] = {}
    for ttl, memory_id in ids.items():
        memory = httpx2.get(f"{lorestream_hash.url}/v1/memories/{memory_id}?agent_id=npc:ttl").json()
        lives[ttl] = memory["expires_at"] and round(memory["expires_at"] - memory["accepted_at"])
    assert lives == {None: 30 * 86_400, 0: None, 90: 90}


@pytest.mark.parametrize(
    "request_",
    [
        pb.PutMemoryRequest(agent_id="", text="x"),
        pb.PutMemoryRequest(agent_id="a", text=""),
        pb.PutMemoryRequest(agent_id="a", text="x", metadata_json="[1]"),
        pb.PutMemoryRequest(agent_id="a", text="x", metadata_json="{"),
        pb.PutMemoryRequest(agent_id="a", text="x", ttl_seconds=-1),
        pb.GetMemoryRequest(agent_id="", query_text="x"),
        pb.GetMemoryRequest(agent_id="a", query_text=""),
        pb.GetMemoryRequest(agent_id="a", query_text="x", k=101),
        pb.GetMemoryRequest(agent_id="a", query_text="x", k=-1),
        pb.GetMemoryRequest(agent_id="a", query_text="x", filters_json='{"n": {"near": 1}}'),
        pb.GetMemoryRequest(agent_id="a", query_text="x", filters_json="nonsense"),
        pb.DeleteMemoryRequest(agent_id=""),
    ],
    ids=lambda request: f"{type(request).__name__} {str(request)[:60]!r}",
)
def test_bad_arguments_are_invalid_argument(stub: Stub, request_: object) -> None:
    call = {
        pb.PutMemoryRequest: stub.PutMemory,
        pb.GetMemoryRequest: stub.GetMemory,
        pb.DeleteMemoryRequest: stub.DeleteMemory,
    }[type(request_)]
    with pytest.raises(grpc.RpcError) as caught:
        call(request_, timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details()


@pytest.mark.parametrize("method", ["PutMemory", "GetMemory", "DeleteMemory"])
@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x02\xff\xfe"], ids=["no message", "no UTF-8"])
def test_undecodable_requests_are_invalid_argument(channel: grpc.Channel, method: str, data: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"/memory.MemoryService/{method}")(data, timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_health_and_reflection(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "memory.MemoryService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    methods = pool.FindServiceByName("memory.MemoryService").methods
    assert [method.name for method in methods] == ["PutMemory", "GetMemory", "DeleteMemory"]
