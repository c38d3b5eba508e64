"""The routes that write documents, Q-tables and policies, and the records that they append to the log."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import pytest_asyncio

from lorestream import tokens
from lorestream.access.rate_limits import RateLimits
from lorestream.errors import Overloaded, Unavailable
from lorestream.events import MAX_VALUE_BYTES
from lorestream.http.application import application
from lorestream.identity import agent_key
from lorestream.state.policies import MAX_BYTES, PART_BYTES
from producers import gateway
from tests.http_gateway import HttpGateway, open_http_gateway
from tests.parts import Faulty

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENT = "/v1/entities/character/npc%3Asmith"
Q = "/v1/q/npc%3Asmith/update"
POLICY = "/v1/policies/npc%3Asmith"
UPDATE = {"state": "s", "action": "dig", "op": "add", "value": 1}
ANY_STRING = object()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HttpGateway]:
    async with open_http_gateway(tmp_path_factory.mktemp("lorestream")) as opened:
        yield opened


async def written(service: HttpGateway) -> list[dict[str, Any]]:
    """The values that were appended since the last call, without their times of acceptance."""
    values = [json.loads(record.value) for record in await service.new_records()]
    for value in values:
        assert value.pop("accepted_at") > 0
    return values


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    return answer.json()["error"]


# --- documents -------------------------------------------------------------------------------------------


async def test_writes_of_documents_are_records_keyed_by_the_agent(service: HttpGateway) -> None:
    fields = {"tick": 8412, "if_version": 6.0, "event_id": "e"}
    logged = {"op": "document", "tenant": "default", "agent_id": "npc:smith", "type": "character"}
    logged |= {"event_id": "e", "tick": 8412.0, "if_version": 6}
    data = {"name": "Ada", "own": [1, None, {"x": 2.5}]}
    params = {"tick": "8412", "if_version": "6.0", "event_id": "e"}
    for method, path, sent, expected in (
        ("PUT", "", {"json": {"data": data, **fields}}, {"action": "put", "data": data}),
        ("POST", "", {"json": {"data": data, **fields}}, {"action": "put", "data": data}),
        (
            "PATCH",
            "",
            {"json": {"data": {"own": None}, **fields}},
            {"action": "patch", "data": {"own": None}},
        ),
        ("POST", "/patch", {"json": {"data": {}, **fields}}, {"action": "patch", "data": {}}),
        ("POST", "/rollback", {"json": {"to": 5.0, **fields}}, {"action": "rollback", "to": 5}),
        ("DELETE", "", {"params": params}, {"action": "delete"}),
        ("POST", "/delete", {"json": fields}, {"action": "delete"}),
    ):
        answer = await service.http.request(method, DOCUMENT + path, **sent)
        assert answer.status_code == 202, answer.text
        assert set(answer.json()) == {"event_id", "token"}
        assert answer.json()["event_id"] == "e"
        assert tokens.parse_token(answer.json()["token"])
        [record] = await service.new_records()
        assert record.key == b'["default","npc:smith"]'
        assert record.headers == {
            "schema": b"1",
            "kind": b"document",
            "tenant": b"default",
            "event_id": b"e",
        }
        value = json.loads(record.value)
        assert value.pop("accepted_at") > 0
        assert value == logged | expected, (method, path)


async def test_what_is_missing_is_null(service: HttpGateway) -> None:
    nothing = {"tick": None, "if_version": None, "event_id": None}
    answers = [
        await service.http.put(DOCUMENT, json={"data": {}, **nothing}),
        await service.http.put(DOCUMENT, json={"data": []}),
        await service.http.post(f"{DOCUMENT}/delete"),
        await service.http.delete(DOCUMENT),
    ]
    ids = [answer.json()["event_id"] for answer in answers]
    assert len(set(ids)) == 4
    for event_id, value in zip(ids, await written(service), strict=True):
        assert value.pop("event_id") == event_id
        assert set(value) <= {"op", "tenant", "agent_id", "type", "action", "data"}
        assert value.get("data", {}) == {}


@pytest.mark.parametrize(
    "agent_id", ["a/b c%?#", "日本", "../x", "x" * 256, "player:bob", "smith:player:bob"]
)
async def test_ids_of_paths_are_stored_in_their_lasting_form(service: HttpGateway, agent_id: str) -> None:
    answer = await service.http.put(f"/v1/entities/any/{quote(agent_id, safe='')}", json={"data": {}})
    assert answer.status_code == 202, answer.text
    [record] = await service.new_records()
    value = json.loads(record.value)
    stored = service.runtime.pseudonyms.lasting_agent("default", agent_id)
    assert (value["agent_id"], record.key) == (stored, agent_key("default", stored))
    player = service.runtime.pseudonyms.player("default", "bob")
    assert value.get("agent_player") == (player if "bob" in agent_id else None)
    assert "bob" not in record.value.decode()


DEEP: Any = {}
for _ in range(32):
    DEEP = {"a": DEEP}
SURROGATE = b'{"data": {"a": ["\\ud800"]}}'
LARGE = {"data": {"a": "x" * (256 * 1024)}}

REFUSED: Sequence[tuple[str, str, Any, str | None]] = [
    # the method, the path below the agent's, the body, the path of the field
    ("PUT", "", {}, "data"),
    ("PUT", "", {"data": None}, "data"),
    ("PUT", "", {"data": [1]}, "data"),
    ("PUT", "", {"data": "x"}, "data"),
    ("PUT", "", {"data": {}, "dta": 1}, "dta"),
    ("PUT", "", {"data": {}, "if_versoin": 1}, "if_versoin"),
    ("PUT", "", {"data": {}, "tick": "8"}, "tick"),
    ("PUT", "", b'{"data": {}, "tick": 1e999}', "tick"),
    ("PUT", "", b'{"data": {}, "tick": NaN}', "tick"),
    ("PUT", "", {"data": {}, "if_version": -1}, "if_version"),
    ("PUT", "", {"data": {}, "if_version": 1.5}, "if_version"),
    ("PUT", "", {"data": {}, "if_version": 2**60}, "if_version"),
    ("PUT", "", {"data": {}, "if_version": True}, "if_version"),
    ("PUT", "", {"data": {}, "event_id": ""}, "event_id"),
    ("PUT", "", {"data": {}, "event_id": "x" * 257}, "event_id"),
    ("PUT", "", {"data": {}, "event_id": 7}, "event_id"),
    ("PUT", "", DEEP | {"data": DEEP}, "a"),
    ("PUT", "", {"data": DEEP}, "data"),
    ("PUT", "", b'{"data": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001, None),
    ("PUT", "", b'{"data": {"a": [NaN]}}', "data.a[0]"),
    ("PUT", "", b'{"data": {"a": [-Infinity]}}', "data.a[0]"),
    ("PUT", "", b'{"data": {"a": 1e999}}', "data.a"),
    ("PUT", "", b'{"data": {"a": [{"b": -1e999}]}}', "data.a[0].b"),
    ("PUT", "", {"data": {"a": 2**63}}, "data.a"),
    ("PUT", "", SURROGATE, "data.a[0]"),
    ("PUT", "", b'{"data": {"\\ud800": {"b": NaN}}}', "data.?.b"),
    ("PUT", "", b"{", None),
    ("PUT", "", b"", None),
    ("PUT", "?wait=indexed", {"data": {}}, "wait"),
    ("PUT", "?wait=applied&timeout_ms=-1", {"data": {}}, "timeout_ms"),
    ("PUT", "?if_version=1", {"data": {}}, "if_version"),
    ("PATCH", "", {"data": {}, "to": 1}, "to"),
    ("PATCH", "", {"data": DEEP}, "data"),
    ("POST", "/patch", {}, "data"),
    ("POST", "/rollback", {}, "to"),
    ("POST", "/rollback", {"to": 0}, "to"),
    ("POST", "/rollback", {"to": 1.5}, "to"),
    ("POST", "/rollback", {"to": "1"}, "to"),
    ("POST", "/delete", {"if_versoin": 1}, "if_versoin"),
    ("POST", "/delete", b"null", None),
    ("DELETE", "?if_versoin=1", None, "if_versoin"),
    ("DELETE", "?if_version=x", None, "if_version"),
    ("DELETE", "", {"if_version": 1}, None),
    # known fields of known types
    ("PUT", "", {"data": {"name": 5}}, "data.name"),
    ("PUT", "", {"data": {"personality": 0.5}}, "data.personality"),
    ("PUT", "", {"data": {"beliefs": True}}, "data.beliefs"),
    ("PATCH", "", {"data": {"goals": 7}}, "data.goals"),
    ("PATCH", "", {"data": {"last_decision_time": "now"}}, "data.last_decision_time"),
]


@pytest.mark.parametrize(("method", "below", "body", "path"), REFUSED)
async def test_an_invalid_write_of_a_document_is_refused_with_its_field(
    service: HttpGateway, method: str, below: str, body: Any, path: str | None
) -> None:
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    answer = await service.http.request(method, DOCUMENT + below, content=content)
    assert answer.status_code == 400, answer.text
    assert error_of(answer)["details"].get("path") == path
    assert error_of(answer)["message"]
    assert await service.new_records() == []


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/entities/Character/a", "type"),
        ("/v1/entities/a%0A/a", "type"),
        ("/v1/entities/policy%3Amain/a", "type"),
        (f"/v1/entities/{'t' * 65}/a", "type"),
        ("/v1/entities/%FF/a", "type"),
        (f"/v1/entities/t/{'a' * 257}", "id"),
        ("/v1/entities/t/%FF", "id"),
    ],
)
async def test_an_invalid_path_is_refused(service: HttpGateway, path: str, named: str) -> None:
    answer = await service.http.put(path, json={"data": {}})
    assert (answer.status_code, error_of(answer)["details"]) == (400, {"path": named})
    assert await service.new_records() == []


async def test_data_is_limited_as_it_is_stored(service: HttpGateway) -> None:
    shell = len('{"a":""}')
    for length, status in ((256 * 1024 - shell, 202), (256 * 1024 - shell + 1, 413)):
        answer = await service.http.put(DOCUMENT, json={"data": {"a": "x" * length}})
        assert answer.status_code == status, answer.text
    assert error_of(answer)["code"] == "document_too_large"
    assert error_of(answer)["details"]["path"] == "data"
    escaped = {"a": "\x01" * 43_000}  # 6 bytes each
    shorter = json.dumps({"data": {"a": ["1e5"] * 30_000}}).replace('"1e5"', "1e5")  # 3 bytes that become 8
    for sent in ({"json": {"data": escaped}}, {"content": shorter.encode()}):
        answer = await service.http.put(DOCUMENT, **sent)
        stored = len((await service.new_records())[-1].value) if answer.status_code == 202 else 0
        assert stored <= MAX_VALUE_BYTES
    huge = await service.http.put(DOCUMENT, json={"data": {"a": "x" * 2**20}})
    assert (huge.status_code, error_of(huge)["code"]) == (413, "too_large")
    await service.new_records()


ENCODERS = [
    ({"input_dim": 64.0, "latent_dim": 16, "base_compression_level": 0.5}, None),
    ({"feature_groups": {"critical": [0, 16, 1.0], "spatial": None, "own": "kept"}, "more": 1}, None),
    ({"input_dim": 0}, "data.input_dim"),
    ({"latent_dim": 1.5}, "data.latent_dim"),
    ({"base_compression_level": "high"}, "data.base_compression_level"),
    ({"base_compression_level": -1}, "data.base_compression_level"),
    ({"feature_groups": [1]}, "data.feature_groups"),
    ({"feature_groups": {"social": [0, 16]}}, "data.feature_groups.social"),
    ({"feature_groups": {"social": {"start": 0}}}, "data.feature_groups.social"),
    ({"feature_groups": {"other": [0, "x", 1]}}, "data.feature_groups.other[1]"),
    ({"feature_groups": {"critical": [16, 0, 1]}}, "data.feature_groups.critical"),
]


@pytest.mark.parametrize(("data", "path"), ENCODERS)
async def test_known_fields_of_an_encoder_are_checked(
    service: HttpGateway, data: dict[str, Any], path: str | None
) -> None:
    for method in ("PUT", "PATCH"):
        answer = await service.http.request(method, "/v1/entities/encoder/a", json={"data": data})
        assert answer.status_code == (202 if path is None else 400), answer.text
        if path is not None:
            assert error_of(answer)["details"]["path"] == path
    assert [value["data"] for value in await written(service)] == ([data] * 2 if path is None else [])
    other = await service.http.put("/v1/entities/other/a", json={"data": data})
    assert other.status_code == 202
    await service.new_records()


# --- Q-tables --------------------------------------------------------------------------------------------


async def test_updates_of_a_q_table_are_one_record(service: HttpGateway) -> None:
    updates = [
        {"state": "s", "action": "dig", "op": "set", "value": 2},
        {"state": "s", "action": "dig", "op": "toward", "value": 1, "alpha": 0.5},
        {"state": "日", "action": "a b", "op": "add", "value": -1.5, "alpha": None},
    ]
    answer = await service.http.post(Q, json={"table": "t", "event_id": "e", "updates": updates})
    assert (answer.status_code, answer.json()["event_id"]) == (202, "e"), answer.text
    assert (await service.http.put(Q, json={"table": None, "updates": [UPDATE]})).status_code == 202
    first, second = await written(service)
    assert first == {
        "op": "q_update",
        "tenant": "default",
        "agent_id": "npc:smith",
        "table": "t",
        "event_id": "e",
        "updates": [
            {"state": "s", "action": "dig", "op": "set", "value": 2.0},
            {"state": "s", "action": "dig", "op": "toward", "value": 1.0, "alpha": 0.5},
            {"state": "日", "action": "a b", "op": "add", "value": -1.5},
        ],
    }
    assert (second["table"], second["updates"]) == ("q", [UPDATE])


Q_REFUSED: Sequence[tuple[Any, str | None]] = [
    ({}, "updates"),
    ({"updates": None}, "updates"),
    ({"updates": []}, "updates"),
    ({"updates": [UPDATE] * 1001}, "updates"),
    ({"updates": [UPDATE], "tabel": "q"}, "tabel"),
    ({"updates": [UPDATE], "table": ""}, "table"),
    ({"updates": [UPDATE], "table": "x" * 257}, "table"),
    ({"updates": [UPDATE], "event_id": ""}, "event_id"),
    ({"updates": [UPDATE, UPDATE | {"state": ""}]}, "updates[1].state"),
    ({"updates": [UPDATE | {"state": 5}]}, "updates[0].state"),
    ({"updates": [UPDATE | {"action": "x" * 257}]}, "updates[0].action"),
    ({"updates": [UPDATE | {"op": "sub"}]}, "updates[0].op"),
    ({"updates": [UPDATE | {"value": "1"}]}, "updates[0].value"),
    ({"updates": [UPDATE | {"value": None}]}, "updates[0].value"),
    ({"updates": [UPDATE | {"value": float("nan")}]}, "updates[0].value"),
    ({"updates": [UPDATE, UPDATE | {"value": float("-inf")}]}, "updates[1].value"),
    ({"updates": [UPDATE | {"alpha": 0.5}]}, "updates[0].alpha"),
    ({"updates": [UPDATE | {"op": "toward"}]}, "updates[0].alpha"),
    ({"updates": [UPDATE | {"op": "toward", "alpha": 1.1}]}, "updates[0].alpha"),
    ({"updates": [UPDATE | {"op": "toward", "alpha": -0.1}]}, "updates[0].alpha"),
    ({"updates": [UPDATE | {"n": 1}]}, "updates[0].n"),
    (b'{"updates": [{"state": "s", "action": "a", "op": "set", "value": 1e999}]}', "updates[0].value"),
]


@pytest.mark.parametrize(("body", "path"), Q_REFUSED)
async def test_an_invalid_update_refuses_all_of_them(
    service: HttpGateway, body: Any, path: str | None
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await service.http.post(Q, content=content)
    assert answer.status_code == 400, answer.text
    assert error_of(answer)["details"].get("path") == path
    assert await service.new_records() == []


async def test_updates_that_the_log_could_not_carry_are_refused(service: HttpGateway) -> None:
    name = "é" * 252
    names = [
        {"state": f"{n:04}{name}", "action": f"{n:04}{name}", "op": "set", "value": 1} for n in range(900)
    ]
    answer = await service.http.post(Q, json={"updates": names})
    assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")
    assert await service.new_records() == []


# --- policies --------------------------------------------------------------------------------------------


def parts_of(values: Sequence[dict[str, Any]]) -> bytes:
    """The bytes of an upload's parts, whose order and names are checked."""
    for index, value in enumerate(values):
        assert (value["op"], value["index"], value["name"]) == ("policy_part", index, values[0]["name"])
        assert value["upload"] == values[0]["upload"]
    return b"".join(base64.b64decode(value["content"]) for value in values)


async def test_an_upload_is_its_parts_and_then_its_manifest(service: HttpGateway) -> None:
    for size in (1, PART_BYTES, 5 * PART_BYTES + 3):
        content = bytes(range(251)) * (size // 251) + b"x" * (size % 251)
        answer = await service.http.put(f"{POLICY}?name=fast&if_version=3&event_id=e&tick=2", content=content)
        assert (answer.status_code, answer.json()["event_id"]) == (202, "e"), answer.text
        records = await service.new_records()
        assert max(len(record.value) for record in records) <= MAX_VALUE_BYTES
        assert {record.key for record in records} == {b'["default","npc:smith"]'}
        *parts, manifest = [json.loads(record.value) for record in records]
        assert len(parts) == -(-size // PART_BYTES)
        assert parts_of(parts) == content
        assert manifest.pop("accepted_at") > parts[-1]["accepted_at"]
        assert manifest == {
            "op": "document",
            "tenant": "default",
            "agent_id": "npc:smith",
            "type": "policy:fast",
            "action": "put",
            "event_id": "e",
            "tick": 2.0,
            "if_version": 3,
            "data": {
                "format": "raw",
                "size": size,
                "sha256": hashlib.sha256(content).hexdigest(),
                "upload": parts[0]["upload"],
                "parts": len(parts),
            },
        }


async def test_policies_are_rolled_back_and_deleted_as_documents_are(service: HttpGateway) -> None:
    for method, path, sent, expected in (
        (
            "POST",
            "/rollback?name=fast",
            {"json": {"to": 2}},
            {"type": "policy:fast", "action": "rollback", "to": 2},
        ),
        ("POST", "/rollback", {"json": {"to": 2}}, {"type": "policy:main", "action": "rollback", "to": 2}),
        ("DELETE", "?name=fast", {}, {"type": "policy:fast", "action": "delete"}),
        ("POST", "/delete", {}, {"type": "policy:main", "action": "delete"}),
    ):
        answer = await service.http.request(method, POLICY + path, **sent)
        assert answer.status_code == 202, answer.text
        [value] = await written(service)
        assert expected.items() <= value.items()


async def chunked(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_policy_is_as_large_as_it_may_be(service: HttpGateway) -> None:
    content = bytes(MAX_BYTES)
    assert (await service.http.put(POLICY, content=content)).status_code == 202
    assert len(await service.new_records()) == MAX_BYTES // PART_BYTES + 1
    for sent in (
        {"content": content + b"x"},
        {"content": gzip.compress(content + b"x"), "headers": {"Content-Encoding": "gzip"}},
    ):
        answer = await service.http.put(POLICY, **sent)
        assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")
        assert error_of(answer)["details"]["max_bytes"] == MAX_BYTES
    assert await service.new_records() == []  # the length is announced
    answer = await service.http.put(POLICY, content=chunked([content, b"x"]))
    assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")
    assert "document" not in {value["op"] for value in await written(service)}


async def test_a_compressed_upload_is_stored_as_its_content(service: HttpGateway) -> None:
    content = bytes(3 * PART_BYTES)
    sent = {"content": gzip.compress(content, mtime=0), "headers": {"Content-Encoding": "gzip"}}
    assert (await service.http.put(POLICY, **sent)).status_code == 202
    *parts, _ = await written(service)
    assert parts_of(parts) == content
    sent["headers"] = {"Content-Encoding": "br"}
    assert (await service.http.put(POLICY, **sent)).status_code == 415


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


NPY = b"\x93NUMPY\x01\x00\x06\x00{'a':1" + b"data"
FILES: Sequence[tuple[str, bytes, bool]] = [
    ("safetensors", safetensors(b'{"__metadata__": {}}', b"data"), True),
    ("safetensors", safetensors(b'{"a": ' + b" " * (2 * PART_BYTES) + b"1}"), True),
    ("safetensors", safetensors(b'{"a": 1'), False),
    ("safetensors", safetensors(b"[1]"), False),
    ("safetensors", safetensors(b'{"a": 1}')[:-1], False),
    ("safetensors", (2**40).to_bytes(8, "little") + b"{}", False),
    ("safetensors", b"{}", False),
    ("safetensors", b"\x80\x04\x95pickled", False),
    ("npy", NPY, True),
    ("npy", b"\x93NUMPY\x03\x00\x06\x00\x00\x00{'a':1", True),
    ("npy", NPY[:11], False),
    ("npy", b"\x93NUMPY\x04" + NPY[7:], False),
    ("npy", b"\x93NUMPY", False),
    ("npy", safetensors(b"{}"), False),
]


@pytest.mark.parametrize(("form", "content", "valid"), FILES)
async def test_the_header_of_a_policy_is_checked(
    service: HttpGateway, form: str, content: bytes, *, valid: bool
) -> None:
    answer = await service.http.put(f"{POLICY}?format={form}", content=content)
    assert answer.status_code == (202 if valid else 400), answer.text
    if not valid:
        assert error_of(answer)["details"]["path"] == "format"
    assert ("document" in {value["op"] for value in await written(service)}) == valid


@pytest.mark.parametrize(
    ("query", "content", "path"),
    [
        ("", b"", None),
        ("?name=", b"x", "name"),
        (f"?name={'n' * 257}", b"x", "name"),
        ("?format=pickle", b"x", "format"),
        ("?if_version=-1", b"x", "if_version"),
        ("?if_versoin=1", b"x", "if_versoin"),
    ],
)
async def test_an_invalid_upload_is_refused(
    service: HttpGateway, query: str, content: bytes, path: str | None
) -> None:
    answer = await service.http.put(POLICY + query, content=content)
    assert answer.status_code == 400, answer.text
    assert error_of(answer)["details"].get("path") == path
    assert await service.new_records() == []


# --- load and outages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"), [(Unavailable("the disk is full"), 503), (Overloaded("too much"), 429)]
)
async def test_an_unavailable_log_is_an_outage_of_every_write(
    service: HttpGateway, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(service.gateway.log_writer, "_log", Faulty(service.runtime.log, append=fail))
    for path, sent in (
        (DOCUMENT, {"json": {"data": {}}}),
        (Q, {"json": {"updates": [UPDATE]}}),
        (POLICY, {"content": b"x"}),
    ):
        answer = await service.http.put(path, **sent)
        assert answer.status_code == status, answer.text
        assert answer.json()["retry_after_ms"] > 0
    assert await service.new_records() == []


async def test_writes_count_as_events(service: HttpGateway) -> None:
    """Each write counts once, an upload once for each part that its length announces, before anything is appended."""
    counted: list[int] = []

    class Counting(RateLimits):
        async def count_events(self, principal: Any, count: int) -> None:
            counted.append(count)
            await super().count_events(principal, count)

    limits = Counting(events_per_s=1e-6)
    app = application("gateway", gateway.operations(service.gateway, limits), metrics=service.runtime.metrics)
    transport = httpx2.ASGITransport(app=app)
    accepted = service.count("accepted")
    async with httpx2.AsyncClient(transport=transport, base_url="http://lorestream") as http:
        assert (await http.put(POLICY, content=bytes(2 * PART_BYTES + 1))).status_code == 202
        assert len(await service.new_records()) == 4
        for path, sent in (
            (DOCUMENT, {"json": {"data": {}}}),
            (Q, {"json": {"updates": [UPDATE]}}),
            (POLICY, {"content": bytes(5 * PART_BYTES)}),
        ):
            answer = await http.put(path, **sent)
            assert (answer.status_code, error_of(answer)["code"]) == (429, "rate_limited")
    assert counted == [3, 1, 1, 5]
    assert await service.new_records() == []
    assert service.count("accepted") - accepted == 4
