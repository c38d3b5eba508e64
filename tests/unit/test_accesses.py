"""Recency by last access: what was returned counts as recent, until it is erased."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lorestream.adapters.in_process.accesses import LocalAccessTimes
from lorestream.memories import Erasure, PageQuery, Scope, SubjectKind
from query_service.accesses import Accesses
from tests.retrieval.reader import NOW, Reader, open_reader

BY_ACCESS = {"relevance": 0, "recency": 1, "half_life_s": 86_400, "recency_of": "access"}


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    async with open_reader(tmp_path) as opened:
        for n, text in enumerate(["the old oak", "the older iron", "the oldest crown"]):
            await opened.remember(text, at=NOW - 100_000 * (n + 1))
        yield opened


async def texts(reader: Reader, **body: object) -> list[str]:
    found = await reader.texts("the", **{"mode": "hybrid", "neighbours": 0, **body})
    await asyncio.sleep(0)  # the access times are kept in a task of their own
    await asyncio.sleep(0)
    return found


async def test_what_was_returned_is_recent(reader: Reader) -> None:
    assert await texts(reader, weights=BY_ACCESS, min_score=2) == []  # returns nothing: no access
    assert await texts(reader, filters={"timestamp": {"lte": NOW - 300_000}}) == ["the oldest crown"]
    reader.clock.time = NOW + 600
    assert await texts(reader, weights={**BY_ACCESS, "recency_of": "time"}, k=1) == ["the old oak"]
    # That was an access too, 600 s after the first.
    assert (await texts(reader, weights=BY_ACCESS))[:2] == ["the old oak", "the oldest crown"]


async def test_a_context_is_an_access_and_dense_and_searches_without_text_rank_by_it(reader: Reader) -> None:
    body = {"recent": 1, "relevant": 0, "filters": {"timestamp": {"lte": NOW - 150_000}}}
    answer = await reader.post("/v1/agents/a/context", body)
    assert [one["text"] for one in answer.json()["recent"]] == ["the older iron"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    found = await reader.search("the", mode="dense", weights=BY_ACCESS, explain=True, k=1)
    assert [one["text"] for one in found["memories"]] == ["the older iron"]
    assert found["memories"][0]["score_details"]["recency"] == 1
    without_text = await reader.texts(weights={"recency": 1, "recency_of": "access"}, k=1)
    assert without_text == ["the older iron"]


async def test_an_erased_agent_leaves_no_access_behind(reader: Reader) -> None:
    await texts(reader)
    found = await reader.runtime.store.page(PageQuery(Scope("default", ("a",)), 10, NOW))
    accesses = reader.runtime.accesses
    assert len(await accesses.last(found)) == 3
    await reader.runtime.ledger.add(Erasure("e1", "default", SubjectKind.AGENT, ("a",), NOW))
    await texts(reader, agent_ids=["b"])
    await texts(reader, weights=BY_ACCESS)
    assert await accesses.last(found) == {}


async def test_a_search_that_is_cancelled_leaves_no_erasure_out(reader: Reader) -> None:
    """It forgets what was erased since the search before it, on behalf of all."""
    go_on = asyncio.Event()

    class Slow(LocalAccessTimes):
        async def forget(self, erasure: Erasure) -> None:
            await go_on.wait()
            await super().forget(erasure)

    accesses = Accesses(Slow(), reader.runtime.ledger)
    found = await reader.runtime.store.page(PageQuery(Scope("default", ("a",)), 10, NOW))
    await accesses.times.touch(found, NOW)
    for erased in ("b", "a"):
        await reader.runtime.ledger.add(Erasure(erased, "default", SubjectKind.AGENT, (erased,), NOW))
    cancelled, other = (asyncio.ensure_future(accesses.last(found)) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    go_on.set()
    assert await other == {}


async def test_what_was_erased_since_the_search_found_it_is_not_kept(reader: Reader) -> None:
    accesses = Accesses(LocalAccessTimes(), reader.runtime.ledger)
    found = await reader.runtime.store.page(PageQuery(Scope("default", ("a",)), 10, NOW))
    await reader.runtime.ledger.add(Erasure("e1", "default", SubjectKind.AGENT, ("a",), NOW))
    await accesses._touch(found, NOW)
    assert await accesses.times.last(found) == {}
