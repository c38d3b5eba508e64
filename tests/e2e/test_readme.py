"""Every example of README.md and `PAGES` that is marked runnable, run unchanged against a real lorestream.

`<!-- runnable -->` stands before such a block, `<!-- prints -->` before the expected output of the block above it,
in which … stands for any text. The blocks run in their order, against one lorestream with the real embedding model.
Only the address is replaced. Each shell block runs in the activated environment. Shell blocks of the README that are
not marked may contain only targets of make, and those are checked with `make --dry-run`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from lorestream.client import MemoryClient
from tests.brokers import missing_is_skipped
from tests.luanti.server import SERVER_NAMES, RealServer, find, wait_until
from tests.models import models_dir, real_model
from tests.processes import clean_environment, free_port, running

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *(ROOT / "docs" / name for name in ("python.md", "state.md", "corrections.md")))
ADDRESS = "http://127.0.0.1:8080"
START = "make up\n"
ACTIVATE = ". .venv/bin/activate\n"
INSTALL_MOD = "lorestream mod install "
_BLOCK = re.compile(r"<!-- (runnable|prints) -->\n```(\w+)\n(.*?)```\n", re.DOTALL)
_SHELL = re.compile(r"(?:^|(?<!<!-- runnable -->)\n)```sh\n(.*?)```\n", re.DOTALL)

pytestmark = pytest.mark.model


@dataclass
class Example:
    """A marked block and its expected output (empty: any output)."""

    number: int
    language: str
    code: str
    prints: str = ""


def examples() -> list[Example]:
    """All marked blocks in the order of the pages."""
    found: list[Example] = []
    for mark, language, content in _BLOCK.findall(_text()):
        if mark == "runnable":
            found.append(Example(len(found) + 1, language, content))
        else:
            found[-1].prints = content.strip()
    return found


def _text() -> str:
    return "".join(page.read_text(encoding="utf-8") for page in PAGES)


@pytest.fixture(scope="module")
def lorestream_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One running lorestream with the real model for all examples."""
    model = {"LORESTREAM_EMBEDDER__MODEL": str(real_model().directory)}
    with running(tmp_path_factory.mktemp("lorestream"), model) as process:
        yield process.url


def test_each_language_has_an_example_and_every_mark_belongs_to_a_block():
    assert {example.language for example in examples()} == {"sh", "python", "lua"}
    marks = re.findall(r"<!-- (?:runnable|prints) -->", _text())
    assert len(marks) == len(examples()) + sum(bool(example.prints) for example in examples())


@pytest.mark.parametrize(
    "example",
    [example for example in examples() if example.language != "lua" and example.code != START],
    ids=lambda example: f"{example.language}-{example.number}",
)
def test_examples_run_and_print_the_expected_output(example: Example, lorestream_url: str, tmp_path: Path):
    (tmp_path / ".venv").symlink_to(sys.prefix)
    world = tmp_path / ".minetest" / "worlds" / "MYWORLD"
    world.mkdir(parents=True)
    (world / "world.mt").write_text("gameid = minetest_game\n")
    (tmp_path / ".minetest" / "minetest.conf").touch()
    code = example.code.replace(ADDRESS, lorestream_url)
    if example.language == "sh":
        command = ["bash", "-euo", "pipefail", "-c", ACTIVATE + code]
    else:
        command = [sys.executable, "-W", "error", "-c", code]
    answer = subprocess.run(
        command,
        env=clean_environment(
            LORESTREAM_URL=lorestream_url, COLUMNS="200", HOME=str(tmp_path), PATH="/usr/bin:/bin"
        ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    wanted = ".*".join(re.escape(part) for part in example.prints.split("…"))
    assert re.search(wanted, answer.stdout, re.DOTALL), answer.stdout
    if example.code.startswith(INSTALL_MOD):
        assert "\n    secure.http_mods = lorestream\n" in answer.stdout
        assert (world / "worldmods" / "lorestream" / "init.lua").is_file()


def test_the_first_command_of_the_readme_starts_lorestream_and_ctrl_c_stops_it(tmp_path: Path):
    assert examples()[0].code == START
    assert examples()[1].code.startswith(ACTIVATE)
    assert any(example.code.startswith(INSTALL_MOD) for example in examples())
    assert real_model().directory.is_relative_to(models_dir())
    data, port = tmp_path / "data", free_port()
    output = tmp_path / "output.txt"
    with output.open("wb") as log:
        make = subprocess.Popen(
            [*_make(START), f"PORT={port}"],
            env=clean_environment(LORESTREAM_DATA_DIR=str(data), LORESTREAM_GRPC_PORT=str(free_port())),
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: make.poll() is not None or _is_ready(port), what="ready", seconds=60, every=0.2)
        assert make.poll() is None, output.read_text()
        page = subprocess.run(
            ["curl", "-fsS", f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=False
        )
        assert "Lorestream" in page.stdout, page.stderr
        assert (data / "log.sqlite3").is_file()
        os.killpg(make.pid, signal.SIGINT)
        make.wait(30)
        assert not _is_ready(port)
        assert "Traceback" not in output.read_text()
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGKILL)
            make.wait()


def _make(command: str) -> list[str]:
    """The words of a `make …` command, run in the tests' own environment without reinstalling it."""
    words = command.split()
    return [*words, f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.ready/server"]


def _is_ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/ready", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


def test_shell_blocks_that_are_not_run_contain_only_targets_of_make():
    unmarked = [
        line for block in _SHELL.findall(README.read_text(encoding="utf-8")) for line in block.splitlines()
    ]
    assert "make test" in unmarked
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for line in unmarked:
        assert re.fullmatch(r"make [a-z-]+( [A-Z_]+=\S+)*", line), (
            f"neither marked as runnable nor a target of make: {line}"
        )
    planned = subprocess.run(
        [*_make(" ".join(["make", *(line.removeprefix("make ") for line in unmarked)])), "--dry-run"],
        # make runs recipes that call make even with --dry-run: the model's recipe finds it prepared.
        env=clean_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert planned.returncode == 0, planned.stderr


@pytest.mark.luanti
def test_the_mod_of_the_readme_searches_from_a_real_luanti_server(lorestream_url: str, tmp_path: Path):
    with missing_is_skipped():
        find(SERVER_NAMES)
    (code,) = (example.code for example in examples() if example.language == "lua")
    mod = tmp_path / "bakery"
    mod.mkdir()
    (mod / "mod.conf").write_text("name = bakery\ndepends = lorestream\n")
    (mod / "init.lua").write_text(code)
    server = RealServer(tmp_path / "server", lorestream_url, mods=(mod,))
    try:
        server.start()
        with MemoryClient(lorestream_url) as memories:
            wait_until(lambda: memories.recent("npc:baker").total == 1, what="the baker's memory")
        heard = server.lua(
            "core.chat_send_player = function(_, text) done(text) end "
            'core.registered_chatcommands.ask_baker.func("somebody", "when can you bake bread again?")'
        )
    finally:
        server.kill()
    assert heard == "The mill has no flour until Friday."
