"""A child process that can be stopped, killed, frozen and restarted, with its output in a log file."""

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
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from types import TracebackType

LOOPBACK = "127.0.0.1"
ports = range(15_000, 32_000)
"""What `free_port` chooses from. Below the ephemeral ports: those are given to outgoing connections."""
_given: set[int] = set()
"""The ports that this process has returned: two servers that are about to start must not get the same one."""
_SBIN = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


class NotInstalled(Exception):
    """A program is missing. The message contains the command that installs it."""


class NotReady(Exception):
    """A process ended or was not ready in time. The message ends with its last output."""


def free_port() -> int:
    """A free TCP port of the loopback interface, another one at each call."""
    while True:
        port = secrets.choice(ports)
        if port in _given:
            continue
        _given.add(port)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((LOOPBACK, port))
            return port


def answers(port: int) -> bool:
    """Whether a local port accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def program(name: str, install: str) -> str:
    """The path of an installed program. Raises NotInstalled, with the command `install` that installs it."""
    if (path := shutil.which(name, path=_SBIN)) is None:
        raise NotInstalled(f"{name} is not installed, run: {install}")
    return path


@contextlib.contextmanager
def _signals_later() -> Generator[None]:
    """Delay signals that raise an exception, so that a child that was just started is not lost and left running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for signum, handler in handlers.items():
        if callable(handler):  # ignored signals and default actions stay as they are
            signal.signal(signum, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
    for signum in came:
        signal.raise_signal(signum)


class Child:
    """One process with its own directory. It can be started again after `stop` or `kill`, with the same ports.

    `ready` is polled every 20 ms for at most `ready_s` seconds after a start. `environment` is the whole environment of
    the child (default: a copy of this process's) and may be changed until the next start. The child runs in its own
    session, so that Ctrl-C in the terminal does not reach it.
    """

    popen: ClassVar[type[subprocess.Popen[bytes]]] = subprocess.Popen
    """What starts the process; the tests have another one."""
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
        """Called before each start, to write files into the directory."""

    def ready(self) -> bool:
        """Whether the process is ready to serve."""
        raise NotImplementedError

    def excuse(self) -> str:
        """Why it is not ready, as it reports itself, for an error message; empty if it reports nothing."""
        return ""

    def spawn(self) -> Self:
        """Start the process without waiting until it is ready. Raises NotInstalled."""
        assert not self.alive, f"{self.name} is already running"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.prepare()
        self._logged = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log, _signals_later():
            self._child = self.popen(
                self.command(),
                env=self.environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        atexit.register(self.kill)  # do not leave it running when this process ends without stopping it
        return self

    def start(self) -> Self:
        """Start it and wait until it is ready. Raises NotInstalled and NotReady; then it is not running."""
        self.spawn()
        try:
            return self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self, seconds: float | None = None) -> Self:
        """Wait until it is ready, for at most `seconds` (default `ready_s`). Raises NotReady."""
        deadline = time.monotonic() + (self.ready_s if seconds is None else seconds)
        while not self.ready():
            if not self.alive:
                raise NotReady(f"{self.name} ended with {self.exit_code}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise NotReady(f"{self.name} is not ready{self.excuse()}:\n{self.tail()}")
            time.sleep(0.02)
        return self

    def stop(self) -> int | None:
        """Send SIGTERM, and SIGKILL if it has not ended after `stop_s` seconds. Returns its exit code."""
        self.terminate()
        return self.wait_end()

    def wait_end(self) -> int | None:
        """The second part of `stop`, after SIGTERM was sent: wait, then kill. Sends no second SIGTERM."""
        if self._child is None:
            return None
        try:
            return self._child.wait(self.stop_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.returncode

    def terminate(self) -> None:
        """Send SIGTERM without waiting."""
        self._signal(signal.SIGTERM)
        self.resume()

    def kill(self) -> None:
        """Send SIGKILL and wait: the process cannot flush or clean up anything."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            atexit.unregister(self.kill)

    def pause(self) -> None:
        """Send SIGSTOP: it stops answering, and its connections stay open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    def restart(self) -> Self:
        """Stop it and start it again."""
        self.stop()
        return self.start()

    @property
    def alive(self) -> bool:
        """Whether the process exists, frozen or not."""
        return self._child is not None and self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return None if self._child is None else self._child.poll()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._child is not None
        return self._child.pid

    def output(self) -> str:
        """The output since the last start."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(self._logged)
            return log.read().decode(errors="replace")

    def tail(self, lines: int = 30) -> str:
        """The last lines of its output since the last start."""
        return "\n".join(self.output().splitlines()[-lines:])

    def printed(self, pattern: str) -> bool:
        """Whether its output since the last start matches this regular expression."""
        return re.search(pattern, self.output()) is not None

    def _signal(self, signum: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(signum)  # does nothing when it has ended

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
