"""The index built anew while players play: killed on the way, swapped, rolled back, and equal at the end."""

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
from tests.live_game import PATIENCE_S, Asking, LiveQueries, LiveWrites, ask_all, event, play, send
from tests.parts import running_worker
from tests.processes import HASH, LorestreamProcess, clean_environment, running
from tests.staleness_probe import StalenessProbe

FIRST = "agent_memories"
OTHER_DIM = 96

Run = Callable[..., str]


@pytest.fixture
def lorestream(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `lorestream ARGUMENTS` in this process, which has to end with `code`; returns what it printed."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)

    def run(*arguments: str, url: str, code: int = 0) -> str:
        ended = CliRunner().invoke(app, arguments, env={"LORESTREAM_URL": url})
        assert ended.exit_code == code, (ended.output, ended.exception)
        said = str(ended.exception) if isinstance(ended.exception, LorestreamError) else ""
        return ended.stdout + said + (ended.stderr if code else "")

    return run


def reports(url: str, task: str, **arguments: object) -> Iterator[dict[str, Any]]:
    """What a task of care tells, line by line."""
    with (
        httpx2.Client(base_url=url, timeout=PATIENCE_S) as client,
        client.stream("POST", f"/v1/admin/{task}", json=arguments) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.strip():
                yield json.loads(line)


def killed_while_replaying(process: LorestreamProcess, to: str, told: int, **arguments: object) -> None:
    """Kill it when the replay has told so many things, and start it again."""
    with contextlib.suppress(httpx2.TransportError):
        for number, report in enumerate(reports(process.url, "replay", to=to, **arguments), start=1):
            assert report["report"] in {"remark", "progress"}, report
            if number == told:
                process.kill()
    assert not process.alive
    process.start()


def turned_under_queries(url: str, turn: Callable[[str], None], count: int) -> None:
    """Turn the alias to and fro until so many questions were answered."""
    first = ask_all(url)
    turn("other")
    other = ask_all(url)
    turn(FIRST)
    assert ask_all(url) == first
    for a, b in zip(first, other, strict=True):
        assert len(a) == len(b) == 5
        assert a[0] != b[0]  # scores of other vectors
    turns = 0
    with Asking(url) as asking:
        while asking.asked < count or turns < 4 or turns % 2:
            turn(FIRST if turns % 2 else "other")
            turns += 1
    assert asking.wrong(first, other) == []


async def compared(data: Path, names: Sequence[str]) -> int:
    """Open what a stopped lorestream has left, let its workers come to the end of the log, and compare."""
    chosen = load_settings(data_dir=data, embedder={"kind": "hash"})
    async with open_runtime(chosen) as runtime, running_worker(runtime):
        return await compare(runtime, names)


@pytest.mark.parametrize(
    ("count", "at_once"),
    [
        (6_000, True),
        pytest.param(20_000, True, marks=pytest.mark.soak),
        pytest.param(200_000, False, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_built_anew_under_load(tmp_path: Path, lorestream: Run, count: int, at_once: bool) -> None:
    data = tmp_path / "lorestream"
    with running(data, HASH) as process:
        url = process.url

        def turn(to: str) -> None:
            for report in reports(url, "alias-swap", to=to):
                assert report["report"] == "outcome", report

        def replay_same() -> dict[str, Any]:
            return list(reports(url, "replay", to="same"))[-1]["value"]

        with LiveQueries(url) as live, LiveWrites(url) as writes, StalenessProbe(url) as fresh:
            play(url, count)
            played = time.monotonic()
            time.sleep(count / 10_000)  # something to compare the queries with; no assertion depends on it
            began = time.monotonic()
            killed_while_replaying(process, "other", 2, dim=OTHER_DIM)
            killed_while_replaying(process, "other", 4)
            resumed = time.monotonic()
            with ThreadPoolExecutor(1) as pool:  # two at once do each other no harm
                same = pool.submit(replay_same) if at_once else None
                outcome = json.loads(lorestream("replay", "--to", "other", "--json", url=url))
                ended = time.monotonic()
            second = same.result() if same else replay_same()
            assert (outcome["gate"], outcome["reasons"]) == ("passed", [])
            assert (outcome["model"], outcome["behind"]) == (f"hash-v1-{OTHER_DIM}", 0)
            assert (second["gate"], second["recall_at_10"]) == ("passed", 1.0)
            turned_under_queries(url, turn, 1000)
            lorestream("alias", "swap", "other", url=url)
            lorestream("alias", "rollback", url=url)
        assert live.wrong == []
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


async def leave_one_half(data: Path) -> None:
    """A collection whose replay was broken off, in the directory of a lorestream that does not run."""
    catalogue = EdgeCatalogue(data / "store", FIRST)
    await catalogue.ensure_active(Model("hash-v1-384", 384))
    await catalogue.create("half", Model("hash-v1-384", 384, "hash"), "run")
    await catalogue.close_all()


def test_what_would_do_harm_is_refused_and_changes_nothing(tmp_path: Path, lorestream: Run) -> None:
    asyncio.run(leave_one_half(tmp_path / "lorestream"))
    with running(tmp_path / "lorestream", HASH) as process:
        url = process.url
        with httpx2.Client(base_url=url, timeout=PATIENCE_S) as client:
            send(client, [event(number) | {"ttl": 0} for number in range(480)], wait=True)
        answers = ask_all(url)

        def collections() -> list[tuple[str, bool, bool, int]]:
            listed = json.loads(lorestream("alias", "list", "--json", url=url))["collections"]
            return [(one["name"], one["searched"], one["whole"], one["memories"]) for one in listed]

        def refused(*arguments: str, code: int = 1) -> str:
            before = [one[:3] for one in collections()]
            said = lorestream(*arguments, url=url, code=code)
            assert [one[:3] for one in collections()] == before
            return said

        assert [one[0] for one in collections()] == [FIRST, "half"]
        assert "searched at present" in refused("replay", "--to", FIRST)
        assert "the log begins later" in refused("replay", "--to", "x", "--from", "2001-01-01")
        assert "to" in refused("replay", "--to", "../x")
        assert "is no time" in refused("replay", "--to", "x", "--from", "yesterday", code=2)
        assert "dim" in refused("replay", "--to", "x", "--dim", "0", code=2)
        assert f"there is no collection x: there are {FIRST}, half" in refused("alias", "swap", "x")
        assert "is searched already" in refused("alias", "swap", FIRST)
        assert "not complete: `lorestream replay --to half`" in refused("alias", "swap", "half")
        assert "0 collections could be meant" in refused("alias", "swap")
        assert "nothing to go back to" in refused("alias", "rollback")
        assert "is searched" in refused("drop", FIRST, "--yes")
        assert "there is no collection x" in refused("drop", "x", "--yes")
        refused("drop", "half", code=2)  # nobody said yes
        lorestream("drop", "half", "--dry-run", url=url)
        lorestream("drop", "half", "--yes", url=url)
        assert collections() == [(FIRST, True, True, 480)]

        assert '"passed"' in lorestream("replay", "--to", "half", "--json", url=url)  # the name is free
        assert "is complete already" in refused("replay", "--to", "half")
        lorestream("alias", "swap", url=url)
        assert "searches in it may still be running" in refused("drop", FIRST, "--yes")
        assert ask_all(url) == answers
        lorestream("cache", "clear", url=url)
        lorestream("alias", "rollback", url=url)
        assert ask_all(url) == answers
        assert sorted(collections()) == [(FIRST, True, True, 480), ("half", False, True, 480)]

        # From a time on: what is left out is said, and nobody expects it.
        with httpx2.Client(base_url=url, timeout=PATIENCE_S) as client:
            since = time.time()
            send(client, [event(number) | {"ttl": 0} for number in range(480, 500)], wait=True)
        told = list(reports(url, "replay", to="late", since=since))
        assert "480 older records are left out" in told[0]["text"]
        assert told[-1]["value"]["memories"] == {"new": 20, "searched": 500}
        assert told[-1]["value"]["gate"] == "passed"
