"""A real `lorestream up` as a child process, for tests that use it from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import ClassVar

import httpx2

from deploy.local.process import free_port

HASH = {"LORESTREAM_EMBEDDER__KIND": "hash"}
PLAYER_KEY = {"LORESTREAM_PLAYER_KEY": f"k1:{'0' * 64}"}
"""For a data directory that a test has filled before the first start: no key is made beside a log or a store."""
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment without any setting of Lorestream's, except where the prepared models lie."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LORESTREAM_") or name == "LORESTREAM_MODELS_DIR"
    }
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def wait_for_ready(process: subprocess.Popen[bytes], url: str, log: Path, path: str = "/ready") -> None:
    """Wait until the service at `url` answers 200 at `path`. Fails with its log when it ends or takes over a minute."""
    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx2.Client(timeout=2) as client:  # one for all requests: a new one costs 30 ms of CPU
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx2.TransportError):
                if client.get(f"{url}{path}").status_code == 200:
                    return
            time.sleep(0.05)
    raise AssertionError(f"lorestream did not get ready:\n{log.read_text(errors='replace')}")


@contextlib.contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Generator[None]:
    """End the process with SIGTERM when the context ends, with SIGKILL where that is not enough."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()


class LorestreamProcess:
    """`lorestream up` on one data directory. It can be killed and started again.

    `popen` starts it; in tests, that is the one of tests/zygote.py.
    """

    popen: ClassVar[type[subprocess.Popen[bytes]]] = subprocess.Popen

    module = "lorestream.cli"

    def __init__(self, data: Path, environment: Mapping[str, str], *, port: int | None = None) -> None:
        self.data = data
        self.port = port or free_port()
        self.grpc_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = data / "lorestream.log"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, path: str = "/ready") -> None:
        """Start it and wait until it is ready, or until it answers 200 at another path."""
        self.data.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            self.module,
            "up",
            "--data",
            str(self.data),
            "--port",
            str(self.port),
        ]
        command += ["--grpc-port", str(self.grpc_port), *options]
        with self.log_path.open("ab") as log:
            self._process = self.popen(
                command, env=clean_environment(**self._environment), stdout=log, stderr=log, cwd=self.data
            )
        wait_for_ready(self._process, self.url, self.log_path, path)

    def output(self) -> str:
        """What it has printed and logged so far."""
        return self.log_path.read_text(errors="replace")

    def kill(self) -> None:
        """Send SIGKILL and wait until it has ended."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, signum: int = signal.SIGTERM) -> float:
        """Send a signal and wait until it has ended; return the seconds that took. Fails unless the exit code is 0."""
        assert self._process is not None
        started = time.monotonic()
        self._process.send_signal(signum)
        code = self._process.wait(STOP_TIMEOUT_S)
        assert code == 0, f"exit code {code}:\n{self.output()}"
        return time.monotonic() - started

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


@contextlib.contextmanager
def running(
    data: Path, environment: Mapping[str, str], *options: str, port: int | None = None
) -> Generator[LorestreamProcess]:
    """A lorestream that is ready; it is killed when the context ends, unless it has ended by then."""
    process = LorestreamProcess(data, environment, port=port)
    process.start(*options)
    try:
        yield process
    finally:
        if process.alive:
            process.kill()


def metric(url: str, name: str) -> float:
    """The value of a metric of the service at `url`. Fails when there is none of that name."""
    for line in httpx2.get(f"{url}/metrics", timeout=5).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    raise AssertionError(name)


def cpu_s(pid: int) -> float:
    """Seconds of CPU time of a process so far, all its threads, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
