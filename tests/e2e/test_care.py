"""Admin verbs of the command line against a running `lorestream up`: dead letters, export, import."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import zstandard

from lorestream.adapters.sqlite.database import Database
from lorestream.adapters.sqlite.log import SqliteLog
from lorestream.ports import NewRecord
from lorestream.wiring import SystemClock
from tests import command_line
from tests.command_line import CommandOutput
from tests.processes import HASH, PLAYER_KEY, LorestreamProcess, clean_environment, running

TIMEOUT_S = 60


Run = Callable[..., CommandOutput]


@pytest.fixture
def lorestream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a verb against the server at `url`."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, url: str = "", **options: Any) -> CommandOutput:
        return command_line.lorestream(
            *arguments, environment={"LORESTREAM_URL": url, "COLUMNS": "200"}, **options
        )

    return run


async def fill_log(data: Path, *records: NewRecord) -> None:
    """Append records to the log of a Lorestream that is not running."""
    async with (
        Database.open(data / "log.sqlite3") as database,
        SqliteLog.open(database, retention_s=86_400, max_bytes=0, clock=SystemClock()) as log,
    ):
        await log.append(records)


@pytest.fixture
def with_dead_letters(tmp_path: Path) -> Iterator[LorestreamProcess]:
    """A server with two records in its log that it cannot process."""
    key = b'["default","npc:smith"]'
    undecodable = NewRecord(key, b"\xff rubbish", {"schema": b"1"})
    unknown_schema = NewRecord(key, b'{"op":"put"}', {"schema": b"99"})
    (tmp_path / "lorestream").mkdir()
    asyncio.run(fill_log(tmp_path / "lorestream", undecodable, unknown_schema))
    with running(tmp_path / "lorestream", HASH | PLAYER_KEY) as process:
        yield process


def wait_for(read: Callable[[], Any], expected: object) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while (found := read()) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def test_dead_letters(with_dead_letters: LorestreamProcess, lorestream: Run) -> None:
    url = with_dead_letters.url

    def dead_letters() -> list[dict[str, Any]]:
        answer = json.loads(lorestream("dlq", "ls", "--json", url=url).stdout)
        assert answer["total"] == len(answer["letters"])
        return answer["letters"]

    wait_for(lambda: [one["id"] for one in dead_letters()], ["0-1", "0-0"])
    table = lorestream("dlq", "ls", "--reason", "undecodable", url=url).stdout.decode()
    assert "0-0" in table
    assert "0-1" not in table
    assert "\\xff rubbish" in lorestream("dlq", "show", "0-0", url=url).stdout.decode()
    assert json.loads(lorestream("dlq", "show", "0-1", "--json", url=url).stdout)["value"] == {"op": "put"}

    assert b"1 tried again" in lorestream("dlq", "retry", "0-0", url=url).stdout
    wait_for(lambda: sorted((one["id"], one["attempts"]) for one in dead_letters()), [("0-1", 1), ("0-2", 2)])
    parked = lorestream("dlq", "retry", "--all", "--max-attempts", "2", "--yes", "--json", url=url)
    assert json.loads(parked.stdout) | {"missing": 0} == {
        "retried": 1,
        "parked": 1,
        "too_large": 0,
        "missing": 0,
        "dry_run": False,
    }
    wait_for(lambda: sorted((one["id"], one["attempts"]) for one in dead_letters()), [("0-2", 2), ("0-3", 2)])

    assert b"2 would be dropped" in lorestream("dlq", "drop", "--all", "--dry-run", url=url).stdout
    lorestream("dlq", "drop", "--all", url=url, code=2)
    assert b"no such dead letter: 9-9" in lorestream("dlq", "drop", "9-9", "--yes", url=url, code=1).stderr
    assert b"2 dropped" in lorestream("dlq", "drop", "--all", "--yes", url=url).stdout
    assert dead_letters() == []
    assert b"no dead letter 0-3" in lorestream("dlq", "show", "0-3", url=url, code=1).stderr
    assert b"looks like" in lorestream("dlq", "show", "x", url=url, code=1).stderr
    with httpx2.Client() as http:
        assert http.post(f"{url}/v1/admin/dlq-retry", json={"every": True, "reson": "x"}).status_code == 400


def put(url: str, agent: str, *texts: str) -> None:
    body = {"server": "s", "events": [{"id": text, "agent_id": agent, "text": text} for text in texts]}
    answer = httpx2.post(f"{url}/v1/events?wait=indexed&timeout_ms=50000", json=body, timeout=TIMEOUT_S)
    assert answer.status_code == 200, answer.text


def test_export_and_import(tmp_path: Path, lorestream: Run) -> None:
    first, second = tmp_path / "first.jsonl.zst", tmp_path / "second.jsonl"
    with running(tmp_path / "one", HASH) as one:
        put(one.url, "npc:smith", *(f"sword {number}" for number in range(700)))
        put(one.url, "player:bob", "met the smith")
        assert b"701 memories" in lorestream("export", str(first), url=one.url).stderr
        assert b"--force" in lorestream("export", str(first), url=one.url, code=1).stderr
        lorestream("export", "bob.jsonl", "--agent", "player:bob", url=one.url)
    only_bob = (tmp_path / "bob.jsonl").read_text().splitlines()
    assert json.loads(only_bob[0]) == {"format": "lorestream.memories", "version": 2}
    assert [json.loads(line)["text"] for line in only_bob[1:]] == ["met the smith"]
    assert "player:bob" not in only_bob[1]

    with running(tmp_path / "two", HASH) as two:
        assert lorestream("import", str(first), url=two.url).stdout == b"701 memories imported\n"
        lorestream("export", str(second), url=two.url)
        assert (
            zstandard.ZstdDecompressor().decompressobj().decompress(first.read_bytes()) == second.read_bytes()
        )
        again = json.loads(lorestream("import", "-", "--json", url=two.url, stdin=first.read_bytes()).stdout)
        assert (again["imported"], again["present"]) == (0, 701)

        lorestream("erase", "--agent", "npc:smith", "--yes", url=two.url)
        back = json.loads(lorestream("import", str(second), "--json", url=two.url).stdout)
        assert (back["imported"], back["erased"], back["present"]) == (0, 700, 1)
        packed = lorestream("export", "-", url=two.url).stdout
        assert len(zstandard.ZstdDecompressor().decompressobj().decompress(packed).splitlines()) == 2


def test_an_invalid_import_changes_nothing(
    tmp_path: Path, lorestream: Run, lorestream_hash: LorestreamProcess
) -> None:
    url, path = lorestream_hash.url, tmp_path / "m.jsonl"
    head = '{"format": "lorestream.memories", "version": 1}\n'
    good = {
        "id": "m",
        "tenant": "default",
        "agent_id": "npc:a",
        "text": "a text",
        "timestamp": 1.7e9,
        "accepted_at": 1.7e9,
    }

    def refused(content: bytes, *options: str) -> str:
        path.write_bytes(content)
        ended = lorestream("import", str(path), *options, url=url, code=1)
        assert httpx2.get(f"{url}/v1/agents/npc:a/memories").json()["total"] == 0
        return ended.stderr.decode()

    text = f"{head}{json.dumps(good)}\nrubbish\n"
    assert "not an export of Lorestream" in refused(b"rubbish")
    assert "not an export of Lorestream" in refused(b"")
    assert "version 7" in refused(b'{"format": "lorestream.memories", "version": 7}\n')
    assert "damaged" in refused(zstandard.compress(text.encode())[:-3])
    assert "line 3" in refused(text.encode(), "--strict")
    assert "accepted_at" in refused(f"{head}{json.dumps(good | {'accepted_at': 9e9})}\n".encode())

    path.write_text(text)
    ended = lorestream("import", str(path), url=url, code=1)
    assert ended.stdout.startswith(b"1 memories imported; skipped lines: 1 bad")
    assert ended.stderr.decode().startswith("line 3: ")
    assert httpx2.get(f"{url}/v1/agents/npc:a/memories").json()["total"] == 1
