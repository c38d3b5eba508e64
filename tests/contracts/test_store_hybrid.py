"""Contract of every VectorStore: searches by meaning and words together."""

from __future__ import annotations

import numpy as np
import pytest

from lorestream.fusion import DENSE_WEIGHT
from lorestream.memories import EVERYTHING, Condition, Field, HybridQuery, KeywordQuery, Op, Scope
from lorestream.ports import Tombstone
from tests.contracts.stored import EAST, NOW, START, memory, put


def hybrid(text, k=10, *, vector=EAST, agents=("a",), filter_=EVERYTHING):
    return HybridQuery(Scope("default", agents), vector, text, k, NOW, filter_)


async def found(store, *args, **how):
    return [hit.memory.id for hit in await store.search(hybrid(*args, **how))]


def at_angle(degrees):
    """A vector of length 1 at that angle to EAST."""
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0, 0]


async def put_at(store, ones):
    """Insert (memory, degrees to EAST)."""
    await store.insert([one for one, _ in ones], np.array([at_angle(angle) for _, angle in ones], np.float32))


async def test_both_scores_of_every_candidate_count(store):
    """The best by words has its cosine, and the best by cosine has its words, though each is in one list only."""
    near = [(memory(f"near{n}", text="stone"), 10 + n / 100) for n in range(250)]
    worded = [(memory(f"iron{n}", text="iron"), 60 + n / 100) for n in range(250)]
    both = (memory("both", text="iron and stone and coal"), 30)
    await put_at(store, [*near, *worded, both])
    hits = await store.search(hybrid("iron", 300))
    by_id = {hit.memory.id: hit for hit in hits}
    assert by_id["near0"].shares == {
        "dense": pytest.approx(DENSE_WEIGHT * np.cos(np.radians(10))),
        "keyword": 0,
    }
    assert by_id["iron0"].shares["dense"] == pytest.approx(DENSE_WEIGHT * 0.5)
    assert by_id["both"].shares["dense"] == pytest.approx(DENSE_WEIGHT * np.cos(np.radians(30)), abs=1e-5)
    assert by_id["both"].shares["keyword"] > 0
    assert hits[0].memory.id == "both"
    assert all(sum(hit.shares.values()) == hit.relevance for hit in hits)


@pytest.mark.parametrize("k", [1, 5, 25, 100])
async def test_a_tie_in_the_list_by_words_does_not_cut_the_best_memory_away(store, k):
    """301 memories hold "iron": the best by cosine is one of them, and the oldest."""
    others = [(memory(f"m{n}", text="sold iron", timestamp=START + n), 40 + n / 10) for n in range(300)]
    best = (memory("best", text="bought iron", timestamp=START - 9), 5)
    await put_at(store, [*others, best])
    assert (await found(store, "iron", k))[0] == "best"


async def test_of_more_equal_words_than_fit_those_nearest_by_cosine_are_candidates(store):
    """The words' list is full of memories with one score, and none of them is in the list by cosine."""
    near = [(memory(f"near{n}", text="stone"), 5 + n / 100) for n in range(201)]
    far = [(memory(f"f{n:03}", text="iron", timestamp=START - n), 80 - n / 20) for n in range(300)]
    await put_at(store, [*near, *far])
    assert (await found(store, "iron", 3)) == ["f299", "f298", "f297"]


async def test_of_equal_memories_the_newest_are_returned(store):
    equal = [memory(f"e{n:03}", text="dug some stone", timestamp=START + n) for n in range(700)]
    await put(store, *equal[::2], *equal[-1::-2])
    newest = [one.id for one in equal[::-1]]
    for k in (1, 5, 100, 690):
        assert await found(store, "stone", k) == newest[:k]
        assert await found(store, "the of", k) == newest[:k]


async def test_a_small_k_is_the_beginning_of_a_larger_one(store):
    random = np.random.default_rng(3)
    words = ["iron", "coal", "gold", "stone", "the", "wood"]
    ones = [
        (
            memory(f"m{n}", text=" ".join(random.choice(words, 3)), type="even" if n % 2 else "odd"),
            float(random.integers(0, 60)),
        )
        for n in range(500)
    ]
    await put_at(store, ones)
    metadata = Condition(Field(("type",)), Op.EQ, "even")
    for text in ("iron", "iron and coal", "the", "nothing known"):
        for filter_ in (EVERYTHING, metadata):
            longest = await found(store, text, 100, filter_=filter_)
            assert len(set(longest)) == 100
            for k in (1, 2, 7, 50):
                assert await found(store, text, k, filter_=filter_) == longest[:k]


async def test_a_filter_that_has_to_be_checked_on_the_memory(store):
    """The engine does not know exactly how this number compares with the bound."""
    big = 2**60
    ones = [(memory(f"m{n}", text=f"iron {n}", metadata={"n": big + n}), 10 + n / 10) for n in range(40)]
    await put_at(store, ones)
    above = Condition(Field(("metadata", "n")), Op.GTE, big + 20)
    assert set(await found(store, "iron", 100, filter_=above)) == {f"m{n}" for n in range(20, 40)}
    assert (await found(store, "iron", 2, filter_=above)) == ["m20", "m21"]


async def test_deleted_expired_and_foreign_memories_are_not_found(store):
    await put(
        store,
        memory("kept", text="iron"),
        memory("gone", text="iron"),
        memory("over", text="iron", expires_at=NOW),
        memory("theirs", text="iron", agent_id="b"),
        memory("other", text="iron", tenant="other"),
    )
    await store.put_tombstones([Tombstone("default", "a", "gone", NOW)])
    assert await found(store, "iron") == ["kept"]
    assert set(await found(store, "iron", agents=None)) == {"kept", "theirs"}
    assert await found(store, "iron", 0) == []
    assert await found(store, "iron", agents=("nobody",)) == []


async def test_vectors_of_length_0_have_no_nan(store):
    await store.insert([memory("zero", text="iron"), memory("m", text="coal")], np.zeros((2, 4), np.float32))
    hits = await store.search(hybrid("iron", vector=(0.0, 0.0, 0.0, 0.0)))
    assert {hit.memory.id: hit.relevance for hit in hits} == {"zero": pytest.approx(0.4), "m": 0.0}


@pytest.mark.parametrize("words_only", [False, True])
async def test_a_write_between_two_calls_of_a_search_costs_no_hits(store, monkeypatch, words_only):
    """Each memory with a word of the query changes the BM25 scores of all: those of a tie are then found no more."""
    await put(store, *(memory(f"m{n:03}", text="iron", timestamp=START + n) for n in range(300)))
    query = KeywordQuery(Scope("default", ("a",)), "iron", 5, NOW) if words_only else hybrid("iron", 5)
    calls = before = 0

    def after_a_write(name):
        call = getattr(store._engine, name)

        async def wrapped(*args, **how):
            nonlocal calls
            calls += 1
            if calls == before:
                await put(store, memory(f"w{before}", text="iron", timestamp=START - before))
            return await call(*args, **how)

        monkeypatch.setattr(store._engine, name, wrapped)

    for name in ("ranked_ids_of", "ranked_ids", "nearest", "ordered_by_time"):
        after_a_write(name)
    while calls >= before:  # before each of its calls, in turn
        calls, before = 0, before + 1
        assert len(await store.search(query)) == 5
    assert before > 2
