"""A child process that may be stopped, killed, frozen and started again, with its output in a file."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

LOOPBACK = "127.0.0.1"
_PORTS = range(15_000, 32_000)
_SBIN = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


class NotInstalled(Exception):
    """A program is missing. The message is the line to type."""


class NotReady(Exception):
    """A process ended, or did not answer in time. The message ends with its last output."""


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on at the moment.

    Below those that the system gives to outgoing connections: one of them could be taken before it is listened on.
    """
    while True:
        port = secrets.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((LOOPBACK, port))
            return port


def answers(port: int) -> bool:
    """Whether somebody takes connections on this port of the loopback."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def program(name: str, install: str) -> str:
    """The path of an installed program. Raises NotInstalled with the line to type."""
    if (path := shutil.which(name, path=_SBIN)) is None:
        raise NotInstalled(f"{name} is not installed, type: {install}")
    return path


@contextlib.contextmanager
def _signals_later() -> Generator[None]:
    """Hold back what would raise in the middle: a child that nobody knows of yet would outlive everybody."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for signum, handler in handlers.items():
        if callable(handler):  # what is ignored, or ends us without a word, goes on to do so
            signal.signal(signum, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    for signum in came:
        signal.raise_signal(signum)


class Child:
    """One process with a folder of its own. `start` may follow `stop` and `kill`: same folder, same ports.

    `ready` says whether it does its work by now; it is asked every 20 ms for at most `ready_s` seconds.
    `environment` is all that the child has of one; by default ours. It may be changed until the next start.
    The child is in a session of its own, so that a Ctrl-C reaches whoever started it and nobody else.
    """

    ready_s = 60.0
    stop_s = 15.0

    def __init__(self, name: str, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.directory = directory
        self.log_path = directory / f"{name}.log"
        self.environment = dict(os.environ if environment is None else environment)
        self._child: subprocess.Popen[bytes] | None = None
        self._logged = 0

    def command(self) -> Sequence[str]:
        """The command line. Raises NotInstalled."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What has to lie in the folder before a start."""

    def ready(self) -> bool:
        """Whether it does its work."""
        raise NotImplementedError

    def excuse(self) -> str:
        """What it says itself of why it is not ready, for a message; empty where it says nothing."""
        return ""

    def spawn(self) -> Self:
        """Start it without waiting for it."""
        assert not self.alive, f"{self.name} runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.prepare()
        self._logged = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log, _signals_later():
            self._child = subprocess.Popen(  # noqa: S603 (the commands stand in this package)
                self.command(),
                env=self.environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        atexit.register(self.kill)  # nothing outlives whoever started it and forgot it
        return self

    def start(self) -> Self:
        """Start it and wait until it is ready. Raises NotInstalled and NotReady; then nothing of it runs."""
        self.spawn()
        try:
            return self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self, seconds: float | None = None) -> Self:
        """Wait until it does its work. Raises NotReady."""
        deadline = time.monotonic() + (self.ready_s if seconds is None else seconds)
        while not self.ready():
            if not self.alive:
                raise NotReady(f"{self.name} ended with {self.exit_code}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name} is not ready{self.excuse()}:\n{self.tail()}")
            time.sleep(0.02)
        return self

    def stop(self) -> int | None:
        """SIGTERM, and SIGKILL for one that does not heed it within `stop_s`. Returns its exit status."""
        self.terminate()
        return self.wait_end()

    def wait_end(self) -> int | None:
        """What `stop` does after its SIGTERM: a second one could cut short what the first began."""
        if self._child is None:
            return None
        try:
            return self._child.wait(self.stop_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.returncode

    def terminate(self) -> None:
        """SIGTERM, without waiting for the end."""
        self._signal(signal.SIGTERM)
        self.resume()

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            atexit.unregister(self.kill)

    def pause(self) -> None:
        """SIGSTOP: it answers nothing, its connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def restart(self) -> Self:
        """Stop it and start it again."""
        self.stop()
        return self.start()

    @property
    def alive(self) -> bool:
        """Whether it runs, frozen or not."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; negative: the signal."""
        return None if self._child is None else self._child.poll()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    def output(self) -> str:
        """What it has printed and logged since its last start."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(self._logged)
            return log.read().decode(errors="replace")

    def tail(self, lines: int = 30) -> str:
        """The last of its output."""
        return "\n".join(self.output().splitlines()[-lines:])

    def printed(self, pattern: str) -> bool:
        """Whether its output since its last start holds this pattern."""
        return re.search(pattern, self.output()) is not None

    def _signal(self, signum: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(signum)  # says nothing to one that has ended

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
