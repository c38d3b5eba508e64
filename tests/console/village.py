"""What the tests of the console put into Lorestream: the demo village of the last day, and what else an agent can have."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2

from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.ports import NewRecord
from lorestream.wiring import SystemClock
from producers.demo import village

AGENT = "npc:smith-1"
TRICKY = '<b>bold</b><img src="x" onerror="document.title=1"><script>document.title=2</script>'


async def spoil(data: Path) -> None:
    """Append records that nobody can decode to the log of a Lorestream that is not running."""
    async with (
        Database.open(data / "log.sqlite3") as database,
        SqliteLog.open(database, retention_s=86_400, max_bytes=0, clock=SystemClock()) as log,
    ):
        key = f'["default","{AGENT}"]'.encode()
        await log.append([NewRecord(key, b"\xff rubbish", {"schema": b"1"}), NewRecord(key, b"{}", {})])


def fill(url: str, *, tricky: bool = True) -> None:
    """Write the village, a conversation, a document in two versions, a Q-table and a policy; wait until all can be read.

    `tricky`: some texts look like markup.
    """
    now = time.time()
    with httpx2.Client(base_url=url, timeout=90) as http:
        events = [*village.events(7, now - village.DAY_S), *_conversation(now), *_recent(now, tricky=tricky)]
        _ask(http, "POST", "/v1/events", json={"server": "survival-1", "events": events})
        for goals in ({"iron": 10}, {"iron": 4, "gold": 1}):
            document = f"/v1/entities/character/{AGENT}?wait=applied&timeout_ms=60000"
            _ask(http, "PUT", document, json={"data": {"name": "Ada", "goals": goals}})
        update = {"state": "forge", "action": "hammer", "op": "set", "value": 0.75}
        _ask(http, "POST", f"/v1/q/{AGENT}/update", json={"updates": [update]})
        binary = {"Content-Type": "application/octet-stream"}
        _ask(http, "PUT", f"/v1/policies/{AGENT}?format=raw", content=b"weights", headers=binary)
        _ask(http, "POST", "/v1/erasures", json={"agent_id": "npc:nobody"})
        last = {
            "server": "survival-1",
            "events": [{"agent_id": AGENT, "text": "The day ends.", "type": "note"}],
        }
        answer = _ask(http, "POST", "/v1/events?wait=indexed&timeout_ms=60000", json=last)
        assert answer["indexed"], answer


def play(url: str, seconds: float) -> None:
    """Write what the villagers did again, ten events a second, and ask some questions meanwhile."""
    events = village.events(11, time.time())
    end = time.monotonic() + seconds
    with httpx2.Client(base_url=url, timeout=90) as http:
        for number in range(0, len(events) - 10, 10):
            if time.monotonic() > end:
                break
            happened = [{**one, "time": time.time()} for one in events[number : number + 10]]
            _ask(http, "POST", "/v1/events", json={"server": "survival-1", "events": happened})
            for question in ("where are the tools?", f"what happened at noon of day {number % 7}?"):
                search = {"agent_id": AGENT, "query": question}
                _ask(http, "POST", "/v1/memories/search", json=search)
            time.sleep(1.0)


def _ask(http: httpx2.Client, method: str, path: str, **options: Any) -> dict[str, Any]:
    answer = http.request(method, path, **options)
    assert answer.status_code < 300, answer.text
    return answer.json()


def _conversation(now: float) -> list[dict[str, Any]]:
    said = [
        ("user", "Can you mend my pickaxe?"),
        ("assistant", "Yes, for two iron lumps."),
        ("user", "Deal!"),
    ]
    return [
        {
            "agent_id": AGENT,
            "type": "message",
            "text": text,
            "time": now - 3600 + place,
            "data": {"role": role, "name": "ash" if role == "user" else "Ada", "conversation": "pickaxe"},
        }
        for place, (role, text) in enumerate(said)
    ]


def _recent(now: float, *, tricky: bool) -> list[dict[str, Any]]:
    """An event of the last minute, which expires."""
    return [
        {
            "agent_id": AGENT,
            "type": "chat",
            "text": TRICKY if tricky else "The well is deeper than I thought.",
            "pos": {"x": 4.0, "y": 6.0, "z": -8.0},
            "time": now - 30,
            "ttl": 3600,
            "about": ["npc:miner-1"],
        }
    ]
