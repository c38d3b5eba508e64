"""A Redis or Valkey server as Lorestream needs it: without persistence, evicting the least recently used keys (LRU)."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from deploy.local.process import LOOPBACK, Child, free_port, program

INSTALL = "apt-get install -y redis-server"
PROGRAM = "LORESTREAM_LOCAL_REDIS"
"""The environment variable with another program than redis-server, such as the path of valkey-server."""


class RedisServer(Child):
    """One server. Its data is lost when it ends. `maxmemory` limits its memory, the overhead of Redis included."""

    ready_s = 15.0

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        password: str | None = None,
        maxmemory: str = "64mb",
    ) -> None:
        super().__init__("redis", directory)
        self.port = port or free_port()
        self.password = password
        self.url = f"redis://{'' if password is None else f':{password}@'}{LOOPBACK}:{self.port}/0"
        self._maxmemory = maxmemory
        self._config = directory / "redis.conf"

    def prepare(self) -> None:
        """Write the configuration file. A password must not appear on the command line."""
        settings = {
            "bind": LOOPBACK,
            "port": self.port,
            "dir": self.directory,
            "save": '""',
            "appendonly": "no",
            "maxmemory": self._maxmemory,
            "maxmemory-policy": "allkeys-lru",
            **({} if self.password is None else {"requirepass": self.password}),
        }
        self._config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        self._config.chmod(0o600)

    def command(self) -> list[str]:
        """The command line of the server."""
        return [program(os.environ.get(PROGRAM, "redis-server"), INSTALL), str(self._config)]

    def ready(self) -> bool:
        """Whether it answers a PING, with PONG or by requiring a password."""
        return self.send_command("PING").startswith((b"+PONG", b"-NOAUTH"))

    def send_command(self, command: str) -> bytes:
        """The first line of the reply to an inline command; empty when the server cannot be reached."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection((LOOPBACK, self.port), timeout=1) as connection,
        ):
            login = "" if self.password is None else f"AUTH {self.password}\r\n"
            connection.sendall(f"{login}{command}\r\n".encode())
            with connection.makefile("rb") as answer:
                if login and not (reply := answer.readline()).startswith(b"+OK"):
                    return reply
                return answer.readline()
        return b""
