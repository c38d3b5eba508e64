"""A cluster with a link that can be cut between each service and each engine, and between nginx and each service."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.cluster import Cluster
from deploy.local.nginx import Nginx
from deploy.local.process import LOOPBACK, Child, free_port
from deploy.local.services import Service
from tests.api_keys import bearer

TENANTS = ("alpha", "beta")
MOVABLE_CLOCKS = ("gateway-2", "worker-2", "query-1")
CLOCK = Path(__file__).with_name("clock")
PARTITIONS = 6
SETTINGS = {
    "LORESTREAM_EMBEDDER__KIND": "hash",
    "LORESTREAM_EMBEDDER__DIM": "32",
    "LORESTREAM_LOG__SESSION_TIMEOUT_S": "6",
    "LORESTREAM_LOG__PARTITIONS": str(PARTITIONS),
    "LORESTREAM_LOG_LEVEL": "warning",
}


class Deployment:
    """The cluster and its links. `keys`: tenant -> Authorization; `links`: pairs that can be cut off from each other."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        key_file = directory / "keys.json"
        self.keys = {tenant: bearer(key_file, tenant=tenant) for tenant in TENANTS}
        self.cluster = Cluster(directory, settings={**SETTINGS, "LORESTREAM_API_KEYS_FILE": str(key_file)})
        assert self.cluster.store is not None
        self._pairs: dict[str, list[tuple[int, int]]] = {}
        self._redis_ports: dict[str, int] = {}
        self._clocks: dict[str, Path] = {}
        for service in self.cluster.services:
            self._link_engines(service)
        for worker in self.cluster.workers:
            # The load takes both cores. At their usual niceness the workers would wait for it instead of healing.
            worker._arguments += ["--nice", "0"]
        self._listen_for_each_service()
        self.cluster.nginx = self._nginx(directory / "nginx")
        self.cluster.url = self.cluster.nginx.url
        self._process: subprocess.Popen[str] | None = None

    @property
    def links(self) -> list[str]:
        return list(self._pairs)

    @property
    def parts(self) -> dict[str, Child]:
        """Every process of the cluster by its name."""
        cluster = self.cluster
        return {each.name: each for each in (*cluster.engines, *cluster.services, cluster.nginx)}

    def cut(self, link: str) -> None:
        self._say(f"cut {link}")

    def heal(self, link: str) -> None:
        self._say(f"heal {link}")

    def log_in_with(self, password: str) -> None:
        """Give the services this password of Redis, at their next start."""
        for service in self.cluster.services:
            port = self._redis_ports[service.name]
            service.environment["LORESTREAM_CACHE__URL"] = f"redis://:{password}@{LOOPBACK}:{port}/0"

    def set_clock(self, service: str, ahead_s: float) -> None:
        """Set the clock of one of `MOVABLE_CLOCKS` so many seconds ahead."""
        new = self._clocks[service].with_suffix(".new")
        new.write_text(str(ahead_s))
        new.replace(self._clocks[service])

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.links"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say(json.dumps(self._pairs))
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        try:
            self.cluster.start()
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self.parts.values():
            part.resume()
        self.cluster.stop()
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    # --- the links -------------------------------------------------------------------------------------------

    def _link(self, one: str, other: str, target: int) -> int:
        """The port of a new proxy between the two, in front of `target`."""
        port = free_port()
        self._pairs.setdefault(f"{one}/{other}", []).append((port, target))
        return port

    def _link_engines(self, service: Service) -> None:
        cluster, name = self.cluster, service.name
        assert cluster.store is not None
        redis = self._redis_ports[name] = self._link(name, "redis", cluster.redis.port)
        http = self._link(name, "store", cluster.store.port)
        grpc = self._link(name, "store", cluster.store.grpc_port)
        kafka = self._link(name, "kafka", free_port())
        service.environment |= {
            "LORESTREAM_CACHE__URL": f"redis://{LOOPBACK}:{redis}/0",
            "LORESTREAM_STORE__URL": f"http://{LOOPBACK}:{http}",
            "LORESTREAM_STORE__GRPC_PORT": str(grpc),
            "LORESTREAM_LOG__BOOTSTRAP": f"{LOOPBACK}:{kafka}",
        }
        if name in MOVABLE_CLOCKS:
            ahead = self._clocks[name] = cluster.directory / f"{name}.clock"
            ahead.write_text("0")
            service.environment |= {"PYTHONPATH": str(CLOCK), "SOAK_CLOCK": str(ahead)}

    def _listen_for_each_service(self) -> None:
        """Give the broker a listener for each service: it sends clients to the address that the listener advertises."""
        kafka = self.cluster.kafka
        own = kafka._properties()
        listeners, advertised = [own["listeners"]], [own["advertised.listeners"]]
        protocols = [own["listener.security.protocol.map"]]
        for service in self.cluster.services:
            [(proxy, port)] = self._pairs[f"{service.name}/kafka"]
            listener = service.name.replace("-", "").upper()
            listeners.append(f"{listener}://{LOOPBACK}:{port}")
            advertised.append(f"{listener}://{LOOPBACK}:{proxy}")
            protocols.append(f"{listener}:PLAINTEXT")
        kafka._settings |= {
            "listeners": ",".join(listeners),
            "advertised.listeners": ",".join(advertised),
            "listener.security.protocol.map": ",".join(protocols),
        }

    def _nginx(self, directory: Path) -> Nginx:
        def proxied(services: list[Service]) -> Iterator[tuple[int, int]]:
            for each in services:
                yield self._link("nginx", each.name, each.port), each.grpc_port

        gateways, queries = self.cluster.gateways, self.cluster.queries
        return Nginx(directory, gateways=list(proxied(gateways)), queries=list(proxied(queries)))
