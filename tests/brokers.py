"""Fixtures of the real engines: Kafka, Redis, a cluster of all services. Skipped where one is not installed; a failure in CI.

Every test can use them, by `pytest_plugins` of tests/conftest.py. The Kafka broker is one for all processes of a run,
the Redis server one for each process: tests use names of their own there (`unique`). The fixtures `own_…` are for
tests that stop, kill or freeze an engine.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

from deploy.local.cluster import Cluster
from deploy.local.kafka import KafkaBroker
from deploy.local.process import Child, NotInstalled
from deploy.local.redis_server import RedisServer

C = TypeVar("C", bound=Child)

SHARED_CLUSTER = {
    "LORESTREAM_EMBEDDER__KIND": "hash",
    "LORESTREAM_LOG__SESSION_TIMEOUT_S": "6",
    "LORESTREAM_LOG__PARTITIONS": "4",
}


@contextmanager
def missing_is_skipped() -> Generator[None]:
    """Skip the test, or fail it in CI, when a program that is needed inside is not installed."""
    try:
        yield
    except NotInstalled as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@contextmanager
def running(child: C) -> Generator[C]:
    """The child process, started. It is killed when the context ends, in whatever state the test left it."""
    with missing_is_skipped():
        child.start()
    try:
        yield child
    finally:
        child.kill()


class SharedBroker:
    """One Kafka broker for all pytest processes of a run: the first user starts it, the last one kills it.

    The file `users` holds its process id, its port and the number of its users; a file lock guards it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._users = directory / "users"
        directory.mkdir(exist_ok=True)
        self._lock = FileLock(directory / "lock")

    def acquire(self) -> KafkaBroker:
        """The broker, started if this is the first user."""
        with self._lock:
            state = self._read()
            if state is None:
                broker = KafkaBroker(self._directory / "kafka", jvm=("-Xmx768m",))
                broker.start()
                state = {"pid": broker.pid, "port": broker.port, "users": 0}
                _detach(broker)
            self._write({**state, "users": state["users"] + 1})
        return KafkaBroker(self._directory / "kafka", port=state["port"])

    def release(self) -> None:
        """Kill the broker if this was the last user."""
        with self._lock:
            state = self._read()
            if state is not None and state["users"] > 1:
                self._write({**state, "users": state["users"] - 1})
            else:
                self._kill(state)

    def kill(self) -> None:
        """Kill a broker that is still there, because a process ended without releasing it."""
        with self._lock:
            self._kill(self._read())

    def _kill(self, state: dict[str, int] | None) -> None:
        if state is not None:
            with suppress(ProcessLookupError):
                os.kill(state["pid"], signal.SIGKILL)
            self._users.unlink()

    def _read(self) -> dict[str, int] | None:
        return json.loads(self._users.read_text()) if self._users.exists() else None

    def _write(self, state: dict[str, int]) -> None:
        self._users.write_text(json.dumps(state))


def _detach(broker: KafkaBroker) -> None:
    """Let the broker run when this process ends: other processes may use it."""
    atexit.unregister(broker.kill)
    assert broker._child is not None
    broker._child.returncode = 0  # without one, subprocess warns of a process that still runs


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In the process that controls the others: kill a broker that a crashed test process has left."""
    directory = session.config._tmp_path_factory._basetemp
    if "PYTEST_XDIST_WORKER" not in os.environ and directory is not None and (directory / "shared").exists():
        SharedBroker(directory / "shared").kill()


@pytest.fixture
def unique() -> str:
    """A prefix for topics, groups and keys that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker for all tests of a run (`bootstrap`). Tests do not stop it."""
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    shared = SharedBroker(directory / "shared")
    with missing_is_skipped():
        broker = shared.acquire()
    try:
        yield broker
    finally:
        shared.release()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for the whole session (`url`). Tests do not stop or flush it."""
    with running(RedisServer(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker of the test's own, to stop, kill and freeze."""
    with running(KafkaBroker(tmp_path / "kafka")) as broker:
        yield broker


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to stop, kill, freeze and flush."""
    with running(RedisServer(tmp_path / "redis")) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The distributed shape with two gateways, two workers and a query service, for all files that need it.

    It has the settings SHARED_CLUSTER. A test may stop services, but starts them again, and drops the collections
    that it has made. conftest.py has all files that use it run in the same process.
    """
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), settings=SHARED_CLUSTER)
    with missing_is_skipped():
        cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()
