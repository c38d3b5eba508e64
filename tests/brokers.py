"""Fixtures of the real engines: a Kafka broker, a Redis server. Skipped where one is not installed, a failure in CI.

They reach every test by `pytest_plugins` of the conftest at the top. Those of the session are shared: tests take
names of their own there (`unique`). One that a test may stop, kill or freeze has the test's own life.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from deploy.local.kafka import KafkaBroker
from deploy.local.process import Child, NotInstalled
from deploy.local.redis_server import RedisServer

C = TypeVar("C", bound=Child)


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
    """It, started; gone at the end, whatever the test did to it."""
    with missing_is_skipped():
        child.start()
    try:
        yield child
    finally:
        child.kill()


@pytest.fixture
def unique() -> str:
    """A prefix for topics, groups and keys that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker for the whole session (`bootstrap`). Nobody stops it: the next test wants it too."""
    with running(KafkaBroker(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for the whole session (`url`). Nobody stops or flushes it: the next test wants it too."""
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
