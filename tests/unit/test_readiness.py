"""/ready and the gauge of it: one outage after the other, and the bounds of the checks."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.local.redis_server import RedisServer
from lorestream.adapters.redis.client import RedisClient
from lorestream.cli.serve import readiness
from lorestream.errors import Overloaded, Unavailable
from lorestream.http import readiness as checks
from lorestream.http.readiness import ReadinessCheck, ReadinessChecks
from lorestream.ports import Priority, Role
from lorestream.telemetry import Metrics
from lorestream.wiring import Runtime
from stream_workers.worker import Worker
from tests.brokers import running
from tests.embedding_server import KEY, MODEL, EmbeddingServer, refusal
from tests.parts import Faulty, open_parts


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


class Subject:
    """The checks of one service. Each call of `state` sees fresh results."""

    def __init__(self, these: list[ReadinessCheck]) -> None:
        self.metrics = Metrics()
        self.clock = Clock()
        self.checks = ReadinessChecks(these, self.metrics, monotonic=self.clock.now)

    async def state(self) -> tuple[bool, Mapping[str, str]]:
        self.clock.time += 2 * checks.MAX_AGE_S
        results = await self.checks.results()
        for name, result in results.items():
            gauge = self.metrics.registry.get_sample_value("lorestream_dependency_up", {"dependency": name})
            assert gauge == (result == "ok")
        return self.checks.is_ready(results), results


def worker(problem: str | None) -> Worker:
    """A worker, as far as the checks look at it."""

    class Indexing:
        indexer = type("Indexer", (), {"problem": problem})

        def time_problem(self) -> None:
            return None

    return Indexing()  # type: ignore[return-value]


def away(*_arguments: object, **_named: object) -> None:
    raise Unavailable("it is away")


async def test_the_log_is_away(tmp_path: Path) -> None:
    """A gateway and a worker cannot work without it; a query service still reads, and says so."""
    async with open_parts(tmp_path) as runtime:
        parts = dataclasses.replace(runtime, log=Faulty(runtime.log, check=away))  # type: ignore[arg-type]
        assert await Subject(readiness.of_gateway(parts)).state() == (
            False,
            {"log": "it is away", "clock": "ok"},
        )
        ready, results = await Subject(readiness.of_worker(parts, worker(None))).state()
        assert (ready, results["log"]) == (False, "it is away")
        ready, results = await Subject(readiness.of_query(parts)).state()
        assert (ready, results) == (True, {"store": "ok", "log": "it is away"})


async def test_the_store_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_parts(tmp_path) as runtime:
        assert (await Subject(readiness.of_query(runtime)).state())[0] is True
        store = Faulty(runtime.store, get=away)
        monkeypatch.setattr(Runtime, "store", property(lambda _: store))
        for these in (
            readiness.of_query(runtime),
            readiness.of_worker(runtime, worker(None)),
            readiness.of_embedded(runtime, worker(None)),
        ):
            ready, results = await Subject(these).state()
            assert (ready, results["store"]) == (False, "it is away")


async def test_a_remote_embedder_is_away(tmp_path: Path) -> None:
    """It is judged by the texts of requests. After a failure, a text of the check's own shows when it is over."""
    with EmbeddingServer().serving() as server:
        remote = {"kind": "http", "url": server.url, "model": MODEL, "api_key": KEY}
        async with open_parts(tmp_path, embedder=remote) as runtime:
            subject = Subject(readiness.of_query(runtime))
            server.reset()
            for _ in range(3):
                assert await subject.state() == (True, {"store": "ok", "embedder": "ok", "log": "ok"})
            assert server.requests == []
            server.faults.extend([lambda _: refusal(401)] * 2)
            with pytest.raises(Unavailable):
                await runtime.embedder.embed(["the text of a request"], Priority.QUERY, Role.QUERY)
            ready, results = await subject.state()
            assert ready is False
            assert "answered 401" in results["embedder"]
            assert (await subject.state())[0] is True
            server.reset()
            assert (await subject.state())[0] is True
            assert server.requests == []


async def test_redis_is_away(tmp_path: Path) -> None:
    """No service needs it to do its job, but every service says so."""
    with running(RedisServer(tmp_path / "redis")) as server:
        async with (
            RedisClient.open(server.url, command_timeout_s=10) as redis,
            open_parts(tmp_path) as runtime,
        ):
            parts = dataclasses.replace(runtime, ping_redis=redis.ping)
            subjects = [
                Subject(readiness.of_gateway(parts)),
                Subject(readiness.of_query(parts)),
                Subject(readiness.of_worker(parts, worker(None))),
            ]
            for subject in subjects:
                ready, results = await subject.state()
                assert (ready, results["cache"]) == (True, "ok")
            server.kill()
            for subject in subjects:
                ready, results = await subject.state()
                assert ready is True
                assert results["cache"].startswith("Redis failed")


async def test_the_indexer_waits(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        ready, results = await Subject(readiness.of_embedded(runtime, worker("store: it is away"))).state()
        assert (ready, results["indexer"]) == (False, "store: it is away")


async def test_a_part_with_a_full_queue_works() -> None:
    async def full() -> None:
        raise Overloaded("256 requests are waiting")

    check = readiness._check("embedder", full)
    assert await Subject([check]).state() == (True, {"embedder": "ok"})


async def test_a_check_without_an_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> str | None:
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr(checks, "CHECK_TIMEOUT_S", 0.01)
    ready, results = await Subject([ReadinessCheck("store", never)]).state()
    assert (ready, results) == (False, {"store": "no answer within 0.01 s"})


async def test_many_callers_cause_one_check() -> None:
    """/ready and /metrics are open to everybody."""
    calls = 0

    async def count() -> str | None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return None

    subject = Subject([ReadinessCheck("store", count)])
    await asyncio.gather(*(subject.checks.results() for _ in range(100)))
    assert calls == 1
    await subject.state()
    assert calls == 2
