"""The services of Lorestream in the distributed shape, and the stand-in for a Qdrant server."""

from __future__ import annotations

import contextlib
import http
import http.client
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local.process import LOOPBACK, Child, answers, free_port

ROOT = Path(__file__).parents[2]


class Service(Child):
    """`lorestream gateway`, `lorestream worker` or `lorestream query` (`verb`), with its settings in `environment`."""

    ready_s = 120.0

    def __init__(
        self, name: str, directory: Path, environment: Mapping[str, str], verb: str, *options: str
    ) -> None:
        super().__init__(name, directory, environment)
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.grpc_port = 0
        self._arguments = [verb, *options]
        if verb == "worker":
            self._arguments += ["--metrics-port", str(self.port)]
        else:
            self.grpc_port = free_port()
            self._arguments += ["--port", str(self.port), "--grpc-port", str(self.grpc_port)]

    def command(self) -> Sequence[str]:
        """The command line of the service."""
        return [sys.executable, "-m", "lorestream.cli", *self._arguments]

    def ready(self) -> bool:
        """Whether its /ready answers 200."""
        return self.get("/ready") == http.HTTPStatus.OK

    def excuse(self) -> str:
        """The body of its /ready."""
        _, body = self._get("/ready")
        return f", {body or 'and does not answer'}"

    def get(self, path: str) -> int | None:
        """The status of a GET request to the service; None when it does not answer within 2 s."""
        return self._get(path)[0]

    def _get(self, path: str) -> tuple[int | None, str]:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=2)
        try:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode(errors="replace")
            return None, ""
        finally:
            connection.close()


class StandIn(Child):
    """tests/qdrant_stand_in: Qdrant's gRPC services over an Edge shard, for machines without a Qdrant server."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        super().__init__("qdrant-stand-in", directory, {**environment, "PYTHONPATH": str(ROOT)})
        self.port = free_port()
        self.grpc_port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"

    def command(self) -> Sequence[str]:
        """The command line of the stand-in."""
        options = ["--data", str(self.directory / "data"), "--port", str(self.port)]
        return [
            sys.executable,
            "-m",
            "tests.qdrant_stand_in",
            *options,
            "--grpc-port",
            str(self.grpc_port),
        ]

    def ready(self) -> bool:
        """Whether both ports accept connections."""
        return answers(self.port) and answers(self.grpc_port)
