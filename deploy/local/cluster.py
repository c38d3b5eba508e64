"""The whole distributed shape on one machine: for `make cluster`, tests and benchmarks.

Kafka, Redis and nginx are real. The store is the Qdrant server at LORESTREAM_STORE__URL, or, if that is not set, the
stand-in, which is not Qdrant.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from deploy.local import kafka
from deploy.local.nginx import Nginx
from deploy.local.process import LOOPBACK, Child, NotInstalled, NotReady
from deploy.local.redis_server import RedisServer
from deploy.local.services import Service, StandIn

if TYPE_CHECKING:
    from types import FrameType, TracebackType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
RESTART_S = 1.0
"""How often ended processes are looked for and started again."""


class Cluster:
    """All processes of a cluster. Each can be stopped, killed and frozen alone (see Child). `start` starts them.

    `settings` are LORESTREAM_* variables of the services, besides the addresses, which are set here. If they contain
    LORESTREAM_STORE__URL, there is no stand-in (`store` is None). LORESTREAM_* variables of this process are not passed
    on. The `environment` of a single service may be changed until it starts. `directory` holds the data.
    """

    def __init__(
        self,
        directory: Path,
        *,
        gateways: int = 2,
        workers: int = 2,
        queries: int = 1,
        brokers: int = 1,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        grpc_port: int | None = None,
    ) -> None:
        directory = directory.absolute()
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        given = dict(settings or {})
        ours = {name: value for name, value in os.environ.items() if not name.startswith("LORESTREAM_")}
        self.brokers = kafka.brokers(directory / "kafka", brokers)
        self.kafka = self.brokers[0]
        self.redis = RedisServer(directory / "redis")
        self.store = (
            None if "LORESTREAM_STORE__URL" in given else StandIn(directory / "store", {**ours, **given})
        )
        self._environment = {
            **ours,
            "PYTHONUNBUFFERED": "1",
            "LORESTREAM_LOG__BOOTSTRAP": ",".join(one.bootstrap for one in self.brokers),
            "LORESTREAM_CACHE__URL": self.redis.url,
            "LORESTREAM_PLAYER_KEY_FILE": str(_player_key(directory)),
            **given,
        }
        if self.store is not None:
            self._environment["LORESTREAM_STORE__URL"] = self.store.url
            self._environment["LORESTREAM_STORE__GRPC_PORT"] = str(self.store.grpc_port)
        self.gateways = [self._service("gateway", number) for number in range(gateways)]
        if self.gateways:  # for /mcp of the query services
            self._environment.setdefault("LORESTREAM_GATEWAY_URL", self.gateways[0].url)
        self.workers = [self._service("worker", number) for number in range(workers)]
        self.queries = [self._service("query", number) for number in range(queries)]
        self.nginx = Nginx(
            directory / "nginx",
            gateways=[(each.port, each.grpc_port) for each in self.gateways],
            queries=[(each.port, each.grpc_port) for each in self.queries],
            port=port,
            grpc_port=grpc_port,
        )
        self.url = self.nginx.url
        self.grpc_address = f"{LOOPBACK}:{self.nginx.grpc_port}"

    @property
    def engines(self) -> list[Child]:
        """Kafka, Redis and, if it is local, the store."""
        return [*self.brokers, self.redis, *([self.store] if self.store else [])]

    @property
    def services(self) -> list[Service]:
        """The processes of Lorestream: gateways, workers, query services."""
        return [*self.gateways, *self.workers, *self.queries]

    def start(self) -> Self:
        """Start all processes and wait until they are ready. Raises NotInstalled and NotReady, after stopping them."""
        try:
            _start(self.engines)
            _start(self.services)
            self.nginx.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop nginx, then the services, then the engines. Processes that do not end in time are killed."""
        _stop([self.nginx])
        _stop(self.services)
        _stop(self.engines)

    def add_worker(self) -> Service:
        """Start another worker, and return it once it is ready."""
        worker = self._service("worker", len(self.workers))
        self.workers.append(worker)
        return worker.start()

    def ended(self) -> Iterator[Child]:
        """The processes that have ended."""
        return (each for each in (*self.engines, *self.services, self.nginx) if not each.alive)

    def _service(self, verb: str, number: int) -> Service:
        name = f"{verb}-{number + 1}"
        return Service(name, self.directory / name, self._environment, verb)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _start(children: Iterable[Child]) -> None:
    for child in [each.spawn() for each in children]:
        child.wait_ready()


def _stop(children: Iterable[Child]) -> None:
    stopping = list(children)
    for child in stopping:
        child.terminate()
    for child in stopping:
        child.wait_end()


def _player_key(directory: Path) -> Path:
    path = directory / "player_key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(f"k1:{secrets.token_hex(32)}\n", encoding="ascii")
    return path


# --- make cluster ----------------------------------------------------------------------------------------------


def main() -> int:
    """Run a cluster until SIGINT, SIGTERM or SIGHUP. A process that ends by itself is started again."""
    options = _options()
    settings = {name: value for name, value in os.environ.items() if name.startswith("LORESTREAM_")}
    cluster = Cluster(
        options.directory,
        gateways=options.gateways,
        workers=options.workers,
        queries=options.queries,
        brokers=options.brokers,
        settings=settings,
        port=options.port,
        grpc_port=options.grpc_port,
    )
    for signum in STOPPING:
        signal.signal(signum, _stop_once)
    started = time.monotonic()
    try:
        _print("starting Kafka, Redis, the store, the services, nginx")
        with cluster:
            _describe(cluster, time.monotonic() - started)
            while True:
                time.sleep(RESTART_S)
                _restart_ended(cluster)
    except KeyboardInterrupt:
        return 0
    except (NotInstalled, NotReady) as error:
        _print(str(error))
        return 1


def _stop_once(_signum: int, _frame: FrameType | None) -> None:
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_IGN)  # a second signal must not interrupt the stop
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    parser.add_argument("directory", type=Path, help="directory of the data and logs")
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument(
        "--brokers", type=int, default=1, help="Kafka brokers; with 3, LORESTREAM_LOG__REPLICATION=3"
    )
    parser.add_argument("--port", type=int, default=8080, help="HTTP port of nginx")
    parser.add_argument("--grpc-port", type=int, default=50_051, help="gRPC port of nginx")
    return parser.parse_args()


def _describe(cluster: Cluster, seconds: float) -> None:
    store = os.environ.get("LORESTREAM_STORE__URL") if cluster.store is None else cluster.store.url
    lines = [
        f"ready after {seconds:.0f} s",
        f"  {'HTTP':14}{cluster.url}  (docs at {cluster.url}/docs)",
        f"  {'gRPC':14}{cluster.grpc_address}",
        f"  {'store':14}{store}"
        + ("  (a stand-in: set LORESTREAM_STORE__URL to use a Qdrant server)" if cluster.store else ""),
        f"  {'Kafka':14}{','.join(one.bootstrap for one in cluster.brokers)}",
        f"  {'Redis':14}{cluster.redis.url}",
        *(f"  {each.name:14}{each.url}  process {each.pid}" for each in cluster.services),
        f"  {'logs':14}{cluster.directory}/*/*.log",
        "Ctrl-C stops all of it",
    ]
    _print("\n".join(lines))


def _restart_ended(cluster: Cluster) -> None:
    for child in cluster.ended():
        _print(
            f"{child.name} ended with exit code {child.exit_code}, starting it again; log: {child.log_path}"
        )
        child.spawn()


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
