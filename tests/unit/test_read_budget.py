"""What one read may cost: refused before the work where it is too much, and ended where its time is over."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lorestream.turns import Turns
from query_service import budget
from tests.parts import put
from tests.retrieval.reader import NOW, Reader, open_reader

LONG_NUMBER = 0.1234567890123456789
CONTAINS = [{"NOT": {"b": {"contains": f"no {number}"}}} for number in range(31)]
COSTLY = {"AND": CONTAINS}


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    async with open_reader(tmp_path, cache={"kind": "off"}) as opened:
        await opened.write(
            *(
                put(
                    f"iron {number}",
                    event_id=str(number),
                    at=NOW - 1000 + number,
                    metadata={"b": f"value {number}", "n": LONG_NUMBER},
                )
                for number in range(300)
            )
        )
        yield opened


async def _error(reader: Reader, path: str, body: object) -> tuple[int, str]:
    answer = await reader.post(path, body)
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_filter_that_reads_too_many_memories_is_refused_before_the_search(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MAX_CHECKS", 31 * 300 - 1)
    reader.runtime.store.search = reader.runtime.store.page = None  # type: ignore[method-assign] (never called)
    search = {"agent_id": "a", "query": "iron", "filters": COSTLY}
    assert await _error(reader, "/v1/memories/search", search) == (400, "over_budget")
    assert await _error(reader, "/v1/agents/a/context", {"query": "x", "filters": COSTLY}) == (
        400,
        "over_budget",
    )
    page = await reader.client.get("/v1/agents/a/memories", params={"filters": json.dumps(COSTLY)})
    assert (page.status_code, page.json()["error"]["code"]) == (400, "over_budget")


async def test_within_the_budget_it_is_answered_and_equality_costs_nothing(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MAX_CHECKS", 31 * 300)
    assert len(await reader.texts("iron", filters=COSTLY, k=100)) == 100
    monkeypatch.setattr(budget, "MAX_CHECKS", 1)
    assert await reader.texts("iron 7", filters={"b": "value 7", "NOT": {"b": ["x"]}}) == ["iron 7"]


async def test_the_searches_of_a_batch_share_one_budget_and_each_is_refused_on_its_own(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MAX_CHECKS", 2 * 300)
    costly = {"agent_id": "a", "query": "iron", "filters": {"b": {"contains": "value"}}}
    batch = {"searches": [costly, costly | {"k": 6}, costly | {"k": 7}, {"agent_id": "a", "query": "iron"}]}
    answer = await reader.post("/v1/memories/search/batch", batch)
    results = [one.get("error", {}).get("code", "found") for one in answer.json()["results"]]
    assert results == ["found", "found", "over_budget", "found"]


async def test_a_search_that_is_also_in_a_batch_is_not_refused_for_what_the_batch_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal searches share a computation: the last one of the batch is still being judged when the other arrives."""
    monkeypatch.setattr(budget, "MAX_CHECKS", 20)
    async with open_reader(tmp_path) as reader:
        for number in range(10):
            await reader.remember(f"iron {number}", metadata={"b": f"value {number}"})
        store, answers = reader.recall.store, reader.recall.answers
        judging, judged, arrived = asyncio.Semaphore(0), asyncio.Event(), asyncio.Event()
        cost, get_or_compute = store.cost, answers.get_or_compute

        async def slow_cost(*args: Any) -> int:
            judging.release()
            await judged.wait()
            return await cost(*args)

        async def arrive(*args: Any) -> Any:
            arrived.set()
            return await get_or_compute(*args)

        monkeypatch.setattr(store, "cost", slow_cost)
        monkeypatch.setattr(answers, "get_or_compute", arrive)
        costly = {"agent_id": "a", "query": "iron", "filters": {"b": {"contains": "value"}}}
        searches = [costly | {"k": k} for k in (5, 6, 7)]
        async with asyncio.TaskGroup() as tasks:
            batch = tasks.create_task(reader.post("/v1/memories/search/batch", {"searches": searches}))
            for _ in searches:
                await judging.acquire()
            arrived.clear()
            single = tasks.create_task(reader.post("/v1/memories/search", searches[-1]))
            await arrived.wait()
            judged.set()
        results = [one.get("error", {}).get("code", "found") for one in batch.result().json()["results"]]
        assert results == ["found", "found", "over_budget"]
        assert len(single.result().json()["memories"]) == 7


async def test_costly_reads_beyond_the_capacity_of_the_process_are_asked_to_come_back(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MAX_CHECKS_AT_ONCE", 31 * 300)
    search = {"agent_id": "a", "query": "iron", "filters": COSTLY}
    with reader.recall._capacity.hold(1):
        assert await _error(reader, "/v1/memories/search", search) == (429, "overloaded")
    assert await reader.texts("iron", filters=COSTLY)


async def test_a_read_is_stopped_at_its_deadline(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "TIMEOUT_S", -1.0)
    assert await _error(reader, "/v1/memories/search", {"agent_id": "a", "query": "iron"}) == (
        429,
        "overloaded",
    )
    summary = await reader.client.get("/v1/agents/a/summary")
    assert summary.status_code == 429


async def test_a_page_of_one_reads_in_growing_steps_what_must_be_checked_here(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 300 memories have the very number of the bound, which the engine may round to either side."""
    engine: Any = reader.runtime.store._engine  # type: ignore[attr-defined]
    reads: list[int] = []
    read = engine.ordered_by_time

    async def counted(*args: Any, limit: int, **kwargs: Any) -> Any:
        reads.append(limit)
        return await read(*args, limit=limit, **kwargs)

    monkeypatch.setattr(engine, "ordered_by_time", counted)
    filters = json.dumps({"n": {"gt": LONG_NUMBER}})
    page = await reader.get("/v1/agents/a/memories", limit=1, filters=filters)
    assert (page["memories"], page["total"]) == ([], 0)
    assert len(reads) <= 6


@pytest.mark.parametrize("name", ["a\\b", "metadata.a\\b", 'a"b', "a..b"])
async def test_keys_with_a_backslash_or_a_double_quote_cannot_be_used_in_a_filter(
    reader: Reader, name: str
) -> None:
    search = {"agent_id": "a", "query": "iron", "filters": {name: 1}}
    assert await _error(reader, "/v1/memories/search", search) == (400, "invalid_filter")


async def test_a_summary_takes_no_more_calls_for_many_types(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reader.write(
        *(put("x", agent="many", event_id=str(n), at=NOW - 9, type=f"t{n % 250:03}") for n in range(400))
    )
    engine: Any = reader.runtime.store._engine  # type: ignore[attr-defined]
    calls: list[object] = []
    run = engine._steps.run

    async def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return await run(*args, **kwargs)

    monkeypatch.setattr(engine._steps, "run", counted)
    summary = await reader.get("/v1/agents/many/summary")
    assert len(calls) < 20
    assert summary["total"] == 400
    assert len(summary["by_type"]) == 200
    assert summary["by_type"]["t000"] == 2  # the most frequent ones are listed


async def test_a_long_loop_gives_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("lorestream.turns.monotonic", lambda: now[0])
    turns, others = Turns(), 0

    async def other() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(other())
    for _ in range(100):
        now[0] += 0.001
        await turns.next()
    task.cancel()
    assert others >= 15
