"""The gateway over HTTP, and the records that it appends to the log."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lorestream import events, tokens
from lorestream.errors import Overloaded, Unavailable
from lorestream.identity import memory_id
from tests.http_gateway import SetClock, open_http_gateway
from tests.parts import Faulty, open_parts, texts

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def event(text: str = "x", **fields: Any) -> dict[str, Any]:
    return {"agent_id": "a", "text": text, **fields}


def raising(error: Exception) -> Any:
    def raise_error(*_: object) -> None:
        raise error

    return raise_error


async def test_a_bad_event_does_not_affect_the_others(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        answer = await service.send(
            event("one", id="1"), {"agent_id": "a"}, 7, event("two"), event("y" * 16_384)
        )
        assert answer["accepted"] == 2
        assert [(each["index"], each["code"]) for each in answer["rejected"]] == [
            (1, "invalid_event"),
            (2, "invalid_event"),
            (4, "event_too_large"),
        ]
        assert all(each["message"] for each in answer["rejected"])
        assert answer["retry_after_ms"] == 0
        assert "indexed" not in answer
        logged = await service.new_events()
        assert [put.text for put in logged] == ["one", "two"]
        assert answer["ids"] == [logged[0].memory_id, None, None, logged[1].memory_id, None]
        assert logged[0].memory_id == memory_id("default", "default", "a", "1")
        assert tokens.parse_token(answer["token"]) == {0: 1}
        assert (service.count("accepted"), service.count("rejected", "invalid_event")) == (2, 2)
        assert service.count("rejected", "event_too_large") == 1


async def test_an_event_that_grows_beyond_the_limit_of_the_log_is_rejected_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of a record take more bytes in the log than in the request."""
    monkeypatch.setattr(events, "MAX_VALUE_BYTES", 150_000)
    numbers = "[" + ",".join(["1e15"] * 10_000) + "]"
    large = f'{{"agent_id": "a", "type": "tool", "data": {{"output": {numbers}}}}}'
    body = f'{{"events": [{large}, {{"agent_id": "a", "text": "one"}}, {{"text": "no agent"}}]}}'
    async with open_http_gateway(tmp_path) as service:
        answer = await service.http.post("/v1/events", content=body)
        assert answer.status_code == 202
        rejected = [(each["index"], each["code"]) for each in answer.json()["rejected"]]
        assert rejected == [(0, "event_too_large"), (2, "invalid_event")]
        assert [put.text for put in await service.new_events()] == ["one"]
        assert service.count("rejected", "event_too_large") == 1


async def test_the_records_have_the_documented_form(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path, clock=SetClock(1000.0), ttl_s=50.0) as service:
        given = event(
            id="e1",
            type="chat",
            data={"n": 1},
            metadata={"n": 2},
            pos={"x": 1, "z": -2.5},
            tick=3,
            time=900.0,
        )
        traced = {"traceparent": TRACE}
        await service.http.post("/v1/events", json={"events": [given], "server": "s1"}, headers=traced)
        [record] = await service.new_records()
        assert record.key == b'["default","a"]'
        assert record.headers == {
            "schema": b"1",
            "kind": b"put",
            "tenant": b"default",
            "event_id": b"e1",
            "traceparent": TRACE.encode(),
        }
        assert json.loads(record.value) == {
            "op": "put",
            "tenant": "default",
            "agent_id": "a",
            "memory_id": memory_id("default", "s1", "a", "e1"),
            "server": "s1",
            "timestamp": 900.0,
            "accepted_at": 1000.0,
            "type": "chat",
            "text": "x",
            "data": {"n": 1},
            "metadata": {"n": 2},
            "pos": {"x": 1.0, "z": -2.5},
            "tick": 3.0,
            "importance": 5.0,
            "expires_at": 1050.0,
        }


TRACEPARENTS = [
    (TRACE, True),
    (f"01{TRACE[2:]}-later", True),
    (f"{TRACE}-later", False),
    (f"ff{TRACE[2:]}", False),
    (TRACE.upper(), False),
    (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
    (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
    ("rubbish", False),
]


async def test_only_a_valid_traceparent_is_stored(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        for header, kept in TRACEPARENTS:
            await service.http.post("/v1/events", json={"events": [event()]}, headers={"traceparent": header})
            [record] = await service.new_records()
            assert record.headers.get("traceparent") == (header.encode() if kept else None)


async def test_acceptance_times_are_in_the_order_of_the_log(tmp_path: Path) -> None:
    clock = SetClock(1000.0)
    async with open_http_gateway(tmp_path, clock=clock, last_accepted_at=2000.0) as service:
        batches = [[event(f"{batch}.{n}") for n in range(150)] for batch in range(4)]
        await asyncio.gather(*(service.send(*batch) for batch in batches))
        clock.time = 500.0
        await service.send(event())
        stamps = [put.accepted_at for put in await service.new_events()]
        assert len(stamps) == 601
        assert stamps[0] > 2000.0
        assert all(earlier < later for earlier, later in itertools.pairwise(stamps))


async def test_after_a_restart_times_are_later_than_the_newest_record(tmp_path: Path) -> None:
    keep = {"kind": "edge"}
    async with open_http_gateway(tmp_path, clock=SetClock(9e9), store=keep) as service:
        await service.send(event())
    async with open_http_gateway(tmp_path, clock=SetClock(1000.0), store=keep) as service:
        await service.send(event())
        first, second = await service.new_events()
        assert second.accepted_at > first.accepted_at == 9e9


async def test_a_batch_of_rejected_events_is_answered_with_202(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        answer = await service.send({}, {"agent_id": "a"})
        assert (answer["accepted"], answer["ids"]) == (0, [None, None])
        assert await service.new_records() == []
        assert await service.runtime.watermarks.reached(tokens.parse_token(answer["token"]), 0)


async def test_an_empty_batch_accepts_nothing(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        for body in ({"events": []}, {"events": None, "dropped": 7}):
            answer = await service.http.post("/v1/events", json=body)
            assert answer.status_code == 202
            assert answer.json()["ids"] == []


async def test_wait_indexed_answers_when_the_events_can_be_found(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        early = await service.http.post(
            "/v1/events?wait=indexed&timeout_ms=1", json={"events": [event("early")]}
        )
        assert (early.status_code, early.json()["indexed"]) == (202, False)
        waiting = asyncio.create_task(
            service.http.post("/v1/events?wait=indexed&timeout_ms=60000", json={"events": [event("late")]})
        )
        while not waiting.done():
            await service.index()
            await asyncio.sleep(0)
        answer = await waiting
        assert (answer.status_code, answer.json()["indexed"]) == (200, True)
        assert await texts(service.runtime) == ["early", "late"]


async def test_events_stay_accepted_when_the_watermarks_are_unavailable(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        away: Any = Faulty(service.runtime.watermarks, reached=raising(Unavailable("away")))
        object.__setattr__(service.gateway.intake, "watermarks", away)
        answer = await service.http.post("/v1/events?wait=indexed", json={"events": [event()]})
        assert (answer.status_code, answer.json()["indexed"]) == (202, False)


WRONG_QUERIES = [
    ("wait=stored", "wait"),
    ("wait=", "wait"),
    ("wait=indexed&timeout_ms=soon", "timeout_ms"),
    ("wait=indexed&timeout_ms=-1", "timeout_ms"),
    ("wait=indexed&timeout_ms=nan", "timeout_ms"),
    ("wiat=indexed", "wiat"),
]


async def test_a_wrong_parameter_is_refused_before_anything_is_accepted(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        for query, path in WRONG_QUERIES:
            answer = await service.http.post(f"/v1/events?{query}", json={"events": [event()]})
            assert answer.status_code == 400
            assert answer.json()["error"]["details"] == {"path": path}
            assert await service.new_records() == []


BAD_BODIES = [
    (b"not json", 400, "invalid_json"),
    (b"", 400, "invalid_json"),
    (b'{"events": [{"agent_id": "a", "text": "x"} {}]}', 400, "invalid_json"),
    (b'{"events": [{"agent_id": "a", "text": "x"}, {"agent_id": NaN, "x": tru}]}', 400, "invalid_json"),
    (b"[]", 400, "invalid_request"),
    (b"{}", 400, "invalid_request"),
    (b'{"events": [%s3]}' % (b"3," * 1000), 413, "too_many_events"),
    (b'{"events": ["%s"]}' % (b"x" * 2**20), 413, "too_large"),
]


async def test_a_bad_body_is_refused_as_a_whole(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        for body, status, code in BAD_BODIES:
            answer = await service.http.post("/v1/events", content=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            assert await service.new_records() == []


async def test_an_event_of_almost_json_is_rejected_alone(tmp_path: Path) -> None:
    bad = [
        b'{"agent_id":"a","text":"x","tick":NaN}',
        b'{"agent_id":"a","text":"\\ud800"}',
        b'{"agent_id":"a","text":"\xff"}',
        b'{"agent_id":"a","text":"x","data":%s%s}' % (b"[" * 4000, b"]" * 4000),
        b'{"agent_id":"a","text":"x\ty"}',
    ]
    async with open_http_gateway(tmp_path) as service:
        good = json.dumps(event("good")).encode()
        body = b'{"server":"s","events":[%s]}' % b",".join(itertools.chain(*((each, good) for each in bad)))
        answer = await service.http.post("/v1/events", content=body)
        assert answer.status_code == 202, answer.text
        assert [each["index"] for each in answer.json()["rejected"]] == [0, 2, 4, 6, 8]
        assert {each["code"] for each in answer.json()["rejected"]} == {"invalid_event"}
        assert answer.json()["rejected"][0]["message"].startswith("tick: ")
        assert [put.text for put in await service.new_events()] == ["good"] * 5


async def test_bodies_may_be_compressed_and_sent_by_put(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        body = json.dumps({"events": [event()]}).encode()
        for encoding, packed in (("gzip", gzip.compress(body)), ("zstd", zstandard.compress(body))):
            answer = await service.http.put(
                "/v1/events", content=packed, headers={"content-encoding": encoding}
            )
            assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [(Unavailable("the disk is full"), 503, "unavailable"), (Overloaded("too much"), 429, "overloaded")],
)
async def test_an_unavailable_log_is_answered_with_a_retry_time(
    tmp_path: Path, error: Unavailable, status: int, reason: str
) -> None:
    async with open_parts(tmp_path / "other") as other:
        log: Any = Faulty(other.log, append=raising(error))
        async with open_http_gateway(tmp_path, log=log) as service:
            answer = await service.http.post("/v1/events", json={"events": [event(), event(), {}]})
            assert answer.status_code == status
            assert answer.json()["retry_after_ms"] > 0
            assert int(answer.headers["retry-after"]) >= 1
            assert service.count("refused", reason) == 2
            assert service.count("accepted") == 0


async def test_a_repeated_event_id_keeps_the_first_content(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        answer = await service.send(event("first", id="1"), event("second", id="1"))
        again = await service.send(event("third", id="1"), event("elsewhere", id="1", agent_id="b"))
        other = await service.send(event("other server", id="1"), server="s2")
        assert answer["ids"][0] == answer["ids"][1] == again["ids"][0]
        assert len({*answer["ids"], *again["ids"], *other["ids"]}) == 3
        await service.index()
        assert await texts(service.runtime) == ["elsewhere", "first", "other server"]


async def test_no_name_of_a_player_is_stored(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        await service.send(event(player="Bob"), event(agent_id="player:Bob", id="1"))
        await service.http.delete("/v1/players/Bob")
        await service.http.delete("/v1/agents/player:Bob")
        records = await service.new_records()
        assert len(records) == 4
        assert not any(b"Bob" in record.key + record.value for record in records)


async def test_memory_put_returns_the_memory_id(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path, clock=SetClock(1000.0), ttl_s=50.0) as service:
        sent = {"agent_id": "a", "text": "hello", "metadata": {"mood": "calm"}, "ttl": 7, "id": "ignored"}
        answer = await service.http.post("/memory/put", json=sent)
        assert answer.status_code == 202
        [put] = await service.new_events()
        assert answer.json() == {"success": True, "id": put.memory_id}
        assert (put.text, put.metadata, put.expires_at) == ("hello", {"mood": "calm"}, 1007.0)
        assert put.memory_id != memory_id("default", "default", "a", "ignored")
        assert service.count("accepted") == 1


NO_SENTENCES = [
    b"",
    b"{}",
    b"[]",
    b'{"agent_id": "a"}',
    b'{"agent_id": "a", "text": ""}',
    b'{"agent_id": "", "text": "x"}',
    b'{"agent_id": "a", "text": "x", "ttl": -1}',
    b'{"agent_id": "a", "text": "x", "ttl": NaN}',
    b'{"agent_id": "a", "text": "x", "metadata": [1]}',
    b'{"agent_id": "a", "text": "x", "metadata": {"n": 9223372036854775808}}',
    b'{"agent_id": "a", "text": "\xff"}',
    b'{"agent_id": "a", "text": "%s"}' % (b"x" * 16_384),
]


async def test_memory_put_refuses_invalid_bodies(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        for body in NO_SENTENCES:
            answer = await service.http.post("/memory/put", content=body)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"]
            assert await service.new_records() == []


async def test_the_routes_are_documented(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        paths = (await service.http.get("/openapi.json")).json()["paths"]
        assert set(paths) == {
            "/v1/events",
            "/memory/put",
            "/memory/delete",
            "/v1/memories/{id}",
            "/v1/memories/{id}/supersede",
            "/v1/agents/{agent_id}",
            "/v1/entities/{type}/{id}",
            "/v1/entities/{type}/{id}/patch",
            "/v1/entities/{type}/{id}/rollback",
            "/v1/entities/{type}/{id}/delete",
            "/v1/q/{id}/update",
            "/v1/policies/{id}",
            "/v1/policies/{id}/rollback",
            "/v1/policies/{id}/delete",
            "/v1/players/{name}",
            "/v1/erasures",
            "/v1/erasures/{erasure_id}",
            "/v1/rewinds",
            "/v1/rewinds/{id}",
            "/v1/webhooks",
            "/v1/webhooks/{id}",
            "/v1/webhooks/{id}/resume",
            "/v1/webhooks/{id}/test",
            *("/health", "/ready", "/metrics", "/openapi.json", "/docs"),
        }
        assert (await service.http.get("/docs")).status_code == 200
