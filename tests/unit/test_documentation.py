"""The pages agree with the checkout: links and paths exist, the pictures show the present imports and columns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lorestream.cli.memories import demo

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "producers").rglob("*.md")),
]
_FENCE = re.compile(r"```.*?```", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*)`")
_TOP = {
    "lorestream",
    "producers",
    "stream_workers",
    "query_service",
    "deploy",
    "tests",
    "docs",
    "requirements",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_exist(page: Path):
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        assert not anchor or anchor in _anchors(path), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paths_in_the_text_exist(page: Path):
    for path in _PATH.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if path.split("/")[0] in _TOP:
            assert (ROOT / path).exists(), path


def test_the_picture_of_the_structure_is_up_to_date():
    checked = subprocess.run(
        [sys.executable, "docs/structure.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_the_picture_of_the_demo_has_the_columns_of_the_demo():
    picture = (ROOT / "docs/demo.svg").read_text(encoding="utf-8").replace("&#160;", " ")
    for column in demo._table([]).columns:
        assert re.search(rf">\s*{column.header}\s*<", picture), (
            f"make it again, see docs/picture.py: {column.header}"
        )


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
