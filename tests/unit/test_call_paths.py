"""docs/architecture.md tells which files a write, a search, an erasure and a replay pass: compared with a recorded run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTIONS = {"write": "A write", "search": "A search", "erasure": "An erasure", "replay": "Replay and swap"}
PERIODIC = {
    "stream_workers/sweeper.py",
    "stream_workers/store_gauges.py",
    "stream_workers/time_check.py",
    "stream_workers/indexing/lag.py",
    "lorestream/admin/dead_letters.py",
    "lorestream/wiring/logs.py",
    "lorestream/steady_clock.py",
}
"""Run at intervals of seconds to a minute, in whatever step that happens to be."""
_LIST = re.compile(r"^- ([\w ,]+?)(?: \(\d+\))?:\s+(`.*?)(?=\n- |\n\n|\Z)", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"`([\w/]+(?:\{[^}]*\})?\.py|[\w/]+/__init__\.py)`")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The files that ran in each step, in an embedded Lorestream with the hash embedder."""
    path = tmp_path_factory.mktemp("call_paths") / "files.json"
    subprocess.run(
        [sys.executable, "-m", "tests.call_paths", str(path)],
        cwd=ROOT,
        capture_output=True,
        timeout=150,
        check=True,
    )
    return json.loads(path.read_text(encoding="utf-8"))


def listed(step: str, *, distributed: bool = False) -> dict[str, list[str]]:
    """The files of a section of the page, by the label of their list. Labels may end in the name of one shape.

    `folder/{a, b}.py` stands for two files.
    """
    section = _page().split(f"## {SECTIONS[step]}\n")[1].split("\n## ")[0]
    other = "embedded" if distributed else "distributed"
    found: dict[str, list[str]] = {}
    for label, text in _LIST.findall(section):
        if not label.endswith(other):
            found[label] = [file for path in _PATH.findall(text) for file in _expanded(path)]
    return found


def _page() -> str:
    return (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def _expanded(path: str) -> list[str]:
    before, brace, rest = path.partition("{")
    names, _, after = rest.partition("}")
    return [f"{before}{name}{after}" for name in re.split(r",\s+", names)] if brace else [path]


def _passed(step: str, *, distributed: bool) -> set[str]:
    lists = listed(step, distributed=distributed)
    return {file for label, files in lists.items() if not label.startswith("Also") for file in files}


@pytest.mark.parametrize("step", SECTIONS)
def test_each_file_on_the_path_is_listed_and_each_listed_file_runs(recorded: dict[str, list[str]], step: str):
    files = {file for files in listed(step).values() for file in files}
    ran = set(recorded[step])
    assert files - ran == set(), "listed, but it did not run"
    assert ran - files - set(recorded["idle"]) - PERIODIC == set(), "it ran, but is not listed"


@pytest.mark.parametrize("distributed", [False, True])
@pytest.mark.parametrize("step", SECTIONS)
def test_the_numbers_of_the_lists_are_right_and_their_files_exist(step: str, *, distributed: bool):
    for label, files in listed(step, distributed=distributed).items():
        assert label.startswith("Also") or f"- {label} ({len(files)}):" in _page()
        assert all((ROOT / file).is_file() for file in files)


def test_the_page_states_how_many_files_are_passed():
    text = re.sub(r"\s+", " ", _page())
    write, search = (
        [len(_passed(step, distributed=shape)) for shape in (False, True)] for step in ("write", "search")
    )
    assert (
        f"a write passes {write[0]} files in the embedded shape and {write[1]} in the distributed shape"
        in text
    )
    assert (
        f"a search that is not cached passes {search[0]} files in the embedded shape and {search[1]} in"
        in text
    )
    both = [
        len(_passed("write", distributed=shape) | _passed("search", distributed=shape))
        for shape in (False, True)
    ]
    assert f"{both[0]} files are passed in the embedded shape and {both[1]} in the distributed shape" in text
