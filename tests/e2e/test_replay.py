"""A replay under load: the process is killed meanwhile, the alias swapped and rolled back; the collections end equal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from lorestream.adapters.qdrant.edge.catalogue import EdgeCatalogue
from lorestream.cli.app import app
from lorestream.collections.catalogue import Model
from lorestream.errors import LorestreamError
from lorestream.settings import load_settings
from lorestream.wiring import open_runtime
from tests.collection_compare import compare
from tests.live_game import (
    TIMEOUT_S,
    LiveQueries,
    LiveWrites,
    RepeatedSearches,
    event,
    search_all,
    send,
    write_history,
)
from tests.parts import running_worker
from tests.processes import HASH, PLAYER_KEY, LorestreamProcess, clean_environment, running
from tests.staleness_probe import StalenessProbe

FIRST = "agent_memories"
OTHER_DIM = 96

Run = Callable[..., str]


@pytest.fixture
def lorestream(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `lorestream ARGUMENTS` in this process, expects the exit code, and returns the output and the error."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)

    def run(*arguments: str, url: str, code: int = 0) -> str:
        ended = CliRunner().invoke(app, arguments, env={"LORESTREAM_URL": url})
        assert ended.exit_code == code, (ended.output, ended.exception)
        said = str(ended.exception) if isinstance(ended.exception, LorestreamError) else ""
        return ended.stdout + said + (ended.stderr if code else "")

    return run


def reports(url: str, task: str, **arguments: object) -> Iterator[dict[str, Any]]:
    """The reports of an admin task, as they arrive."""
    with (
        httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client,
        client.stream("POST", f"/v1/admin/{task}", json=arguments) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.strip():
                yield json.loads(line)


def kill_during_replay(process: LorestreamProcess, to: str, after_reports: int, **arguments: object) -> None:
    """Kill the process after this many reports of the replay, and start it again."""
    with contextlib.suppress(httpx2.TransportError):
        for number, report in enumerate(reports(process.url, "replay", to=to, **arguments), start=1):
            assert report["report"] in {"remark", "progress"}, report
            if number == after_reports:
                process.kill()
    assert not process.alive
    process.start()


def swap_under_queries(url: str, swap: Callable[[str], None], count: int) -> None:
    """Swap the alias back and forth until this many queries were answered; each by the one or the other collection."""
    first = search_all(url)
    swap("other")
    other = search_all(url)
    swap(FIRST)
    assert search_all(url) == first
    for a, b in zip(first, other, strict=True):
        assert len(a) == len(b) == 5
        assert a[0] != b[0]  # scores of other vectors
    swaps = 0
    with RepeatedSearches(url, pause_s=0.02) as searches:
        while searches.count < count or swaps < 4 or swaps % 2:
            swap(FIRST if swaps % 2 else "other")
            swaps += 1
    assert searches.wrong(first, other) == []


async def compared(data: Path, names: Sequence[str]) -> int:
    """Open the data of a stopped process, let its worker index the whole log, and compare the collections."""
    chosen = load_settings(data_dir=data, embedder={"kind": "hash"})
    async with open_runtime(chosen) as runtime, running_worker(runtime):
        return await compare(runtime, names)


@pytest.mark.parametrize(
    ("count", "at_once"),
    [
        pytest.param(3_000, True, marks=pytest.mark.soak),
        pytest.param(20_000, True, marks=pytest.mark.soak),
        pytest.param(200_000, False, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_replay_under_load(tmp_path: Path, lorestream: Run, count: int, at_once: bool) -> None:
    data = tmp_path / "lorestream"
    with running(data, HASH) as process:
        url = process.url

        def swap(to: str) -> None:
            for report in reports(url, "alias-swap", to=to):
                assert report["report"] == "outcome", report

        def replay_same() -> dict[str, Any]:
            return list(reports(url, "replay", to="same"))[-1]["value"]

        with LiveQueries(url) as live, LiveWrites(url, at_once=5) as writes, StalenessProbe(url) as fresh:
            write_history(url, count)
            played = time.monotonic()
            time.sleep(count / 10_000)  # to measure queries without a replay; no assertion depends on it
            began = time.monotonic()
            kill_during_replay(process, "other", 2, dim=OTHER_DIM)
            kill_during_replay(process, "other", 4)
            resumed = time.monotonic()
            with ThreadPoolExecutor(1) as pool:  # two replays at the same time
                same = pool.submit(replay_same) if at_once else None
                outcome = json.loads(lorestream("replay", "--to", "other", "--json", url=url))
                ended = time.monotonic()
            second = same.result() if same else replay_same()
            assert (outcome["gate"], outcome["reasons"]) == ("passed", [])
            assert (outcome["model"], outcome["behind"]) == (f"hash-v1-{OTHER_DIM}", 0)
            assert (second["gate"], second["reasons"]) == ("passed", [])
            assert second["recall_at_10"] > 0.98  # not 1.0, because memories arrive while the gate compares
            swap_under_queries(url, swap, 150)
            lorestream("alias", "swap", "other", url=url)
            lorestream("alias", "rollback", url=url)
        assert live.wrong == []
        assert len(live.durations) > 10
        assert fresh.stale == []
        assert fresh.completed > 10
        assert writes.accepted > 0
        listed = json.loads(lorestream("alias", "list", "--json", url=url))["collections"]
        states = [(one["name"], one["searched"], one["whole"]) for one in listed]
        assert states == [(FIRST, True, True), ("other", False, True), ("same", False, True)]
        process.stop()
    memories = asyncio.run(compared(data, [FIRST, "other", "same"]))
    print(
        f"{count:,} events, {memories:,} memories: the last run of the replay took {ended - resumed:.1f} s; p99 of"
        f" live queries {live.p99(played, began) * 1000:.1f} ms before, {live.p99(resumed, ended) * 1000:.1f} ms"
        f" during it; {len(live.durations):,} queries, {fresh.completed:,} finished writes"
    )


# --- what is refused -------------------------------------------------------------------------------------------


async def leave_incomplete_collection(data: Path) -> None:
    """Leave an incomplete collection, as an interrupted replay does, in the data directory of a stopped process."""
    catalogue = EdgeCatalogue(data / "store", FIRST)
    await catalogue.ensure_active(Model("hash-v1-384", 384))
    await catalogue.create("half", Model("hash-v1-384", 384, "hash"), "run")
    await catalogue.close_all()


def test_refused_verbs_change_nothing(tmp_path: Path, lorestream: Run) -> None:
    asyncio.run(leave_incomplete_collection(tmp_path / "lorestream"))
    with running(tmp_path / "lorestream", HASH | PLAYER_KEY) as process:
        url = process.url
        with httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
            send(client, [event(number) | {"ttl": 0} for number in range(480)], wait=True)
        answers = search_all(url)

        def collections() -> list[tuple[str, bool, bool, int]]:
            listed = json.loads(lorestream("alias", "list", "--json", url=url))["collections"]
            return [(one["name"], one["searched"], one["whole"], one["memories"]) for one in listed]

        def refused(*arguments: str, code: int = 1) -> str:
            before = [one[:3] for one in collections()]
            output = lorestream(*arguments, url=url, code=code)
            assert [one[:3] for one in collections()] == before
            return output

        assert [one[0] for one in collections()] == [FIRST, "half"]
        assert "searched at present" in refused("replay", "--to", FIRST)
        assert "the log begins later" in refused("replay", "--to", "x", "--from", "2001-01-01")
        assert "to" in refused("replay", "--to", "../x")
        assert "is not a time" in refused("replay", "--to", "x", "--from", "yesterday", code=2)
        assert "dim" in refused("replay", "--to", "x", "--dim", "0", code=2)
        assert f"there is no collection x: there are {FIRST}, half" in refused("alias", "swap", "x")
        assert "is searched already" in refused("alias", "swap", FIRST)
        assert "not complete: `lorestream replay --to half`" in refused("alias", "swap", "half")
        assert "0 collections could be meant" in refused("alias", "swap")
        assert "nothing to go back to" in refused("alias", "rollback")
        assert "is searched" in refused("drop", FIRST, "--yes")
        assert "there is no collection x" in refused("drop", "x", "--yes")
        refused("drop", "half", code=2)  # without --yes
        lorestream("drop", "half", "--dry-run", url=url)
        lorestream("drop", "half", "--yes", url=url)
        assert collections() == [(FIRST, True, True, 480)]

        assert '"passed"' in lorestream("replay", "--to", "half", "--json", url=url)  # the name is free again
        assert "is complete already" in refused("replay", "--to", "half")
        lorestream("alias", "swap", url=url)
        assert "searches in it may still be running" in refused("drop", FIRST, "--yes")
        assert search_all(url) == answers
        lorestream("cache", "clear", url=url)
        lorestream("alias", "rollback", url=url)
        assert search_all(url) == answers
        assert sorted(collections()) == [(FIRST, True, True, 480), ("half", False, True, 480)]

        # A replay since a time reports how many records it leaves out, and the gate does not expect them.
        with httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
            since = time.time()
            send(client, [event(number) | {"ttl": 0} for number in range(480, 500)], wait=True)
        replayed = list(reports(url, "replay", to="late", since=since))
        assert "480 older records are left out" in replayed[0]["text"]
        assert replayed[-1]["value"]["memories"] == {"new": 20, "searched": 500}
        assert replayed[-1]["value"]["gate"] == "passed"
