"""A new first player key: memories written with the old key keep their ids, and can be found and deleted."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import httpx2

from tests.processes import HASH, running

AGENT = "player:Rot Sam"


def pseudonym(kid: str, key: str) -> str:
    return f"{kid}:{hmac.new(key.encode(), b'default' + bytes(1) + b'Rot Sam', hashlib.sha256).hexdigest()}"


def send(url: str, *ids: str) -> dict[str, Any]:
    sent = [{"id": each, "agent_id": AGENT, "player": "Rot Sam", "text": f"event {each}"} for each in ids]
    answer = httpx2.post(f"{url}/v1/events?wait=indexed", json={"server": "s", "events": sent})
    assert answer.status_code == 200
    return dict(zip(ids, answer.json()["ids"], strict=True))


def texts(url: str) -> list[str]:
    page = httpx2.get(f"{url}/v1/agents/{AGENT}/memories").json()
    assert page["total"] == len(page["memories"])
    assert {memory["agent_id"] for memory in page["memories"]} <= {AGENT}
    return sorted(memory["text"] for memory in page["memories"])


def delete(url: str, memory_id: str) -> None:
    answer = httpx2.delete(f"{url}/v1/memories/{memory_id}", params={"agent_id": AGENT})
    search = {"agent_id": AGENT, "after": answer.json()["token"], "wait_ms": 5000}
    assert httpx2.post(f"{url}/v1/memories/search", json=search).json()["fresh"] is True


def test_memory_ids_stay_after_a_new_first_key(tmp_path: Path) -> None:
    with running(tmp_path, {**HASH, "LORESTREAM_PLAYER_KEY": "k1:old"}) as process:
        before = send(process.url, "kept", "deleted", "to delete")
        delete(process.url, before["deleted"])
        process.stop()
    with running(tmp_path, {**HASH, "LORESTREAM_PLAYER_KEY": "k2:new,k1:old"}) as process:
        assert send(process.url, "kept", "deleted", "to delete") == before
        assert texts(process.url) == ["event kept", "event to delete"]
        after = send(process.url, "later")
        found = httpx2.get(f"{process.url}/v1/memories/{after['later']}", params={"agent_id": AGENT}).json()
        assert found["player"] == pseudonym("k2", "new")
        for memory_id in (before["to delete"], after["later"]):
            delete(process.url, memory_id)
        assert texts(process.url) == ["event kept"]
        send(process.url, "to delete", "later")
        assert texts(process.url) == ["event kept"]
        by_name = {"agent_id": AGENT, "filters": {"player": "Rot Sam"}}
        [memory] = httpx2.post(f"{process.url}/v1/memories/search", json=by_name).json()["memories"]
        assert memory["player"] == pseudonym("k1", "old")
        httpx2.delete(f"{process.url}/v1/players/Rot Sam")
        send(process.url, "a new life")
        assert texts(process.url) == ["event a new life"]
