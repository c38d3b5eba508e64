"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from engram.telemetry import set_up_logging
from tests.processes import EngramProcess, running

pytest_plugins = ["tests.brokers", "tests.qdrant_stand_in.fixtures"]
HASH = {"ENGRAM_EMBEDDER__KIND": "hash"}


def pytest_configure() -> None:
    """Log lines as a service writes them, so that their cost and their shape are the real ones.

    And no example has a deadline: how long one takes says more about the machine than about the code.
    """
    set_up_logging("json", "warning")
    settings.register_profile(
        "engram", settings.get_profile(settings.get_current_profile_name()), deadline=None
    )
    settings.load_profile("engram")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A verb that runs in the test's own process sets up logging, on a stream that ends with the test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def engram_hash(tmp_path: Path) -> Iterator[EngramProcess]:
    """A real `engram up` with the hash embedder, on an empty data directory."""
    with running(tmp_path / "engram", HASH) as process:
        yield process


@pytest.fixture
def engram_url(engram_hash: EngramProcess) -> str:
    """The base URL of a real engram on an empty data directory."""
    return engram_hash.url
