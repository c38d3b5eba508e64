"""nginx in front of the services, with the routes of deploy/nginx.conf and local addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.process import LOOPBACK, Child, answers, free_port, program

CONFIGURATION = Path(__file__).parents[1] / "nginx.conf"
INSTALL = "apt-get install -y nginx-light"


class Nginx(Child):
    """A proxy at `url` and `grpc_port`. `gateways` and `queries` are pairs of (HTTP port, gRPC port)."""

    ready_s = 15.0

    def __init__(
        self,
        directory: Path,
        *,
        gateways: Sequence[tuple[int, int]],
        queries: Sequence[tuple[int, int]],
        port: int | None = None,
        grpc_port: int | None = None,
    ) -> None:
        super().__init__("nginx", directory)
        self.port = port or free_port()
        self.grpc_port = grpc_port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._servers = {
            "gateway:8081": [http for http, _ in gateways],
            "gateway:50052": [grpc for _, grpc in gateways],
            "query:8080": [http for http, _ in queries],
            "query:50051": [grpc for _, grpc in queries],
        }
        self._config = directory / "nginx.conf"

    def prepare(self) -> None:
        """Write the configuration."""
        listens = {"8080": self.port, "50051": self.grpc_port}
        self._config.write_text(configuration(listens, self._servers))

    def command(self) -> list[str]:
        """The command line of the nginx master process."""
        # Started as root, its workers run as another user, who cannot read root's directories.
        options = ["-g", "user root;"] if os.geteuid() == 0 else []
        nginx = program("nginx", INSTALL)
        return [nginx, "-e", "stderr", "-p", str(self.directory), "-c", str(self._config), *options]

    def ready(self) -> bool:
        """Whether both ports accept connections."""
        return answers(self.port) and answers(self.grpc_port)


def configuration(listens: Mapping[str, int], servers: Mapping[str, Sequence[int]]) -> str:
    """deploy/nginx.conf with its listening ports and servers replaced by local ones."""
    text = CONFIGURATION.read_text()
    for port, here in listens.items():
        text = _replaced(text, rf"listen {port}\b", f"listen {LOOPBACK}:{here}")
    for server, here in servers.items():
        lines = " ".join(rf"server {LOOPBACK}:{port}\1;" for port in here)
        text = _replaced(text, rf"server {server} resolve( [^;]+);", lines)
    return text


def _replaced(text: str, pattern: str, new: str) -> str:
    text, times = re.subn(pattern, new, text)
    assert times == 1, f"{CONFIGURATION}: {pattern} occurs {times} times"
    return text
