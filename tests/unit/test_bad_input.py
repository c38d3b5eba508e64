"""Invalid values for every field of every read: the response is 400 and names the field, never 5xx."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import grpc
import httpx2
import pytest
import pytest_asyncio

from deploy.local.process import free_port
from lorestream.errors import Unavailable
from lorestream.grpc import memory_pb2 as pb
from lorestream.grpc import memory_pb2_grpc
from lorestream.grpc.server import Handlers, serving
from lorestream.wiring import Runtime
from query_service.rpc import Reads
from tests.parts import Faulty, open_parts
from tests.retrieval.reader import Reader, over

# The tests here write nothing, so they share one instance.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SEARCH, BATCH, GET, CONTEXT = (
    "/v1/memories/search",
    "/v1/memories/search/batch",
    "/memory/get",
    "/v1/agents/a/context",
)
DEEP = '{"a":' * 400 + "1" + "}" * 400
SURROGATE = '"\\ud800"'

WRONG: dict[str, list[str]] = {
    "text": ["5", "true", "[]", '["x"]', "{}", '""', SURROGATE, '"\xff"', "NaN", DEEP],
    "name": ["5", "true", '["x"]', "{}", '""', '"nonsense"', SURROGATE, '"\xff"', DEEP],
    "names": ['"x"', "5", "{}", "[]", "[5]", '[""]', "[null]", json.dumps(["a"] * 65), '["\xff"]', DEEP],
    "whole": ['"5"', "true", "[]", "{}", "5.5", "-1", "1e300", "1e999", "NaN", "-Infinity", "9" * 400, DEEP],
    "size": [
        '"5"',
        "true",
        "[5]",
        "{}",
        "-1",
        "-1e-9",
        "1e999",
        "-1e999",
        "NaN",
        "Infinity",
        "9" * 400,
        DEEP,
    ],
    "number": ['"5"', "true", "[]", "{}", "1e999", "-1e999", "NaN", "Infinity", "9" * 400, DEEP],
    "flag": ["1", "0", '"true"', "[]", "{}", "NaN", DEEP],
    "object": ["5", '"x"', "true", "[{}]", "NaN"],
    "filters": [
        *("5", '"x"', "true", '["a"]', "NaN"),
        *('{"a": {"near": 1}}', '{"a": {}}', '{"a": null}', '{"a": {"eq": null}}', '{"a": {"in": 5}}'),
        *('{"a": {"in": [[1]]}}', '{"a": {"gt": "x"}}', '{"a": {"exists": 1}}', '{"a": {"contains": []}}'),
        *('{"tick": "x"}', '{"type": 5}', '{"type": {"gt": "a"}}', '{"a": 1e999}', '{"a": NaN}'),
        *('{"AND": {}}', '{"OR": 5}', '{"NOT": 5}', '{"AND": [5]}', '{"": 1}', '{"a..b": 1}', '{"a\\"b": 1}'),
        *('{"metadata": 1}', '{"a": 99999999999999999999}', f'{{"a": {SURROGATE}}}', '{"a": "\xff"}', DEEP),
        json.dumps({"AND": [{f"a{n}": n} for n in range(33)]}),
        json.dumps({"a": {"in": list(range(1001))}}),
        '{"AND": [' * 5 + "{}" + "]}" * 5,
    ],
}
"""Written as JSON text, because some of them are not valid JSON."""

SEARCHED = {
    "text": ("agent_id", "query"),
    "whole": ("k",),
    "filters": ("filters",),
    "object": ("near", "weights"),
    "number": ("near.x", "near.y", "near.z", "min_score"),
    "size": (
        "near.radius",
        "weights.relevance",
        "weights.recency",
        "weights.importance",
        "weights.half_life_s",
        "wait_ms",
    ),
    "name": ("mode", "after"),
    "flag": ("explain",),
}
EXCERPTED = {
    "text": ("query",),
    "whole": ("recent", "relevant", "token_budget"),
    "filters": ("filters",),
    "name": ("after",),
    "size": ("wait_ms",),
}
BODIES: dict[str, tuple[dict[str, Any], dict[str, tuple[str, ...]]]] = {
    SEARCH: ({"agent_id": "a", "query": "x"}, SEARCHED),
    f"{SEARCH}?agents": ({"query": "x"}, {"names": ("agent_ids",), "name": ("scope",)}),
    GET: (
        {"agent_id": "a", "query": "x"},
        {"text": ("agent_id", "query"), "whole": ("k",), "filters": ("filters",)},
    ),
    f"{GET}?old": ({"agent_id": "a"}, {"text": ("query_text",)}),
    CONTEXT: ({}, EXCERPTED),
}
"""(path, a valid body, its fields by kind). The part after the question mark only makes the entries distinct."""
PARAMS: dict[str, dict[str, list[str]]] = {
    "/v1/agents/a/memories": {
        "order": ["", "newest", "RECENT", "5"],
        "limit": ["", "0", "-1", "1001", "2.5", "x", "nan", "9" * 400, "0x10", "null"],
        "cursor": ["", "x", "c1.AAAA", "9" * 400],
        "tick_from": ["", "x", "nan", "inf", "1e999", "null", "9" * 400, "[]"],
        "tick_to": ["", "x", "nan", "-inf", "-1e999", "true"],
        "since": ["", "x", "nan", "inf", "yesterday"],
        "until": ["", "x", "nan", "inf", "2025-01-01"],
        "filters": ["", "x", "{", *(one for one in WRONG["filters"])],
    },
    "/v1/agents": {"limit": ["", "0", "-1", "1001", "2.5", "x"]},
    "/v1/memories/x": {"agent_id": ["", "x" * 257]},
}


def invalid_cases(path: str) -> list[tuple[dict[str, Any], str, str]]:
    """(a body that is valid otherwise, the name of a field, an invalid value for it as JSON text)."""
    base, fields = BODIES[path]
    return [
        (base, field, wrong) for kind, named in fields.items() for field in named for wrong in WRONG[kind]
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtime]:
    async with open_parts(tmp_path_factory.mktemp("lorestream")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader(runtime: Runtime) -> AsyncIterator[Reader]:
    async with over(runtime) as opened:
        yield opened


def body_with_invalid(base: dict[str, Any], field: str, wrong: str) -> bytes:
    r"""The body as bytes with one field invalid; \xff in the value becomes a byte that is not UTF-8."""
    name, _, part = field.partition(".")
    inner = {"radius": "1", "x": "1"} if name == "near" else {}
    value = (
        wrong if not part else "{" + ", ".join(f'"{k}": {v}' for k, v in {**inner, part: wrong}.items()) + "}"
    )
    parts = [f'"{key}": {json.dumps(one)}' for key, one in base.items() if key != field]
    return ("{" + ", ".join([*parts, f'"{name}": {value}']) + "}").encode("latin-1")


def assert_names(answer: httpx2.Response, field: str) -> None:
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    if error["code"] != "invalid_json":  # invalid JSON has no fields to name
        assert error["details"]["path"].startswith(field), error
    assert error["message"]


@pytest.mark.parametrize(
    ("path", "base", "field", "wrong"),
    [
        pytest.param(path, *one, id=f"{path}-{one[1]}-{one[2][:24]!a}")
        for path in BODIES
        for one in invalid_cases(path)
    ],
)
async def test_an_invalid_field_of_a_body_is_named(
    reader: Reader, path: str, base: dict[str, Any], field: str, wrong: str
) -> None:
    raw = body_with_invalid(base, field, wrong)
    assert_names(await reader.client.post(path.partition("?")[0], content=raw), field)


async def test_an_invalid_field_in_a_batch_rejects_only_its_search(
    reader: Reader,
) -> None:
    for path in (SEARCH, f"{SEARCH}?agents"):
        for base, field, wrong in invalid_cases(path):
            raw = b'{"searches": [%b, {"agent_id": "a"}]}' % body_with_invalid(base, field, wrong)
            answer = await reader.client.post(BATCH, content=raw)
            if answer.status_code == 400:  # the whole body is invalid JSON
                assert answer.json()["error"]["code"] == "invalid_json"
                continue
            refused, answered = answer.json()["results"]
            assert answered["memories"] == []
            assert refused["error"]["code"].startswith("invalid_")
            assert refused["error"]["details"].get("path", field).startswith(field), refused


@pytest.mark.parametrize(
    ("path", "name", "wrong"),
    [
        pytest.param(path, name, wrong, id=f"{path}-{name}-{wrong[:24]!a}")
        for path, names in PARAMS.items()
        for name, values in names.items()
        for wrong in values
    ],
)
async def test_an_invalid_query_parameter_is_named(reader: Reader, path: str, name: str, wrong: str) -> None:
    value = quote(wrong.encode("latin-1"), safe="")
    answer = await reader.client.get(f"{path}?{name}={value}")
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["details"].get("path", "").startswith(name) or "UTF-8" in error["message"], error


@pytest.mark.parametrize("path", [*(path for path in BODIES if not path.startswith(GET)), BATCH])
async def test_an_unknown_field_is_named(reader: Reader, path: str) -> None:
    for unknown in ("tenant", "Query", "limits", "\x00", "agent_id "):
        base = {"searches": []} if path == BATCH else BODIES[path][0]
        answer = await reader.post(path.partition("?")[0], {**base, unknown: 1})
        assert answer.status_code == 400
        assert answer.json()["error"]["details"]["path"] == unknown


@pytest.mark.parametrize("path", [*PARAMS, "/v1/agents/a/summary", SEARCH, BATCH, GET, CONTEXT])
async def test_an_unknown_parameter_is_named(reader: Reader, path: str) -> None:
    ask = reader.client.post if path in {SEARCH, BATCH, GET, CONTEXT} else reader.client.get
    answer = await ask(f"{path}?{'agent_id=a&' if path.endswith('/x') else ''}colour=red")
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["path"] == "colour"


# --- gRPC ------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def rpc(reader: Reader) -> AsyncIterator[Any]:
    handlers = Handlers(get=Reads(lambda: reader.recall).get)
    async with (
        serving(handlers, "127.0.0.1", free_port()) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield memory_pb2_grpc.MemoryServiceStub(channel)


async def test_an_invalid_field_of_a_grpc_message_is_invalid_argument(rpc: Any) -> None:
    wrong = [
        *({"agent_id": name} for name in ("", "x" * 257)),
        *({"query_text": text} for text in ("", "x" * 8193)),
        *({"k": k} for k in (-1, 101, 2**31 - 1, -(2**31))),
        *({"filters_json": text} for text in WRONG["filters"] if "\xff" not in text and text != "{}"),
    ]
    for fields in wrong:
        [name] = fields
        request = pb.GetMemoryRequest(**{"agent_id": "a", "query_text": "x", **fields})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.GetMemory(request, timeout=30)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, fields
        assert caught.value.details(), name


# --- outages ---------------------------------------------------------------------------------------------

READS: list[tuple[str, object]] = [
    (SEARCH, {"agent_id": "a"}),
    *((SEARCH, {"agent_id": "a", "query": "x", "mode": mode}) for mode in ("dense", "keyword", "hybrid")),
    (SEARCH, {"agent_id": "a", "weights": {"recency": 1}}),
    (SEARCH, {"agent_ids": ["a", "b"], "query": "x"}),
    (SEARCH, {"scope": "tenant", "near": {"x": 1, "radius": 5}}),
    (BATCH, {"searches": [{"agent_id": "a"}, {"agent_id": "b", "query": "x"}]}),
    (GET, {"agent_id": "a", "query": "x"}),
    (CONTEXT, {"query": "x"}),
    (CONTEXT, {}),
    ("/v1/agents", None),
    ("/v1/agents/a/memories", None),
    ("/v1/agents/a/summary", None),
    ("/v1/memories/x?agent_id=a", None),
]


async def test_an_outage_of_the_store_is_503_on_every_route_and_never_an_empty_answer(
    runtime: Runtime,
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise Unavailable("gone fishing")

    broken = Faulty(runtime.store, **dict.fromkeys(("search", "page", "count", "get", "agents"), fail))
    async with over(runtime, store=broken, cache=None) as reader:
        for path, body in READS:
            answer = await (reader.client.get(path) if body is None else reader.post(path, body))
            assert answer.status_code == 503, (path, body, answer.text)
            assert answer.json()["error"]["code"] == "unavailable"
            assert answer.json()["retry_after_ms"] > 0
        async with (
            serving(Handlers(get=Reads(lambda: reader.recall).get), "127.0.0.1", free_port()) as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            stub = memory_pb2_grpc.MemoryServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetMemory(pb.GetMemoryRequest(agent_id="a", query_text="x"), timeout=30)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
