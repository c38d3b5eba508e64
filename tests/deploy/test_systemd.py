"""deploy/systemd, held against systemd's own checks and against the code. No unit is started."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.local.process import program
from tests import zygote
from tests.brokers import missing_is_skipped
from tests.deploy.test_compose import ROOT, known
from tests.processes import clean_environment

UNITS = ROOT / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
# Units of systemd itself, which ours order themselves by.
OF_SYSTEMD = (
    "basic.target",
    "multi-user.target",
    "network-online.target",
    "shutdown.target",
    "sysinit.target",
)
MAX_EXPOSURE = 2.0
"""`systemd-analyze security` calls up to this much "OK": 0 is fully confined, 10 not at all."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root directory of a machine with the units and a `lorestream`."""
    folder = tmp_path_factory.mktemp("root")
    shutil.copytree(UNITS, folder / "etc/systemd/system")
    for name in OF_SYSTEMD:
        (folder / "etc/systemd/system" / name).write_text("[Unit]\nDefaultDependencies=no\n")
    lorestream = folder / "opt/lorestream/bin/lorestream"
    lorestream.parent.mkdir(parents=True)
    lorestream.write_text("#!/bin/sh\n")
    lorestream.chmod(0o755)
    return folder


def analyze(root: Path, *arguments: str) -> str:
    with missing_is_skipped():
        systemd_analyze = program("systemd-analyze", "apt-get install -y systemd")
    done = subprocess.run(
        [systemd_analyze, f"--root={root}", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_has_nothing_to_say_about_the_units(root: Path) -> None:
    units = [name.replace("@", "@1") for name in SERVICES]
    assert not analyze(root, "--man=no", "verify", *units, "lorestream-distributed.target")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(root: Path, name: str) -> None:
    said = analyze(root, "security", "--offline=true", name.replace("@", "@1"))
    [exposure] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert float(exposure) <= MAX_EXPOSURE, said


@pytest.mark.parametrize("name", SERVICES)
def test_every_verb_takes_its_options(name: str) -> None:
    """The command line is run here, with --help behind it."""
    [line] = re.findall(
        r"^ExecStart=/opt/lorestream/bin/lorestream (.+)$", (UNITS / name).read_text(), re.MULTILINE
    )
    verb = line.replace("%i", "1").split()
    done = zygote.run(
        ["python", "-m", "lorestream.cli", *verb, "--help"], env=clean_environment(), timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in verb if option.startswith("--"))


def test_every_setting_is_one_that_lorestream_reads() -> None:
    common = (UNITS / "lorestream-.service.d" / "10-common.conf").read_text()
    variables = re.findall(r"\b(LORESTREAM_\w+)=", common)
    assert variables
    assert all(known(variable) for variable in variables)
