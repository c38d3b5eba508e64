"""`make mod-zip`: the Luanti mod as an archive for a release on ContentDB.

The mod is a folder of this repository, so ContentDB cannot make the release from git: the archive is uploaded. It has one
folder, `lorestream`. Its `.cdb.json` is completed here: the long description is the mod's README, and the addresses of the
repository and of its issues are those of the remote `origin`, or given with --repo. The same files give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

MOD = Path(__file__).parents[2] / "producers" / "luanti" / "lorestream"
META = ".cdb.json"
README = "README.md"
_DATE = (2020, 1, 1, 0, 0, 0)


def write(target: Path, repository: str | None) -> None:
    """Write the archive. `repository`: address of the public repository; None = without it and its issue tracker."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in MOD.rglob("*") if path.is_file()):
            name = path.relative_to(MOD).as_posix()
            content = path.read_bytes() if name != META else json.dumps(meta(repository), indent=2).encode()
            entry = zipfile.ZipInfo(f"{MOD.name}/{name}", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)


def meta(repository: str | None) -> dict[str, Any]:
    """What ContentDB shows of the package: `.cdb.json`, with the long description and the addresses."""
    found: dict[str, Any] = json.loads((MOD / META).read_text(encoding="utf-8"))
    # ContentDB shows the title itself.
    _, _, found["long_description"] = (MOD / README).read_text(encoding="utf-8").partition("\n\n")
    if repository is not None:
        found["repo"] = repository
        found["issue_tracker"] = f"{repository}/issues"
    return found


def public_address(remote: str) -> str | None:
    """The web address of a git remote: `git@HOST:OWNER/NAME.git` or a URL. None if it has none."""
    match = re.fullmatch(
        r"(?:https?://|ssh://)?(?:[^@/]+@)?([\w.-]+\.\w+)(?::\d+)?[:/](.+?)(?:\.git)?/?", remote
    )
    return f"https://{match[1]}/{match[2]}" if match else None


def _origin() -> str | None:
    if (git := shutil.which("git")) is None:
        return None
    command = [git, "remote", "get-url", "origin"]
    asked = subprocess.run(command, cwd=MOD, capture_output=True, text=True, check=False)  # noqa: S603 - git's own path
    return public_address(asked.stdout.strip())


def main(arguments: list[str] | None = None) -> None:
    """Write the archive that the arguments ask for; say where it is."""
    parser = argparse.ArgumentParser(description="Write the Luanti mod as an archive for ContentDB.")
    parser.add_argument("target", type=Path)
    parser.add_argument("--repo", help="address of the public repository; default: that of the remote origin")
    given = parser.parse_args(arguments)
    repository = public_address(given.repo) if given.repo else _origin()
    if repository is None:
        sys.stderr.write(
            "mod-zip: no repository and issue tracker in .cdb.json: this checkout has no public remote origin; "
            "use make mod-zip REPO=https://HOST/OWNER/NAME\n"
        )
    write(given.target, repository)
    sys.stdout.write(f"{given.target}\n")


if __name__ == "__main__":
    main()
