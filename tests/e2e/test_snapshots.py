"""`lorestream snapshot` and `lorestream restore` around a real `lorestream up`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2

from tests import zygote
from tests.processes import HASH, LorestreamProcess, clean_environment, running

NAMES = [f"npc:{n}" for n in range(5)]


def verb(*words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lorestream.cli", *words]
    ended = zygote.run(command, env=clean_environment(**{**HASH, **environment}), timeout=120)
    assert ended.returncode == code, ended.stderr
    return ended


def snapshot(lorestream: LorestreamProcess, *options: str) -> dict[str, Any]:
    return json.loads(verb("snapshot", "--json", "--url", lorestream.url, *options).stdout)


def refusal(*words: str, **environment: str) -> str:
    ended = verb("restore", *words, code=1, **environment)
    assert ended.stdout == ""
    [line] = ended.stderr.strip().splitlines()
    return line


def send(lorestream: LorestreamProcess, first: int, count: int, *, wait: bool = True) -> list[str]:
    events = [
        {
            "id": f"e{n}",
            "agent_id": NAMES[n % len(NAMES)],
            "text": f"event number {n} near the mill",
            "player": "Wilhelmina" if n % 3 == 0 else None,
            "time": 1_760_000_000.0 + n,
            "ttl": 0,
        }
        for n in range(first, first + count)
    ]
    query = "?wait=indexed&timeout_ms=60000" if wait else ""
    answer = httpx2.post(f"{lorestream.url}/v1/events{query}", json={"events": events}, timeout=70)
    assert answer.status_code in {200, 202}, answer.text
    assert not wait or answer.json()["indexed"]
    return answer.json()["ids"]


def questions(lorestream: LorestreamProcess) -> list[Any]:
    """The answers to fixed queries, and all memories of each agent, without fields that change with time."""
    answers: list[Any] = []
    with httpx2.Client(base_url=lorestream.url, timeout=60) as client:
        for name in NAMES:
            for asked in (
                {"query": "event number 7 near the mill", "mode": "dense", "k": 10},
                {"query": "mill", "mode": "keyword", "k": 10},
                {"query": "number 12", "mode": "dense", "filters": {"player": "Wilhelmina"}},
                {"query": "number 12"},
            ):
                found = client.post("/v1/memories/search", json={"agent_id": name, **asked})
                assert found.status_code == 200, found.text
                memories = found.json()["memories"]
                if asked.get("mode") != "dense":
                    # Words count by how rare they are in the whole store, what has just been deleted included.
                    memories = [memory | {"score": None} for memory in memories]
                answers.append(memories)
            page = client.get(f"/v1/agents/{name}/memories", params={"limit": 1000}).json()
            answers.append((page["total"], page["memories"]))
    return answers


def indexed(lorestream: LorestreamProcess) -> None:
    """Wait until the whole log is indexed: until a write after all others is."""
    event = {"agent_id": "last", "text": "last"}
    answer = httpx2.post(
        f"{lorestream.url}/v1/events?wait=indexed&timeout_ms=60000", json={"events": [event]}, timeout=70
    )
    assert answer.json()["indexed"]


def total(lorestream: LorestreamProcess, name: str) -> int:
    return httpx2.get(f"{lorestream.url}/v1/agents/{name}/memories").json()["total"]


def every_text(lorestream: LorestreamProcess, name: str) -> list[str]:
    texts: list[str] = []
    params: dict[str, Any] = {"limit": 1000}
    while True:
        page = httpx2.get(f"{lorestream.url}/v1/agents/{name}/memories", params=params).json()
        texts += [memory["text"] for memory in page["memories"]]
        if not page.get("next_cursor"):
            return texts
        params["cursor"] = page["next_cursor"]


def contents(directory: Path) -> Mapping[str, bytes | None]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
    }


def test_a_restored_snapshot_answers_the_same_without_the_old_files(tmp_path: Path) -> None:
    with running(tmp_path / "old", HASH) as lorestream:
        ids = send(lorestream, 0, 60)
        httpx2.delete(f"{lorestream.url}/v1/memories/{ids[1]}", params={"agent_id": NAMES[1]})
        erased = httpx2.delete(f"{lorestream.url}/v1/agents/{NAMES[4]}").json()["erasure_id"]
        indexed(lorestream)
        expected = questions(lorestream)
        taken = snapshot(lorestream)
        send(lorestream, 60, 10)
        lorestream.kill()
    lying = Path(taken["snapshot"])
    assert lying.parent == tmp_path / "old" / "snapshots"
    shutil.move(lying, tmp_path / "kept")
    shutil.rmtree(tmp_path / "old")

    ended = verb("restore", str(tmp_path / "kept"), "--data", str(tmp_path / "new"))
    assert ended.stdout.strip() == str(tmp_path / "new")
    with running(tmp_path / "new", HASH) as lorestream:
        assert questions(lorestream) == expected
        # The same ids make no second memory, what was deleted stays deleted, and the erasure is known.
        send(lorestream, 0, 60)
        assert total(lorestream, NAMES[0]) == 12
        assert total(lorestream, NAMES[1]) == 11
        assert httpx2.get(f"{lorestream.url}/v1/erasures/{erased}").json()["state"] == "done"


def test_a_snapshot_taken_under_writes_and_reads(tmp_path: Path) -> None:
    """The snapshot has every event that was accepted before it was requested, and no partial batch."""
    with running(tmp_path / "old", HASH) as lorestream:
        send(lorestream, 0, 50)
        enough = threading.Event()
        wrong: list[object] = []

        def busy(work: Callable[[int], object]) -> threading.Thread:
            def run() -> None:
                n = 0
                while not enough.is_set():
                    try:
                        work(n)
                    except Exception as error:  # noqa: BLE001 (a thread's error would be lost)
                        wrong.append(error)
                        return
                    n += 1
                    enough.wait(0.1)

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        def ask(_: int) -> None:
            answer = httpx2.post(
                f"{lorestream.url}/v1/memories/search",
                json={"agent_id": NAMES[0], "query": "mill"},
                timeout=60,
            )
            assert answer.status_code == 200
            assert len(answer.json()["memories"]) == 5

        threads = [busy(lambda n: send(lorestream, 1000 + 20 * n, 20, wait=False)), busy(ask)]
        try:
            taken = [snapshot(lorestream, "--to", str(tmp_path / f"kept{n}")) for n in range(3)]
        finally:
            enough.set()
            for thread in threads:
                thread.join()
        assert wrong == []
    second = taken[1]
    verb("restore", second["snapshot"], "--data", str(tmp_path / "new"))
    with running(tmp_path / "new", HASH) as lorestream:
        indexed(lorestream)
        numbers = sorted(int(text.split()[2]) for name in NAMES for text in every_text(lorestream, name))
    assert numbers[:50] == list(range(50))
    # Behind them a beginning of what was sent, without a gap.
    later = numbers[50:]
    assert later == list(range(1000, 1000 + len(later)))
    assert len(later) >= int(second["offsets"].get("0", 0)) - 50


def test_a_restore_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    kept, data = tmp_path / "kept", tmp_path / "new"
    with running(tmp_path / "old", HASH) as lorestream:
        send(lorestream, 0, 5)
        snapshot(lorestream, "--to", str(kept))
        ended = verb("snapshot", "--url", lorestream.url, "--to", str(kept), code=1)
        assert "exists already" in ended.stderr
        before = contents(lorestream.data / "store")
        line = refusal(str(kept), "--data", str(lorestream.data))
        assert "not empty" in line or "in use" in line
        assert contents(lorestream.data / "store") == before
    log = (kept / "log.sqlite3").read_bytes()
    (kept / "log.sqlite3").write_bytes(log[:-1])
    assert "damaged" in refusal(str(kept), "--data", str(data))
    assert not data.exists()
    (kept / "log.sqlite3").write_bytes(log)
    verb("restore", str(kept), "--data", str(data), "--dry-run")
    assert not data.exists()


def test_later_deletions_and_erasures_are_applied_to_a_restored_snapshot(tmp_path: Path) -> None:
    with running(tmp_path / "old", HASH) as lorestream:
        ids = send(lorestream, 0, 30)
        snapshot(lorestream, "--to", str(tmp_path / "kept"))
        httpx2.delete(f"{lorestream.url}/v1/memories/{ids[2]}", params={"agent_id": NAMES[2]})
        erased = httpx2.delete(f"{lorestream.url}/v1/players/Wilhelmina").json()["erasure_id"]
        indexed(lorestream)
        expected = questions(lorestream)
        lorestream.kill()  # what is in its write-ahead log counts
    new = str(tmp_path / "new")
    line = refusal(str(tmp_path / "kept"), "--data", new, "--ledger-from", str(tmp_path))
    assert "--ledger-from" in line
    outcome = verb(
        "restore", str(tmp_path / "kept"), "--data", new, "--ledger-from", str(tmp_path / "old"), "--json"
    )
    assert json.loads(outcome.stdout)["forgotten"] == 2
    with running(tmp_path / "new", HASH) as lorestream:
        assert questions(lorestream) == expected
        send(lorestream, 2, 1)  # what was deleted stays so; what was erased may have a new life
        assert questions(lorestream) == expected
        assert httpx2.get(f"{lorestream.url}/v1/erasures/{erased}").json()["state"] == "done"


def test_a_store_of_an_older_schema_answers_the_same_once_it_is_filled_again(tmp_path: Path) -> None:
    with running(tmp_path / "data", HASH) as lorestream:
        ids = send(lorestream, 0, 60)
        httpx2.delete(f"{lorestream.url}/v1/memories/{ids[1]}", params={"agent_id": NAMES[1]})
        httpx2.delete(f"{lorestream.url}/v1/agents/{NAMES[4]}")
        indexed(lorestream)
        expected = questions(lorestream)
        lorestream.stop()
    [label] = (tmp_path / "data" / "store").glob("*/store.json")
    label.write_text(json.dumps(json.loads(label.read_bytes()) | {"schema": 1}))
    with running(tmp_path / "data", HASH) as lorestream:
        indexed(lorestream)
        assert questions(lorestream) == expected
        assert lorestream.output().count("the store has an older schema") == 1
        lorestream.stop()


def test_scheduled_snapshots_are_taken_and_the_newest_are_kept(tmp_path: Path) -> None:
    regularly = {"LORESTREAM_SNAPSHOT__EVERY_HOURS": "0.0003", "LORESTREAM_SNAPSHOT__KEEP": "2"}
    regularly["LORESTREAM_SNAPSHOT__DIR"] = str(tmp_path / "kept")
    with running(tmp_path / "data", HASH | regularly) as lorestream:
        send(lorestream, 0, 5)
        deadline = time.monotonic() + 60
        while '"removed": 1' not in lorestream.output():
            assert lorestream.alive
            assert time.monotonic() < deadline
            time.sleep(0.05)
        lorestream.stop()
    assert len(list((tmp_path / "kept").glob("[0-9]*"))) <= 3
