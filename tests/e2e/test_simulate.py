"""`lorestream simulate` as a user runs it: against a real server, one that is killed meanwhile, and without a server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from lorestream.identity import memory_id
from producers.simulator.plan import Plan, events
from tests import zygote
from tests.processes import HASH, LorestreamProcess, clean_environment, free_port, running

SMALL = ("--servers", "3", "--agents", "20", "--rate", "200", "--seconds", "2")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "lorestream.cli", "simulate", *arguments]


def simulate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return zygote.run(command(*arguments), env=clean_environment(COLUMNS="200", **environment), timeout=120)


@pytest.fixture(scope="module")
def lorestream_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real server for the tests that do not kill it; each test has a seed of its own."""
    with running(tmp_path_factory.mktemp("lorestream"), HASH) as process:
        yield process.url


def stored(url: str) -> list[tuple[str, str, str]]:
    """Agent, memory id and text of every memory of a simulation's agents."""
    found: list[tuple[str, str, str]] = []
    with httpx2.Client(base_url=url, timeout=10) as client:
        for agent in client.get("/v1/agents?limit=1000").raise_for_status().json()["agents"]:
            cursor: str | None = None
            while True:
                params = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
                path = f"/v1/agents/{agent['agent_id']}/memories"
                page = client.get(path, params=params).raise_for_status().json()
                found += [(m["agent_id"], m["id"], m["text"]) for m in page["memories"]]
                if (cursor := page["next_cursor"]) is None:
                    break
    return found


def wait_for_growth(ledger: Path, load: subprocess.Popen[str], *, beyond: int = 0) -> int:
    """Wait until the ledger is larger than `beyond` bytes; return its size."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        size = ledger.stat().st_size if ledger.exists() else 0
        if size > beyond:
            return size
        assert load.poll() is None, "the load ended too early"
        time.sleep(0.02)
    raise AssertionError("nothing was accepted")


def lines(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def test_the_store_equals_the_ledger_although_the_server_was_killed_twice(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    process = LorestreamProcess(tmp_path / "data", HASH)
    process.start()
    shape = ("--servers", "5", "--agents", "40", "--rate", "200", "--seconds", "12", "--seed", "11")
    faults = ("--resend", "0.05", "--moves", "0.02", "--drain", "60", "--wait-indexed", "60")
    load = zygote.Popen(
        command("--url", process.url, *shape, *faults, "--ledger", str(ledger), "--json"),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        size = 0
        for _ in range(2):
            size = wait_for_growth(ledger, load, beyond=size)
            time.sleep(1)
            size = ledger.stat().st_size
            process.kill()
            time.sleep(0.5)
            process.start()
        output, _ = load.communicate(timeout=120)
        assert load.returncode == 0, output
        report = json.loads(output)
        found = stored(process.url)
    finally:
        load.kill()
        if process.alive:
            process.kill()
    assert report["requests"]["retried"] > 0
    assert {"cut", "connect"} & set(report["requests"]["errors"])
    assert report["events"]["resent"] > 50
    assert report["indexed"]["findable"] is True
    assert report["events"]["accepted"] == report["events"]["scheduled"] == 2400
    truth = lines(ledger)
    assert sorted(found) == sorted((one["agent_id"], one["memory_id"], one["text"]) for one in truth)
    assert len({one["id"] for one in truth}) == 2400
    for one in truth:
        assert one["memory_id"] == memory_id("default", one["server"], one["agent_id"], one["id"])


def test_the_json_report_has_all_fields(lorestream_url: str) -> None:
    options = ("--seed", "1", "--queries", "20", "--resend", "0.05", "--wait-indexed", "30", "--json")
    answer = simulate(*SMALL, *options, LORESTREAM_URL=lorestream_url)
    assert (answer.returncode, answer.stderr) == (0, "")
    report = json.loads(answer.stdout)
    assert set(report) == {
        *(
            "plan",
            "seconds",
            "complete",
            "lost",
            "events",
            "requests",
            "rate",
            "latency_ms",
            "backlog",
            "cpu_share",
        ),
        *("queries", "indexed"),
    }
    assert report["complete"] is True
    assert report["lost"] == 0
    figures = report["events"]
    assert (figures["scheduled"], figures["accepted"]) == (400, 400)
    assert figures["resent"] == sum(
        one.resend for one in events(Plan(servers=3, agents=20, rate=200, seconds=2, seed=1, resend=0.05))
    )
    assert [figures[name] for name in ("rejected", "refused", "left", "unsure", "retried")] == [0] * 5
    assert report["requests"]["sent"] == report["requests"]["accepted"] > 10
    assert report["rate"]["intended"] == 200
    assert report["rate"]["accepted"] == pytest.approx(200, rel=0.2)
    names = {"event", "request", "flush_wait", "answer", "sender_late", "query"}
    assert set(report["latency_ms"]) == names
    for latency in report["latency_ms"].values():
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p999"] <= latency["max"]
    assert (report["queries"]["asked"], report["queries"]["answered"]) == (40, 40)
    assert sum(report["queries"]["cache"].values()) == 40
    assert report["indexed"]["findable"] is True
    assert report["backlog"]["left"] == 0


def test_without_json_a_table_is_printed(lorestream_url: str) -> None:
    answer = simulate(*SMALL, "--seed", "2", "--wait-indexed", "30", "--url", lorestream_url)
    assert answer.returncode == 0
    for words in ("400 events, 200.0/s", "all found", "p999", "flush wait"):
        assert words in answer.stdout
    assert answer.stderr == ""


def test_the_same_load_again_adds_no_memories(lorestream_url: str, tmp_path: Path) -> None:
    ledgers = [tmp_path / "first", tmp_path / "second"]
    for ledger in ledgers:
        options = ("--seed", "3", "--wait-indexed", "30", "--ledger", str(ledger))
        assert simulate(*SMALL, *options, "--url", lorestream_url).returncode == 0
    first, second = (sorted(one["memory_id"] for one in lines(ledger)) for ledger in ledgers)
    assert first == second
    ids = [memory for _, memory, _ in stored(lorestream_url)]
    assert len(ids) == len(set(ids))
    assert set(first) <= set(ids)


def test_lost_events_end_with_1_unless_loss_is_allowed(tmp_path: Path) -> None:
    gone = LorestreamProcess(tmp_path / "data", HASH)
    for allowed, code in (((), 1), (("--allow-loss",), 0)):
        gone.start()
        ledger = tmp_path / f"ledger-{code}"
        options = ("--url", gone.url, "--rate", "50", "--seconds", "3", "--drain", "0.2", "--json", *allowed)
        options += ("--ledger", str(ledger))
        load = zygote.Popen(command(*options), env=clean_environment(), stdout=subprocess.PIPE, text=True)
        wait_for_growth(ledger, load)
        gone.kill()
        output, _ = load.communicate(timeout=60)
        assert load.returncode == code
        report = json.loads(output)
        assert report["lost"] == report["events"]["left"] > 0
        assert report["complete"] is False


def test_ctrl_c_ends_with_a_report(lorestream_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    shape = ("--rate", "200", "--seconds", "600", "--seed", "4", "--ledger", str(ledger))
    load = zygote.Popen(
        command("--url", lorestream_url, *shape, "--json", "--allow-loss"),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for_growth(ledger, load)
    load.send_signal(signal.SIGINT)
    output, _ = load.communicate(timeout=10)
    assert load.returncode == 0
    report = json.loads(output)
    assert report["complete"] is False
    assert 0 < report["events"]["accepted"] <= report["events"]["scheduled"] < 12_000


def test_without_a_server_the_error_is_one_line() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    answer = simulate(*SMALL, "--url", url)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == f"lorestream: no lorestream at {url}: start one with `lorestream up`\n"


def test_a_dry_run_prints_the_load_and_sends_nothing() -> None:
    answer = simulate(*SMALL, "--dry-run", "--json", LORESTREAM_URL=f"http://127.0.0.1:{free_port()}")
    assert answer.returncode == 0
    result = json.loads(answer.stdout)
    assert result["events"] == sum(server["events"] for server in result["servers"]) == 400
    assert [server["server"] for server in result["servers"]] == ["server-1", "server-2", "server-3"]
    plan = Plan(**result["plan"])
    assert [one["event"] for one in result["first"]] == [json.loads(e.body) for e in list(events(plan))[:5]]
    shown = simulate(*SMALL, "--dry-run")
    assert "nothing was sent" in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rate", "0"),
        ("--rate", "nan"),
        ("--seconds", "inf"),
        ("--servers", "0"),
        ("--resend", "2"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    answer = simulate(*arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "Traceback" not in answer.stderr


def test_a_ledger_that_cannot_be_written_is_an_error_at_once(lorestream_url: str, tmp_path: Path) -> None:
    answer = simulate(*SMALL, "--url", lorestream_url, "--ledger", str(tmp_path / "no" / "file"))
    assert answer.returncode == 1
    assert answer.stderr.startswith("lorestream: --ledger: cannot write")
    assert "Traceback" not in answer.stderr


def test_help_has_examples() -> None:
    answer = simulate("--help")
    assert answer.returncode == 0
    assert answer.stdout.count(" lorestream simulate --") >= 4
