"""The TypeScript client has the methods of the Python client. tests/unit/test_openapi.py compares its types with the API."""

from __future__ import annotations

import re
from pathlib import Path

from lorestream.client import MemoryClient

SOURCES = Path(__file__).parents[2] / "clients" / "typescript" / "src"
OTHERWISE = {
    "close",  # fetch keeps no connections that would have to be closed
    "reports",  # the admin tasks of the command line
}
"""Methods of the Python client that the TypeScript client does without."""


def test_the_clients_have_the_same_methods() -> None:
    sources = "\n".join(path.read_text() for path in SOURCES.glob("*.ts") if path.name != "openapi.ts")
    there = set(re.findall(r"^  (?:async )?(\w+)(?:<\w+>)?\(", sources, re.MULTILINE))
    here = {name for name in dir(MemoryClient) if not name.startswith("_")} - OTHERWISE
    named = {re.sub(r"_(\w)", lambda found: found[1].upper(), name): name for name in here}
    assert {named[name] for name in named.keys() - there} == set()
