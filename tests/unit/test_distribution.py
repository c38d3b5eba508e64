"""The distribution of tests over processes goes on when one of the processes dies."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.distribution import ByScope
from tests.processes import clean_environment

TESTS = [
    f"{file}.py::test_{number}"
    for file, count in {"a": 3, "b": 1, "c": 4, "d": 1}.items()
    for number in range(count)
]


class Process:
    """As a process of pytest-xdist: it runs a test when it has a further one, or is told to end."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.todo = deque[int]()

    def send_runtest_some(self, indices: list[int]) -> None:
        self.todo.extend(indices)

    def shutdown(self) -> None:
        self.shutting_down = True

    def next(self) -> int | None:
        """The number of the test that it runs now; None if it waits."""
        return self.todo.popleft() if len(self.todo) > (not self.shutting_down) else None


def scheduler(*processes: Any) -> ByScope:
    option = SimpleNamespace(loadscopereorder=False, tx=["popen"] * len(processes), maxprocesses=None)
    config: Any = SimpleNamespace(option=option, getvalue=lambda name: getattr(option, name))
    scheduling = ByScope(config, None, lambda path: path)
    scheduling.numnodes = len(processes)
    for process in processes:
        scheduling.add_node(process)
        scheduling.add_node_collection(process, TESTS)
    scheduling.schedule()
    return scheduling


@pytest.mark.parametrize("dies_in", range(len(TESTS)))
@pytest.mark.parametrize("others", [0, 1])
def test_every_test_runs_once_when_a_process_dies_and_another_one_takes_its_place(
    dies_in: int, others: int
) -> None:
    processes: list[Any] = [Process(f"gw{number}") for number in range(1 + others)]
    scheduling, ran, failed = scheduler(*processes), list[str](), list[str | None]()
    while steps := [(process, test) for process in processes if (test := process.next()) is not None]:
        for process, test in steps:
            ran.append(TESTS[test])
            if test != dies_in:
                scheduling.mark_test_complete(process, test)
                continue
            processes.remove(process)
            failed.append(scheduling.remove_node(process))
            replacement: Any = Process("replacement")
            processes.append(replacement)
            scheduling.add_node(replacement)
            scheduling.add_node_collection(replacement, TESTS)
            scheduling.schedule()
    assert sorted(ran) == TESTS
    assert failed == [TESTS[dies_in]]
    assert scheduling.tests_finished


@pytest.mark.soak
def test_a_run_with_processes_that_die_ends(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests.distribution import ByScope\n"
        "def pytest_xdist_make_scheduler(config, log):\n    return ByScope(config, log, lambda path: path)\n"
    )
    for name in "abcdef":
        body = "def test_1(): pass\ndef test_2(): os._exit(1)\n" if name in "ce" else "def test_1(): pass\n"
        (tmp_path / f"test_{name}.py").write_text(f"import os\n{body}")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n2",
        "--rootdir",
        str(tmp_path),
        "-p",
        "no:cacheprovider",
    ]
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [*command, str(tmp_path)],
        env=clean_environment(PYTHONPATH=str(root)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "2 failed, 6 passed" in ended.stdout, ended.stdout
