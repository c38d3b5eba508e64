"""What `make test` runs in the class SCHED_IDLE is in it, and keeps its exit code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests import idle


def test_the_command_is_in_the_class_and_keeps_its_exit_code() -> None:
    look = "import os, sys; sys.exit(7 if os.sched_getscheduler(0) == os.SCHED_IDLE else 8)"
    command = [sys.executable, "-m", "tests.idle"]
    if subprocess.run([*command, "--check"], capture_output=True, check=False).returncode:
        pytest.skip("SCHED_IDLE has no effect on this machine")
    assert subprocess.run([*command, sys.executable, "-c", look], check=False).returncode == 7


def test_with_autogroups_the_class_has_no_effect(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    setting = tmp_path / "sched_autogroup_enabled"
    setting.write_text("1\n")
    monkeypatch.setattr(idle, "_AUTOGROUP", setting)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    assert idle.obstacle() == f"{setting} is not 0"
    setting.write_text("0\n")
    assert idle.obstacle() is None
