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


def test_settings_are_documented() -> None:
    """The settings in settingtypes.txt are exactly those that the code reads."""
    code = (MOD / "init.lua").read_text()
    read = set(re.findall(r'(?:setting|number|base_url)\("([a-z_]+)"', code))
    captured = re.search(r"local CAPTURED = \{(.*?)\}", code)
    assert captured
    read |= {f"capture.{kind}" for kind in re.findall(r'"([a-z]+)"', captured[1])}
    documented = set(
        re.findall(r"^lorestream\.([a-z_.]+) ", (MOD / "settingtypes.txt").read_text(), re.MULTILINE)
    )
    assert read == documented
