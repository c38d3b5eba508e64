"""Commands to one Redis server, or to the nodes of a Redis Cluster, each over one shared connection.

A server that is no cluster never redirects, and then this passes commands on. The first redirection (MOVED) shows that it
is one: the nodes and their slots are read, and each command goes to the node of its key. They are read again after a
redirection, and after a node failed, because a replica may have taken its place.
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError, ResponseError

from lorestream import supervision
from lorestream.adapters.redis.connection import Argument, MultiplexedConnection

if TYPE_CHECKING:
    from redis.asyncio.connection import BlockingConnectionPool

Address: TypeAlias = tuple[str, int]

_REDIRECTIONS = 3
"""How often a command follows a redirection: once in general, twice if the slot moves on meanwhile."""
_RELOAD_INTERVAL_S = 1.0
"""The slots are read at most so often after failures."""
_WITHOUT_KEY = frozenset({"SCAN", "CONFIG", "CLUSTER"})
_SCRIPTS = frozenset({"EVAL", "EVALSHA"})


class _Slots(NamedTuple):
    """The slots `first` and up, to the first slot of the next entry, are on the node at `address`."""

    first: int
    address: Address


class Nodes:
    """Sends each command to the node that has its key."""

    def __init__(self, pool: BlockingConnectionPool, timeout_s: float) -> None:
        """`pool` supplies the address of one node, credentials and TLS. `timeout_s`: as in MultiplexedConnection."""
        self._pool = pool
        self._timeout_s = timeout_s
        self._given = MultiplexedConnection(pool, timeout_s)
        self._connections: dict[Address, MultiplexedConnection] = {}
        self._slots: list[_Slots] = []
        self._loading: asyncio.Task[None] | None = None
        self._loaded_at = 0.0
        self._stale = False

    @property
    def clustered(self) -> bool:
        """Whether this is known to be a cluster."""
        return bool(self._slots)

    @property
    def primaries(self) -> Sequence[Address | None]:
        """The nodes that have keys; None: the one server that is no cluster."""
        return sorted({one.address for one in self._slots}) or [None]

    def node(self, *command: Argument) -> Address | None:
        """Where a command goes; None: to the server whose address was given."""
        key = _key(command)
        return None if key is None or not self._slots else self._address(_slot(key))

    async def command(self, *command: Argument) -> Any:  # noqa: ANN401 (any reply of Redis)
        """The reply to a command. Raises TimeoutError, RedisError and OSError.

        UNLINK may name keys of several slots: it is sent once for each slot.
        """
        if self._stale and time.monotonic() - self._loaded_at > _RELOAD_INTERVAL_S:
            await self.load()
        if command[0] == "UNLINK" and self.clustered:
            return sum(await supervision.run_all(*map(self._routed, _by_slot(command))))
        return await self._routed(command)

    async def on(self, node: Address | None, *command: Argument) -> Any:  # noqa: ANN401
        """The reply of this node, one of `primaries`."""
        return await self._connection(node).command(*command)

    async def load(self) -> None:
        """Read which node has which slots. All who need it share one reading. Raises what the last node's reply was."""
        if self._loading is None or self._loading.done():
            self._loading = supervision.start_shared(self._load(), "slots of the Redis Cluster")
        await asyncio.shield(self._loading)

    async def close(self) -> None:
        """Close all connections. Commands without a reply fail."""
        if self._loading is not None and not self._loading.done():
            await supervision.stop_tasks([self._loading])
        for connection in (self._given, *self._connections.values()):
            await connection.close()

    async def _routed(self, command: Sequence[Argument]) -> Any:  # noqa: ANN401
        node = self.node(*command)
        asking = False
        for last in [False] * _REDIRECTIONS + [True]:
            connection = self._connection(node)
            try:
                if asking:
                    return await connection.asking(*command)
                return await connection.command(*command)
            except MovedError as moved:
                if last:
                    raise
                await self.load()
                node, asking = self._redirected(moved), False
            except AskError as ask:  # the slot is on its way to that node, and this key is there already
                if last:
                    raise
                node, asking = self._redirected(ask), True
            except (TimeoutError, RedisError, OSError, asyncio.CancelledError) as error:
                # A node that answers with an error is the right one. One that hangs may end the patience of the caller
                # before that of the connection.
                self._stale = self._stale or (self.clustered and not isinstance(error, ResponseError))
                raise
        raise AssertionError  # not reached: the last attempt returns or raises

    async def _load(self) -> None:
        """Ask the nodes that are known, and the one whose address was given, until one tells."""
        self._loaded_at = time.monotonic()
        known = [None, *dict.fromkeys(one.address for one in self._slots)]
        for node in known:
            try:
                reply = await self._connection(node).command("CLUSTER", "SLOTS")
            except (TimeoutError, RedisError, OSError):
                if node == known[-1]:
                    raise
                continue
            self._slots = sorted(_Slots(first, self._reached(primary)) for first, _, primary, *_ in reply)
            self._stale = False
            await self._close_former()
            return

    async def _close_former(self) -> None:
        """Close the idle connections to nodes that have no slots any more: the pods of a cluster get new addresses."""
        for former in self._connections.keys() - {one.address for one in self._slots}:
            if self._connections[former].idle:
                await self._connections.pop(former).close()

    def _reached(self, primary: Sequence[Any]) -> Address:
        """The address of a node in the reply to CLUSTER SLOTS; its host may be empty: the one that was asked."""
        host = (primary[0] or b"").decode()
        return host or str(self._pool.connection_kwargs.get("host", "localhost")), int(primary[1])

    def _redirected(self, error: AskError) -> Address:
        return error.host or str(self._pool.connection_kwargs.get("host", "localhost")), error.port

    def _address(self, slot: int) -> Address:
        return self._slots[max(0, bisect_right(self._slots, slot, key=lambda one: one.first) - 1)].address

    def _connection(self, node: Address | None) -> MultiplexedConnection:
        if node is None:
            return self._given
        if node not in self._connections:
            self._connections[node] = MultiplexedConnection(self._pool, self._timeout_s, address=node)
        return self._connections[node]


def _key(command: Sequence[Argument]) -> Argument | None:
    place = 3 if command[0] in _SCRIPTS else 1
    return command[place] if len(command) > place and command[0] not in _WITHOUT_KEY else None


def _slot(key: Argument) -> int:
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


def _by_slot(command: Sequence[Argument]) -> Sequence[Sequence[Argument]]:
    name, *keys = command
    groups: dict[int, list[Argument]] = {}
    for key in keys:
        groups.setdefault(_slot(key), []).append(key)
    return [(name, *group) for group in groups.values()]
