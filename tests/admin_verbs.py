"""Runs admin verbs in the distributed shape, each in a process of its own, which is forked with the settings of the services."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from deploy.local.cluster import Cluster
from tests import zygote
from tests.processes import clean_environment

VERB_TIMEOUT_S = 300
"""A replay in the distributed shape takes 20 s, and many times as long on a machine that does other things too."""


def start(cluster: Cluster, *arguments: str) -> subprocess.Popen[str]:
    """Start a verb with --json; returns its process."""
    return zygote.Popen(
        [sys.executable, "-m", "lorestream.cli", *arguments, "--json"],
        env=clean_environment(**_settings(cluster)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(verb: subprocess.Popen[str], code: int = 0) -> Any:
    """Wait for the end of a verb and check its exit code. Returns the JSON on stdout, or stderr if `code` is not 0."""
    stdout, stderr = verb.communicate(timeout=VERB_TIMEOUT_S)
    assert verb.returncode == code, f"{stdout}\n{stderr}"
    return stderr if code else json.loads(stdout)


def run(cluster: Cluster, *arguments: str, code: int = 0) -> Any:
    """Run a verb to its end; as `finish`."""
    return finish(start(cluster, *arguments), code)


def _settings(cluster: Cluster) -> Mapping[str, str]:
    environment = cluster.workers[0].environment
    return {name: value for name, value in environment.items() if name.startswith("LORESTREAM_")}
