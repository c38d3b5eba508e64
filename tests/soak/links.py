"""TCP proxies in a process of their own, which can be cut one by one: `python -m tests.soak.links`.

The first line of stdin is a JSON object, name -> [port to listen on, port to forward to]. Every further line is
`cut NAME` or `heal NAME`. While a link is cut, no byte passes and no connection is closed: as when packets are dropped.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import defaultdict
from typing import cast

import uvloop

LOOPBACK = "127.0.0.1"


class Link:
    """One proxy."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.is_cut = False
        self.ends: set[_End] = set()

    def cut(self) -> None:
        self.is_cut = True
        for end in self.ends:
            end.update()

    def heal(self) -> None:
        self.is_cut = False
        for end in self.ends:
            end.update()


class _End(asyncio.Protocol):
    """One of the two connections of a forwarded connection; what arrives here is written to `other`."""

    def __init__(self, link: Link, other: _End | None = None) -> None:
        self._link = link
        self.other = other
        self.transport: asyncio.Transport | None = None
        self._full = False
        self._early: list[bytes] = []
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._link.ends.add(self)
        if self.other is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        self.update()

    async def _connect(self) -> None:
        assert self.transport is not None
        while self._link.is_cut:
            await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        try:
            _, other = await loop.create_connection(
                lambda: _End(self._link, self), LOOPBACK, self._link.target
            )
        except OSError:
            self.transport.abort()
            return
        self.other = other
        if self.transport.is_closing():
            other.transport.close()
            return
        for data in self._early:
            other.transport.write(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def update(self) -> None:
        """Read only while the link is whole and the other side takes what was read."""
        if self.transport is None or self.transport.is_closing():
            return
        if self._link.is_cut or self._full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other._full = True
            self.other.update()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other._full = False
            self.other.update()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.ends.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    links: dict[str, list[Link]] = defaultdict(list)
    for name, pairs in json.loads(await lines.readline()).items():
        for port, target in pairs:
            link = Link(target)
            links[name].append(link)
            await loop.create_server(lambda link=link: _End(link), LOOPBACK, port)
    print("ready", flush=True)
    while line := (await lines.readline()).decode():
        verb, name = line.split()
        for link in links[name]:
            link.cut() if verb == "cut" else link.heal()


if __name__ == "__main__":
    uvloop.run(main())
