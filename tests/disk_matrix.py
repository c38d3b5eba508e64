"""The matrix of faults of the disk: each operation, each place in the code that calls the disk in it, each fault.

    python -m tests.disk_matrix OPERATION...       the whole matrix of some operations, or of all

Each run is a process of its own, forked from one that has imported everything and opened nothing: it opens a copy of
a small data directory, arms the fault, and calls the operation. After an error it must go on by itself. After that, or
after the kill, another process starts on the same directory, and what it holds must equal the fold of the log, with
everything that was acknowledged. Then the operation must succeed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from lorestream import durable
from lorestream.admin import Outcome
from lorestream.cli.admin.tasks import tasks_over
from lorestream.errors import InvalidRequest, LorestreamError, OperationRefused
from lorestream.telemetry import set_up_logging
from tests.disk_faults import KILLED, MODES, Fault
from tests.disk_operations import (
    NEXT,
    OPERATIONS,
    SECRET,
    Operation,
    erase,
    judge,
    lorestream,
    quick,
    run_alone,
)

RUN_TIMEOUT_S = 300
"""A run that takes longer hangs."""


# --- one run -------------------------------------------------------------------------------------------------


@dataclass
class Finding:
    """What a run has found. `points`: the names of the calls, when the run only counted them."""

    wrong: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    hit: str = ""


async def first_process(operation: Operation, fault: Fault, notes: Path, found: Finding) -> None:
    """Call the operation with the fault; after an error, it must succeed in the end without the fault."""
    fault.install()
    if operation.alone:
        await fail_then_succeed(
            lambda: run_alone(operation.name, fault.root, notes.parent), operation, fault, found
        )
        return
    async with lorestream(fault.root, notes) as stage:
        await stage.level()
        await fail_then_succeed(lambda: operation.run(stage), operation, fault, found)
        await stage.put("npc:a", last="went to sleep")
        await stage.level()
        found.wrong += await judge(stage, operation)


async def fail_then_succeed(
    run: Callable[[], Awaitable[None]], operation: Operation, fault: Fault, found: Finding
) -> None:
    fault.armed = True
    if fault.mode == "full":  # room again, while background work tries again and again
        asyncio.get_running_loop().call_later(0.5, lambda: setattr(fault, "armed", False))
    try:
        await run()
    except LorestreamError:
        pass
    except Exception:  # noqa: BLE001 (it is a finding)
        found.wrong.append(f"untranslated: {traceback.format_exc()}")
    finally:
        fault.armed = False
        found.points, found.hit = fault.points, fault.hit
    await succeed(run, found)


async def succeed(run: Callable[[], Awaitable[None]], found: Finding) -> None:
    try:
        await run()
    except (OperationRefused, InvalidRequest):
        pass  # it was done already
    except Exception:  # noqa: BLE001 (it is a finding)
        found.wrong.append(f"does not succeed afterwards: {traceback.format_exc()}")


async def second_process(operation: Operation, data: Path, notes: Path, found: Finding) -> None:
    """Start again on what the first process has left."""
    if operation.name == "restore":
        await succeed(lambda: run_alone("restore", data, notes.parent), found)
    async with lorestream(data, notes) as stage:
        await stage.level()
        found.wrong += await judge(stage, operation)
        if not operation.alone:
            await succeed(lambda: operation.run(stage), found)
            await stage.level()
            found.wrong += await judge(stage, operation, after=True)


# --- processes -----------------------------------------------------------------------------------------------


class Failed(Exception):
    """A process of a run hung or ended with an error."""


def forked(work: Callable[[], Awaitable[object]], log: Path) -> int:
    """Run `work` in a forked process with an event loop of its own; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            stderr = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(stderr, 1)
            os.dup2(stderr, 2)
            signal.alarm(RUN_TIMEOUT_S)
            asyncio.run(work())
            code = 0
        except BaseException:  # noqa: BLE001 (it is reported, and the process ends)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@dataclass
class Matrix:
    """Runs over copies of small data directories, which `prepare` makes."""

    root: Path

    def prepare(self) -> None:
        """Make the data directories that the operations begin with."""
        for name, work in (("plain", self._plain), ("erased", self._erased), ("second", self._second)):
            if name != "plain":
                copy(self.root / "plain", self.root / name)
            if forked(work, self.root / "log"):
                raise Failed((self.root / "log").read_text())
        (self.root / "empty").mkdir()

    async def _plain(self) -> None:
        quick()
        notes = self.root / "notes"
        async with lorestream(self.root / "elsewhere", self.root / "others") as stage:
            await stage.put("npc:c", i1="found iron", i2="found coal")
            await stage.level()
            task = tasks_over(stage.runtime)["export"]
            lines = [
                msgspec.json.encode(report.value).decode()
                async for report in task.run(task.arguments())
                if not isinstance(report, Outcome) and hasattr(report, "value")
            ]
        async with lorestream(self.root / "plain", notes) as stage:
            kept = await stage.put("npc:a", k1="planted a tree", k2="saw the lake", gone="lost a tooth")
            await stage.put("npc:spy", s1=SECRET)
            await stage.level()
            [gone] = [one for one, text in kept.items() if text == "lost a tooth"]
            (self.root / "base.json").write_text(json.dumps({"gone": gone, "lines": lines}))
            await stage.task("snapshot", to=str(self.root / "snapshot"))

    async def _erased(self) -> None:
        quick()
        async with lorestream(self.root / "erased", self.root / "others") as stage:
            await erase(stage)

    async def _second(self) -> None:
        quick()
        async with lorestream(self.root / "second", self.root / "others") as stage:
            await stage.task("replay", to=NEXT)
            await stage.level()

    def run(self, operation: Operation, mode: str, at: int) -> Finding:
        """One run; mode "count" has no fault, and counts the points."""
        with tempfile.TemporaryDirectory(dir=self.root, prefix="run-") as directory:
            place = Path(directory)
            data, notes, log, result = place / "data", place / "notes", place / "log", place / "result"
            copy(self.root / operation.base, data)
            for name in ("base.json", "snapshot"):
                (place / name).symlink_to(self.root / name)
            notes.write_text("" if operation.name == "start" else (self.root / "notes").read_text())
            fault = Fault(data, mode, at)

            async def recorded(process: Callable[[Finding], Awaitable[None]]) -> None:
                quick()
                found = Finding()
                try:
                    await process(found)
                finally:
                    result.write_bytes(msgspec.json.encode(found))

            first = partial(recorded, partial(first_process, operation, fault, notes))
            second = partial(recorded, partial(second_process, operation, data, notes))

            total = Finding()
            for process, work in (("first", first), ("second", second)):
                result.unlink(missing_ok=True)
                code = forked(work, log)
                if result.exists():
                    found = msgspec.json.decode(result.read_bytes(), type=Finding)
                    total.wrong += [f"{process} process: {one}" for one in found.wrong]
                    total.points = total.points or found.points
                    total.hit = total.hit or found.hit
                if code not in ({0, KILLED} if process == "first" else {0}):
                    total.wrong.append(f"{process} process ended with {code}: {log.read_text()[-3000:]}")
        return total


def copy(source: Path, target: Path) -> None:
    """Copy a data directory, with the holes of its files."""
    subprocess.run(["cp", "-a", "--sparse=always", str(source), str(target)], check=True)


def sites_of(points: Sequence[str]) -> list[list[int]]:
    """The numbers of the points, from 1, by the place in the code that makes the call."""
    sites: dict[str, list[int]] = {}
    for number, site in enumerate(points, 1):
        sites.setdefault(site, []).append(number)
    return list(sites.values())


def chosen(points: Sequence[str], most: int, chance: random.Random) -> Sequence[int]:
    """The points to fail: the first, the last and one more of each place; or one of each of `most` places."""
    sites = sites_of(points)
    if most:
        return sorted(chance.choice(site) for site in chance.sample(sites, min(most, len(sites))))
    return sorted({one for site in sites for one in (site[0], chance.choice(site), site[-1])})


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line of JSON for each operation and mode. Returns the number of runs that found something wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument("--most", type=int, default=0, help="at most so many places, 0 = all")
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    set_up_logging("json", "error")
    os.umask(durable.PRIVATE_UMASK)
    chance, failed = random.Random(options.seed), 0
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=base, prefix="lorestream-matrix-") as directory:
        matrix = Matrix(Path(directory))
        matrix.prepare()
        for name in options.operations:
            operation = OPERATIONS[name]
            counted = matrix.run(operation, "count", 0)
            for mode in options.modes:
                numbers = chosen(counted.points, options.most, chance)
                runs = [(at, matrix.run(operation, mode, at)) for at in numbers]
                wrong = {f"{at} {found.hit}": found.wrong for at, found in runs if found.wrong}
                failed += len(wrong)
                report = {
                    "operation": name,
                    "mode": mode,
                    "calls": len(counted.points),
                    "places": len(sites_of(counted.points)),
                    "runs": len(runs),
                    "wrong": wrong or counted.wrong,
                }
                sys.stdout.write(json.dumps(report) + "\n")
                sys.stdout.flush()
            failed += bool(counted.wrong)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 100))
