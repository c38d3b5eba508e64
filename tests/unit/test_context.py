"""Contexts: selection within the budget, no duplicates, order, and token counts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.errors import Overloaded, Unavailable
from lorestream.memories import Memory
from lorestream.tokens import token
from lorestream.wiring import Runtime
from query_service.context import build_excerpt
from query_service.ranking import Ranked
from tests.models import real_model
from tests.parts import Faulty, open_parts
from tests.retrieval.reader import NOW, Reader, over

PATH = "/v1/agents/a/context"
HOUR = 3600.0


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_parts(tmp_path) as opened:
        yield opened


@pytest.fixture
async def reader(runtime: Runtime) -> AsyncIterator[Reader]:
    async with over(runtime) as opened:
        yield opened


async def context(reader: Reader, *, agent: str = "a", **body: Any) -> dict[str, Any]:
    """A context that succeeds."""
    answer = await reader.post(f"/v1/agents/{quote(agent, safe='')}/context", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def texts(memories: list[dict[str, Any]]) -> list[str]:
    return [memory["text"] for memory in memories]


def memory(name: str, text: str = "", **fields: Any) -> Memory:
    values: dict[str, Any] = {"tenant": "t", "agent_id": "a", "timestamp": NOW, "accepted_at": NOW}
    return Memory(**{**values, "id": name, "text": text or name, **fields})


def nobody(_name: str, _memory: Memory) -> bool:
    return False


def ranked(one: Memory, score: float = 0.5) -> Ranked:
    return Ranked(one, score, {})


def words(text: str) -> int:
    return len(text.split())


# --- selection ---------------------------------------------------------------------------------------------


async def test_a_context_has_relevant_then_recent_memories_without_duplicates(reader: Reader) -> None:
    for age in range(8, 0, -1):
        await reader.remember(f"memory {age}", at=NOW - age * HOUR)
    answer = await context(reader, query="memory 7", recent=3, relevant=2)
    best, recent = texts(answer["relevant"]), texts(answer["recent"])
    assert best[0] == "memory 7"
    assert len(best) == 2
    assert [one["score"] for one in answer["relevant"]] == sorted(
        (one["score"] for one in answer["relevant"]), reverse=True
    )
    assert recent == [name for name in ("memory 1", "memory 2", "memory 3") if name not in best]
    # NOW is 2033-05-18 03:33:20.
    lines = {name: 8 - int(name[-1]) for name in (*best, *recent)}
    assert [line[-8:] for line in answer["text"].split("\n")] == sorted(lines, key=lambda name: lines[name])
    assert answer["tokens"] == words(answer["text"]) <= 1000
    assert (answer["cache"], answer["fresh"]) == ("miss", True)
    assert "score" not in answer["recent"][0]


async def test_the_date_is_shown_where_it_changes(reader: Reader) -> None:
    for age, text in ((30, "first"), (2, "second"), (1, "third  of\nmany \u2028 words")):
        await reader.remember(text, at=NOW - age * HOUR)
    await reader.remember("before any calendar", timestamp=-1e300)
    assert (await context(reader))["text"].split("\n") == [
        "before any calendar",
        "2033-05-16 21:33 first",
        "2033-05-18 01:33 second",
        "02:33 third of many words",
    ]


async def test_defaults_are_ten_recent_and_five_relevant(reader: Reader) -> None:
    for age in range(40, 0, -1):
        await reader.remember(f"memory {age}", at=NOW - age)
    answer = await context(reader, query="memory 40", recent=None, relevant=None, token_budget=None)
    assert len(answer["relevant"]) == 5
    best = set(texts(answer["relevant"]))
    assert texts(answer["recent"]) == [f"memory {n}" for n in range(1, 11) if f"memory {n}" not in best]


@pytest.mark.parametrize("body", [{}, {"query": None, "relevant": 5}, {"query": "x", "relevant": 0}])
async def test_without_a_query_there_are_only_recent_memories(reader: Reader, body: dict[str, Any]) -> None:
    for age in (3, 2, 1):
        await reader.remember(f"{age}", at=NOW - age)
    answer = await context(reader, recent=2.0, **body)
    assert (texts(answer["recent"]), answer["relevant"]) == (["1", "2"], [])


async def test_zero_recent_memories(reader: Reader) -> None:
    for age in (3, 2, 1):
        await reader.remember(f"{age}", at=NOW - age)
    answer = await context(reader, query="3", recent=0, relevant=1)
    assert (answer["recent"], texts(answer["relevant"])) == ([], ["3"])
    nothing = await context(reader, query="3", recent=0, relevant=0)
    assert (nothing["recent"], nothing["relevant"], nothing["text"], nothing["tokens"]) == ([], [], "", 0)


async def test_an_agent_without_memories_has_an_empty_context(reader: Reader) -> None:
    answer = await context(reader, query="x")
    assert (answer["recent"], answer["relevant"], answer["text"], answer["tokens"]) == ([], [], "", 0)


async def test_a_memory_that_does_not_fit_is_skipped(reader: Reader) -> None:
    await reader.remember("tiny", at=NOW - 3)
    await reader.remember("much " * 50, at=NOW - 2)
    await reader.remember("small one", at=NOW - 1)
    # Date and time count as two words; the date is on the first line only.
    answer = await context(reader, token_budget=6)
    assert answer["text"] == "2033-05-18 03:33 tiny\n03:33 small one"
    assert answer["tokens"] == 6
    assert texts((await context(reader, token_budget=5))["recent"]) == ["small one"]
    assert (await context(reader, token_budget=1))["text"] == ""


async def test_filters_apply_to_relevant_and_recent(reader: Reader) -> None:
    for n in range(6):
        await reader.remember(f"{n}", type="odd" if n % 2 else "even", at=NOW - n)
    answer = await context(reader, query="2", filters={"type": "odd"}, relevant=1, recent=2)
    assert {memory["type"] for memory in (*answer["recent"], *answer["relevant"])} == {"odd"}


async def test_agents_and_players_are_named_as_in_the_request(reader: Reader) -> None:
    stored, _ = reader.runtime.pseudonyms.agent("default", "npc:player:ann/1")
    player = reader.runtime.pseudonyms.player("default", "ann")
    await reader.remember("mine", agent=stored, player=player)
    await reader.remember("foreign")
    await reader.remember("another tenant's", agent=stored, tenant="other")
    answer = await context(reader, agent="npc:player:ann/1", query="mine", filters={"player": "ann"})
    assert texts(answer["relevant"]) == ["mine"]
    assert answer["relevant"][0]["agent_id"] == "npc:player:ann/1"


# --- cache, waiting, metrics, errors -------------------------------------------------------------------------


async def test_a_context_is_cached_until_a_write_completes_or_a_memory_expires(reader: Reader) -> None:
    await reader.remember("one", expires_at=NOW + 5)
    states = [(await context(reader, query="one", recent=5))["cache"] for _ in range(2)]
    assert states == ["miss", "hit"]
    for other in ({"recent": 6}, {"relevant": 6}, {"token_budget": 6}, {"filters": {"type": "x"}}):
        assert (await context(reader, **{"query": "one", "recent": 5, **other}))["cache"] == "miss"
    assert (await context(reader, recent=5))["cache"] == "miss"
    reader.clock.time = NOW + 5
    answer = await context(reader, query="one", recent=5)
    assert (answer["cache"], answer["text"]) == ("miss", "")
    await reader.remember("two")
    answer = await context(reader, query="one", recent=5)
    assert (answer["cache"], texts(answer["relevant"])) == ("miss", ["two"])


async def test_a_context_may_wait_for_a_write(reader: Reader) -> None:
    assert (await context(reader, after=token({0: 7}), wait_ms=0))["fresh"] is False
    await reader.runtime.collections.current.publisher.publish({0: 8})
    assert (await context(reader, after=token({0: 7}), wait_ms=0))["fresh"] is True


async def test_query_duration_has_the_label_context(reader: Reader) -> None:
    await context(reader)
    value = reader.runtime.metrics.registry.get_sample_value
    assert value("lorestream_query_duration_seconds_count", {"api": "context", "cache": "miss"}) == 1


INVALID = [
    ({"query": ""}, "query"),
    ({"query": "x" * 8193}, "query"),
    ({"query": 5}, "query"),
    *(({name: wrong}, name) for name in ("recent", "relevant") for wrong in (-1, 101, 2.5, "5", True, [])),
    *(({"token_budget": wrong}, "token_budget") for wrong in (0, -1, 100_001, 1.5, "9", {})),
    ({"filters": 1}, "filters"),
    ({"filters": {"type": {"eqq": 1}}}, "filters.type.eqq"),
    ({"after": "x"}, "after"),
    ({"wait_ms": -1}, "wait_ms"),
    ({"k": 5}, "k"),
    ({"budget": 5}, "budget"),
]


async def test_an_invalid_field_is_named(reader: Reader) -> None:
    for body, path in INVALID:
        answer = await reader.post(PATH, body)
        assert (answer.status_code, answer.json()["error"]["details"]["path"]) == (400, path), body


async def test_invalid_requests(reader: Reader) -> None:
    assert (await reader.client.post(PATH, content=b"")).status_code == 400
    assert (await reader.post(PATH, [])).status_code == 400
    answer = await reader.post(f"/v1/agents/{'x' * 257}/context", {})
    assert answer.json()["error"]["details"]["path"] == "agent_id"
    answer = await reader.client.post(f"{PATH}?k=1", json={})
    assert answer.json()["error"]["details"]["path"] == "k"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_fields = ("query", "recent", "relevant", "token_budget", "filters", "after", "x")
_body = st.dictionaries(
    st.sampled_from(_fields),
    _json | st.integers(0, 100) | st.sampled_from([{"type": "dig"}, 5.0]),
    max_size=4,
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_json | _body)
async def test_no_request_causes_a_5xx(reader: Reader, body: object) -> None:
    answer = await reader.client.post(PATH, content=json.dumps(body))
    assert answer.status_code in {200, 400}, answer.text


@pytest.mark.parametrize(("error", "status"), [(Unavailable, 503), (Overloaded, 429)])
@pytest.mark.parametrize("call", ["search", "page", "embed"])
async def test_an_outage_is_503_and_not_an_empty_context(
    runtime: Runtime, call: str, error: Callable[[str], Exception], status: int
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise error("gone")

    part = "embedder" if call == "embed" else "store"
    async with over(runtime, **{part: Faulty(getattr(runtime, part), **{call: fail})}) as reader:
        assert (await reader.post(PATH, {"query": "x"})).status_code == status


# --- the budget ----------------------------------------------------------------------------------------------

_text = st.text(max_size=12) | st.lists(
    st.sampled_from(["dug", "pine", "\u6728\u6751", "08:53", "\u00e9t\u00e9", "unbelievably"]), max_size=9
).map(" ".join)
_pool = st.lists(
    st.builds(
        memory,
        st.sampled_from("abcdefghijklmno"),
        _text,
        timestamp=st.floats(-1e12, 1e12) | st.integers(0, 40).map(lambda hours: NOW + hours * HOUR),
    ),
    max_size=12,
    unique_by=lambda one: one.id,
)
_chosen = _pool.flatmap(
    lambda pool: st.tuples(
        *(
            st.lists(st.sampled_from(pool), unique_by=lambda one: one.id) if pool else st.just([])
            for _ in "ab"
        )
    )
)
"""(relevant, recent): each memory at most once in each list."""


def _superadditive_count(text: str) -> int:
    """A token count in which the whole text has more tokens than its lines together."""
    return len(text) + len(text) ** 2 // 50


@given(_chosen, st.integers(1, 60), st.sampled_from([words, len, _superadditive_count, lambda _text: 1]))
def test_tokens_are_those_of_the_text_and_within_the_budget(
    chosen: tuple[list[Memory], list[Memory]], budget: int, count: Callable[[str], int]
) -> None:
    relevant, recent = chosen
    found = build_excerpt(
        [ranked(one) for one in relevant], recent, budget=budget, count_tokens=count, is_player=nobody
    )
    shown = [*(one.memory for one in found.relevant), *found.recent]
    assert found.tokens == (count(found.text) if shown else 0) <= budget
    assert len({one.id for one in shown}) == len(shown)
    assert found.text.count("\n") == max(0, len(shown) - 1)
    ids = [one.memory.id for one in found.relevant]
    assert ids == [one.id for one in relevant if one.id in ids]
    assert found.recent == [one for one in recent if one in found.recent]


def greedy(relevant: list[Memory], recent: list[Memory], budget: int) -> set[str]:
    """The expected selection, computed naively: add a memory if the whole text with it still fits."""
    chosen: list[Memory] = []
    refused: set[str] = set()
    for one in (*relevant, *recent):
        if one.id in refused or one.id in {other.id for other in chosen}:
            continue
        whole = build_excerpt([], [*chosen, one], budget=10**6, count_tokens=words, is_player=nobody)
        if whole.tokens <= budget:
            chosen.append(one)
        else:
            refused.add(one.id)
    return {one.id for one in chosen}


@given(_chosen, st.integers(1, 40))
def test_as_many_memories_are_selected_as_fit(chosen: tuple[list[Memory], list[Memory]], budget: int) -> None:
    relevant, recent = chosen
    found = build_excerpt(
        [ranked(one) for one in relevant], recent, budget=budget, count_tokens=words, is_player=nobody
    )
    shown = {one.memory.id for one in found.relevant} | {one.id for one in found.recent}
    assert shown == greedy(relevant, recent, budget)


def test_tokens_as_the_embedding_model_counts_them() -> None:
    embedder = OpenVinoEmbedder.open(real_model().directory)
    ones = [
        memory(f"{n}", f"the woodcutter dug {n} pine trees north of the lake", timestamp=NOW - n * HOUR)
        for n in range(50)
    ]
    for budget in (10, 100, 101, 117, 500):
        found = build_excerpt([], ones, budget=budget, count_tokens=embedder.count_tokens, is_player=nobody)
        assert found.tokens == embedder.count_tokens(found.text) <= budget
        left_out = ones[len(found.recent)]
        more = build_excerpt(
            [], [*found.recent, left_out], budget=10**6, count_tokens=embedder.count_tokens, is_player=nobody
        )
        assert more.tokens > budget, "one more would have fitted"


# --- speakers --------------------------------------------------------------------------------------------


async def test_the_text_names_who_spoke_and_never_a_player(reader: Reader) -> None:
    zed = reader.runtime.pseudonyms.player("default", "zed")
    lines: list[tuple[str, dict[str, Any], str]] = [
        ("good morning", {"type": "dialogue", "metadata": {"speaker": "Hilda"}}, "Hilda: good morning"),
        ("who is there", {"metadata": {"speaker": "the\n guard"}}, "the guard: who is there"),
        ("hello", {"type": "message", "metadata": {"role": "user"}}, "user: hello"),
        ("hi", {"type": "message", "data": {"role": "user", "name": "Sam"}}, "Sam: hi"),
        ("it is me", {"type": "chat", "player": zed}, "a player: it is me"),
        ("me again", {"type": "talk", "player": zed, "metadata": {"speaker": "zed"}}, "a player: me again"),
        ("", {"type": "chat", "player": zed, "data": {"message": "told"}}, "a player said: told"),
        ("Hilda: as before", {"type": "say", "metadata": {"speaker": "hilda"}}, "Hilda: as before"),
        ("dug a pine", {"type": "dig", "player": zed, "metadata": {"name": "pine"}}, "dug a pine"),
        ("nobody knows", {"type": "dialogue", "metadata": {"speaker": 7, "name": " "}}, "nobody knows"),
    ]
    for number, (text, fields, _) in enumerate(lines):
        await reader.remember(text, event_id=str(number), timestamp=NOW - 100 + number, **fields)
    found = await context(reader, recent=20)
    shown = [
        line.split(" ", 2 if number == 0 else 1)[-1] for number, line in enumerate(found["text"].split("\n"))
    ]
    assert shown == [line for _, _, line in lines]
    tight = await context(reader, recent=20, token_budget=found["tokens"] - 1)
    assert len(tight["recent"]) == len(lines) - 1
