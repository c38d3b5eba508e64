"""The worker of the version before this one, beside a gateway of this one: it skips what it does not know.

Nothing is lost by that: after the update, a replay folds the events that were skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deploy.local.services import Service
from lorestream.admin import Outcome
from lorestream.http.application import application
from lorestream.memories import PageQuery, Scope
from lorestream.settings import Settings, load_settings
from lorestream.state import documents, q_tables
from lorestream.wiring import GatewayParts, WorkerParts, open_gateway, open_worker
from producers import gateway
from producers.gateway import Gateway
from stream_workers.rebuild.replay import Replay, ReplayArguments
from tests.parts import read_dead_letters, running_worker
from tests.processes import clean_environment

WHEELS = Path(__file__).parents[1] / "fixtures" / "previous_version"
STATE_EVENTS = 5
"""Of `send`. The policy has two: its part and its manifest."""


WAIT_S = 180.0
"""At most; the first start of the wheel compiles it."""


class PreviousWorker(Service):
    """`lorestream worker` of the wheel. Not forked from the zygote, which has loaded this version."""

    popen = subprocess.Popen

    def __init__(self, directory: Path, settings: Settings) -> None:
        [wheel] = WHEELS.glob("*.whl")
        code = directory / "code"
        zipfile.ZipFile(wheel).extractall(code)
        log, store = settings.log, settings.store
        assert log.kind == "kafka"
        assert store.kind == "qdrant"
        environment = clean_environment(
            PYTHONPATH=str(code),
            LORESTREAM_LOG__BOOTSTRAP=log.bootstrap,
            LORESTREAM_LOG__TOPIC=log.topic,
            LORESTREAM_LOG__ERASURES_TOPIC=log.erasures_topic,
            LORESTREAM_LOG__DLQ_TOPIC=log.dlq_topic,
            LORESTREAM_LOG__PARTITIONS="2",
            LORESTREAM_LOG__GROUP_PREFIX=log.group_prefix,
            LORESTREAM_STORE__URL=str(store.url),
            LORESTREAM_STORE__GRPC_PORT=str(store.grpc_port),
            LORESTREAM_STORE__COLLECTION=store.collection,
            LORESTREAM_CACHE__KIND="off",
            LORESTREAM_EMBEDDER__KIND="hash",
            LORESTREAM_EMBEDDER__DIM="8",
        )
        super().__init__("previous", directory, environment, "worker")

    def wait_until_done(self, *, stored: int, skipped: int) -> None:
        """Wait until it has stored so many memories and skipped so many records. Fails with its log."""
        deadline = time.monotonic() + WAIT_S
        wanted = {
            "lorestream_event_visible_seconds_count": stored,
            "lorestream_skipped_records_total": skipped,
        }
        while self.get("/health") is None or any(self.metric(name) < count for name, count in wanted.items()):
            assert self.alive, self.log_path.read_text(errors="replace")
            assert time.monotonic() < deadline, self.log_path.read_text(errors="replace")
            time.sleep(0.1)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = httpx2.get(f"{self.url}/metrics", timeout=5).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.fixture
def settings(kafka: Any, qdrant: Any, unique: str, tmp_path: Path) -> Settings:
    if qdrant.api_key is not None:
        pytest.skip("a server with an API key")
    return load_settings(
        data_dir=tmp_path / "data",
        log={
            "kind": "kafka",
            "bootstrap": kafka.bootstrap,
            "topic": f"{unique}.events",
            "erasures_topic": f"{unique}.erasures",
            "dlq_topic": f"{unique}.dlq",
            "partitions": 2,
            "group_prefix": unique,
        },
        store={
            "kind": "qdrant",
            "url": qdrant.url,
            "grpc_port": qdrant.grpc_port,
            "collection": unique,
            "timeout_s": 30,
        },
        cache={"kind": "off"},
        embedder={"kind": "hash", "dim": 8},
        player_key="k1:test",
    )


@contextlib.asynccontextmanager
async def gateway_of(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """A gateway of this version."""
    async with open_gateway(settings) as parts:
        app = application("gateway", _operations(parts), metrics=parts.metrics)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://lorestream") as client:
            yield client


def _operations(parts: GatewayParts) -> Sequence[Any]:
    return gateway.operations(Gateway.over(parts))


async def send(http: httpx2.AsyncClient) -> None:
    """Two memories, and state events before, between and after them."""
    state = "/v1/entities/character/npc:smith"
    update = {"updates": [{"state": "s", "action": "dig", "op": "add", "value": 2}]}
    for method, path, body in (
        ("PUT", state, {"data": {"name": "Ada"}}),
        ("POST", "/v1/events", {"events": [{"agent_id": "npc:smith", "text": "sold an axe"}]}),
        ("PATCH", state, {"data": {"goals": ["rest"]}}),
        ("POST", "/v1/q/npc:smith/update", update),
        ("PUT", "/v1/policies/npc:smith?format=raw", b"weights"),
        ("POST", "/v1/events", {"events": [{"agent_id": "npc:smith", "text": "bought iron"}]}),
    ):
        content: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = await http.request(method, path, **content)
        assert answer.status_code == 202, answer.text


async def texts(parts: WorkerParts) -> list[str]:
    found = await parts.store.page(PageQuery(Scope("default"), 10, parts.clock.now()))
    return sorted(memory.text for memory in found)


@pytest.mark.soak  # 7 s of CPU: two interpreters that compile, Kafka, a replay
async def test_the_previous_worker_skips_state_and_a_replay_after_the_update_folds_it(
    settings: Settings, tmp_path: Path
) -> None:
    previous = PreviousWorker(tmp_path / "previous", settings)
    previous.spawn()
    try:
        async with gateway_of(settings) as http:
            await send(http)
        await asyncio.to_thread(previous.wait_until_done, stored=2, skipped=STATE_EVENTS)
        # It leaves the consumer group: the workers below would wait until the session of a killed one has timed out.
        assert await asyncio.to_thread(previous.stop) == 0
    finally:
        previous.kill()
    async with open_worker(settings) as parts, running_worker(parts):
        assert await texts(parts) == ["bought iron", "sold an axe"]
        async for report in Replay(parts).run(ReplayArguments("replayed")):
            last = report
        assert isinstance(last, Outcome)
        assert last.value["gate"] == "passed"
        assert await read_dead_letters(parts.log) == []
        [name] = [one for one in await parts.collections.refresh() if one.name == "replayed"]
        store = (await parts.collections.ensure_open(name)).store
        owner = ("default", "npc:smith")
        document, policy, q = await store.rows(
            [
                documents.document_key(*owner, "character"),
                documents.document_key(*owner, "policy:main"),
                q_tables.q_state_key(*owner, "q", "s"),
            ]
        )
        assert document is not None
        assert documents.decode(document).data == {"name": "Ada", "goals": ["rest"]}
        assert policy is not None
        assert documents.decode(policy).data["size"] == len(b"weights")
        assert q is not None
        assert q_tables.decode_values(q) == {"dig": (2.0, 1)}
