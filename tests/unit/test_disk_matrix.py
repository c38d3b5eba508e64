"""A fault at each call to the disk: each operation goes on or starts again, with the same memories.

A process of its own, because it forks one process for each run: threads of Edge would not survive that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.disk_operations import OPERATIONS
from tests.processes import clean_environment

ROOT = Path(__file__).parents[2]


def findings(*arguments: str) -> tuple[int, list[object]]:
    """The number of runs with a fault, and what was wrong in them."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.disk_matrix", *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert reports, done.stderr
    wrong = [report for report in reports if report["wrong"]]
    assert wrong or done.returncode == 0, done.stderr
    return sum(report["runs"] for report in reports), wrong


@pytest.mark.timeout(600)
def test_a_sample_of_the_faults_of_the_disk_changes_no_memory() -> None:
    runs, wrong = findings("compaction", "erase", "--most", "1", "--modes", "full", "kill", "--seed", "8")
    assert wrong == []
    assert runs == 4


@pytest.mark.soak
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_fault_of_the_disk_at_any_place_changes_a_memory(operation: str) -> None:
    runs, wrong = findings(operation)
    assert wrong == []
    assert runs > 0
