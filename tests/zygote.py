"""Starts `python -m MODULE` by forking a process that has its modules already: a third of the CPU time of a new interpreter.

`Popen` and `run` are those of subprocess, except that commands of the modules in `_IMPORTS` are started this way:

1. The first such command of a pytest process starts the zygote: `python -m tests.zygote`, without threads of its own.
2. For each command, the zygote gets its arguments, environment, working directory, and its three standard streams as
   file descriptors. It imports what such a command imports anyway, and forks.
3. The fork takes over what it got, and runs the module as `__main__` until the interpreter ends as always.

It forks twice, and the process in between ends at once. Linux then gives the child to the pytest process, as its
nearest subreaper (prctl(2)): so signals, `wait` and exit codes work as for every child.

Not exercised: the start of an interpreter and the imports; options of Python (-W) and its variables (another PYTHONPATH
makes `Popen` start an interpreter); standard streams are never buffered. Limits and umask are those of the zygote.
Tests in which that matters start an interpreter by `subprocess`, among them test_start.py, test_stop.py, test_call_paths.py
and test_cli.py of tests/unit, and the fixture of tests/e2e/test_up.py.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import inspect
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_SERVICE = [
    "lorestream.cli.serve.distributed",
    "lorestream.adapters.kafka.log",
    "lorestream.adapters.qdrant.server.catalogue",
    "lorestream.adapters.redis.cache",
    "lorestream.adapters.redis.token_buckets",
]
_IMPORTS = {
    "lorestream.cli": {
        "": ["lorestream.cli.app", "lorestream.cli.terminal", "lorestream.client", "httpcore2"],
        "up": [
            "lorestream.cli.serve.embedded",
            "lorestream.adapters.embedded.snapshot",
            "lorestream.adapters.embedders.hash",
            "lorestream.adapters.qdrant.edge.catalogue",
        ],
        "gateway": _SERVICE,
        "query": _SERVICE,
        "worker": [*_SERVICE, "stream_workers.faust_app"],
    },
    "tests.qdrant_stand_in": {"": ["uvloop", "tests.qdrant_stand_in.serving"]},
}
"""By module: what each of its commands imports, and by first argument: what that one imports besides. Only the duration depends on it."""
_MESSAGE_BYTES = 2**18
_REPARENTED = b"reparented"
"""The zygote's answer when the process in between has ended, so that the child is ours. The other is the child's: its id."""
_PR_SET_CHILD_SUBREAPER = 36


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen`; a command of the modules in `_IMPORTS` is forked. Of the options that only a child has, these: streams, env, cwd, start_new_session."""

    def _execute_child(self, *given: Any) -> None:
        options = inspect.signature(super()._execute_child).bind(*given).arguments
        command, environment = options["args"], options["env"] or dict(os.environ)
        known = command[:2] == [sys.executable, "-m"] and command[2] in _IMPORTS
        if not known or environment.get("PYTHONPATH") not in {None, str(_ROOT), os.environ.get("PYTHONPATH")}:
            super()._execute_child(*given)
            return
        request = {
            "command": command[2:],
            "environment": dict(environment),
            "directory": os.fspath(options["cwd"] or Path.cwd()),
            "session": options["start_new_session"],
        }
        streams = [options[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        inherited = [number if given == -1 else given for number, given in enumerate(streams)]
        self.pid = _fork(json.dumps(request).encode(), inherited)
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(options[name] for name in pipes))


def run(
    command: list[str], *, timeout: float, env: dict[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` with captured output, as text, and without check."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with Popen(command, env=env, cwd=cwd, **streams) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


_one_at_a_time = threading.Lock()


def _fork(request: bytes, streams: list[int]) -> int:
    """The id of a new child process of this one."""
    libc = ctypes.CDLL(None)
    with _one_at_a_time:
        connection = _zygote()
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            socket.send_fds(connection, [request], streams)
            answers = {connection.recv(32) for _ in range(2)}  # in either order
            pid = int((answers - {_REPARENTED}).pop())
        finally:
            libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)
    return pid


@functools.cache
def _zygote() -> socket.socket:
    """The connection to the zygote of this process, which ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.zygote", str(theirs.fileno())],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait()

    return ours


def _serve(connection: socket.socket) -> list[str] | None:
    """Fork a child for each request. Returns in the children: module and arguments; None at the end of pytest."""
    while True:
        message, streams, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 3)
        if not message:
            return None
        request = json.loads(message)
        module, *arguments = request["command"]
        for name in _IMPORTS[module][""] + _IMPORTS[module].get(next(iter(arguments), ""), []):
            importlib.import_module(name)
        gc.freeze()  # what is there now is never collected in a child, which would copy all of its pages
        if (between := os.fork()) == 0:
            if os.fork():
                os._exit(0)
            if request["session"]:
                os.setsid()
            connection.send(str(os.getpid()).encode())
            connection.close()
            _take_over(request, streams)
            return request["command"]
        for each in streams:
            os.close(each)
        os.waitpid(between, 0)
        connection.send(_REPARENTED)


def _take_over(request: dict[str, Any], streams: list[int]) -> None:
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["directory"])
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)


if __name__ == "__main__":
    if command := _serve(socket.socket(fileno=int(sys.argv[1]))):
        sys.argv = command
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
