"""Error responses of the query service: invalid requests, outages, and arbitrary input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream.errors import Unavailable
from lorestream.wiring import Runtime
from tests.parts import Faulty, open_parts
from tests.retrieval.reader import Reader, over

SEARCH = "/v1/memories/search"


# The tests here write nothing, so they share one instance.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtime]:
    async with open_parts(tmp_path_factory.mktemp("lorestream")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(runtime: Runtime) -> AsyncIterator[Reader]:
    async with over(runtime) as opened:
        yield opened


def error_of(answer: Any) -> dict[str, Any]:
    return answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "agent_id"),
        ({"agent_id": "a", "scope": "tenant"}, "scope"),
        ({"agent_id": "a", "agent_ids": ["b"]}, "agent_ids"),
        ({"agent_id": ""}, "agent_id"),
        ({"agent_id": "x" * 257}, "agent_id"),
        ({"agent_id": 5}, "agent_id"),
        ({"agent_ids": []}, "agent_ids"),
        ({"agent_ids": ["a"] * 65}, "agent_ids"),
        ({"agent_ids": ["a", ""]}, "agent_ids[1]"),
        ({"agent_ids": "a"}, "agent_ids"),
        ({"scope": "world"}, "scope"),
        ({"agent_id": "a", "query": ""}, "query"),
        ({"agent_id": "a", "query": "x" * 8193}, "query"),
        ({"agent_id": "a", "query": ["x"]}, "query"),
        ({"agent_id": "a", "k": 0}, "k"),
        ({"agent_id": "a", "k": 101}, "k"),
        ({"agent_id": "a", "k": 10_000}, "k"),
        ({"agent_id": "a", "k": 5.5}, "k"),
        ({"agent_id": "a", "k": True}, "k"),
        ({"agent_id": "a", "k": "5"}, "k"),
        ({"agent_id": "a", "filters": [1]}, "filters"),
        ({"agent_id": "a", "filters": "type"}, "filters"),
        ({"agent_id": "a", "near": {"x": 1}}, "near.radius"),
        ({"agent_id": "a", "near": {"radius": 1}}, "near"),
        ({"agent_id": "a", "near": {"x": 1, "radius": -1}}, "near.radius"),
        ({"agent_id": "a", "near": {"x": "1", "radius": 1}}, "near.x"),
        ({"agent_id": "a", "near": {"w": 1, "radius": 1}}, "near.w"),
        ({"agent_id": "a", "mode": "dense"}, "mode"),
        ({"agent_id": "a", "query": "x", "mode": "sparse"}, "mode"),
        ({"agent_id": "a", "weights": {"relevance": -1}}, "weights.relevance"),
        ({"agent_id": "a", "weights": {"relevance": 0}}, "weights"),
        ({"agent_id": "a", "weights": {"half_life_s": 0}}, "weights.half_life_s"),
        ({"agent_id": "a", "weights": {"age": 1}}, "weights.age"),
        ({"agent_id": "a", "min_score": "1"}, "min_score"),
        ({"agent_id": "a", "explain": 1}, "explain"),
        ({"agent_id": "a", "after": 7}, "after"),
        ({"agent_id": "a", "wait_ms": -1}, "wait_ms"),
        ({"agent_id": "a", "wait_ms": 60_001}, "wait_ms"),
        ({"agent_id": "a", "limit": 5}, "limit"),
    ],
)
async def test_an_invalid_field_is_named(reader: Reader, body: object, path: str) -> None:
    answer = await reader.post(SEARCH, body)
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid_request"
    assert error_of(answer)["details"]["path"] == path


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"filters": {"timestamp": {"gtee": 1}}}, "invalid_filter", "filters.timestamp.gtee"),
        ({"filters": {"a..b": 1}}, "invalid_filter", "filters.a..b"),
        ({"after": "w1.nonsense"}, "invalid_token", "after"),
        ({"after": ""}, "invalid_token", "after"),
        ({"mode": "keyword", "weights": {"recency": 1}}, "invalid_request", "weights"),
        ({"mode": "fuzzy"}, "invalid_request", "mode"),
    ],
)
async def test_errors_with_their_own_codes(
    reader: Reader, fields: dict[str, Any], code: str, path: str
) -> None:
    answer = await reader.post(SEARCH, {"agent_id": "a", "query": "x", **fields})
    assert answer.status_code == 400
    assert (error_of(answer)["code"], error_of(answer)["details"]["path"]) == (code, path)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"agent_id": "\xff"}', b"[" * 5000, b'{"k": NaN}'])
async def test_invalid_json_is_rejected(reader: Reader, body: bytes) -> None:
    for path in (SEARCH, f"{SEARCH}/batch", "/memory/get"):
        answer = await reader.client.post(path, content=body)
        assert answer.status_code == 400
        assert error_of(answer)["code"] in {"invalid_json", "invalid_request"}


@pytest.mark.parametrize("body", [{}, {"searches": {}}, {"searches": [{}] * 65}, {"search": []}])
async def test_an_invalid_batch_is_rejected(reader: Reader, body: object) -> None:
    answer = await reader.post(f"{SEARCH}/batch", body)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"query": "x"}, "agent_id"),
        ({"agent_id": "a"}, "query"),
        ({"agent_id": "a", "query": ""}, "query"),
        ({"agent_id": "a", "query": "x", "query_text": "x"}, "query_text"),
        ({"agent_id": "a", "query": "x", "k": 101}, "k"),
        ({"agent_id": "a", "query": "x", "filters": {"tick": "1"}}, "filters.tick"),
    ],
)
async def test_invalid_fields_of_the_older_form(reader: Reader, body: object, path: str | None) -> None:
    answer = await reader.post("/memory/get", body)
    assert answer.status_code == 400
    assert error_of(answer)["details"].get("path") == path


@pytest.mark.parametrize(
    ("query", "code", "path"),
    [
        ("limit=0", "invalid_request", "limit"),
        ("limit=1001", "invalid_request", "limit"),
        ("limit=2.5", "invalid_request", "limit"),
        ("limit=", "invalid_request", "limit"),
        ("limit=1&limit=2", "invalid_request", "limit"),
        ("order=newest", "invalid_request", "order"),
        ("tick_from=x", "invalid_request", "tick_from"),
        ("tick_to=nan", "invalid_request", "tick_to"),
        ("since=inf", "invalid_request", "since"),
        ("until=true", "invalid_request", "until"),
        ("cursor=", "invalid_cursor", "cursor"),
        ("cursor=c1.AAAA", "invalid_cursor", "cursor"),
        ("filters=x", "invalid_request", "filters"),
        ("filters=[1]", "invalid_request", "filters"),
        ("filters=%7B%22type%22%3A%7B%22eqq%22%3A1%7D%7D", "invalid_filter", "filters.type.eqq"),
        ("from=1", "invalid_request", "from"),
        ("type=%FF", "invalid_request", None),
    ],
)
async def test_an_invalid_query_parameter_is_named(
    reader: Reader, query: str, code: str, path: str | None
) -> None:
    answer = await reader.client.get(f"/v1/agents/a/memories?{query}")
    assert answer.status_code == 400
    assert (error_of(answer)["code"], error_of(answer)["details"].get("path")) == (code, path)


@pytest.mark.parametrize(
    ("path", "at_fault"),
    [
        ("/v1/agents?limit=0", "limit"),
        ("/v1/agents?agent_id=a", "agent_id"),
        ("/v1/memories/x", "agent_id"),
        ("/v1/memories/x?agent_id=", "agent_id"),
        ("/v1/agents/a/summary?k=1", "k"),
        (f"/v1/agents/{'x' * 257}/memories", "agent_id"),
        ("/v1/agents/%FF/summary", "agent_id"),
    ],
)
async def test_invalid_parameters_of_other_reads(reader: Reader, path: str, at_fault: str | None) -> None:
    answer = await reader.client.get(path)
    assert answer.status_code == 400
    assert error_of(answer)["details"].get("path") == at_fault


@pytest.mark.parametrize("part", ["store", "embedder"])
async def test_an_outage_is_503_and_never_an_empty_answer(runtime: Runtime, part: str) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise Unavailable("gone fishing", retry_after_ms=2500)

    calls = ("search", "page", "count", "get", "agents", "embed")
    broken = Faulty(getattr(runtime, part), **dict.fromkeys(calls, fail))
    async with over(runtime, **{part: broken}) as reader:
        search = {"agent_id": "a", "query": "x"}
        answers = [
            await reader.post(SEARCH, search),
            await reader.post(f"{SEARCH}/batch", {"searches": [{"agent_id": ""}, search]}),
            await reader.post("/memory/get", search),
        ]
        if part == "store":
            paths = (
                "/v1/agents",
                "/v1/agents/a/memories",
                "/v1/agents/a/summary",
                "/v1/memories/x?agent_id=a",
            )
            answers += [await reader.client.get(path) for path in paths]
        for answer in answers:
            assert answer.status_code == 503
            assert error_of(answer)["code"] == "unavailable"
            assert answer.json()["retry_after_ms"] == 2500
            assert answer.headers["retry-after"] == "3"


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_value = _json | st.sampled_from(
    [{"type": "dig"}, {"OR": [{"n": 1}]}, {"x": 1, "radius": 2}, {"recency": 1}, "dense", 5.0]
)
_fields = (
    "agent_id",
    "agent_ids",
    "scope",
    "query",
    "k",
    "filters",
    "near",
    "mode",
    "weights",
    "min_score",
    "explain",
)
_body = st.dictionaries(
    st.sampled_from((*_fields, "after", "wait_ms", "query_text", "searches", "x")), _value, max_size=6
)
_params = st.dictionaries(
    st.sampled_from(("limit", "cursor", "order", "type", "tick_from", "since", "filters", "agent_id", "x")),
    st.text(max_size=8) | st.sampled_from(["5", "nan", "-1", "1e999", "{}", '{"a": 1}', "null"]),
    max_size=3,
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_json | _body, params=_params, name=st.text(min_size=1, max_size=6))
async def test_no_request_causes_a_5xx(
    reader: Reader, body: object, params: dict[str, str], name: str
) -> None:
    if isinstance(body, dict):
        body = {**body, **({"wait_ms": 0} if "after" in body else {})}
    scoped = {"agent_id": "a", **body} if isinstance(body, dict) else body
    answers = [
        await reader.post(SEARCH, body),
        await reader.post(SEARCH, scoped),
        await reader.post(f"{SEARCH}/batch", {"searches": [body, scoped]}),
        await reader.post(f"{SEARCH}/batch", body),
        await reader.post("/memory/get", scoped),
    ]
    agent = quote(name, safe="")
    paths = (
        f"/v1/agents/{agent}/memories",
        f"/v1/agents/{agent}/summary",
        "/v1/agents",
        f"/v1/memories/{agent}",
    )
    answers += [await reader.client.get(path, params=params) for path in paths]
    for answer in answers:
        assert answer.status_code in {200, 400, 404}, answer.text
        if answer.status_code != 200:
            assert error_of(answer)["message"]
