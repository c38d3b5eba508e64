"""Every example of the README that is marked runnable, run as it stands against a real engram and its real model.

`<!-- runnable -->` stands before such a block, `<!-- prints -->` before what the block above it prints, where
… stands for anything. Blocks run in their order, in one engram. The only thing changed is the address.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engram.client import MemoryClient
from tests.luanti.conftest import need
from tests.luanti.server import SERVER_NAMES, RealServer, wait_until
from tests.models import real_model
from tests.processes import clean_environment, running

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8080"
_BLOCK = re.compile(r"<!-- (runnable|prints) -->\n```(\w+)\n(.*?)```\n", re.DOTALL)

pytestmark = pytest.mark.model


@dataclass
class Example:
    """A block, and what it should print."""

    number: int
    language: str
    code: str
    prints: str = ""


def examples() -> list[Example]:
    found: list[Example] = []
    for mark, language, content in _BLOCK.findall(README.read_text(encoding="utf-8")):
        if mark == "runnable":
            found.append(Example(len(found) + 1, language, content))
        else:
            found[-1].prints = content.strip()
    return found


@pytest.fixture(scope="module")
def engram_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One engram with the real model for the whole README."""
    model = {"ENGRAM_EMBEDDER__MODEL": str(real_model().directory)}
    with running(tmp_path_factory.mktemp("engram"), model) as process:
        yield process.url


def test_every_way_of_use_has_an_example_and_every_mark_is_understood():
    assert {example.language for example in examples()} == {"sh", "python", "lua"}
    marks = re.findall(r"<!-- (?:runnable|prints) -->", README.read_text(encoding="utf-8"))
    assert len(marks) == len(examples()) + sum(bool(example.prints) for example in examples())


@pytest.mark.parametrize(
    "example",
    [example for example in examples() if example.language != "lua"],
    ids=lambda example: f"{example.language}-{example.number}",
)
def test_examples_run_and_print_what_they_say(example: Example, engram_url: str, tmp_path: Path):
    programs = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "error", "-c"]}
    environment = clean_environment(ENGRAM_URL=engram_url, COLUMNS="200")
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    answer = subprocess.run(
        [*programs[example.language], example.code.replace(ADDRESS, engram_url)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    wanted = ".*".join(re.escape(part) for part in example.prints.split("…"))
    assert re.search(wanted, answer.stdout, re.DOTALL), answer.stdout


@pytest.mark.luanti
def test_the_mod_of_the_readme_asks_in_a_real_server(engram_url: str, tmp_path: Path):
    need(SERVER_NAMES)
    (code,) = (example.code for example in examples() if example.language == "lua")
    mod = tmp_path / "bakery"
    mod.mkdir()
    (mod / "mod.conf").write_text("name = bakery\ndepends = engram\n")
    (mod / "init.lua").write_text(code)
    server = RealServer(tmp_path / "server", engram_url, mods=(mod,))
    try:
        server.start()
        with MemoryClient(engram_url) as memories:
            wait_until(lambda: memories.recent("npc:baker").total == 1, what="the baker's memory")
        heard = server.lua(
            "core.chat_send_player = function(_, text) done(text) end "
            'core.registered_chatcommands.ask_baker.func("somebody", "when can you bake bread again?")'
        )
    finally:
        server.kill()
    assert heard == "The mill has no flour until Friday."
