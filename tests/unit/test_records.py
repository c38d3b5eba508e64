"""Records through the routes of the query service: where they are shown, streams, reads by id, aggregates."""

from __future__ import annotations

import base64
import json
import math
import statistics
import sys
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorestream.identity import memory_id
from query_service import aggregates, browse
from query_service.aggregates import start_of, summarise
from tests.parts import put
from tests.retrieval.reader import NOW, Reader, open_reader

PAGE = "/v1/agents/a/memories"
LINES = {"accept": "application/x-ndjson"}


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    async with open_reader(tmp_path) as opened:
        yield opened


def record(name: str, **fields: Any) -> Any:
    return put("", event_id=name, **{"type": "reward", "recall": False, "at": NOW - 1, **fields})


def id_of(name: str) -> str:
    return memory_id("default", "s", "a", name)


def ids_in(memories: list[dict[str, Any]]) -> list[str]:
    return [one["id"] for one in memories]


async def rewards(reader: Reader, *values: Any, every_s: float = 1.0) -> None:
    """Rewards of agent a with these values, one after the other from NOW - 1000 on."""
    await reader.write(
        *(
            record(f"r{n}", timestamp=NOW - 1000 + n * every_s, tick=float(n), data={"value": value})
            for n, value in enumerate(values)
        )
    )


async def test_a_record_is_shown_only_where_its_type_is_named(reader: Reader) -> None:
    await reader.remember("iron in the north", type="dig", at=NOW - 5)
    await reader.write(record("r1", data={"value": 1}), put("iron", event_id="r2", type="dig", recall=False))
    named = {"type": "reward"}
    assert [one["text"] for one in (await reader.get(PAGE))["memories"]] == ["iron in the north"]
    assert await reader.texts("iron", k=100) == ["iron in the north"]
    assert await reader.texts("iron", k=100, filters=named) == []
    assert await reader.texts() == ["iron in the north"]
    assert await reader.texts(filters={"NOT": {"type": "chat"}}) == ["iron in the north"]
    summary = await reader.get("/v1/agents/a/summary")
    assert (summary["total"], summary["by_type"]) == (1, {"dig": 1})
    assert (await reader.get("/v1/agents"))["agents"] == [{"agent_id": "a", "total": 1}]

    page = await reader.get(PAGE, type="reward")
    assert (ids_in(page["memories"]), page["total"]) == ([id_of("r1")], 1)
    assert page["memories"][0]["text"] == ""
    assert ids_in((await reader.get(PAGE, filters=json.dumps(named)))["memories"]) == [id_of("r1")]
    assert (await reader.get(PAGE, type="dig"))["total"] == 2
    either = {"OR": [named, {"type": "chat", "value": 1}]}
    for filters in (named, {"type": ["reward"]}, {"AND": [named]}, {"type": {"eq": "reward"}}, either):
        assert ids_in((await reader.search(filters=filters))["memories"]) == [id_of("r1")]
    assert await reader.texts(filters={"OR": [named, {"value": 1}]}) == []
    tenant = await reader.search(scope="tenant", filters={"type": ["reward", "dig"]}, k=100)
    assert len(tenant["memories"]) == 3
    one = await reader.get(f"/v1/memories/{id_of('r1')}", agent_id="a")
    assert one["metadata"] == {"value": 1}


async def test_a_context_has_records_only_of_types_that_it_names(reader: Reader) -> None:
    await reader.remember("iron", type="dig")
    await reader.write(put("the gate fell", event_id="r", type="tool", recall=False, at=NOW - 1))
    path = "/v1/agents/a/context"
    context = (await reader.post(path, {"query": "iron"})).json()
    assert "gate" not in context["text"]
    named = (await reader.post(path, {"query": "iron", "filters": {"type": "tool"}})).json()
    assert (named["relevant"], ids_in(named["recent"])) == ([], [id_of("r")])


async def test_a_cached_answer_is_not_used_after_a_new_record(reader: Reader) -> None:
    await reader.write(record("r1"))
    for _ in range(2):
        answer = await reader.search(filters={"type": "reward"})
    assert answer["cache"] == "hit"
    await reader.write(record("r2"))
    assert len((await reader.search(filters={"type": "reward"}))["memories"]) == 2


async def test_a_conversation_is_named_by_a_string_or_a_number(reader: Reader) -> None:
    large, beyond = 1234567890123456789, "9223372036854775808"
    for n, conversation in enumerate(["c1", 3, 3.0, "3", None, ["c1"], large, 2**63 - 1, beyond, "03"]):
        await reader.remember(
            f"{n}", type="message", data={"conversation": conversation}, timestamp=NOW - 99 + n
        )

    async def shown(**params: Any) -> list[str]:
        return [one["text"] for one in (await reader.get(PAGE, order="oldest", **params))["memories"]]

    assert await shown(conversation="3") == ["1", "2", "3"]
    assert await shown(conversation="c1", type="message") == ["0", "5"]
    assert await shown(conversation="-1") == []
    assert await shown(conversation=str(large)) == ["6"]
    assert await shown(conversation=str(2**63 - 1)) == ["7"]
    assert await shown(conversation=beyond) == ["8"]
    assert await shown(conversation="03") == ["9"]


# --- streams -------------------------------------------------------------------------------------------


async def test_a_stream_has_every_memory_on_a_line(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "_LINES_AT_ONCE", 3)
    await rewards(reader, *range(8))
    await reader.write(record("separator", data={"value": 8, "note": "a\u2028b\n"}))
    for accept in ("application/x-ndjson", "text/html;q=0.5, APPLICATION/X-NDJSON; q=1"):
        params = {"type": "reward", "order": "oldest"}
        answer = await reader.client.get(PAGE, params=params, headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        lines = answer.content.split(b"\n")
        assert lines.pop() == b""
        assert [json.loads(line)["metadata"]["value"] for line in lines] == list(range(9))
    page = (await reader.get(PAGE, type="reward", order="oldest"))["memories"]
    assert [json.loads(line) for line in lines] == page


@pytest.mark.parametrize(
    ("accept", "type_"),
    [
        ("application/x-ndjson;q=0.001", "application/x-ndjson"),
        ("application/x-ndjson;q=0", "application/json"),
        ("application/x-ndjson; charset=utf-8; q=0.000, */*", "application/json"),
        ("application/x-ndjson, text/html;q=0", "application/x-ndjson"),
        ("application/x-ndjsonl", "application/json"),
    ],
)
async def test_a_stream_is_sent_to_who_accepts_one(reader: Reader, accept: str, type_: str) -> None:
    answer = await reader.client.get(PAGE, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, type_)


async def test_a_stream_ends_at_its_limit_and_starts_at_its_cursor(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "_LINES_AT_ONCE", 3)
    await rewards(reader, *range(9))
    params = {"type": "reward", "order": "oldest", "limit": 2}
    cursor = (await reader.get(PAGE, **params))["next_cursor"]
    answer = await reader.client.get(PAGE, params={**params, "cursor": cursor, "limit": 4}, headers=LINES)
    assert [json.loads(line)["metadata"]["value"] for line in answer.text.splitlines()] == [2, 3, 4, 5]
    nothing = await reader.client.get("/v1/agents/nobody/memories", headers=LINES)
    assert (nothing.status_code, nothing.content) == (200, b"")


async def test_what_is_wrong_with_a_stream_is_answered_with_a_status(reader: Reader) -> None:
    for params, headers in (
        ({"limit": 1001}, {}),
        ({"limit": 10_001}, LINES),
        ({"limit": 0}, LINES),
        ({"cursor": "x"}, LINES),
        ({"filters": '{"a": {"near": 1}}'}, LINES),
    ):
        assert (await reader.client.get(PAGE, params=params, headers=headers)).status_code == 400, params
    assert (await reader.client.get(PAGE, params={"limit": 10_000}, headers=LINES)).status_code == 200


# --- several by id -------------------------------------------------------------------------------------


async def test_memories_are_read_by_id_in_the_order_of_the_ids(reader: Reader) -> None:
    await reader.remember("one", event_id="m1")
    await reader.remember("two", event_id="m2", expires_at=NOW + 5)
    await reader.write(record("r1", data={"value": 1}))
    await reader.remember("foreign", event_id="m1", agent="b")
    wanted = [id_of("r1"), "unknown", id_of("m2").upper(), id_of("gone"), id_of("m1")]
    found = (await reader.post("/v1/memories/get", {"agent_id": "a", "ids": wanted})).json()
    assert ids_in(found["memories"]) == [id_of("r1"), id_of("m2"), id_of("m1")]
    assert found["memories"][2] == await reader.get(f"/v1/memories/{id_of('m1')}", agent_id="a")

    body = {"agent_id": "a", "ids": wanted, "vectors": True}
    read = (await reader.post("/v1/memories/get", body)).json()["memories"]
    assert read[0]["vector"] is None
    vector = np.frombuffer(base64.b64decode(read[2]["vector"], validate=True), "<f4")
    embedded = (await reader.runtime.embedder.embed(["one"])).vectors[0]
    assert vector == pytest.approx(embedded, abs=1e-6)
    reader.clock.time = NOW + 5
    left = (await reader.post("/v1/memories/get", {"agent_id": "a", "ids": wanted})).json()
    assert ids_in(left["memories"]) == [id_of("r1"), id_of("m1")]


WRONG_READS = [
    ({"agent_id": "a"}, "ids"),
    ({"agent_id": "a", "ids": ["x"] * 257}, "ids"),
    ({"agent_id": "a", "ids": [1]}, "ids[0]"),
    ({"agent_id": "", "ids": []}, "agent_id"),
    ({"agent_id": "a", "ids": [], "vectors": "yes"}, "vectors"),
    ({"agent_id": "a", "ids": [], "vector": True}, "vector"),
]


async def test_wrong_reads_by_id_name_the_field(reader: Reader) -> None:
    for body, path in WRONG_READS:
        answer = await reader.post("/v1/memories/get", body)
        assert (answer.status_code, answer.json()["error"]["details"].get("path")) == (400, path), body
    assert (await reader.post("/v1/memories/get", {"agent_id": "a", "ids": []})).json() == {"memories": []}


# --- aggregates ----------------------------------------------------------------------------------------


async def buckets(reader: Reader, **body: Any) -> list[dict[str, Any]]:
    answer = await reader.post(
        "/v1/agents/a/aggregate", {"type": "reward", "field": "metadata.value", **body}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["buckets"]


async def test_an_aggregate_is_exact(reader: Reader) -> None:
    values = [0.1, 1e16, 0.3, -1e16, 5, 2.5]
    no_numbers = [True, "7", None, [1], {"a": 1}]
    await rewards(reader, *values, *no_numbers)
    await reader.remember("a memory of another type", type="dig", data={"value": 100})
    [bucket] = await buckets(reader)
    assert bucket == {
        "start": NOW - 1000,
        "count": 6,
        "sum": math.fsum(values),
        "mean": pytest.approx(math.fsum(values) / 6, rel=1e-15),
        "min": -1e16,
        "max": 1e16,
        "std": pytest.approx(statistics.pstdev(values), rel=1e-15),
        "last": 2.5,
    }
    assert [one["start"] for one in await buckets(reader, since=NOW - 2000)] == [NOW - 2000]
    assert await buckets(reader, type="nothing") == []
    assert [one["count"] for one in await buckets(reader, type=None)] == [1]


async def test_buckets_of_seconds_and_ticks(reader: Reader) -> None:
    await rewards(reader, *range(7), every_s=10.0)
    await reader.write(record("no tick", data={"value": 50}, timestamp=NOW))

    def summed(found: list[dict[str, Any]]) -> dict[float, float]:
        return {one["start"]: one["sum"] for one in found}

    start = NOW - 1000
    assert start % 20 == 0
    seconds = await buckets(reader, every_s=20, until=start + 65)
    assert summed(seconds) == {start: 1, start + 20: 5, start + 40: 9, start + 60: 6}
    assert summed(await buckets(reader, every_ticks=3)) == {0: 3, 3: 12, 6: 6}
    bounded = {"since": start + 10, "until": start + 30, "filters": {"value": {"ne": 2}}}
    assert summed(await buckets(reader, every_s=1e6, **bounded)) == {start // 1e6 * 1e6: 4}
    assert summed(await buckets(reader, field="tick", until=start + 65)) == {start: 21}
    assert summed(await buckets(reader, field="importance", until=start)) == {start: 5}


async def test_buckets_of_a_width_that_no_float_is(reader: Reader) -> None:
    await rewards(reader, *range(4))
    found = await buckets(reader, every_s=0.1)
    assert [one["start"] for one in found] == [NOW - 1000, NOW - 999, NOW - 998, NOW - 997]


@pytest.mark.parametrize(
    ("place", "every", "start"),
    [
        (0.3, 0.1, 0.3),
        (0.35, 0.1, 0.3),
        (-0.3, 0.1, -0.3),
        (-0.31, 0.1, -0.4),
        (-0.05, 0.1, -0.1),
        (-0.5, 1.0, -1.0),
        (1.7e308, 1e-300, 1.7e308),
        (-1.7e308, 1e308, -1.7e308),
        (-1.7e308, 1.5e-300, -1.7e308),
        (5e-324, 0.3, 0.0),
    ],
)
def test_where_a_bucket_starts(place: float, every: float, start: float) -> None:
    assert start_of(place, every) == start


async def test_buckets_of_each_type(reader: Reader) -> None:
    for number, (kind, at) in enumerate([("dig", 0), ("dig", 5), ("chat", 5), (None, 50), ("dig", 50)]):
        await reader.remember(f"{number}", type=kind, at=NOW - 100 + at, importance=number)

    async def grouped(**body: Any) -> list[tuple[float, str, int, float]]:
        found = await buckets(reader, type=None, field="importance", group_by="type", **body)
        return [(one["start"] - (NOW - 100), one["group"], one["count"], one["max"]) for one in found]

    assert (NOW - 100) % 20 == 0
    assert await grouped(every_s=20) == [
        (0, "chat", 1, 2),
        (0, "dig", 2, 1),
        (40, "", 1, 3),
        (40, "dig", 1, 4),
    ]
    assert sorted(await grouped(since=NOW - 100)) == [(0, "", 1, 3), (0, "chat", 1, 2), (0, "dig", 3, 4)]


WRONG_AGGREGATES = [
    ({}, "field"),
    ({"field": ""}, "field"),
    ({"field": "type"}, "field"),
    ({"field": "metadata"}, "field"),
    ({"field": 'a"b'}, "field"),
    ({"field": "value", "every_s": 0}, "every_s"),
    ({"field": "value", "every_ticks": -1}, "every_ticks"),
    ({"field": "value", "every_s": 1, "every_ticks": 1}, "every_ticks"),
    ({"field": "value", "since": "now"}, "since"),
    ({"field": "value", "filters": {"a": {"near": 1}}}, "filters.a.near"),
    ({"field": "value", "group": "x"}, "group"),
    ({"field": "value", "group_by": "text"}, "group_by"),
]


async def test_wrong_aggregates_name_the_field(reader: Reader) -> None:
    for body, path in WRONG_AGGREGATES:
        answer = await reader.post("/v1/agents/a/aggregate", body)
        assert (answer.status_code, answer.json()["error"]["details"].get("path")) == (400, path), body


async def test_an_aggregate_over_too_many_records_is_refused(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregates, "MAX_RECORDS", 4)
    await rewards(reader, *range(5))
    answer = await reader.post("/v1/agents/a/aggregate", {"type": "reward", "field": "value"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_many_records")
    [bucket] = await buckets(reader, since=NOW - 999.5)
    assert (bucket["count"], bucket["sum"]) == (4, 10)


def test_extreme_numbers_have_an_aggregate() -> None:
    most = sys.float_info.max
    assert summarise(0, [most, most], most) == aggregates.Bucket(0, 2, None, most, most, most, 0.0, most)
    assert summarise(0, [most, -most], -most) == aggregates.Bucket(0, 2, 0.0, 0.0, -most, most, most, -most)
    tiny = summarise(0, [1e-200, 3e-200], 0)
    assert tiny.std == pytest.approx(1e-200)
    same = summarise(0, [0.1] * 3, 0)
    assert (same.mean, same.std) == (0.1, 0.0)
    assert summarise(0, [-5e-324], 0).std == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e100, 1e100) | st.sampled_from([0.1, 1e16, 5e-324]), min_size=1, max_size=20))
def test_aggregates_equal_those_of_fractions(numbers: list[float]) -> None:
    bucket = summarise(0.0, numbers, numbers[-1])
    exact = [Fraction(number) for number in numbers]
    mean = sum(exact) / len(exact)
    assert bucket.sum == float(sum(exact))
    assert bucket.min <= bucket.mean <= bucket.max
    scale = max(map(abs, numbers))
    assert bucket.mean == pytest.approx(float(mean), rel=1e-12, abs=scale * 1e-15)
    assert bucket.std == pytest.approx(statistics.pstdev(numbers), rel=1e-9, abs=scale * 1e-15)
