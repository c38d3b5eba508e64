"""Fetches the browser libraries again that lie in this repository: `python -m deploy.vendored`, or `make vendored`.

`vendored.json` beside this file names each package of npm with its version, its licence and the files that are taken.
A file is taken whole. Only the names of other packages in its imports become paths, because a browser without an
import map does not find a package by its name; an import map would be an inline script, which the policy of the
console forbids. The SHA-256 of the result stands in `vendored.json`, and tests/unit/test_console.py compares it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MANIFEST = Path(__file__).with_name("vendored.json")
_IMPORT = re.compile(rb'(?<=from)"([a-z@][a-z0-9@/.-]*)"')


def load_manifest() -> list[dict[str, Any]]:
    """The packages: `name`, `version`, `licence`, `files` (each with `from` in the package, `to` here, `sha256`)."""
    return json.loads(MANIFEST.read_text(encoding="utf-8"))["packages"]


def digest(content: bytes) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def with_paths(content: bytes, paths: dict[str, str]) -> bytes:
    """A module whose imports of packages are paths; `paths` maps a package to its path. Raises KeyError."""
    return _IMPORT.sub(lambda found: b'"%b"' % paths[found[1].decode()].encode(), content)


def fetch(package: dict[str, Any], paths: dict[str, str], *, accept: bool) -> None:
    """Write the files of one package. Raises SystemExit where one has another hash, unless `accept`."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = f"{package['name']}@{package['version']}"
        command = ["npm", "pack", "--silent", wanted]
        packed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603
        with tarfile.open(Path(folder) / packed.stdout.strip().splitlines()[-1]) as archive:
            for file in package["files"]:
                member = archive.extractfile(f"package/{file['from']}")
                assert member is not None, file["from"]
                content = member.read()
                if "imported_as" in file:
                    content = with_paths(content, paths)
                if not accept and digest(content) != file["sha256"]:
                    sys.exit(f"{wanted}: {file['from']} has another SHA-256 than deploy/vendored.json says")
                file["sha256"] = digest(content)
                target = ROOT / file["to"]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                print(f"{target.relative_to(ROOT)}: {len(content):,} bytes of {wanted}")  # noqa: T201


def main() -> None:
    """Fetch all packages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--accept", action="store_true", help="write the hashes of new versions into vendored.json"
    )
    accept: bool = parser.parse_args().accept
    packages = load_manifest()
    paths = {
        file["imported_as"]: "./" + Path(file["to"]).name
        for package in packages
        for file in package["files"]
        if "imported_as" in file
    }
    for package in packages:
        fetch(package, paths, accept=accept)
    MANIFEST.write_text(json.dumps({"packages": packages}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
