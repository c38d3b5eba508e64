"""What is copied into a new collection, the quality gate, and the replay task."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from msgspec import structs

from lorestream import events
from lorestream.adapters.qdrant.edge import shard
from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT, open_words
from lorestream.admin import Remark
from lorestream.collections.catalogue import Model
from lorestream.errors import InvalidEvent, InvalidRequest, OperationRefused, Unavailable
from lorestream.memories import Erasure, KeywordQuery, Memory, Scope, SubjectKind
from lorestream.ports import Tombstone, VectorStore
from lorestream.rewinds import Rewind
from lorestream.wiring import OpenCollection, Runtime
from stream_workers.rebuild import carry_over, quality_gate
from stream_workers.rebuild.carry_over import CarryOver
from stream_workers.rebuild.compaction import Compaction
from stream_workers.rebuild.quality_gate import GateResult, evaluate
from stream_workers.rebuild.replay import Replay, ReplayArguments
from tests.parts import Faulty, open_parts, put

SAME = Model("hash-v1-384", 384, "hash", "hash")
OTHER = Model("hash-v1-96", 96, "hash", "hash")


@pytest.fixture
async def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runtime]:
    """Parts without a worker: collections hold only what the test inserts."""
    monkeypatch.setattr(quality_gate, "CATCH_UP_TIMEOUT_S", 0.05)
    monkeypatch.setattr(quality_gate, "COUNT_PAUSE_S", 0.01)
    async with open_parts(tmp_path, store={"kind": "edge"}) as parts:
        yield parts


async def create_target(runtime: Runtime, model: Model = SAME) -> OpenCollection:
    await runtime.collections.catalogue.create("target", model, "run")
    listed = {one.name: one for one in await runtime.collections.refresh()}
    return await runtime.collections.ensure_open(listed["target"])


def memory(number: int, text: str | None = None, **fields: Any) -> Memory:
    return put(event_id=f"{number}", **fields).memory(text or f"memory {number}")


async def insert(
    collection: OpenCollection, memories: Sequence[Memory], *, texts: Sequence[str] = ()
) -> None:
    """Insert memories with the vectors of `texts` if given, else of their own texts."""
    made = await collection.embedder.embed(texts or [one.text for one in memories])
    await collection.store.insert(memories, made.vectors)


async def contents(store: VectorStore) -> dict[str, str | None]:
    """Memory id -> text; None for a tombstone."""
    page, after = await store.scan(None, 1000)
    assert after is None
    return {
        one.id if isinstance(one, Memory) else one.memory_id: one.text if isinstance(one, Memory) else None
        for one in page
    }


async def copied(runtime: Runtime, to: OpenCollection, *, everything: bool = False) -> int:
    carry = CarryOver(runtime, to, memories_before=math.inf if everything else None)
    async for _ in carry.copy():
        pass
    return carry.copied


class Counting:
    """A real embedder that records the texts it is called with."""

    def __init__(self, embedder: Any) -> None:
        self._embedder = embedder
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    async def embed(self, texts: list[str], *args: Any, **options: Any) -> Any:
        self.texts += texts
        return await self._embedder.embed(texts, *args, **options)


async def counting_target(runtime: Runtime, model: Model) -> tuple[OpenCollection, Counting]:
    """A collection whose embedder records its texts."""
    await create_target(runtime, model)
    await runtime.collections.close("target")
    counting = Counting(await runtime.collections.load_embedder(model))
    runtime.collections._embedders[model.model_id] = counting
    listed = {one.name: one for one in runtime.collections.listed}
    return await runtime.collections.ensure_open(listed["target"]), counting


# --- what is copied -------------------------------------------------------------------------------------------


async def test_rewound_memories_are_copied_and_stay_hidden(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime)
    shown, hidden, back = memory(1), memory(2, at=2000.0), structs.replace(memory(3), rewound=True)
    await insert(current, [shown, hidden, back])
    await runtime.ledger.rewinds.put(Rewind("r", "default", "s", 1000.0, 2000.0))
    assert await copied(runtime, new, everything=True) == 3
    marked = [shown, structs.replace(hidden, rewound=True), structs.replace(back, rewound=False)]
    assert await new.store.lookup(marked) == marked


async def test_living_memories_and_all_tombstones_are_copied(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime)
    living, ended, erased = memory(1), memory(2, expires_at=1.0), memory(3, agent="gone")
    await insert(current, [living, ended, erased])
    deleted = Tombstone("default", "a", memory(4).id, 5.0)
    await current.store.put_tombstones([deleted])
    await runtime.ledger.add(Erasure("x", "default", SubjectKind.AGENT, ("gone",), 2000.0))
    assert await copied(runtime, new) == 1
    assert await contents(new.store) == {living.id: "memory 1", deleted.memory_id: None}
    [tombstone] = [one for one in (await new.store.scan(None, 10))[0] if isinstance(one, Tombstone)]
    assert tombstone == deleted


async def test_a_memory_that_the_new_store_refuses_is_left_out(runtime: Runtime) -> None:
    """One of them made each attempt fail, after it had copied all others."""
    current, new = runtime.collections.current, await create_target(runtime)
    memories = [memory(number) for number in range(10)]
    await insert(current, memories)

    def refuse(some: Sequence[Memory], *_: object, **_how: object) -> None:
        if any(one.text == "memory 7" for one in some):
            raise InvalidEvent("memory 7 cannot be stored")

    faulty: Any = Faulty(new.store, insert=refuse)
    carry = CarryOver(runtime, dataclasses.replace(new, store=faulty))
    remarks = [report.text async for report in carry.copy() if isinstance(report, Remark)]
    assert remarks == ["one memory is left out: memory 7 cannot be stored"]
    assert carry.copied == 9
    assert sorted((await contents(new.store)).values()) == [f"memory {n}" for n in range(10) if n != 7]


async def test_only_memories_older_than_the_log_are_copied_unless_everything_is(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime)
    await runtime.log.append([events.encode(put("begins", event_id="0"))])
    old, young = memory(1, at=1000.0), memory(2, at=time.time() + 3600)
    await insert(current, [old, young])
    assert await copied(runtime, new) == 1
    assert await contents(new.store) == {old.id: "memory 1"}
    assert await copied(runtime, new, everything=True) == 1
    assert await contents(new.store) == {old.id: "memory 1", young.id: "memory 2"}


async def test_a_copy_replaces_neither_a_content_nor_a_tombstone(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime)
    await insert(current, [memory(1, "an older narration"), memory(2)])
    await insert(new, [memory(1, "the present narration")])
    await new.store.put_tombstones([Tombstone("default", "a", memory(2).id, 5.0)])
    assert await copied(runtime, new) == 0
    assert await contents(new.store) == {memory(1).id: "the present narration", memory(2).id: None}


async def test_an_erasure_during_the_copy_covers_what_was_copied_before_it_and_after_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carry_over, "PAGE_SIZE", 8)
    current, new = runtime.collections.current, await create_target(runtime)
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


@pytest.mark.parametrize("during", ["embed", "insert"])
async def test_an_erasure_and_a_rewind_cover_what_is_being_copied_though_the_copy_is_interrupted(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    """The page was inserted all the same, and the copy that continued took the erasure for one from before."""
    current, (new, counting) = runtime.collections.current, await counting_target(runtime, OTHER)
    await insert(current, [memory(n, agent=["gone", "stays"][n % 2]) for n in range(20)])
    erasure = Erasure("x", "default", SubjectKind.AGENT, ("gone",), 2000.0)
    rewind = Rewind("r", "default", "s", 0.0, 2000.0)
    part: Any = counting if during == "embed" else new.store
    call = getattr(part, during)

    async def apply_first(*args: Any, **options: Any) -> Any:
        """What the indexers do meanwhile."""
        monkeypatch.setattr(part, during, call)
        await runtime.ledger.add(erasure)
        await runtime.ledger.rewinds.put(rewind)
        for collection in (current, new):
            await collection.store.erase(erasure)
            await collection.store.set_aside(rewind, runtime.ledger.rewinds.covers)
        return await call(*args, **options)

    def interrupt(*_: object, **_how: object) -> None:
        raise Unavailable("the store is away")

    monkeypatch.setattr(part, during, apply_first)
    faulty: Any = Faulty(new.store, erase=interrupt)
    with pytest.raises(Unavailable):
        await copied(runtime, dataclasses.replace(new, store=faulty))
    if during == "insert":  # what was inserted is not known any more
        await copied(runtime, new)
    page, _ = await new.store.scan(None, 100)
    found = [(one.text, one.rewound) for one in page if isinstance(one, Memory)]
    assert sorted(found) == sorted((f"memory {n}", True) for n in range(1, 20, 2))


async def test_vectors_of_the_same_model_are_copied(runtime: Runtime) -> None:
    new, counting = await counting_target(runtime, SAME)
    memories = [memory(n) for n in range(20)]
    await insert(runtime.collections.current, memories, texts=[f"another {n}" for n in range(20)])
    counting.texts.clear()
    assert await copied(runtime, new) == 20
    assert counting.texts == []
    there = await runtime.store.reusable_vectors(memories)
    here = await new.store.reusable_vectors(memories)
    assert all(np.allclose(a[0], b[0], atol=1e-6) for a, b in zip(there, here, strict=True) if a and b)
    assert None not in here


async def test_records_are_copied_and_not_embedded(runtime: Runtime) -> None:
    new, counting = await counting_target(runtime, OTHER)
    record = put(event_id="r", type="tool", recall=False, data={"input": 1}).memory("")
    await insert(runtime.collections.current, [memory(1), record])
    assert await copied(runtime, new) == 2
    assert counting.texts == ["memory 1"]
    assert await new.store.lookup([record]) == [record]
    assert (await gate(runtime, new)).passed
    await new.store.put_tombstones([Tombstone("default", "a", record.id, 5.0)])
    assert not (await gate(runtime, new)).passed


async def test_another_model_embeds_each_text_once_however_often_the_copy_is_started(
    runtime: Runtime,
) -> None:
    new, counting = await counting_target(runtime, OTHER)
    await insert(runtime.collections.current, [memory(n) for n in range(20)])
    assert await copied(runtime, new) == 20
    assert sorted(counting.texts) == sorted(f"memory {n}" for n in range(20))
    counting.texts.clear()
    assert await copied(runtime, new) == 0
    assert counting.texts == []


# --- the gate --------------------------------------------------------------------------------------------------


async def gate(runtime: Runtime, new: OpenCollection, *, complete: bool = True) -> GateResult:
    return await evaluate(runtime, new, complete=complete)


async def test_equal_collections_pass(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime)
    memories = [memory(n) for n in range(60)]
    for collection in (current, new):
        await insert(collection, memories)
    found = await gate(runtime, new)
    assert found.passed
    assert found.as_json() == {
        "gate": "passed",
        "reasons": [],
        "behind": 0,
        "memories": {"new": 60, "searched": 60},
        "recall_at_10": 1.0,
        "found_itself": 1.0,
        "found_by_words": 1.0,
    }


async def test_empty_collections_pass(runtime: Runtime) -> None:
    assert (await gate(runtime, await create_target(runtime))).passed


async def test_a_collection_behind_the_log_fails(runtime: Runtime) -> None:
    new = await create_target(runtime)
    await runtime.log.append([events.encode(put("m", event_id="0")), events.encode(put("n", event_id="1"))])
    found = await gate(runtime, new)
    assert (found.behind, found.reasons) == (2, ("it is 2 records behind the log",))
    await new.publisher.publish({0: 2})
    assert (await gate(runtime, new)).passed


async def test_fewer_memories_fail_unless_the_collection_need_not_be_complete(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime)
    await insert(current, [memory(n, agent=f"a{n}") for n in range(60)])
    assert (await gate(runtime, new, complete=False)).reasons == ("it has no memories, the searched one 60",)
    await insert(new, [memory(n, agent=f"a{n}") for n in range(58)])
    found = await gate(runtime, new)
    assert "it has 58 memories, the searched one 60" in found.reasons
    assert (await gate(runtime, new, complete=False)).passed


async def test_with_the_same_model_other_nearest_memories_fail(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime)
    memories = [memory(n) for n in range(60)]
    await insert(current, memories)
    await insert(new, memories, texts=[f"another {n}" for n in range(60)])
    [reason] = (await gate(runtime, new)).reasons
    assert "of the nearest memories are the same" in reason


async def test_with_another_model_queries_must_find_their_own_memories(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime, OTHER)
    memories = [memory(n) for n in range(60)]
    await insert(current, memories)
    await insert(new, memories, texts=[f"another {n}" for n in range(60)])
    [reason] = (await gate(runtime, new)).reasons
    assert "are found by their own text" in reason


async def test_a_memory_with_the_same_text_counts_as_found(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime, OTHER)
    memories = [memory(n, "a player dug a tree") for n in range(60)]
    for collection in (current, new):
        await insert(collection, memories)
    assert (await gate(runtime, new)).found_itself == 1.0


async def test_memories_must_be_found_by_their_own_words(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime)
    memories = [memory(n) for n in range(60)]
    await insert(current, memories)
    store: Any = new.store
    store.words = WithoutWords()
    await insert(new, memories)
    [reason] = (await gate(runtime, new)).reasons
    assert "are found by their own words" in reason


class WithoutWords:
    """Stores no words, and searches for the present ones."""

    layout, query = DEFAULT_LAYOUT, staticmethod(open_words(DEFAULT_LAYOUT).query)

    def document(self, _text: str) -> None:
        """As if a text had no words."""


async def test_another_language_takes_effect_with_a_replay_and_a_swap(tmp_path: Path) -> None:
    """Until then the searched collection keeps its own, and the start says what to do."""
    async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
        await insert(runtime.collections.current, [memory(1, "Er hat alte Schwerter"), memory(2, "Brot")])
    german = {"store": {"kind": "edge"}, "keyword": {"language": "german"}}
    with structlog.testing.capture_logs() as lines:
        async with open_parts(tmp_path, **german) as runtime:
            current, new = runtime.collections.current, await create_target(runtime)
            assert await by_words(current, "Schwert") == []
            assert await copied(runtime, new) == 2
            assert (await gate(runtime, new)).passed
            assert await by_words(new, "Schwert") == ["Er hat alte Schwerter"]
            await runtime.collections.catalogue.swap("target", 1.0)
    [line] = [line for line in lines if "lorestream replay" in line["event"]]
    assert (line["collection"], line["language"], line["wanted"]) == (current.name, "english", "german")
    with structlog.testing.capture_logs() as lines:
        async with open_parts(tmp_path, **german) as runtime:
            assert await by_words(runtime.collections.current, "Schwert") == ["Er hat alte Schwerter"]
    assert not [line for line in lines if "lorestream replay" in line["event"]]


async def by_words(collection: OpenCollection, text: str) -> list[str]:
    hits = await collection.store.search(KeywordQuery(Scope("default"), text, 10, time.time()))
    return [hit.memory.text for hit in hits]


async def test_the_sample_is_taken_past_pages_that_hold_only_tombstones(runtime: Runtime) -> None:
    current, new = runtime.collections.current, await create_target(runtime)
    await current.store.put_tombstones([Tombstone("default", "a", memory(n).id, 5.0) for n in range(1000)])
    lonely = memory(1000, agent="b")
    await insert(current, [lonely])
    await insert(new, [lonely, memory(1001, agent="b")], texts=["wrong", "memory 1000"])
    assert (await gate(runtime, new)).found_itself == 1.0
    await insert(new, [memory(n, agent="b") for n in range(2000, 2020)], texts=["memory 1000"] * 20)
    assert (await gate(runtime, new)).found_itself == 0.0


# --- the task --------------------------------------------------------------------------------------------------


async def test_a_replay_into_an_active_or_complete_collection_is_refused(runtime: Runtime) -> None:
    replay, searched = Replay(runtime), runtime.collections.current.name
    await create_target(runtime)
    await runtime.collections.catalogue.mark_complete("target")
    for name, reason in ((searched, "searched at present"), ("target", "is complete already")):
        with pytest.raises(OperationRefused, match=reason):
            await anext(replay.run(ReplayArguments(name)))
    await runtime.log.append([events.encode(put("begins", event_id="0"))])
    with pytest.raises(InvalidRequest, match="the log begins later"):
        await anext(replay.run(ReplayArguments("new", since=1.0)))
    with pytest.raises(InvalidRequest, match="has not come yet"):
        await anext(replay.run(ReplayArguments("new", since=time.time() + 3600)))
    assert [one.name for one in await runtime.collections.refresh()] == [searched, "target"]


async def test_a_model_that_is_not_prepared_is_refused(runtime: Runtime) -> None:
    embedder = runtime.settings.embedder.model_copy(update={"kind": "openvino"})
    settings = runtime.settings.model_copy(update={"embedder": embedder})
    replay = Replay(dataclasses.replace(runtime, settings=settings))
    with pytest.raises(OperationRefused, match="people/none"):
        await anext(replay.run(ReplayArguments("new", model="people/none")))
    assert "new" not in [one.name for one in await runtime.collections.refresh()]


async def test_a_creation_that_fails_leaves_no_group_and_no_model(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log would keep its records for such a group, and each attempt would leave another one."""
    await runtime.log.append([events.encode(put("x"))])
    embedders = dict(runtime.collections._embedders)

    async def full(*_: object, **__: object) -> None:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(shard, "create_in_subprocess", full)
        with pytest.raises(Unavailable):
            await anext(Replay(runtime).run(ReplayArguments("new", since=time.time(), dim=8)))
        with pytest.raises(Unavailable):
            await Compaction(runtime).compact()
    (runtime.settings.data_dir / "store" / "taken").mkdir()
    with pytest.raises(OperationRefused, match="taken already"):
        await anext(Replay(runtime).run(ReplayArguments("taken", since=time.time(), dim=8)))
    assert not await runtime.log.groups()
    assert runtime.collections._embedders == embedders


async def test_a_replay_since_a_time_reports_how_many_records_it_leaves_out(runtime: Runtime) -> None:
    await runtime.log.append([events.encode(put(f"m{n}", event_id=f"{n}")) for n in range(3)])
    end = await runtime.log.append([events.encode(put("late", event_id="late"))])
    since = time.time()
    remark = await anext(Replay(runtime).run(ReplayArguments("new", since=since)))
    assert isinstance(remark, Remark)
    assert "the beginning" not in remark.text
    assert "4 older records are left out" in remark.text
    listed = {one.name: one for one in runtime.collections.listed}
    committed = await runtime.log.committed(runtime.collections.group_of(listed["new"]))
    assert committed == {number: offset + 1 for number, offset in end.items()}
