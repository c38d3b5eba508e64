"""What a new collection takes over, how it is judged, and how fast it is filled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorestream import events
from lorestream.admin import Remark
from lorestream.collections.catalogue import Model
from lorestream.errors import InvalidRequest, OperationRefused
from lorestream.memories import Erasure, Memory, SubjectKind
from lorestream.ports import Tombstone, VectorStore
from lorestream.wiring import OpenCollection, Runtime
from stream_workers.indexing.throttle import PIECE, Pace
from stream_workers.rebuild import carry_over, quality_gate
from stream_workers.rebuild.carry_over import CarryOver
from stream_workers.rebuild.quality_gate import GateResult, evaluate
from stream_workers.rebuild.replay import Replay, ReplayArguments
from tests.parts import open_parts, put

SAME = Model("hash-v1-384", 384, "hash", "hash")
OTHER = Model("hash-v1-96", 96, "hash", "hash")


@pytest.fixture
async def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runtime]:
    """Parts that nobody feeds: what lies in a collection is what the test has put there."""
    monkeypatch.setattr(quality_gate, "LEVEL_S", 0.05)
    monkeypatch.setattr(quality_gate, "COUNT_PAUSE_S", 0.01)
    async with open_parts(tmp_path, store={"kind": "edge"}) as parts:
        yield parts


async def heir(runtime: Runtime, model: Model = SAME) -> OpenCollection:
    await runtime.collections.catalogue.create("heir", model, "run")
    listed = {one.name: one for one in await runtime.collections.refresh()}
    return await runtime.collections.ensure_open(listed["heir"])


def memory(number: int, text: str | None = None, **fields: Any) -> Memory:
    return put(event_id=f"{number}", **fields).memory(text or f"memory {number}")


async def insert(
    collection: OpenCollection, memories: Sequence[Memory], *, texts: Sequence[str] = ()
) -> None:
    """With the vectors of other texts where those are given."""
    made = await collection.embedder.embed(texts or [one.text for one in memories])
    await collection.store.insert(memories, made.vectors)


async def contents(store: VectorStore) -> dict[str, str | None]:
    """The text of each memory, None of a tombstone, by memory id."""
    page, after = await store.scan(None, 1000)
    assert after is None
    return {
        one.id if isinstance(one, Memory) else one.memory_id: one.text if isinstance(one, Memory) else None
        for one in page
    }


async def copied(runtime: Runtime, to: OpenCollection, *, everything: bool = False) -> int:
    inherited = CarryOver(runtime, to, everything=everything)
    async for _ in inherited.copy():
        pass
    return inherited.copied


class Counting:
    """A real embedder, and the texts that it was asked for."""

    def __init__(self, embedder: Any) -> None:
        self._embedder = embedder
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    async def embed(self, texts: list[str], *args: Any) -> Any:
        self.texts += texts
        return await self._embedder.embed(texts, *args)


async def counted(runtime: Runtime, model: Model) -> tuple[OpenCollection, Counting]:
    """A collection whose embedder counts."""
    await heir(runtime, model)
    await runtime.collections.close("heir")
    counting = Counting(runtime.collections._embedders[model.model_id])
    runtime.collections._embedders[model.model_id] = counting
    listed = {one.name: one for one in runtime.collections.listed}
    return await runtime.collections.ensure_open(listed["heir"]), counting


# --- what is taken over ----------------------------------------------------------------------------------------


async def test_what_lives_and_every_tombstone_is_taken_over(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await heir(runtime)
    living, ended, erased = memory(1), memory(2, expires_at=1.0), memory(3, agent="gone")
    await insert(current, [living, ended, erased])
    buried = Tombstone("default", "a", memory(4).id, 5.0)
    await current.store.put_tombstones([buried])
    await runtime.ledger.add(Erasure("x", "default", SubjectKind.AGENT, ("gone",), 2000.0))
    assert await copied(runtime, new) == 1
    assert await contents(new.store) == {living.id: "memory 1", buried.memory_id: None}
    [tombstone] = [one for one in (await new.store.scan(None, 10))[0] if isinstance(one, Tombstone)]
    assert tombstone == buried


async def test_what_the_log_knows_is_told_by_the_log(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await heir(runtime)
    await runtime.log.append([events.encode(put("begins", event_id="0"))])
    old, young = memory(1, at=1000.0), memory(2, at=time.time() + 3600)
    await insert(current, [old, young])
    assert await copied(runtime, new) == 1
    assert await contents(new.store) == {old.id: "memory 1"}
    assert await copied(runtime, new, everything=True) == 1
    assert await contents(new.store) == {old.id: "memory 1", young.id: "memory 2"}


async def test_the_first_content_stays_and_so_does_a_deletion(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await heir(runtime)
    await insert(current, [memory(1, "as it was narrated then"), memory(2)])
    await insert(new, [memory(1, "as it is narrated now")])
    await new.store.put_tombstones([Tombstone("default", "a", memory(2).id, 5.0)])
    assert await copied(runtime, new) == 0
    assert await contents(new.store) == {memory(1).id: "as it is narrated now", memory(2).id: None}


async def test_an_erasure_in_the_middle_takes_what_was_copied_and_what_was_not(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carry_over, "PAGE", 8)
    current, new = runtime.collections.current, await heir(runtime)
    await insert(current, [memory(n, agent=["gone", "stays"][n % 2]) for n in range(40)])
    erasure = Erasure("x", "default", SubjectKind.AGENT, ("gone",), 2000.0)
    pages = 0
    async for _ in CarryOver(runtime, new).copy():
        pages += 1
        if pages == 2:
            texts = (await contents(new.store)).values()
            assert any(int(str(text).split()[1]) % 2 == 0 for text in texts)
            await runtime.ledger.add(erasure)
    assert pages >= 5
    assert sorted((await contents(new.store)).values()) == sorted(f"memory {n}" for n in range(1, 40, 2))


async def test_known_vectors_are_taken_over_as_they_are(runtime: Runtime) -> None:
    new, counting = await counted(runtime, SAME)
    memories = [memory(n) for n in range(20)]
    await insert(runtime.collections.current, memories, texts=[f"another {n}" for n in range(20)])
    counting.texts.clear()
    assert await copied(runtime, new) == 20
    assert counting.texts == []
    there = await runtime.store.reusable_vectors(memories)
    here = await new.store.reusable_vectors(memories)
    assert all(np.allclose(a[0], b[0], atol=1e-6) for a, b in zip(there, here, strict=True) if a and b)
    assert None not in here


async def test_another_model_embeds_each_text_once_however_often_it_is_begun(runtime: Runtime) -> None:
    new, counting = await counted(runtime, OTHER)
    await insert(runtime.collections.current, [memory(n) for n in range(20)])
    assert await copied(runtime, new) == 20
    assert sorted(counting.texts) == sorted(f"memory {n}" for n in range(20))
    counting.texts.clear()
    assert await copied(runtime, new) == 0
    assert counting.texts == []


# --- the gate --------------------------------------------------------------------------------------------------


async def verdict(runtime: Runtime, new: OpenCollection, *, complete: bool = True) -> GateResult:
    return await evaluate(runtime, new, complete=complete)


async def test_two_equal_ones_pass(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await heir(runtime)
    memories = [memory(n) for n in range(60)]
    for collection in (current, new):
        await insert(collection, memories)
    found = await verdict(runtime, new)
    assert found.passed
    assert found.figures() == {
        "gate": "passed",
        "reasons": [],
        "behind": 0,
        "memories": {"new": 60, "searched": 60},
        "recall_at_10": 1.0,
        "found_itself": 1.0,
    }


async def test_two_empty_ones_pass(runtime: Runtime) -> None:
    assert (await verdict(runtime, await heir(runtime))).passed


async def test_one_that_is_behind_fails(runtime: Runtime) -> None:
    new = await heir(runtime)
    await runtime.log.append([events.encode(put("m", event_id="0")), events.encode(put("n", event_id="1"))])
    found = await verdict(runtime, new)
    assert (found.behind, found.reasons) == (2, ("it is 2 records behind the log",))
    await new.publisher.publish({0: 2})
    assert (await verdict(runtime, new)).passed


async def test_one_that_has_fewer_fails_unless_it_was_to_have_fewer(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await heir(runtime)
    await insert(current, [memory(n, agent=f"a{n}") for n in range(60)])
    await insert(new, [memory(n, agent=f"a{n}") for n in range(58)])
    found = await verdict(runtime, new)
    assert "it has 58 memories, the searched one 60" in found.reasons
    assert (await verdict(runtime, new, complete=False)).passed


async def test_one_that_finds_others_than_the_same_model_found_fails(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await heir(runtime)
    memories = [memory(n) for n in range(60)]
    await insert(current, memories)
    await insert(new, memories, texts=[f"another {n}" for n in range(60)])
    [reason] = (await verdict(runtime, new)).reasons
    assert "of the nearest are the same" in reason


async def test_another_model_has_to_find_what_was_asked_about(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await heir(runtime, OTHER)
    memories = [memory(n) for n in range(60)]
    await insert(current, memories)
    await insert(new, memories, texts=[f"another {n}" for n in range(60)])
    [reason] = (await verdict(runtime, new)).reasons
    assert "find the memory they were made of" in reason


async def test_what_is_told_again_and_again_is_found_by_any_of_its_kind(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await heir(runtime, OTHER)
    memories = [memory(n, "a player dug a tree") for n in range(60)]
    for collection in (current, new):
        await insert(collection, memories)
    assert (await verdict(runtime, new)).found_itself == 1.0


async def test_golden_questions_are_sought_past_pages_without_living_memories(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await heir(runtime)
    await current.store.put_tombstones([Tombstone("default", "a", memory(n).id, 5.0) for n in range(1000)])
    lonely = memory(1000, agent="b")
    await insert(current, [lonely])
    await insert(new, [lonely, memory(1001, agent="b")], texts=["wrong", "memory 1000"])
    assert (await verdict(runtime, new)).found_itself == 1.0
    await insert(new, [memory(n, agent="b") for n in range(2000, 2020)], texts=["memory 1000"] * 20)
    assert (await verdict(runtime, new)).found_itself == 0.0


# --- the task --------------------------------------------------------------------------------------------------


async def test_what_a_replay_may_not_fill(runtime: Runtime) -> None:
    replay, searched = Replay(runtime), runtime.collections.current.name
    await heir(runtime)
    await runtime.collections.catalogue.mark_complete("heir")
    for name, reason in ((searched, "searched at present"), ("heir", "holds everything already")):
        with pytest.raises(OperationRefused, match=reason):
            await anext(replay.run(ReplayArguments(name)))
    await runtime.log.append([events.encode(put("begins", event_id="0"))])
    with pytest.raises(InvalidRequest, match="the log begins later"):
        await anext(replay.run(ReplayArguments("new", since=1.0)))
    assert [one.name for one in await runtime.collections.refresh()] == [searched, "heir"]


async def test_from_a_time_on_says_what_it_leaves_out(runtime: Runtime) -> None:
    await runtime.log.append([events.encode(put(f"m{n}", event_id=f"{n}")) for n in range(3)])
    end = await runtime.log.append([events.encode(put("late", event_id="late"))])
    since = time.time() + 3600
    told = await anext(Replay(runtime).run(ReplayArguments("new", since=since)))
    assert isinstance(told, Remark)
    assert "4 records from before that time are left out" in told.text
    listed = {one.name: one for one in runtime.collections.listed}
    committed = await runtime.log.committed(runtime.collections.group_of(listed["new"]))
    assert committed == {number: offset + 1 for number, offset in end.items()}


# --- the pace --------------------------------------------------------------------------------------------------


async def test_who_is_in_a_hurry_does_all_at_once() -> None:
    pieces: list[int] = []

    async def work(piece: Sequence[int]) -> None:
        pieces.append(len(piece))

    await Pace().in_pieces(range(100), work)
    assert pieces == [100]
    await Pace().in_pieces([], work)
    assert pieces == [100]


async def test_commits_are_rare_as_long_as_nobody_is_in_a_hurry() -> None:
    hurry = False
    pace = Pace(hurried=lambda: hurry)
    assert [pace.commits() for _ in range(12)] == ([False] * 5 + [True]) * 2
    hurry = True
    assert pace.commits()
    assert pace.commits()


async def test_others_rest_after_every_piece_until_there_is_a_hurry() -> None:
    pieces: list[int] = []
    turns: list[int] = []

    async def work(piece: Sequence[int]) -> None:
        pieces.append(len(piece))
        await asyncio.sleep(0)

    async def others() -> None:
        while True:
            turns.append(len(pieces))
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    pace = Pace(hurried=lambda: len(pieces) >= 3)
    await pace.in_pieces(range(10 * PIECE), work)
    beside.cancel()
    assert pieces == [PIECE] * 3 + [7 * PIECE]
    assert {1, 2} <= set(turns)
