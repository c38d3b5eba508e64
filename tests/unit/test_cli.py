"""The command line as a user sees it: output and exit codes. Some tests need a process of their own."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import typer

from lorestream import __version__
from lorestream.adapters.qdrant.words import layout_of
from lorestream.admin import Progress
from lorestream.cli import main, terminal
from lorestream.cli.admin.runner import ProgressDisplay
from lorestream.cli.doctor import checks, report
from lorestream.cli.doctor.checks import Verdict
from lorestream.cli.doctor.machine import machine_checks
from lorestream.cli.memories import demo
from lorestream.cli.setup import luanti
from lorestream.cli.setup.settings import HIDDEN
from lorestream.client import MemoryClient, Readiness
from lorestream.settings import Settings, load_settings
from producers.demo import village
from tests import command_line, zygote
from tests.processes import LorestreamProcess, clean_environment, free_port, running
from tests.scripted_server import ACCEPTED, refused, scripted_server

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def lorestream(tmp_path: Path) -> Run:
    """Runs `lorestream ARGUMENTS` outside the checkout, with a data directory of its own."""

    def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {"LORESTREAM_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path), "COLUMNS": "200"}
        given = clean_environment(**{**settings, **environment})
        return command_line.run_main(*arguments, environment=given, directory=tmp_path, stdin=stdin)

    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LorestreamProcess]:
    """One real server for all tests of this file; each test has its own agent."""
    with running(tmp_path_factory.mktemp("lorestream"), {"LORESTREAM_EMBEDDER__KIND": "hash"}) as process:
        yield process


@pytest.fixture
def lorestream_url(server: LorestreamProcess) -> str:
    """The address of that server."""
    return server.url


@pytest.fixture
def agent() -> str:
    """An agent that no other test uses."""
    return f"npc:{uuid.uuid4().hex}"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """An empty world in a user's Luanti folder."""
    folder = tmp_path / "luanti" / "worlds" / "home"
    folder.mkdir(parents=True)
    (folder / "world.mt").write_text("gameid = minetest\n")
    return folder


VERBS = [
    "up",
    "demo",
    "put",
    "search",
    "recent",
    "agents",
    "tail",
    "erase",
    "rewind",
    "doctor",
    "export",
    "import",
]
VERBS += ["records", "summary", "plan", "mcp"]
NESTED = [
    ["model", "prepare"],
    ["config", "show"],
    ["mod", "install"],
    *(["state", verb] for verb in ("get", "put", "patch", "versions", "rollback")),
    *(["hooks", verb] for verb in ("create", "ls", "rm", "resume", "test")),
    *(["dlq", verb] for verb in ("ls", "show", "retry", "drop")),
]


@pytest.mark.parametrize("verb", [*([verb] for verb in VERBS), *NESTED], ids=" ".join)
def test_the_help_of_every_verb_has_an_example(verb: list[str]):
    said = command_line.lorestream(*verb, "--help", environment={"COLUMNS": "200"}).stdout.decode()
    assert f" lorestream {' '.join(verb)}" in said.partition("Usage:")[2].partition("\n")[2]


def test_help_imports_no_heavy_package():
    heavy = [
        "numpy",
        "openvino",
        "qdrant_edge",
        "starlette",
        "uvicorn",
        "httpx2",
        "grpc",
        "prometheus_client",
    ]
    look = f"import sys, lorestream.cli.app; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["search", "a"],
        ["search", "a", "q", "-k", "101"],
        ["search", "a", "q", "--filters", "[1]"],
        ["search", "a", "q", "--filters", "{"],
        ["search", "a", "q", "--mode", "meaning"],
        ["put", "a", "x", "--metadata", "1"],
        ["put", "a", "x", "--importance", "11"],
        ["put", "a", "x", "--importance", "nan"],
        ["put", "a", "x", "--ttl", "inf"],
        ["search", "a", "q", "--min-score", "nan"],
        ["replay", "--to", "x", "--from", "nan"],
        ["replay", "--to", "x", "--from", "1e400"],
        ["replay", "--to", "x", "--from", "1e19"],
        ["erase"],
        ["erase", "--agent", "a", "--player", "p"],
        ["rewind"],
        ["rewind", "--server", "s"],
        ["rewind", "--server", "s", "--to", "yesterday"],
        ["rewind", "--undo", "x", "--list"],
        ["rewind", "--undo", "x", "--dry-run"],
        ["dlq", "retry"],
        ["state", "put", "character", "a", "[]"],
        ["state", "patch", "character", "a", "{}", "--tick", "nan"],
        ["records", "a"],
        ["dlq", "retry", "0-1", "--all"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: list[str]):
    answer = command_line.lorestream(*arguments, environment=clean_environment(), code=2)
    assert answer.stdout == b""
    assert answer.stderr
    assert b"Traceback" not in answer.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["put", "a", "x"],
        ["search", "a", "q", "--mode", "keyword", "--min-score", "7.5"],
        ["recent", "a"],
        ["agents"],
        ["tail"],
        ["demo"],
        ["erase", "--agent", "a"],
        ["rewind", "--list"],
        ["dlq", "ls"],
        ["state", "get", "character", "a"],
        ["records", "a", "reward"],
        ["summary", "a"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_without_a_server_the_error_is_one_line(lorestream: Run, arguments: list[str]):
    url = f"http://127.0.0.1:{free_port()}"
    answer = lorestream(*arguments, LORESTREAM_URL=url)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == f"lorestream: no lorestream at {url}: start one with `lorestream up`\n"


def test_arguments_that_are_not_utf8_are_wrong_usage(tmp_path: Path):
    command = [sys.executable.encode(), b"-m", b"lorestream.cli", b"put", b"a", b"\xff"]
    answer = subprocess.run(command, env=clean_environment(), cwd=tmp_path, capture_output=True, check=False)
    assert (answer.returncode, answer.stderr) == (
        2,
        b"lorestream: the arguments are not valid UTF-8: check the terminal's encoding\n",
    )


@pytest.mark.parametrize(
    ("fault", "said"), [(errno.ENOSPC, "lorestream: [Errno 28]"), (errno.EPIPE, ""), (errno.EBADF, None)]
)
@pytest.mark.parametrize("method", ["write", "flush"])
def test_an_output_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: int,
    said: str | None,
    method: str,
):
    """A full disk, or a reader that has ended. Other errors of the system may be faults of the program."""

    def fail(*_: object) -> None:
        raise OSError(fault, os.strerror(fault))

    output = io.StringIO()
    monkeypatch.setattr(output, method, fail)
    monkeypatch.setattr(sys, "argv", ["lorestream", "config", "show", "--json"])
    monkeypatch.setattr(sys, "stdout", output)
    with pytest.raises(OSError if said is None else SystemExit):
        main()
    told = capsys.readouterr().err
    assert told.startswith(said or "")
    assert told.count("\n") == bool(said)


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_a_text_on_stdin_that_is_not_utf8_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, errors: str):
    """Python reads it with surrogates in the locales C and C.UTF-8."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9"), "utf-8", errors))
    with pytest.raises(typer.BadParameter, match="UTF-8"):
        terminal.read_stdin()


# --- with a lorestream ------------------------------------------------------------------------------------------


def test_nobody_else_can_read_the_files_of_a_server(server: LorestreamProcess):
    """Texts and names lie in them. SQLite and Edge create files with what the umask leaves: by default, for all."""
    files = [path for path in server.data.rglob("*") if path != server.log_path]
    assert {path.name for path in files} >= {"log.sqlite3", "player.key", "store", "shard", "store.json"}
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_put_search_recent_agents_erase(lorestream: Run, lorestream_url: str, agent: str):
    at = {"LORESTREAM_URL": lorestream_url}
    put = lorestream(
        "put", agent, "pine trees stand north", "--type", "note", "--metadata", '{"n": 1}', "--json", **at
    )
    written = json.loads(put.stdout)
    assert written["indexed"] is True

    found = json.loads(
        lorestream("search", agent, "pine trees", "--filters", '{"n": 1}', "--json", **at).stdout
    )
    assert [memory["id"] for memory in found["memories"]] == [written["id"]]
    assert "pine trees stand north" in lorestream("search", agent, "pine", "--mode", "keyword", **at).stdout
    none = lorestream("search", agent, "pine trees", "--filters", '{"n": 2}', **at)
    assert (none.returncode, none.stdout) == (0, "")

    page = json.loads(lorestream("recent", agent, "--json", **at).stdout)
    assert page["total"] == 1
    assert page["memories"][0]["metadata"] == {"n": 1}
    listed = json.loads(lorestream("agents", "-n", "1000", "--json", **at).stdout)["agents"]
    assert {"agent_id": agent, "total": 1} in listed

    assert lorestream("erase", "--agent", agent, **at).returncode == 2
    looked = json.loads(lorestream("erase", "--agent", agent, "--dry-run", "--json", **at).stdout)
    assert (looked["dry_run"], looked["memories"]) == (True, 1)
    told = lorestream("erase", "--agent", agent, "--dry-run", **at).stdout
    assert f"1 memory of agent {agent}, and all records, documents, Q-tables and policies" in told
    assert json.loads(lorestream("recent", agent, "--json", **at).stdout)["total"] == 1
    assert lorestream("erase", "--agent", agent, "--yes", **at).returncode == 0
    assert json.loads(lorestream("recent", agent, "--json", **at).stdout)["total"] == 0


def test_a_server_is_taken_back_and_forth(lorestream: Run, lorestream_url: str, agent: str):
    def run(*arguments: str) -> Any:
        return json.loads(lorestream("rewind", *arguments, "--json", LORESTREAM_URL=lorestream_url).stdout)

    with MemoryClient(lorestream_url) as memories:
        kept = memories.add(agent, "saw the mill", server=agent, wait_s=10).ids[0]
        memories.add(agent, "saw it burn", server=agent, wait_s=10)
        moment = repr(memories.get(str(kept), agent).accepted_at)
        server = ("--server", agent, "--to", moment)
        looked = run(*server, "--dry-run")
        assert (looked["memories"], looked["agents"]) == (1, 1)
        assert memories.recent(agent).total == 2
        asked = lorestream("rewind", *server, LORESTREAM_URL=lorestream_url)
        assert (asked.returncode, asked.stdout) == (2, "")
        done = run(*server, "--yes")
        assert done["state"] == "done"
        assert memories.recent(agent).total == 1
        listed = lorestream("rewind", "--list", LORESTREAM_URL=lorestream_url).stdout
        assert done["rewind_id"] in listed
        assert run("--undo", done["rewind_id"], "--yes") == {**done, "state": "undone"}
        assert memories.recent(agent).total == 2


def test_a_text_with_line_separators_passes_every_verb(
    lorestream: Run, lorestream_url: str, agent: str, tmp_path: Path
):
    """JSON holds U+2028, U+2029 and U+0085 as they are: no reader of the lines may take them for the end of one."""
    at = {"LORESTREAM_URL": lorestream_url}
    text = "good\u2028bye\u2029 \x85 木\x1b]8;;x\x07"
    lines: list[str] = []
    with MemoryClient(lorestream_url) as memories:
        tail = threading.Thread(target=lambda: lines.append(next(memories.stream(agent)).text))
        tail.start()
        while not lines:  # until the tail listens: it shows what is indexed from then on
            memories.add(agent, text, event={"id": str(time.monotonic_ns())}, wait_s=10)
        tail.join()
    assert lines == [text]
    for verb in (["search", agent, "good"], ["recent", agent]):
        found = json.loads(lorestream(*verb, "--json", **at).stdout)["memories"]
        assert {memory["text"] for memory in found} == {text}
        shown = lorestream(*verb, **at)
        assert (shown.returncode, "\x1b" in shown.stdout) == (0, False)
    file = tmp_path / "memories.jsonl"
    assert lorestream("export", str(file), "--agent", agent, **at).returncode == 0
    exported = [json.loads(line) for line in file.read_bytes().rstrip(b"\n").split(b"\n")[1:]]
    assert {line["text"] for line in exported} == {text}
    again = json.loads(lorestream("import", str(file), "--json", **at).stdout)
    assert (again["present"], again["bad"]) == (len(exported), 0)


def test_the_same_id_adds_no_second_memory(lorestream: Run, lorestream_url: str, agent: str):
    for text in ("first", "second"):
        assert lorestream("put", agent, text, "--id", "mine", LORESTREAM_URL=lorestream_url).returncode == 0
    page = json.loads(lorestream("recent", agent, "--json", LORESTREAM_URL=lorestream_url).stdout)
    assert [memory["text"] for memory in page["memories"]] == ["first"]


def test_a_correction_by_hand(lorestream: Run, lorestream_url: str, agent: str):
    def run(*arguments: str) -> Any:
        return json.loads(lorestream(*arguments, "--json", LORESTREAM_URL=lorestream_url).stdout)

    old = run("put", agent, "the forge is red", "--about", "npc:baker", "--about", "Ann")["id"]
    new = run("supersede", agent, old, "the forge is blue", "--type", "note")["id"]
    [found] = run("search", agent, "forge")["memories"]
    assert (found["id"], found["supersedes"]) == (new, old)
    shown = {one["id"]: one for one in run("search", agent, "forge", "--superseded")["memories"]}
    assert (shown.keys(), shown[old]["superseded_by"]) == ({old, new}, new)
    assert run("recent", agent, "--superseded")["total"] == 2
    then = str(shown[old]["accepted_at"])
    assert [one["id"] for one in run("recent", agent, "--as-of", then)["memories"]] == [old]
    assert [one["id"] for one in run("search", agent, "forge", "--as-of", then)["memories"]] == [old]
    assert run("search", agent, "forge", "--as-of", "2020-01-31T12:00:00Z")["memories"] == []
    refused = lorestream("recent", agent, "--as-of", "soon", LORESTREAM_URL=lorestream_url)
    assert (refused.returncode, "--as-of" in refused.stderr) == (2, True)
    assert run("relations", agent) == {"relations": []}
    run("put", agent, "a talk", "--about", "npc:baker", "--source", new, "--metadata", '{"valence": 2}')
    [relation] = run("relations", agent)["relations"]
    assert (relation["with"], relation["total"], relation["valence"]) == ("npc:baker", 1, 2)
    assert "npc:baker" in lorestream("relations", agent, LORESTREAM_URL=lorestream_url).stdout


def test_a_list_that_may_not_be_whole_is_not_counted_as_all(lorestream: Run, lorestream_url: str, agent: str):
    def note(*arguments: str) -> str:
        return lorestream(*arguments, LORESTREAM_URL=lorestream_url).stderr

    for other in ("npc:baker", "npc:miner"):
        lorestream("put", f"{agent}:{other}", "a talk", LORESTREAM_URL=lorestream_url)
        lorestream("put", agent, "a talk", "--about", other, LORESTREAM_URL=lorestream_url)
    assert note("agents", "--prefix", agent, "-n", "1") == "the largest agent\n"
    assert note("agents", "--prefix", agent, "-n", "2") == "the 2 largest agents\n"
    assert note("agents", "--prefix", agent) == "3 agents\n"
    assert note("relations", agent, "-n", "1") == "the largest relation\n"
    assert note("relations", agent) == "2 relations\n"


def test_a_valence_that_no_number_holds_is_a_dash(lorestream: Run, lorestream_url: str, agent: str):
    at = {"LORESTREAM_URL": lorestream_url}
    for text in ("a gift", "another gift"):
        lorestream("put", agent, text, "--about", "npc:baker", "--metadata", '{"valence": 1.7e308}', **at)
    [line] = [
        line for line in lorestream("relations", agent, **at).stdout.splitlines() if "npc:baker" in line
    ]
    assert line.split()[-2:] == ["-", "npc:baker"]


def test_put_reads_its_text_from_stdin(lorestream: Run, lorestream_url: str, agent: str):
    lorestream("put", agent, "-", stdin="two\nlines\n", LORESTREAM_URL=lorestream_url)
    page = json.loads(lorestream("recent", agent, "--json", LORESTREAM_URL=lorestream_url).stdout)
    assert page["memories"][0]["text"] == "two\nlines"


def test_erasing_a_player(lorestream: Run, lorestream_url: str, agent: str):
    lorestream("put", agent, "met somebody", "--player", "Ann", LORESTREAM_URL=lorestream_url)
    assert lorestream("erase", "--player", "Ann", "--yes", LORESTREAM_URL=lorestream_url).returncode == 0
    assert (
        json.loads(lorestream("recent", agent, "--json", LORESTREAM_URL=lorestream_url).stdout)["total"] == 0
    )


def test_an_error_of_the_server_is_one_line_with_its_code(lorestream: Run, lorestream_url: str, agent: str):
    answer = lorestream(
        "search", agent, "q", "--filters", '{"n": {"nearly": 1}}', LORESTREAM_URL=lorestream_url
    )
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (1, "", 1)
    assert "(invalid_filter)" in answer.stderr
    rejected = lorestream("put", agent, "", LORESTREAM_URL=lorestream_url)
    assert (rejected.returncode, rejected.stderr.count("\n")) == (1, 1)


HOSTILE = "red \x1b[31m bell \x07 csi \x9b31m title \x1b]0;x\x07"


@pytest.mark.parametrize("verb", ["search", "recent"])
@pytest.mark.parametrize("as_json", [False, True])
def test_control_characters_in_memories_are_escaped(
    lorestream_url: str, lorestream: Run, agent: str, verb: str, as_json: bool
):
    lorestream("put", agent, HOSTILE, LORESTREAM_URL=lorestream_url)
    environment = clean_environment(LORESTREAM_URL=lorestream_url, NO_COLOR="1", TERM="xterm")
    arguments = [verb, agent, *(["red"] if verb == "search" else []), *(["--json"] if as_json else [])]
    seen = at_a_terminal(arguments, environment)
    assert b"bell" in seen
    # The remaining escape sequences are Rich's own, for bold and the like; no colours because of NO_COLOR.
    for sequence in (b"\x1b[31m", b"\x07", b"\xc2\x9b", b"\x1b]"):
        assert sequence not in seen


class TerminalBuffer(io.StringIO):
    """What a terminal would get."""

    def isatty(self) -> bool:
        return True


def test_control_characters_and_markup_in_the_progress_of_a_server_are_not_interpreted(
    monkeypatch: pytest.MonkeyPatch,
):
    """Steps, units and notes come from the server."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", TerminalBuffer())
    with ProgressDisplay() as display:
        display.show(Progress(f"{HOSTILE} [/bold]", 1, 2, f"[link=x]{HOSTILE}"))
        display.show(Progress(f"{HOSTILE} [/bold]", 2, 2, f"[link=x]{HOSTILE}"))
    seen = sys.stderr.getvalue()
    assert "bell" in seen
    assert "[/bold]" in seen
    for sequence in ("\x1b[31m", "\x07", "\x9b", "\x1b]"):
        assert sequence not in seen


def at_a_terminal(arguments: list[str], environment: Mapping[str, str]) -> bytes:
    """The bytes that a terminal would get."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lorestream.cli", *arguments]
    with zygote.Popen(command, env=environment, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL):
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:
            pass  # the other end was closed
        finally:
            os.close(ours)
    return seen


def test_tail_prints_one_object_per_line(lorestream: Run, lorestream_url: str, agent: str):
    command = [sys.executable, "-m", "lorestream.cli", "tail", "-n", "2", "--agent", agent, "--json"]
    environment = clean_environment(LORESTREAM_URL=lorestream_url)
    with zygote.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as tail:
        shown: list[str] = []
        number = 0
        while tail.poll() is None:  # when it starts to listen is unknown: write until it has seen enough
            for each, text in (("b", "not asked for"), (agent, f"text {number}")):
                event = {"server": "s", "events": [{"agent_id": each, "text": text}]}
                httpx2.post(f"{lorestream_url}/v1/events", json=event, timeout=60).raise_for_status()
            number += 1
            time.sleep(0.05)
        assert tail.stdout is not None
        shown = tail.stdout.read().splitlines()
    first, second = map(json.loads, shown)
    assert {first["agent_id"], second["agent_id"]} == {agent}
    assert int(second["text"].split()[1]) == int(first["text"].split()[1]) + 1


def test_webhooks_are_made_listed_tried_and_removed(lorestream: Run, lorestream_url: str):
    at = {"LORESTREAM_URL": lorestream_url}
    with scripted_server((204, b"")) as receiver:
        made = json.loads(
            lorestream("hooks", "create", receiver.url, "--type", "chat", "--json", **at).stdout
        )
        assert made["secret"]
        assert made["filter"] == {"type": ["chat"]}
        assert "answered with 204" in lorestream("hooks", "test", made["id"], **at).stdout
        assert receiver.requests[-1]["body"] == {"webhook_id": made["id"], "memories": [], "test": True}
        assert made["secret"] not in lorestream("hooks", "ls", **at).stdout
        assert "would be removed" in lorestream("hooks", "rm", made["id"], "--dry-run", **at).stdout
        assert json.loads(lorestream("hooks", "rm", made["id"], "--yes", "--json", **at).stdout)["removed"]
    assert json.loads(lorestream("hooks", "ls", "--json", **at).stdout) == {"webhooks": []}


def test_demo_writes_events_and_asks_questions(lorestream: Run, lorestream_url: str):
    answer = lorestream("demo", "--questions", "3", "--json", LORESTREAM_URL=lorestream_url)
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert result["played"]["accepted"] == result["played"]["events"] > 300
    found = [memory for one in result["answers"] for memory in one["memories"]]
    assert len(found) == 9
    now = time.time()
    assert all(now - village.DAY_S - 3600 < memory["timestamp"] < now for memory in found)
    lorestream("demo", "--questions", "0", LORESTREAM_URL=lorestream_url)
    listed = json.loads(lorestream("agents", "-n", "1000", "--json", LORESTREAM_URL=lorestream_url).stdout)[
        "agents"
    ]
    villagers = {event["agent_id"] for event in village.events(1)}
    assert sum(a["total"] for a in listed if a["agent_id"] in villagers) == result["played"]["events"]


def test_a_demo_that_is_repeated_later_asks_about_the_day_that_is_stored(lorestream_url: str):
    now = time.time()
    with MemoryClient(lorestream_url) as memories:
        starts = [demo.start_of_day(memories, 99, now + later_s) for later_s in (0.0, 250.0)]
    assert starts == [int(now - village.DAY_S)] * 2


# --- doctor --------------------------------------------------------------------------------------------------


def by_name(answer: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(answer.stdout)["checks"]}


def test_doctor_asks_the_running_server_about_its_own_files(
    lorestream: Run, lorestream_url: str, tmp_path: Path
):
    """A second terminal has other settings: another data directory, no model. The running one is healthy."""
    (tmp_path / "file").touch()
    answer = lorestream(
        "doctor",
        "--json",
        LORESTREAM_URL=lorestream_url,
        LORESTREAM_DATA_DIR=str(tmp_path / "file" / "below"),
        LORESTREAM_MODELS_DIR=str(tmp_path / "no models"),
    )
    assert answer.returncode == 0, answer.stdout
    found = by_name(answer)
    assert str(tmp_path) not in found["data directory"]["evidence"]
    assert "hash" in found["model"]["evidence"]
    assert found["permissions"]["verdict"] in {"ok", "warning"}
    assert found["lorestream"]["verdict"] == found["canary"]["verdict"] == "ok"


def test_doctor_warns_of_what_a_ready_service_works_without():
    server: Any = SimpleNamespace(version=lambda: __version__, url="http://127.0.0.1:8080")
    check = report.service(server, Readiness("ok", {"log": "ok", "clock": "set ahead by 3.0 hours"}))
    assert check.verdict is Verdict.WARNING
    assert check.evidence.endswith("ok; clock: set ahead by 3.0 hours")
    assert report.service(server, Readiness("ok", {"log": "ok", "clock": "ok"})).verdict is Verdict.OK
    assert report.service(server, Readiness("unavailable", {"log": "away"})).verdict is Verdict.FAILED


def test_doctor_compares_the_words_of_the_store_with_the_settings(tmp_path: Path):
    settings = load_settings(data_dir=tmp_path, keyword={"language": "german"})
    assert words_check(settings).verdict is Verdict.SKIPPED
    about = {"model_id": "hash", "dim": 4, "schema": 4, "words": layout_of(("german",))}
    label = tmp_path / "store" / "agent_memories" / "store.json"
    label.parent.mkdir(parents=True)
    label.write_text(json.dumps(about))
    assert words_check(settings).verdict is Verdict.OK
    del about["words"]
    label.write_text(json.dumps(about))
    found = words_check(settings)
    assert (found.verdict, found.fix and "lorestream replay" in found.fix) == (Verdict.WARNING, True)
    assert "german" in found.evidence
    (tmp_path / "store" / "agent_memories.json").write_text("{")
    assert words_check(settings).verdict is Verdict.FAILED


def words_check(settings: Settings) -> checks.Check:
    return next(one for one in machine_checks(settings) if one.name == "words")


def test_doctor_finds_files_that_others_may_read(tmp_path: Path):
    tmp_path.chmod(0o755)
    (tmp_path / "private").write_text("x")
    (tmp_path / "private").chmod(0o600)
    assert checks.permissions(tmp_path).verdict is Verdict.OK
    (tmp_path / "open").write_text("x")
    (tmp_path / "open").chmod(0o644)
    check = checks.permissions(tmp_path)
    assert check.verdict is Verdict.WARNING
    assert str(tmp_path / "open") in check.evidence
    assert check.fix == f"chmod -R go= {tmp_path}"
    tmp_path.chmod(0o700)
    assert checks.permissions(tmp_path).verdict is Verdict.OK


def test_doctor_tolerates_files_that_vanish_while_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The data directory is that of a running Lorestream."""
    for name in ("open", "open.gone"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o644)
    (tmp_path / "below.gone").mkdir()
    tmp_path.chmod(0o755)
    scan = os.scandir

    class Vanishing(contextlib.ExitStack):
        """The entries of a directory, of which some are removed right after they were read."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self._found = list(self.enter_context(scan(path)))
            for entry in self._found:
                if entry.name.endswith(".gone"):
                    Path(entry).rmdir() if entry.is_dir() else Path(entry).unlink()

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self._found)

        def __next__(self) -> os.DirEntry[str]:
            if not self._found:
                raise StopIteration
            return self._found.pop(0)

    monkeypatch.setattr(os, "scandir", Vanishing)
    check = checks.permissions(tmp_path)
    assert check.verdict is Verdict.WARNING
    assert ": 1, such as" in check.evidence


FROM_HERE = {"data directory", "permissions", "words", "open files", "model"}


@pytest.mark.parametrize("code", ["not_found", "wrong_service"])
def test_doctor_checks_its_own_machine_where_a_service_has_no_route_for_it(code: str, tmp_path: Path):
    """A gateway or a query service of the distributed shape."""
    settings = load_settings(data_dir=tmp_path, embedder={"kind": "hash"})
    with scripted_server((404, refused(code))) as server, MemoryClient(server.url) as client:
        found = {check.name for check in report._checks_of_running(client, settings)}
    assert found == FROM_HERE


@pytest.mark.parametrize(
    ("status", "code"), [(401, "unauthorized"), (403, "forbidden"), (400, "over_budget")]
)
def test_doctor_names_the_key_only_where_the_key_is_the_reason(status: int, code: str, tmp_path: Path):
    with scripted_server((status, refused(code))) as server, MemoryClient(server.url) as client:
        (check,) = report._checks_of_running(client, load_settings(data_dir=tmp_path))
    assert check.verdict is Verdict.SKIPPED
    assert ("--operator" in str(check.fix)) == (status != 400)


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (401, "unauthorized", Verdict.FAILED),
        (403, "forbidden", Verdict.SKIPPED),
        (400, "over_budget", Verdict.FAILED),
    ],
)
def test_the_canary_names_the_key_where_the_key_is_the_reason(status: int, code: str, verdict: Verdict):
    """A healthy service may be asked with a key that may not write."""
    with scripted_server((status, refused(code))) as server, MemoryClient(server.url) as client:
        check = report._canary(client)
    assert check.verdict is verdict
    assert ("LORESTREAM_API_KEY" in str(check.fix)) == (status != 400)


UP = (200, {"status": "ok"})
FOUND = (200, {"memories": [{"id": "m1", "agent_id": "lorestream:doctor", "text": "t", "timestamp": 1.0}]})


@pytest.mark.parametrize(
    ("query_ready", "verdict", "code"), [(UP, "ok", 0), ((503, {"status": "unavailable"}), "failed", 3)]
)
def test_doctor_asks_the_gateway_and_the_query_service(
    lorestream: Run, query_ready: tuple[int, Any], verdict: str, code: int
):
    version = (200, {"info": {"version": __version__}})
    no_route = (404, refused("wrong_service"))
    written = (202, {**ACCEPTED, "indexed": True})
    with (
        scripted_server(UP, no_route, version, written, no_route) as gateway,
        scripted_server(query_ready, version, FOUND) as query,
    ):
        answer = lorestream(
            "doctor",
            "--json",
            LORESTREAM_URL=gateway.url,
            LORESTREAM_QUERY_URL=query.url,
            LORESTREAM_EMBEDDER__KIND="hash",
        )
    found = by_name(answer)
    assert found["lorestream"]["verdict"] == "ok"
    assert found["query service"]["verdict"] == verdict
    assert found.get("canary", {"verdict": "failed"})["verdict"] == verdict
    assert answer.returncode == code, answer.stdout


def test_doctor_fails_without_the_query_service(lorestream: Run, lorestream_url: str):
    nobody = f"http://127.0.0.1:{free_port()}"
    answer = lorestream("doctor", "--json", "--query-url", nobody, LORESTREAM_URL=lorestream_url)
    assert answer.returncode == 3
    found = by_name(answer)
    assert (found["lorestream"]["verdict"], found["query service"]["verdict"]) == ("ok", "failed")
    assert "LORESTREAM_QUERY_URL" in found["query service"]["fix"]
    assert "canary" not in found


def test_the_canary_says_that_a_gateway_needs_a_second_address():
    written = (202, {**ACCEPTED, "indexed": True})
    with (
        scripted_server(written, (404, refused("wrong_service"))) as server,
        MemoryClient(server.url) as client,
    ):
        check = report._canary(client)
    assert check.verdict is Verdict.FAILED
    assert "LORESTREAM_QUERY_URL" in str(check.fix)


def test_doctor_reports_what_is_missing(lorestream: Run):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        answer = lorestream(
            "doctor",
            "--json",
            LORESTREAM_GRPC_PORT=str(port),
            LORESTREAM_URL=f"http://127.0.0.1:{free_port()}",
        )
    assert answer.returncode == 3
    found = by_name(answer)
    assert found["model"]["verdict"] == "failed"
    assert str(found["model"]["fix"]).startswith("lorestream model prepare")
    assert f"(process {os.getpid()})" in found["grpc port"]["evidence"]
    assert found["lorestream"]["verdict"] == "failed"  # the address was given


def test_doctor_with_wait_fails_without_a_server(lorestream: Run):
    url = f"http://127.0.0.1:{free_port()}"
    answer = lorestream(
        "doctor", "--wait", "0.1", "--json", LORESTREAM_URL=url, LORESTREAM_EMBEDDER__KIND="hash"
    )
    assert answer.returncode == 3
    assert by_name(answer)["lorestream"]["verdict"] == "failed"


def test_a_data_directory_below_a_file_is_reported(tmp_path: Path):
    (tmp_path / "file").touch()
    check = checks.data_directory(tmp_path / "file" / "data", 1)
    assert check.verdict is Verdict.FAILED
    assert "--data" in str(check.fix)


def test_checking_a_data_directory_leaves_no_file(tmp_path: Path):
    assert checks.data_directory(tmp_path / "deep" / "data", 1).verdict is not Verdict.FAILED
    assert list(tmp_path.iterdir()) == []


# --- settings ------------------------------------------------------------------------------------------------


def test_config_show_prints_origins_and_hides_secrets(lorestream: Run, tmp_path: Path):
    (tmp_path / ".env").write_text("LORESTREAM_LOG_LEVEL=debug\nLORESTREAM_TTL_DAYS=1\n")
    answer = lorestream(
        "config",
        "show",
        "--json",
        LORESTREAM_LOG__RETENTION_DAYS="7",
        LORESTREAM_CACHE='{"max_entries": 5}',
        MEMORY_TTL_DAYS="3",
        LORESTREAM_PLAYER_KEY="k1:very-secret",
        LORESTREAM_API_KEY="id.very-secret",
        LORESTREAM_EMBEDDER__URL="http://user:very-secret@models:8080/v1?key=very-secret",
        LORESTREAM_QUERY_URL="https://user:very-secret@host",
    )
    assert answer.returncode == 0, answer.stderr
    assert "very-secret" not in answer.stdout
    shown = {one["name"]: (one["value"], one["origin"]) for one in json.loads(answer.stdout)["settings"]}
    assert shown["LORESTREAM_LOG__RETENTION_DAYS"] == (7, "environment LORESTREAM_LOG__RETENTION_DAYS")
    assert shown["LORESTREAM_CACHE__MAX_ENTRIES"] == (5, "environment LORESTREAM_CACHE")
    assert shown["LORESTREAM_CACHE__KIND"] == ("local", "default")
    assert shown["LORESTREAM_TTL_DAYS"] == (3, "alias MEMORY_TTL_DAYS")
    assert shown["LORESTREAM_LOG_LEVEL"] == ("debug", ".env")
    assert shown["LORESTREAM_PLAYER_KEY"] == (HIDDEN, "environment LORESTREAM_PLAYER_KEY")
    assert shown["LORESTREAM_API_KEY"] == (HIDDEN, "environment LORESTREAM_API_KEY")
    assert shown["LORESTREAM_HTTP_PORT"] == (8080, "default")
    assert shown["LORESTREAM_EMBEDDER__URL"][0] == f"http://{HIDDEN}@models:8080/v1?{HIDDEN}"
    assert shown["LORESTREAM_QUERY_URL"][0] == f"https://{HIDDEN}@host"
    assert shown["LORESTREAM_URL"] == ("http://127.0.0.1:8080", "default")


def test_the_error_of_a_wrong_setting_is_one_line(lorestream: Run):
    answer = lorestream("config", "show", LORESTREAM_HTTP_PORT="many")
    assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
    assert "LORESTREAM_HTTP_PORT" in answer.stderr


def test_config_show_names_variables_that_are_no_settings(lorestream: Run):
    answer = lorestream("config", "show", LORESTREAM_HTTP_PROT="9000")
    assert answer.returncode == 0
    assert answer.stderr.endswith("LORESTREAM_HTTP_PROT (similar: LORESTREAM_HTTP_PORT)\n")


# --- the Luanti mod ------------------------------------------------------------------------------------------


def test_the_mod_is_installed_and_updated(lorestream: Run, world: Path):
    conf = world.parent.parent / "minetest.conf"
    conf.write_text("# secure.http_mods = nothing\nsecure.http_mods = irc, maps\n")
    first = json.loads(lorestream("mod", "install", str(world), "--conf", str(conf), "--json").stdout)
    assert first["line"] == "secure.http_mods = irc, maps, lorestream"
    assert (first["updated"], first["configuration"]) == (False, str(conf))
    target = world / "worldmods" / "lorestream"
    (target / "init.lua").write_text("-- an older one\n")
    (target / "gone.lua").touch()

    conf.write_text("secure.http_mods = irc,lorestream\n")
    second = json.loads(lorestream("mod", "install", str(world), "--conf", str(conf), "--json").stdout)
    assert (second["updated"], second["line"]) == (True, None)
    assert not (target / "gone.lua").exists()
    assert [check.verdict for check in luanti.checks(world, conf)] == [Verdict.OK] * 3
    assert sorted(path.name for path in world.iterdir()) == ["world.mt", "worldmods"]


def test_the_mod_is_installed_into_worlds_only(lorestream: Run, tmp_path: Path):
    answer = lorestream("mod", "install", str(tmp_path))
    assert answer.returncode == 1
    assert "world.mt" in answer.stderr
    assert not (tmp_path / "worldmods").exists()


@pytest.mark.parametrize("link", [False, True], ids=["another mod", "a link"])
def test_another_directory_is_replaced_only_with_force(
    lorestream: Run, world: Path, tmp_path: Path, link: bool
):
    target = world / "worldmods" / "lorestream"
    theirs = tmp_path / "theirs" if link else target
    theirs.mkdir(parents=True)
    (theirs / "mod.conf").write_text("name = another\n")
    if link:
        target.parent.mkdir()
        target.symlink_to(theirs)
    assert lorestream("mod", "install", str(world)).returncode == 1
    assert (target / "mod.conf").read_text() == "name = another\n"
    assert lorestream("mod", "install", str(world), "--force").returncode == 0
    assert not target.is_symlink()
    assert (target / "init.lua").is_file()
    assert (tmp_path / "theirs").exists() == link


def test_checks_of_a_world(lorestream: Run, world: Path):
    conf = world.parent.parent / "minetest.conf"
    conf.write_text("secure.http_mods = lorestream\n")
    assert {check.name for check in luanti.checks(world, conf) if check.verdict is Verdict.FAILED} == {
        "luanti mod"
    }
    lorestream("mod", "install", str(world))
    conf.write_text("name = me\n")
    (world / "world.mt").write_text("load_mod_lorestream = false\n")
    failed = {
        check.name: check.fix for check in luanti.checks(world, conf) if check.verdict is Verdict.FAILED
    }
    assert failed["luanti http"] == "add the line: secure.http_mods = lorestream"
    assert "load_mod_lorestream = true" in str(failed["luanti load_mod"])
    conf.write_text("secure.trusted_mods = lorestream\n")
    (world / "world.mt").write_text("load_mod_lorestream = true\n")
    assert all(check.verdict is Verdict.OK for check in luanti.checks(world, conf))


@pytest.mark.parametrize("timestamp", [-1e30, 0.0, 1.8e9, 1e30, float("inf"), float("nan")])
def test_every_time_can_be_printed(timestamp: float):
    assert terminal.local_time(timestamp)
