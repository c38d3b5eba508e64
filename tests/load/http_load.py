"""A load generator in a process of its own: plain HTTP/1.1 over kept connections, as cheap as Python lets it be.

It reads a plan from stdin and writes what it saw to stdout, both JSON. Bodies are sent as they are. With a rate it is
an open loop: request n is due at n / rate, late or not, and its latency counts from then on, so that a server that
stalls is charged for all that it held up. Without one it is a closed loop over `connections`, to find the peak.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

_HIT = b'"cache":"hit"'
_MISS = b'"cache":"miss"'
PATH = "/v1/memories/search"


@dataclass(frozen=True)
class Seen:
    """Of each request: seconds from when it was due until its answer was there, and "hit", "miss" or an error."""

    latencies: Sequence[float]
    states: Sequence[str]
    cpu_s: float
    wall_s: float
    sent_late_p99_ms: float
    """How late the generator itself was: above a millisecond or two it is a part of what it measures."""
    connections: int

    def of(self, state: str) -> list[float]:
        """The latencies of this state in milliseconds, sorted."""
        pairs = zip(self.latencies, self.states, strict=True)
        return sorted(1000 * latency for latency, each in pairs if each == state)


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Of sorted values; None of none."""
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


class Load:
    """One run, in a child process from its start on."""

    def __init__(
        self,
        port: int,
        bodies: Sequence[bytes] = (),
        *,
        rate: float | None = None,
        connections: int = 16,
        path: str = PATH,
        gets: Sequence[str] = (),
    ) -> None:
        """`bodies` are posted to `path`; or else the paths `gets` are read."""
        plan = {"port": port, "rate": rate, "connections": connections}
        plan["requests"] = [("POST", path, body.decode()) for body in bodies] or [
            ("GET", get, "") for get in gets
        ]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.load.http_load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(plan).encode())
        self._child.stdin.close()
        self._child.stdin = None

    def seen(self, timeout_s: float = 300) -> Seen:
        """Wait for its end."""
        output, _ = self._child.communicate(timeout=timeout_s)
        assert self._child.returncode == 0, "the load generator failed"
        return Seen(**json.loads(output))


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._answer = bytearray()
        self._length = -1
        self._number = -1
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, number: int) -> None:
        self._number = number
        self.transport.write(self._run.requests[number])

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        answer += data
        if self._length < 0:
            end = answer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(answer[:end]).lower()
            self._length = end + 4 + int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(answer) >= self._length:
            status = bytes(answer[9:12])
            state = "hit" if _HIT in answer else "miss" if _MISS in answer else "none"
            number, self._number, self._length = self._number, -1, -1
            answer.clear()
            self._run.answered(self, number, state if status == b"200" else status.decode())

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost(self, self._number)


class _Run:
    def __init__(
        self, port: int, rate: float | None, connections: int, requests: Sequence[tuple[str, str, str]]
    ) -> None:
        self._port = port
        self._rate = rate
        self._connections = connections
        self.requests = [_request(method, path, body.encode(), port) for method, path, body in requests]
        self._latencies = [0.0] * len(requests)
        self._states = [""] * len(requests)
        self._due = [0.0] * len(requests)
        self._late: list[float] = []
        self._free: list[_Connection] = []
        self._opened = 0
        self._left = len(requests)
        self._next = 0
        self._done = asyncio.Event()

    async def __call__(self) -> dict[str, Any]:
        for _ in range(self._connections):
            self._free.append(await self._open())
        cpu, began = time.process_time(), time.perf_counter()
        if self._rate is None:
            for connection in list(self._free):
                self._go_on(connection)
        else:
            await self._open_loop(began, self._rate)
        await self._done.wait()
        late = sorted(self._late)
        return {
            "latencies": self._latencies,
            "states": self._states,
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.perf_counter() - began,
            "sent_late_p99_ms": round(1000 * late[int(0.99 * len(late))], 3) if late else 0.0,
            "connections": self._opened,
        }

    async def _open_loop(self, began: float, rate: float) -> None:
        """A thread watches the clock: the event loop's own timers are whole milliseconds apart."""
        loop = asyncio.get_running_loop()

        def watch() -> None:
            for number in range(len(self.requests)):
                if (pause := began + number / rate - time.perf_counter()) > 0:
                    time.sleep(pause)
                loop.call_soon_threadsafe(self._begin, number, began + number / rate)

        await asyncio.to_thread(watch)

    def _begin(self, number: int, due: float) -> None:
        self._due[number] = due
        self._late.append(time.perf_counter() - due)
        # Nobody waits for another one's answer: the loop stays open.
        if self._free:
            self._free.pop().send(number)
        else:
            asyncio.ensure_future(self._open()).add_done_callback(lambda opened: opened.result().send(number))

    def _go_on(self, connection: _Connection) -> None:
        if self._next < len(self.requests):
            self._due[self._next] = time.perf_counter()
            connection.send(self._next)
            self._next += 1

    async def _open(self) -> _Connection:
        self._opened += 1
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        return connection

    def answered(self, connection: _Connection, number: int, state: str) -> None:
        self._latencies[number] = time.perf_counter() - self._due[number]
        self._states[number] = state
        self._left -= 1
        if not self._left:
            self._done.set()
        elif self._rate is None:
            self._go_on(connection)
        else:
            self._free.append(connection)

    def lost(self, connection: _Connection, number: int) -> None:
        """The server closes what was idle for long; a request that met that end counts as an error."""
        if connection in self._free:
            self._free.remove(connection)
        if number >= 0:
            asyncio.ensure_future(self._open()).add_done_callback(
                lambda opened: self.answered(opened.result(), number, "lost")
            )


def _request(method: str, path: str, body: bytes, port: int) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _main() -> None:
    sys.setswitchinterval(0.0005)
    with contextlib.suppress(PermissionError):  # a generator that waits for a core measures its own lateness
        os.nice(-10)
    plan = json.load(sys.stdin)
    json.dump(await _Run(**plan)(), sys.stdout)


if __name__ == "__main__":
    uvloop.run(_main())
