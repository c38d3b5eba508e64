"""Verbs of care in the distributed shape, where each does its work in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from deploy.local.cluster import Cluster
from tests.live_game import PATIENCE_S
from tests.processes import clean_environment


def begun(cluster: Cluster, *arguments: str) -> subprocess.Popen[str]:
    """A verb with the settings of the services, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "lorestream.cli", *arguments, "--json"],
        env=clean_environment(**_settings(cluster)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(verb: subprocess.Popen[str], code: int = 0) -> Any:
    """What it has printed; what it has said where it had to fail."""
    printed, said = verb.communicate(timeout=PATIENCE_S)
    assert verb.returncode == code, f"{printed}\n{said}"
    return said if code else json.loads(printed)


def run(cluster: Cluster, *arguments: str, code: int = 0) -> Any:
    return ended(begun(cluster, *arguments), code)


def _settings(cluster: Cluster) -> Mapping[str, str]:
    environment = cluster.workers[0].environment
    return {name: value for name, value in environment.items() if name.startswith("LORESTREAM_")}
