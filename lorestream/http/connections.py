"""The open HTTP connections of a process: how many there may be, and the pace that clients must keep.

A client that sends nothing, sends or reads slower than the pace below, or keeps a connection idle, loses it. Clients
that wait for an answer (long polls, streams) may wait as long as they like.

At the limit, a new connection takes the place of another that waits for its client: of the address that has most
connections, the one that has waited longest. So nobody who opens connections and sends nothing can shut others out.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Protocol

import structlog

from lorestream.os_support import free_files

REQUEST_TIMEOUT_S = 10.0
"""A request line and headers must arrive within this time. It is also the longest pause within a body."""
MIN_BYTES_PER_S = 1024.0
"""The least average rate of a request body, and at which a client must read a response."""
WRITE_TIMEOUT_S = 60.0
"""The longest time without any progress of a response that the client does not read."""

_MAX_ELAPSED_S = 2.0
"""After a standstill of the event loop, data may wait in the sockets: that time is not counted against the clients."""
MAX_CONNECTIONS = 10_000
_MIN_CONNECTIONS = 4
_WARNING_INTERVAL_S = 60.0
_EVICTED_FRACTION = 16
"""At the limit, one sixteenth is closed at once, so that choosing them costs little per connection."""

_log = structlog.get_logger("lorestream.http")


class Patience:
    """How long a peer that makes too little progress is waited for, in seconds.

    Bytes give back the time that they may take at the least rate. So the average rate counts, and a pause may last
    `full_s` seconds.
    """

    def __init__(self, full_s: float) -> None:
        self._full_s = full_s
        self.left_s = full_s

    def reset(self) -> None:
        """Begin again."""
        self.left_s = self._full_s

    def progress(self, byte_count: int) -> None:
        """Count bytes that the peer has sent or read."""
        self.left_s = min(self._full_s, self.left_s + byte_count / MIN_BYTES_PER_S)

    def wait(self, elapsed_s: float) -> bool:
        """Count time without progress. Returns whether the patience is at its end."""
        self.left_s -= elapsed_s
        return self.left_s <= 0


class Connection(Protocol):
    """What the table needs of a connection."""

    @property
    def peer(self) -> str:
        """The address of the client, without its port."""
        ...

    @property
    def left_s(self) -> float | None:
        """The patience left while the server waits for the client; None while the client waits for the server."""
        ...

    def check(self, elapsed_s: float) -> None:
        """Count the time since the last check, and close the connection if its client is too slow."""
        ...

    def evict(self) -> None:
        """Close the connection to make room."""
        ...


class ConnectionTable:
    """The open connections of a server, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._connections: dict[Connection, None] = {}
        self._evicted: dict[Connection, None] = {}
        """Closed to make room, but their last bytes are not read yet."""
        self._peers = Counter[str]()
        self._warned_at = -_WARNING_INTERVAL_S
        self._checked_at: float | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> bool:
        """Add a connection, and close others if there are too many. Returns False if there is no room for it."""
        if len(self._connections) >= self.limit:
            self._warn()
            self._make_room()
        if len(self._connections) >= self.limit:
            return False
        self._connections[connection] = None
        self._peers[connection.peer] += 1
        return True

    def remove(self, connection: Connection) -> None:
        """Remove a connection that is closed, if it is there."""
        self._evicted.pop(connection, None)
        if connection in self._connections:
            del self._connections[connection]
            self._peers[connection.peer] -= 1
            if not self._peers[connection.peer]:
                del self._peers[connection.peer]

    def check(self, now: float) -> None:
        """Check the pace of all connections. `now`: seconds of a clock that never goes back."""
        elapsed = 0.0 if self._checked_at is None else min(now - self._checked_at, _MAX_ELAPSED_S)
        self._checked_at = now
        for connection in [*self._connections, *self._evicted]:
            connection.check(elapsed)

    def _make_room(self) -> None:
        waiting = [(one, left) for one in self._connections if (left := one.left_s) is not None]
        waiting.sort(key=lambda each: (-self._peers[each[0].peer], each[1]))
        for connection, _ in waiting[: max(1, self.limit // _EVICTED_FRACTION)]:
            self.remove(connection)
            self._evicted[connection] = None
            connection.evict()

    def _warn(self) -> None:
        if time.monotonic() >= self._warned_at + _WARNING_INTERVAL_S:
            self._warned_at = time.monotonic()
            peer, count = self._peers.most_common(1)[0]
            _log.warning(
                "too many connections: idle ones are closed, and new ones refused if there are none; raise the limit"
                " of open files (`ulimit -n`), or look at the address that has most",
                limit=self.limit,
                address=peer,
                connections=count,
            )


def connection_limit() -> int:
    """How many connections may be open at once: half of the files that the process may still open.

    The other half is for the log, the store and gRPC.
    """
    return max(_MIN_CONNECTIONS, min(MAX_CONNECTIONS, free_files() // 2))
