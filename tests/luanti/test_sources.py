"""The mod's source files: luacheck, and specs run by busted with a fake engine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from deploy.local.process import program
from tests.brokers import missing_is_skipped

ROOT = Path(__file__).parents[2]
MOD = ROOT / "producers" / "luanti" / "lorestream"


def run(name: str, package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool in the repository. Skips the test (in CI: fails it) if its Debian package is not installed."""
    with missing_is_skipped():
        path = program(name, f"apt-get install -y {package}")
    return subprocess.run(
        [path, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def test_luacheck() -> None:
    """Luacheck reports no warning in any Lua file."""
    done = run("luacheck", "lua-check", "--no-color", "producers/luanti", "tests/luanti")
    assert done.returncode == 0, done.stdout
    assert "0 warnings / 0 errors" in done.stdout


def test_specs() -> None:
    """All specs pass, and all files of specs were run."""
    done = run("busted", "lua-busted", "--output=TAP", "tests/luanti/specs")
    assert done.returncode == 0, done.stdout + done.stderr
    specs = "".join(path.read_text() for path in (ROOT / "tests/luanti/specs").glob("*_spec.lua"))
    passed = re.findall(r"^ok ", done.stdout, re.MULTILINE)
    assert len(passed) == len(re.findall(r'^\s*it\("', specs, re.MULTILINE)) > 0


def test_every_text_for_players_is_translated() -> None:
    """The template and each translation have the texts of the code and of mod.conf, with the same arguments, and no others."""
    code = "".join(path.read_text() for path in sorted(MOD.rglob("*.lua")))
    written = set(re.findall(r"""\bS\("((?:[^"\\]|\\.)*)"[,)]""", code))
    assert len(re.findall(r"\bS\(", code)) == len(re.findall(r"""\bS\("(?:[^"\\]|\\.)*"[,)]""", code)) > 0
    meta = dict(re.findall(r"^(\w+) = (.*)$", (MOD / "mod.conf").read_text(), re.MULTILINE))
    written |= {meta["title"], meta["description"]}
    files = [MOD / "locale/template.txt", *(MOD / "locale").glob("*.tr")]
    assert len(files) > 1
    for file in files:
        first, *lines = file.read_text().splitlines()
        assert first == f"# textdomain: {meta['name']}"
        entries = dict(re.split(r"(?<!@)=", line, maxsplit=1) for line in lines if line and line[0] != "#")
        assert {key.replace("@=", "=") for key in entries} == written, file.name
        for key, text in entries.items() if file.suffix == ".tr" else ():
            assert sorted(re.findall(r"@\d", text)) == re.findall(r"@\d", key), (file.name, key)
