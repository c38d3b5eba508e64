"""Fixtures for a real Luanti server. Tests are skipped if it is not installed, and fail in CI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.brokers import missing_is_skipped
from tests.luanti.gateway import RecordingGateway
from tests.luanti.server import CLIENT_NAMES, SERVER_NAMES, RealClient, RealServer, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start a server."""
    for item in items:
        if "new_server" in getattr(item, "fixturenames", ()):
            item.add_marker("luanti")


@pytest.fixture
def gateway() -> Iterator[RecordingGateway]:
    """A running recording gateway."""
    with RecordingGateway() as running:
        yield running


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., RealServer]]:
    """Creates servers (arguments of RealServer after the folder) that are stopped at the end of the test."""
    with missing_is_skipped():
        find(SERVER_NAMES)
    made: list[RealServer] = []

    def make(url: str, **options: object) -> RealServer:
        made.append(RealServer(tmp_path / f"server-{len(made)}", url, **options))  # pyright: ignore[reportArgumentType]
        return made[-1]

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Callable[[RealServer, str], RealClient]]:
    """Lets a real client join a server under a name; it leaves at the end of the test."""
    with missing_is_skipped():
        find(CLIENT_NAMES)
    made: list[RealClient] = []

    def enter(server: RealServer, name: str) -> RealClient:
        made.append(RealClient(tmp_path / f"client-{len(made)}", server, name))
        return made[-1].start()

    yield enter
    for client in made:
        client.stop()
