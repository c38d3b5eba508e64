"""Contract of every VectorStore: keyword search, and blends of relevance, recency and importance."""

import dataclasses
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.memories import Blend, Condition, Erasure, Field, KeywordQuery, Op, Scope, SubjectKind
from lorestream.ports import Tombstone
from tests.contracts.stored import NOW, START, memory, nearest, put

TRAILS = {
    "pine": "Dug a pine tree at the northern ridge",
    "oak": "Dug an old oak tree near the mill",
    "chat": "ash told me about the weather",
    "twice": "tree after tree after tree was cut, and no pine tree left",
}


def words(text, k=10, agent="a", **fields):
    agents = None if agent is None else (agent,)
    return KeywordQuery(Scope("default", agents), text, k, NOW, **fields)


async def found(store, *args, **how):
    return [hit.memory.id for hit in await store.search(words(*args, **how))]


@pytest.fixture
async def trails(store):
    ones = [memory(name, text=text, timestamp=START + n) for n, (name, text) in enumerate(TRAILS.items())]
    await put(store, *ones)
    return store


async def test_memories_without_a_common_word_are_not_found(trails):
    assert await found(trails, "weather") == ["chat"]
    assert set(await found(trails, "tree")) == {"pine", "oak", "twice"}
    assert await found(trails, "submarine") == []


async def test_rare_words_score_higher_than_frequent_ones(trails):
    hits = await trails.search(words("oak tree"))
    assert hits[0].memory.id == "oak"
    assert {hit.memory.id for hit in hits} == {"oak", "pine", "twice"}
    assert all(hit.relevance > 0 for hit in hits)
    assert [hit.relevance for hit in hits] == sorted((hit.relevance for hit in hits), reverse=True)


async def test_words_match_in_any_case_and_only_as_a_whole(trails):
    assert set(await found(trails, "TREE")) == set(await found(trails, "tree"))
    assert await found(trails, "tre") == []


async def test_node_names_match_by_their_parts(store):
    await put(store, memory("m", text="default:pine_tree"), memory("n", text="default:stone"))
    assert await found(store, "pine") == ["m"]
    assert await found(store, "default:pine_tree") == ["m", "n"]


@pytest.mark.parametrize("text", ["", "   ", "?!", "\x00", "木", "😀", "x" * 8192])
async def test_a_query_without_words_of_a_memory_finds_nothing(trails, text):
    assert await found(trails, text) == []


async def test_a_query_of_stop_words_finds_what_holds_them(trails):
    assert await found(trails, "about me") == ["chat"]
    assert await found(trails, "about the oak") == ["oak"]


async def test_a_stop_word_that_is_written_as_a_name_is_found_by_it(store):
    await put(store, memory("name", text="I met Will there"), memory("verb", text="The smith will come"))
    assert await found(store, "Who met Will?") == ["name"]
    assert set(await found(store, "will")) == {"name", "verb"}


async def test_stems_and_unicode_forms_match(store):
    await put(store, memory("m", text="The cafe\u0301 sold swords"), memory("n", text="iron"))
    for text in ("sword", "CAFÉ", "caf\u00e9", "\uff53\uff57\uff4f\uff52\uff44"):
        assert await found(store, text) == ["m"]


async def test_chinese_japanese_and_korean_are_found_by_their_characters(store):
    texts = {"zh": "昨天他买了苹果。", "ja": "私は東京に住んでいます", "ko": "고양이가 좋아요"}
    await put(store, *(memory(name, text=text) for name, text in texts.items()))
    for text, name in {"苹果": "zh", "東京": "ja", "고양이를": "ko"}.items():
        assert (await found(store, text))[0] == name


async def test_a_memory_without_words_can_be_stored(store):
    await put(store, memory("empty", text=""), memory("signs", text="?! 😀"), memory("m", text="oak"))
    assert len(await store.search(nearest(10))) == 3
    assert await found(store, "oak") == ["m"]


async def test_texts_in_any_script(store):
    await put(store, memory("m", text="木の家 Äpfel naïve"), memory("n", text="stone"))
    assert await found(store, "äpfel") == ["m"]
    assert await found(store, "naïve") == ["m"]


async def test_scope_filter_and_expiry_apply_to_keyword_search(store):
    await put(
        store,
        memory("mine", text="oak"),
        memory("dug", text="oak", type="dig"),
        memory("over", text="oak", expires_at=NOW),
        memory("theirs", text="oak", agent_id="b"),
        memory("other", text="oak", tenant="other"),
    )
    assert set(await found(store, "oak")) == {"mine", "dug"}
    assert set(await found(store, "oak", agent=None)) == {"mine", "dug", "theirs"}
    assert await found(store, "oak", filter=Condition(Field(("type",)), Op.EQ, "dig")) == ["dug"]
    assert await found(store, "oak", k=0) == []


async def test_deleted_memories_are_not_found_by_keyword(store):
    await put(store, memory("kept", text="oak"), memory("gone", text="oak"), memory("b", agent_id="b"))
    await store.put_tombstones([Tombstone("default", "a", "gone", NOW)])
    assert await found(store, "oak") == ["kept"]
    await store.erase(Erasure("e", "default", SubjectKind.AGENT, ("a",), NOW))
    assert await found(store, "oak") == []


async def test_many_equal_texts_come_newest_first(store):
    equal = [memory(f"e{n:03}", text="dug some stone", timestamp=START + n % 250) for n in range(700)]
    better = [memory("better", text="stone upon stone", timestamp=START - 9)]
    await put(store, *equal, *better)
    newest = sorted(equal, key=lambda one: one.position, reverse=True)
    for k in (1, 2, 5, 100, 690):
        hits = await store.search(words("stone", k=k))
        assert [hit.memory for hit in hits] == [*better, *newest][:k]


# --- blends ------------------------------------------------------------------------------------------------


def blend(half_life_s=86_400.0, pool=1000, **weights):
    return Blend(weights, half_life_s, pool)


def best(rows, ones, query):
    """The ids of the best k by NumPy, and their scores."""
    row = np.array(query.vector) / np.linalg.norm(query.vector)
    cosines = rows.astype(float) @ row
    nearest_first = sorted(range(len(ones)), key=lambda n: (cosines[n], ones[n].position), reverse=True)
    score = {
        n: query.blend.mean(query.blend.parts(ones[n], cosines[n], query.now))
        for n in nearest_first[: query.blend.pool]
    }
    first = sorted(score, key=lambda n: (score[n], ones[n].position), reverse=True)[: query.k]
    return [ones[n].id for n in first], [score[n] for n in first]


def population(count, seed=5):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ones = [
        memory(
            f"m{n}", timestamp=NOW - float(random.random()) * 400_000, importance=float(random.integers(11))
        )
        for n in range(count)
    ]
    return rows, ones


@pytest.mark.parametrize(
    "weighing",
    [
        blend(relevance=1.0),
        blend(relevance=1.0, recency=0.3, importance=0.2),
        blend(recency=1.0, half_life_s=3600.0),
        blend(importance=1.0),
        blend(relevance=1.0, recency=1.0, pool=120),
        blend(relevance=0.2, recency=1.0, pool=700),
        blend(relevance=1.0, recency=1.0, half_life_s=5e-324),
        blend(relevance=1.0, recency=1.0, half_life_s=1.7e308),
        blend(relevance=5e-324, recency=1.0, importance=1e-30),
    ],
)
async def test_blend_equals_exact_ranking(store, weighing):
    rows, ones = population(600)
    await store.insert(ones, rows)
    for k in (1, 10, 100):
        query = nearest(k, vector=rows[k].tolist(), blend=weighing)
        hits = await store.search(query)
        names, scores = best(rows, ones, query)
        reached = [weighing.mean(weighing.parts(hit.memory, hit.relevance, query.now)) for hit in hits]
        assert reached == pytest.approx(scores, abs=1e-6)
        if min(np.diff(sorted(set(scores))), default=1) > 1e-6:
            assert [hit.memory.id for hit in hits] == names


async def test_of_more_equal_memories_than_the_pool_the_newest_are_ranked(store):
    equal = [memory(f"e{n:03}", timestamp=NOW - 300 + n) for n in range(300)]
    await put(store, *equal[::2], *equal[-1::-2])
    weighing = blend(relevance=1.0, recency=1.0, half_life_s=50.0, pool=50)
    hits = await store.search(nearest(5, blend=weighing))
    assert [hit.memory for hit in hits] == equal[:-6:-1]


async def test_future_memories_have_recency_1(store):
    soon = [memory(f"s{n}", timestamp=NOW + 300) for n in range(40)]
    past = [memory(f"p{n}", timestamp=NOW - 1) for n in range(40)]
    await put(store, *soon, *past)
    hits = await store.search(nearest(5, blend=blend(recency=1.0, half_life_s=1.0)))
    assert {hit.memory.id[0] for hit in hits} == {"s"}


async def test_short_half_lives_and_importance_above_ten(store):
    random = np.random.default_rng(11)
    rows = random.standard_normal((200, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ones = [memory(f"m{n}", timestamp=NOW - n / 2, importance=float(n % 30)) for n in range(200)]
    await store.insert(ones, rows)
    weighing = blend(relevance=1.0, recency=0.9, importance=0.5, half_life_s=30.0)
    for k in (1, 5, 20):
        query = nearest(k, vector=rows[50].tolist(), blend=weighing, now=NOW + 37.3)
        assert [hit.memory.id for hit in await store.search(query)] == best(rows, ones, query)[0]


async def test_negative_cosines_count_as_0(store):
    ones = [memory(name, importance=importance) for name, importance in (("far", 9.0), ("right", 1.0))]
    await store.insert(ones, np.array([[-1, 0, 0, 0], [0, 1, 0, 0]], np.float32))
    hits = await store.search(nearest(2, blend=blend(relevance=1.0, importance=0.1)))
    assert [hit.memory.id for hit in hits] == ["far", "right"]


@given(
    ones=st.lists(
        st.tuples(st.floats(-1e9, 4e9), st.floats(-1e300, 1e300), st.integers(0, 2**32 - 1)),
        min_size=1,
        max_size=12,
    ),
    weights=st.dictionaries(
        st.sampled_from(["relevance", "recency", "importance"]), st.floats(5e-324, 1), min_size=1
    ),
    half_life_s=st.floats(5e-324, 1.7e308),
    pool=st.integers(1, 15),
    k=st.integers(1, 15),
    now=st.floats(-1e9, 4e9),
)
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
async def test_blends_of_any_input(store, ones, weights, half_life_s, pool, k, now):  # noqa: PLR0917
    weights = {name: weight / max(weights.values()) for name, weight in weights.items()}
    agent = str(uuid.uuid4())
    rows = np.array([np.random.default_rng(seed).standard_normal(4) for _, _, seed in ones], np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kept = [
        memory(f"m{n}", agent_id=agent, timestamp=timestamp, importance=importance)
        for n, (timestamp, importance, _) in enumerate(ones)
    ]
    await store.insert(kept, rows)
    weighing = Blend({name: weight for name, weight in weights.items() if weight > 0}, half_life_s, pool)
    query = dataclasses.replace(nearest(k, agent=agent, blend=weighing), now=now)
    hits = await store.search(query)
    assert len(hits) == min(k, pool, len(ones))
    reached = [weighing.mean(weighing.parts(hit.memory, hit.relevance, now)) for hit in hits]
    assert reached == pytest.approx(best(rows, kept, query)[1], abs=1e-6)
