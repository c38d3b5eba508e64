"""How long the event loop is held: within this process, and in a `lorestream up` that a test starts.

`python -m tests.loop_watchdog up …` is `python -m lorestream.cli up …` whose loop is watched. It writes one line for each
hold of more than MOST_S into the file HOLDS of its working directory. See docs/retrieval.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from lorestream.cli import main
from tests.own_time import own_time
from tests.processes import LorestreamProcess

MOST_S = 0.05
"""The promise: no read holds the loop for longer."""
ATTEMPTS = 3
"""A read that holds the loop does so each time. What is not seen each time is the machine, busy with something else."""
HOLDS = "loop-holds.txt"
_BEAT_S = 0.002
_ROOT = Path(__file__).parents[1]


_LONG_S = 0.005
_MANY = 20


@dataclass
class Holds:
    """How long callbacks held the loop, in CPU seconds of its thread."""

    seconds: list[float] = field(default_factory=list[float])

    @property
    def longest(self) -> float:
        """The longest hold; of a read with at least 20 long steps, the longest but for one step in ten.

        On a virtual machine, work that takes 11 ms of CPU time each time is counted as 16 ms once in ten times, as 41
        ms once in a hundred and as up to 68 ms: among hundreds of equal steps the longest says nothing about them.
        """
        long = sorted(one for one in self.seconds if one >= _LONG_S)
        if len(long) < _MANY:
            return max(self.seconds, default=0.0)
        return long[int(0.9 * len(long))]


@contextlib.contextmanager
def recorded_holds() -> Iterator[Holds]:
    """The CPU time of each callback of asyncio's own event loop within the block."""
    holds = Holds()
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        holds.seconds.append(time.thread_time() - began)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", timed)
        yield holds


class WatchedProcess(LorestreamProcess):
    """A `lorestream up` whose loop is watched."""

    module = "tests.loop_watchdog"

    def __init__(self, data: Path, environment: Mapping[str, str]) -> None:
        super().__init__(data, {**environment, "PYTHONPATH": str(_ROOT)})
        self._known = 0

    def start(self, *options: str, path: str = "/ready") -> None:
        """Start it. What held the loop until it was ready does not count: nobody was served yet."""
        super().start(*options, path=path)
        self._new_holds()

    def check_holds(self, attempt: Callable[[], None]) -> None:
        """Make an attempt. Fail if it holds the loop for more than MOST_S, ATTEMPTS times in a row."""
        for _ in range(ATTEMPTS):
            attempt()
            time.sleep(2 * _BEAT_S)  # until the watch has seen it
            holds = self._new_holds()
            if not holds:
                return
        raise AssertionError(holds)

    def assert_no_traceback(self) -> None:
        """Fail, with the place in its log, if an error was logged with a stack."""
        output = self.output()
        at = output.find("Traceback")
        assert at < 0, output[max(0, at - 2000) : at + 6000]

    def _new_holds(self) -> str:
        text = (self.data / HOLDS).read_text()
        new, self._known = text[self._known :], len(text)
        return new


@contextlib.contextmanager
def running_watched(data: Path, environment: Mapping[str, str]) -> Generator[WatchedProcess]:
    """A watched lorestream that is ready; it is killed when the context ends, unless it has ended by then."""
    process = WatchedProcess(data, environment)
    process.start()
    try:
        yield process
    finally:
        if process.alive:
            process.kill()


async def _watch(path: Path) -> None:
    """Write how long this task was kept waiting, wherever that is more than MOST_S of the thread's own time."""
    with path.open("a", buffering=1) as file:
        while True:
            own, cpu = own_time(), time.thread_time()
            await asyncio.sleep(_BEAT_S)
            held_s = own_time() - own - _BEAT_S
            if held_s > MOST_S:
                file.write(
                    f"held for {held_s:.3f} s, of which {time.thread_time() - cpu:.3f} s on a processor\n"
                )


async def _watched(service: Coroutine[Any, Any, Any]) -> None:
    watching = asyncio.create_task(_watch(Path(HOLDS)))
    try:
        await service
    finally:
        watching.cancel()


def _main() -> None:
    run = uvloop.run
    uvloop.run = lambda service: run(_watched(service))  # type: ignore[assignment]
    main()


if __name__ == "__main__":
    _main()
