"""Fixtures that every part of the suite may use."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from lorestream.telemetry import set_up_logging
from tests.processes import HASH, LorestreamProcess, running

pytest_plugins = ["tests.brokers", "tests.qdrant_stand_in.fixtures"]
IN_MEMORY = Path("/dev/shm")
ROOM = 2 * 2**30
"""In bytes: more than twice what three processes take at most."""
WHOLE_SYSTEMS = ("deploy", "e2e", "luanti")


def pytest_configure() -> None:
    """Log lines as a service writes them, so that their cost and their shape are the real ones.

    And no example has a deadline: how long one takes says more about the machine than about the code.
    """
    set_up_logging("json", "warning")
    settings.register_profile(
        "lorestream", settings.get_profile(settings.get_current_profile_name()), deadline=None
    )
    settings.load_profile("lorestream")
    # A broker of ours lives for seconds: the better of Java's two compilers only takes CPU time from its start.
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
    _temporary_files_in_memory()


def _temporary_files_in_memory() -> None:
    """Stores that live for one test: to make one takes a thousand syncs, for which disks are slow.

    What tests keep under `tmp_path` stays on the disk. Where memory has no room, as in most containers, so does this.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= ROOM:
        tempfile.tempdir = tempfile.mkdtemp(prefix="lorestream-tests-", dir=IN_MEMORY)


def pytest_unconfigure() -> None:
    """Leave nothing behind in memory."""
    if tempfile.tempdir is not None and Path(tempfile.tempdir).parent == IN_MEMORY:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
        tempfile.tempdir = None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with whole systems between those with parts, so that few of them run at once, and none at the end."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    parts = [path for path in files if path.parent.name not in WHOLE_SYSTEMS]
    order: list[Path] = []
    for whole in (path for path in files if path.parent.name in WHOLE_SYSTEMS):
        order += [whole, *parts[:3]]
        del parts[:3]
    items[:] = [item for path in (*order, *parts) for item in files[path]]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A verb that runs in the test's own process sets up logging, on a stream that ends with the test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def lorestream_hash(tmp_path: Path) -> Iterator[LorestreamProcess]:
    """A real `lorestream up` with the hash embedder, on an empty data directory."""
    with running(tmp_path / "lorestream", HASH) as process:
        yield process


@pytest.fixture
def lorestream_url(lorestream_hash: LorestreamProcess) -> str:
    """The base URL of a real lorestream on an empty data directory."""
    return lorestream_hash.url
