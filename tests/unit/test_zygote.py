"""A forked command behaves as one that an interpreter runs: exit code, streams, environment, directory, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests import zygote
from tests.processes import clean_environment

COMMAND = [sys.executable, "-m", "lorestream.cli"]


def test_it_gets_its_environment_directory_and_streams(tmp_path: Path) -> None:
    environment = clean_environment(LORESTREAM_TTL_DAYS="7", LORESTREAM_DATA_DIR="here")
    done = zygote.run([*COMMAND, "config", "show", "--json"], env=environment, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    values = {one["name"]: one["value"] for one in json.loads(done.stdout)["settings"]}
    assert values["LORESTREAM_TTL_DAYS"] == 7
    assert Path(values["LORESTREAM_DATA_DIR"]) in {Path("here"), tmp_path / "here"}


def test_its_exit_code_arrives() -> None:
    done = zygote.run([*COMMAND, "no-such-verb"], env=clean_environment(), timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no-such-verb" in done.stderr


def test_it_is_a_child_in_a_session_of_its_own_that_can_be_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.qdrant_stand_in", "--data", str(tmp_path), "--port", "0"]
    with zygote.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        status = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(status[1]) == os.getpid()
        assert os.getsid(process.pid) == process.pid
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_another_pythonpath_starts_an_interpreter(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(7)")
    environment = clean_environment(PYTHONPATH=str(tmp_path))
    assert zygote.run([*COMMAND, "--version"], env=environment, timeout=60).returncode == 7
