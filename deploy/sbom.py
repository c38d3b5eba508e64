"""The bill of materials of what ships, as CycloneDX: `python -m deploy.sbom dist/sbom.json`, or `make sbom`.

Of Python's packages those of the container image: what `lorestream up` needs, the Model Context Protocol, traces, the
weights of the default model. Of npm's packages those whose files lie in Lorestream's own package, for the console.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.vendored import ROOT, load_manifest

LOCKED = ("requirements/image.txt", "requirements/weights.txt")
"""What the Dockerfile installs."""
SHIPPED = "lorestream/"
"""Where files of npm's packages must lie to be in the wheel; others are for tests."""


def python_packages() -> dict[str, Any]:
    """The document with the locked packages and their hashes. Raises CalledProcessError."""
    locked = "".join((ROOT / path).read_text(encoding="utf-8") for path in LOCKED)
    command = [
        "cyclonedx-py",
        "requirements",
        "-",
        "--pyproject",
        "pyproject.toml",
        "--mc-type",
        "application",
    ]
    command += ["--output-reproducible", "--of", "JSON"]
    made = subprocess.run(command, cwd=ROOT, input=locked, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return json.loads(made.stdout)


def browser_libraries() -> list[dict[str, Any]]:
    """A component for each package of npm that ships, with the files that are taken from it and their hashes."""
    return [_library(package) for package in load_manifest() if _shipped(package)]


def _shipped(package: dict[str, Any]) -> list[dict[str, Any]]:
    return [file for file in package["files"] if file["to"].startswith(SHIPPED)]


def _library(package: dict[str, Any]) -> dict[str, Any]:
    purl = f"pkg:npm/{quote(package['name'])}@{package['version']}"
    group, _, name = package["name"].rpartition("/")
    files = [
        {
            "type": "file",
            "name": file["to"],
            "hashes": [{"alg": "SHA-256", "content": file["sha256"]}],
        }
        for file in _shipped(package)
    ]
    return {
        "type": "library",
        "bom-ref": purl,
        **({"group": group} if group else {}),
        "name": name,
        "version": package["version"],
        "purl": purl,
        "licenses": [{"license": {"id": package["licence"]}}],
        "components": files,
    }


def main(target: Path) -> None:
    """Write the document to this file."""
    document = python_packages()
    libraries = browser_libraries()
    document["components"] += libraries
    document["dependencies"] += [{"ref": library["bom-ref"]} for library in libraries]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"{target}: {len(document['components'])} packages")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
