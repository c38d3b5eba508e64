"""After an erasure: no erased text is in Redis or in any answer; the log keeps it until its retention ends."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from deploy.local.redis_server import RedisServer
from lorestream.identity import agent_key
from lorestream.ports import NewRecord
from tests.parts import open_parts
from tests.processes import HASH, running

TIMEOUT_S = 120
AGENT, PLAYER, OTHER = "npc:spy", "Mata", "npc:innkeeper"
EDGE = {"store": {"kind": "edge"}}


class Canaries:
    """Unique words. `agent`, `player`, `dead_letter`: in data that will be erased; `stays`: in data that will not."""

    def __init__(self) -> None:
        self.agent, self.player, self.dead_letter, self.stays = (secrets.token_hex(8) for _ in range(4))

    def events(self) -> list[dict[str, Any]]:
        def event(agent: str, word: str, number: int, **more: Any) -> dict[str, Any]:
            text = f"{word}{number} was heard from {number} strangers at the mill"
            return {"id": f"{agent}{number}", "agent_id": agent, "text": text, "data": {"said": word}, **more}

        return [
            *(event(AGENT, self.agent, number) for number in range(20)),
            *(event(OTHER, self.player, number, player=PLAYER) for number in range(20, 40)),
            *(event(f"player:{PLAYER}", self.player, number) for number in range(40, 50)),
            *(event(OTHER, self.stays, number) for number in range(50, 60)),
        ]

    def erased_words_in(self, content: bytes) -> list[str]:
        return [word for word in (self.agent, self.player, self.dead_letter) if word.encode() in content]


def redis_content(server: RedisServer) -> bytes:
    """All bytes in Redis: its slow log, the values of all keys, and its dump file."""
    found: list[bytes] = []
    with redis.Redis.from_url(server.url) as raw:
        found.append(repr(raw.slowlog_get(100_000)).encode())
        for name in raw.scan_iter(count=100):
            found += [name, raw.dump(name) or b""]
            if raw.type(name) == b"hash":
                found += [part for pair in raw.hgetall(name).items() for part in pair]
        raw.config_set("rdbcompression", "no")
        raw.save()
    found.append((server.directory / "dump.rdb").read_bytes())
    return b"\0".join(found)


def read_all(http: httpx2.Client, word: str) -> Iterator[bytes]:
    """The answers of all read routes, for all agents; each twice, so that the second may come from the cache."""
    for _ in range(2):
        for agent in (AGENT, OTHER, f"player:{PLAYER}"):
            for how in ({}, {"mode": "keyword"}, {"mode": "hybrid"}, {"weights": {"recency": 1}}):
                question = {"agent_id": agent, "query": f"who heard {word} at the mill", "k": 100, **how}
                yield http.post("/v1/memories/search", json=question).raise_for_status().content
            yield (
                http.post("/v1/memories/search", json={"agent_id": agent, "k": 100})
                .raise_for_status()
                .content
            )
            question = {"query": word, "recent": 100, "relevant": 100, "token_budget": 100_000}
            yield http.post(f"/v1/agents/{agent}/context", json=question).raise_for_status().content
            for order in ("recent", "oldest"):
                listing = http.get(f"/v1/agents/{agent}/memories", params={"order": order, "limit": 1000})
                yield listing.raise_for_status().content
            yield http.get(f"/v1/agents/{agent}/summary").raise_for_status().content
        question = {"scope": "tenant", "query": word, "mode": "keyword", "k": 100}
        yield http.post("/v1/memories/search", json=question).raise_for_status().content


def run_task(http: httpx2.Client, task: str, **arguments: Any) -> bytes:
    """All reports of an admin task."""
    answer = http.post(f"/v1/admin/{task}", json=arguments).raise_for_status().content
    assert b'"outcome"' in answer, answer
    return answer


def erase(http: httpx2.Client, path: str) -> None:
    token = http.delete(path).raise_for_status().json()["token"]
    question = {"agent_id": AGENT, "query": "x", "after": token, "wait_ms": 60_000}
    assert http.post("/v1/memories/search", json=question).raise_for_status().json()["fresh"]


async def log_content(data: Path) -> bytes:
    """The values of all records in the log of a Lorestream that is not running."""
    async with open_parts(data, **EDGE) as runtime:
        return b"\0".join(one.value for one in await runtime.log.read("reader", limit=10_000, wait_s=0))


async def append_undecodable_record(data: Path, canaries: Canaries) -> None:
    """Append a record that becomes a dead letter of the agent."""
    async with open_parts(data, **EDGE) as runtime:
        value = b"\xff no JSON " + canaries.dead_letter.encode()
        await runtime.log.append([NewRecord(agent_key("default", AGENT), value, {"schema": b"1"})])


@pytest.mark.timeout(600)
async def test_erased_text_is_neither_in_redis_nor_in_answers(tmp_path: Path, own_redis: RedisServer) -> None:
    canaries, data = Canaries(), tmp_path / "lorestream"
    with redis.Redis.from_url(own_redis.url) as raw:  # log every command as slow
        raw.config_set("slowlog-log-slower-than", 0)
        raw.config_set("slowlog-max-len", 100_000)
    await append_undecodable_record(data, canaries)
    settings = {
        **HASH,
        "LORESTREAM_PLAYER_KEY": "k1:test",
        "LORESTREAM_CACHE__KIND": "redis",
        "LORESTREAM_CACHE__URL": own_redis.url,
    }
    with running(data, settings) as process, httpx2.Client(base_url=process.url, timeout=TIMEOUT_S) as http:
        body = {"server": "s", "events": canaries.events()}
        answer = http.post("/v1/events?wait=indexed&timeout_ms=60000", json=body)
        assert answer.status_code == 200, answer.text
        spied, met = answer.json()["ids"][0], answer.json()["ids"][20]

        # Before the erasure, all words are found, in Redis too: the checks below can fail.
        shown = b"".join([*read_all(http, canaries.agent), *read_all(http, canaries.player)])
        shown += run_task(http, "export") + run_task(http, "dlq-show", id="0-0")
        assert len(canaries.erased_words_in(shown)) == 3
        before = redis_content(own_redis)
        assert [canaries.agent, canaries.player] == canaries.erased_words_in(before)

        with http.stream("GET", "/v1/stream") as tail:
            lines = tail.iter_lines()
            next(lines)
            erase(http, f"/v1/agents/{AGENT}")
            erase(http, f"/v1/players/{PLAYER}")
            assert canaries.erased_words_in(redis_content(own_redis)) == []

            # After a replay of the whole log into another collection.
            run_task(http, "replay", to="again")
            run_task(http, "alias-swap", to="again")
            shown = b"".join([*read_all(http, canaries.agent), *read_all(http, canaries.player)])
            shown += run_task(http, "export") + run_task(http, "dlq-ls")
            assert canaries.stays.encode() in shown
            assert canaries.erased_words_in(shown) == []
            for memory, agent in ((spied, AGENT), (met, OTHER)):
                answer = http.get(f"/v1/memories/{memory}", params={"agent_id": agent})
                assert answer.status_code == 404
            answer = http.post("/v1/admin/dlq-show", json={"id": "0-0"})
            assert canaries.erased_words_in(answer.content) == []
            assert canaries.erased_words_in(redis_content(own_redis)) == []

            event = {"agent_id": OTHER, "text": "the last one"}
            http.post("/v1/events", json={"events": [event]}).raise_for_status()
            sent = next(line for line in lines if line.startswith("data: "))
            assert json.loads(sent[6:])["text"] == "the last one"
        process.stop()
    assert len(canaries.erased_words_in(await log_content(data))) == 3
