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
MOST_FILES = 45
"""From the HTTP request of a write to the answer of a search that finds it."""


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
    """The files of a section of the page, by the label of their list. Labels may end in the name of one shape."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split(f"## {SECTIONS[step]}\n")[1].split("\n## ")[0]
    other = "embedded" if distributed else "distributed"
    found: dict[str, list[str]] = {}
    for label, text in re.findall(
        r"^- ([\w ,]+?)(?: \(\d+\))?: (`.*?)(?=\n- |\n\n|\Z)", section, re.MULTILINE | re.DOTALL
    ):
        if not label.endswith(other):
            found[label] = re.findall(r"`([\w/]+\.py)`", text)
    return found


@pytest.mark.parametrize("step", SECTIONS)
def test_each_file_on_the_path_is_listed_and_each_listed_file_runs(recorded: dict[str, list[str]], step: str):
    files = {file for files in listed(step).values() for file in files}
    ran = set(recorded[step])
    assert files - ran == set(), "listed, but it did not run"
    assert ran - files - set(recorded["idle"]) == set(), "it ran, but is not listed"


@pytest.mark.parametrize("distributed", [False, True])
@pytest.mark.parametrize("step", SECTIONS)
def test_the_numbers_in_the_lists_are_right_and_the_files_exist(step: str, *, distributed: bool):
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for label, files in listed(step, distributed=distributed).items():
        assert label.startswith("Also") or f"- {label} ({len(files)}): " in page
        assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize("distributed", [False, True])
def test_the_way_from_a_request_to_its_memory_is_short(*, distributed: bool):
    passed = {
        file
        for step in ("write", "search")
        for label, files in listed(step, distributed=distributed).items()
        if not label.startswith("Also")
        for file in files
    }
    assert len(passed) <= MOST_FILES
