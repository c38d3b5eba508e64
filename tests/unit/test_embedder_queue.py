"""The queue before the model, with an encoder whose chunks can be held and counted."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from lorestream.adapters.embedders.chunk_size import BUSY_CHUNK_S, BUSY_S, CHUNK_CHARACTERS, CHUNK_TEXTS
from lorestream.adapters.embedders.hash import HashEmbedder
from lorestream.adapters.embedders.prefixes import NO_PREFIXES, Prefixes
from lorestream.adapters.embedders.queue import QUERY_CHUNKS, QueuedEmbedder
from lorestream.adapters.embedders.worker_thread import NICE
from lorestream.errors import InvalidRequest, Overloaded, Unavailable
from lorestream.ports import Embeddings, Priority, Role


class Gate:
    """An encoder of two components that works only while its gate is open and remembers its chunks."""

    model_id = "gate"
    dim = 2
    max_characters = 10_000
    prefixes = NO_PREFIXES

    def __init__(self) -> None:
        self.same_tokens: Callable[[str], str] = str
        self.chunks: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.answer: Callable[[Sequence[str]], np.ndarray] = lambda texts: np.array(
            [[np.cos(len(text)), np.sin(len(text))] for text in texts], np.float32
        )

    def encode(self, texts: Sequence[str]) -> Embeddings:
        self.chunks.append(list(texts))
        self.entered.set()
        assert self.open.wait(30)
        return Embeddings(self.answer(texts), [False] * len(texts))

    def count_tokens(self, text: str) -> int:
        return len(text)

    def token_vectors(self, texts: Sequence[str]) -> list[np.ndarray]:
        raise NotImplementedError


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "lorestream.turns.HOLD_S", math.inf
    )  # a call is queued at once, also on a busy machine
    gate = Gate()
    yield gate
    gate.open.set()


def embedding(gate: Gate, **options: Any) -> QueuedEmbedder:
    """An embedder whose clock stands: the model takes no time."""
    return QueuedEmbedder(gate, **{"monotonic": lambda: 0.0, **options})


async def test_a_text_is_read_with_the_prefix_of_its_role(gate: Gate) -> None:
    gate.prefixes = Prefixes("query: ", "passage: ")
    async with embedding(gate) as embedder:
        stored = await embedder.embed(["oak", "\0oak"])
        asked = await embedder.embed(["oak"], Priority.INGEST, Role.QUERY)
        await embedder.embed(["oak"], Priority.QUERY, Role.PASSAGE)  # from the cache
        longest = await embedder.embed(["x" * (10_000 - len("passage: ")), "x" * 10_000])
        assert embedder.count_tokens("oak") == len("oak")
    assert gate.chunks[:2] == [["passage: oak"], ["query: oak"]]
    assert len(gate.chunks) == 4
    assert not np.allclose(stored.vectors[0], asked.vectors[0])
    assert longest.truncated == [False, True]


async def test_texts_with_the_same_tokens_share_a_vector(gate: Gate) -> None:
    async with HashEmbedder() as embedder:
        vectors = (await embedder.embed(["  by the\tmill", "by the mill ", "bythe mill"])).vectors
    assert vectors[0].tolist() == vectors[1].tolist() != vectors[2].tolist()
    gate.same_tokens = str.lower
    async with embedding(gate) as embedder:
        await embedder.embed(["Oak", "oak"])
        await embedder.embed(["OAK"], Priority.QUERY)
    assert gate.chunks == [["Oak"]]


async def hold(embedder: QueuedEmbedder, gate: Gate) -> asyncio.Task[Embeddings]:
    """Shut the model in the middle of a chunk."""
    gate.open.clear()
    gate.entered.clear()
    task = asyncio.create_task(embedder.embed(["held"]))
    await asyncio.to_thread(gate.entered.wait, 30)
    gate.chunks.clear()
    return task


async def test_queries_that_wait_together_go_together(gate: Gate):
    async with embedding(gate) as embedder:
        held = await hold(embedder, gate)
        async with asyncio.TaskGroup() as group:
            group.create_task(embedder.embed([f"ingest {i:03}" for i in range(CHUNK_TEXTS + 2)]))
            for i in range(3):
                group.create_task(embedder.embed([f"query {i}"], Priority.QUERY))
            await asyncio.sleep(0)
            gate.open.set()
        await held
    assert gate.chunks[0] == ["query 0", "query 1", "query 2"]
    assert [len(chunk) for chunk in gate.chunks[1:]] == [CHUNK_TEXTS, 2]


async def test_a_query_waits_for_one_chunk_at_most(gate: Gate):
    async with embedding(gate) as embedder:
        gate.open.clear()
        ingest = asyncio.create_task(embedder.embed([f"ingest {i:03}" for i in range(3 * CHUNK_TEXTS)]))
        await asyncio.to_thread(gate.entered.wait, 30)
        query = asyncio.create_task(embedder.embed(["query"], Priority.QUERY))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(query, ingest)
    assert gate.chunks[1] == ["query"]


async def test_more_queries_than_the_model_can_take_do_not_stop_the_ingest(gate: Gate):
    async with embedding(gate) as embedder:
        held = await hold(embedder, gate)
        async with asyncio.TaskGroup() as group:
            group.create_task(embedder.embed([f"ingest {i:03}" for i in range(CHUNK_TEXTS + 1)]))
            queries = [f"query {i:03}" for i in range(3 * QUERY_CHUNKS * CHUNK_TEXTS)]
            group.create_task(embedder.embed(queries, Priority.QUERY))
            await asyncio.sleep(0)
            gate.open.set()
        await held
        assert embedder.ingested == CHUNK_TEXTS + 2
    kinds = "".join(chunk[0][0] for chunk in gate.chunks)
    assert kinds == "q" * QUERY_CHUNKS + "i" + "q" * QUERY_CHUNKS + "i" + "q" * QUERY_CHUNKS


async def test_chunks_of_the_ingest_are_small_while_queries_come_in(gate: Gate):
    at = 0.0
    ms_per_text = 5

    def encode(texts: Sequence[str]) -> np.ndarray:
        nonlocal at
        at += len(texts) * ms_per_text / 1000
        return np.ones((len(texts), 2), np.float32) / np.sqrt(2)

    gate.answer = encode
    async with embedding(gate, monotonic=lambda: at) as embedder:
        await embedder.embed([f"quiet {n:03}" for n in range(2 * CHUNK_TEXTS)])
        await embedder.embed(["query"], Priority.QUERY)
        await embedder.embed([f"busy  {n:03}" for n in range(2 * CHUNK_TEXTS)])
        at += BUSY_S
        await embedder.embed([f"later {n:03}" for n in range(2 * CHUNK_TEXTS)])
    sizes = {
        kind: [len(chunk) for chunk in gate.chunks if chunk[0][:5] == kind]
        for kind in ("quiet", "busy ", "later")
    }
    assert sizes["quiet"] == sizes["later"] == [CHUNK_TEXTS] * 2
    assert max(sizes["busy "]) * ms_per_text / 1000 <= BUSY_CHUNK_S
    assert len(sizes["busy "]) <= 2 * CHUNK_TEXTS / (BUSY_CHUNK_S * 1000 / ms_per_text - 1)


async def test_a_gpu_gets_more_texts_at_once(gate: Gate):
    """And as many times more characters: no chunk is smaller because of its padding alone."""
    async with embedding(gate, chunk_texts=256) as embedder:
        await embedder.embed([f"{n:0100}" for n in range(256)])
    assert [len(chunk) for chunk in gate.chunks] == [256]


async def test_a_call_with_many_long_texts_does_not_keep_another_waiting(gate: Gate):
    """64 queries of 8,192 characters of one caller, then a short one of another."""
    async with embedding(gate) as embedder:
        held = await hold(embedder, gate)
        many = asyncio.create_task(embedder.embed([f"{n:02}" * 4096 for n in range(64)], Priority.QUERY))
        await asyncio.sleep(0)
        one = asyncio.create_task(embedder.embed(["short"], Priority.QUERY))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(held, one, many)
    assert ["short"] in gate.chunks[:2]
    assert len(gate.chunks) == 65


async def test_two_calls_share_each_chunk(gate: Gate):
    async with embedding(gate) as embedder:
        held = await hold(embedder, gate)
        calls = [asyncio.create_task(embedder.embed([f"{who}{n:02}" for n in range(20)])) for who in "ab"]
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(held, *calls)
    half = CHUNK_TEXTS // 2
    assert [text[0] for text in gate.chunks[0]] == ["a", "b"] * half
    assert sum(map(len, gate.chunks)) == 40


async def test_a_text_is_cut_to_what_the_model_reads_before_it_is_queued(gate: Gate):
    async with embedding(gate) as embedder:
        made = await embedder.embed(["x" * 10_001, "x" * 10_000, "x" * 20_000])
        again = await embedder.embed(["x" * 10_000, "x" * 30_000])
    assert sorted(len(text) for chunk in gate.chunks for text in chunk) == [10_000, 10_000]
    assert list(made.truncated) == [True, False, True]
    assert list(again.truncated) == [False, True]


async def test_chunks_hold_texts_of_like_length(gate: Gate):
    lengths = [1, 900, 3, 700, CHUNK_CHARACTERS + 5, 2, 1000]
    async with embedding(gate) as embedder:
        made = await embedder.embed(["x" * n for n in lengths])
    assert [[len(text) for text in chunk] for chunk in gate.chunks] == [
        [1, 2, 3],
        [700, 900],
        [1000],
        [CHUNK_CHARACTERS + 5],
    ]
    np.testing.assert_allclose(made.vectors[:, 0], np.cos(lengths), atol=1e-6)


async def test_a_text_that_arrives_while_its_twin_is_embedded_is_not_embedded_again(gate: Gate):
    async with embedding(gate) as embedder:
        held = await hold(embedder, gate)
        twin = asyncio.create_task(embedder.embed(["held"]))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(held, twin)
    assert gate.chunks == []


async def test_other_tasks_run_while_the_texts_of_a_call_are_looked_up(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lorestream.turns.HOLD_S", 0.0)
    turns = 0
    async with embedding(gate) as embedder:
        call = asyncio.create_task(embedder.embed([f"text {n}" for n in range(100)]))
        while not gate.chunks:
            turns += 1
            await asyncio.sleep(0)
        await call
    assert turns >= 100


async def test_a_call_that_is_looked_up_while_the_embedder_closes_is_refused(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lorestream.turns.HOLD_S", 0.0)
    embedder = embedding(gate)
    call = asyncio.create_task(embedder.embed(["oak"]))
    await asyncio.sleep(0)
    await embedder.close()
    with pytest.raises(Unavailable, match="closed"):
        await call


async def test_the_event_loop_runs_while_the_model_works(gate: Gate):
    async with embedding(gate) as embedder:
        held = await hold(embedder, gate)
        await asyncio.sleep(0)
        assert not held.done()
        gate.open.set()
        await held


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda texts: 1 / 0, ZeroDivisionError),
        (lambda texts: np.full((len(texts), 2), np.nan, np.float32), Unavailable),
        (lambda texts: np.ones((len(texts), 3), np.float32), Unavailable),
        (lambda texts: np.ones((len(texts) + 1, 2), np.float32), Unavailable),
    ],
)
async def test_a_failing_model_fails_its_callers_and_works_again(
    gate: Gate, answer: Callable, error: type[Exception]
):
    async with embedding(gate, queue_texts=50) as embedder:
        works, gate.answer = gate.answer, answer
        with pytest.raises(error):
            await embedder.embed([f"text {i:03}" for i in range(50)])
        with pytest.raises(error):
            await embedder.embed(["a query"], Priority.QUERY)
        gate.answer = works
        assert (await embedder.embed([f"text {i:03}" for i in range(50)])).vectors.shape == (50, 2)


@pytest.mark.parametrize("raises", [False, True])
async def test_a_text_without_a_vector_is_refused_and_the_others_are_embedded(gate: Gate, *, raises: bool):
    works = gate.answer

    def answer(texts: Sequence[str]) -> np.ndarray:
        vectors = works(texts)
        bad = ["bad" in text for text in texts]
        if raises and any(bad):
            raise Unavailable("the model failed")
        vectors[bad] = np.nan
        return vectors

    gate.answer = answer
    async with embedding(gate) as embedder:
        for texts in (["one", "bad", "two"], ["bad"]):
            with pytest.raises(InvalidRequest, match="no vector for 'bad'"):
                await embedder.embed(texts)
        gate.chunks.clear()
        assert np.isfinite((await embedder.embed(["one", "two"])).vectors).all()
        assert gate.chunks == []


async def test_one_callers_failure_leaves_the_others(gate: Gate):
    works = gate.answer
    gate.answer = lambda texts: works(texts) if "bad" not in texts else 1 / 0
    async with embedding(gate) as embedder:
        held = await hold(embedder, gate)
        bad = asyncio.create_task(embedder.embed(["bad"], Priority.QUERY))
        good = asyncio.create_task(embedder.embed(["good"]))
        await asyncio.sleep(0)
        gate.open.set()
        with pytest.raises(ZeroDivisionError):
            await bad
        assert (await good).vectors.shape == (1, 2)
        await held


async def test_a_caller_may_leave_while_the_model_works_on_its_text(gate: Gate):
    async with embedding(gate) as embedder:
        held = await hold(embedder, gate)
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
        gate.open.set()
        assert (await embedder.embed(["held", "next"])).vectors.shape == (2, 2)
    assert gate.chunks == [["next"]]  # what nobody waited for any more was kept


async def test_a_refused_call_leaves_nothing_behind(gate: Gate):
    async with embedding(gate, queue_texts=2) as embedder:
        held = await hold(embedder, gate)
        first = asyncio.create_task(embedder.embed(["1"]))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refusal:
            await embedder.embed(["22", "333"])
        assert refusal.value.retryable
        second = asyncio.create_task(embedder.embed(["4444"]))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(held, first, second)
    assert gate.chunks == [["1", "4444"]]


async def test_a_call_larger_than_the_queue_is_taken_when_nothing_waits(gate: Gate):
    async with embedding(gate, queue_texts=2) as embedder:
        assert (await embedder.embed(["1", "22", "333"])).vectors.shape == (3, 2)


async def test_stopping_the_dispatcher_from_outside_ends_its_callers(gate: Gate):
    async with embedding(gate) as embedder:
        held = await hold(embedder, gate)
        waiting = asyncio.create_task(embedder.embed(["waiting"]))
        await asyncio.sleep(0)
        assert embedder._dispatcher is not None
        embedder._dispatcher.cancel()
        for task in (held, waiting):
            with pytest.raises(Unavailable):
                await task
        gate.open.set()
        assert (await embedder.embed(["after"])).vectors.shape == (1, 2)


def test_one_embedder_serves_one_event_loop_after_another(gate: Gate):
    embedder = embedding(gate)
    for text in ("first", "second"):
        assert asyncio.run(embedder.embed([text])).vectors.shape == (1, 2)
    asyncio.run(embedder.close())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own elsewhere")
async def test_the_model_comes_behind_the_event_loop(gate: Gate):
    def priority(thread: int = 0) -> int:
        return os.getpriority(os.PRIO_PROCESS, thread)

    before, seen = priority(), list[int]()

    def answer(texts: Sequence[str]) -> np.ndarray:
        seen.append(priority(threading.get_native_id()))
        return np.ones((len(texts), 2), np.float32)

    gate.answer = answer
    async with embedding(gate) as embedder:
        await embedder.embed(["a"])
    assert seen == [max(before, NICE)]
    assert priority() == before
