"""Test the integrations, each in an environment with the real framework, against one running lorestream.

python -m tests.integrations [crewai | frameworks | typescript]...
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.peers.environments import python_of
from tests.processes import HASH, clean_environment, running

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent
CACHE = Path.home() / ".cache/lorestream/integrations"
TIMEOUT_S = 900.0
_UNSET = {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "PYTHONDONTWRITEBYTECODE": ""}


def _python(requirements: str, types: str, *tests: str) -> Callable[[str], bool]:
    """Whether these files of tests pass in the environment of these requirements, and the types of the adapters too."""

    def passed(url: str) -> bool:
        locked = ROOT / "requirements" / requirements
        digest = hashlib.sha256(locked.read_bytes()).hexdigest()[:12]
        python = str(python_of(f"{locked.stem}-{digest}", ["--require-hashes", "-r", str(locked)], CACHE))
        options = ["-q", "--confcutdir", str(TESTS), "-o", "addopts=", "-o", "filterwarnings=default"]
        tested = [python, "-m", "pytest", *options, "--timeout=120", *(str(TESTS / name) for name in tests)]
        pyright = str(Path(sys.executable).with_name("pyright"))
        typed = [pyright, "--project", str(TESTS / types), "--pythonpath", python]
        return all(_runs(command, ROOT, LORESTREAM_INTEGRATIONS_URL=url) for command in (tested, typed))

    return passed


def _typescript(url: str) -> bool:
    """Whether the TypeScript client compiles, and its tests pass under Node."""
    client = ROOT / "clients" / "typescript"
    install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
    return all(
        _runs(command, client, LORESTREAM_URL=url)
        for command in (install, ["npm", "run", "--silent", "check"], ["npm", "test", "--silent"])
    )


PARTS: Mapping[str, Callable[[str], bool]] = {
    "frameworks": _python(
        "integrations.txt",
        "pyrightconfig.json",
        *("test_langchain.py", "test_llama_index.py", "test_openai_agents.py", "test_pydantic_ai.py"),
    ),
    # CrewAI's versions of openai and mcp exclude those of others.
    "crewai": _python("crewai.txt", "pyrightconfig.crewai.json", "test_crewai.py"),
    "typescript": _typescript,
}


def _runs(command: list[str], folder: Path, **variables: str) -> bool:
    environment = {**clean_environment(), **_UNSET, **variables}
    return (
        subprocess.run(command, cwd=folder, env=environment, timeout=TIMEOUT_S, check=False).returncode == 0
    )


def main() -> int:
    """Run the parts that are named, or all; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.integrations", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(PARTS)}")
    wanted = parser.parse_args().parts or list(PARTS)
    if unknown := set(wanted) - PARTS.keys():
        parser.error(f"there is no part {min(unknown)}")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), HASH) as process:
        failed = [name for name in wanted if not PARTS[name](process.url)]
    for name in wanted:
        sys.stderr.write(f"{name}: {'failed' if name in failed else 'passed'}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
