"""What all tests share: logging, temporary files in memory, the order of the files, and a running lorestream."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpcore2
import pytest
import structlog
import typer.main
import typer.testing
from hypothesis import settings

from deploy.local import process as local_process
from lorestream.telemetry import set_up_logging
from tests import page_hints, zygote
from tests.processes import HASH, LorestreamProcess, running

pytest_plugins = ["tests.brokers", "tests.qdrant_stand_in.fixtures"]
ROOT = Path(__file__).parents[1]
IN_MEMORY = Path("/dev/shm")
FREE_BYTES_NEEDED = 6 * 2**30
"""More than twice what a run uses there."""
EXAMPLES = 50
WHOLE_SYSTEMS = ("deploy", "e2e", "luanti")
"""Folders whose tests start whole systems."""
ON_THE_SHARED_CLUSTER = frozenset(
    {
        "tests/deploy/test_cluster.py",
        "tests/e2e/test_erased_meanwhile.py",
        "tests/e2e/test_replay_distributed.py",
    }
)
"""Files that use the fixture `cluster`: they run one after the other in one process."""
SERVICES = frozenset(
    {
        "kafka",
        "own_kafka",
        "redis_server",
        "own_redis",
        "qdrant",
        "cluster",
        "lorestream_hash",
        "lorestream_url",
    }
)
"""Fixtures that start a process. Tests that use one get the marker `service`."""
SLOW = frozenset(
    {
        "test_answers_are_fresh",
        "test_call_paths",
        "test_cli",
        "test_client",
        "test_compaction",
        "test_context",
        "test_data_directory",
        "test_dead_letters",
        "test_disk_errors",
        "test_disk_matrix",
        "test_edge_refill",
        "test_edge_shard",
        "test_edge_steps",
        "test_erasures",
        "test_event_batch",
        "test_everything_accepted",
        "test_exact_filter",
        "test_exports",
        "test_gateway_fuzz",
        "test_grpc_access",
        "test_http_access",
        "test_http_embedder",
        "test_http_protocol",
        "test_http_request",
        "test_indexer",
        "test_indexer_group",
        "test_isolation",
        "test_kafka_connection",
        "test_key_file",
        "test_langgraph_store",
        "test_left_behind",
        "test_model_preparation",
        "test_narrate",
        "test_older_routes",
        "test_open_collections",
        "test_openapi",
        "test_pipeline",
        "test_player_agents",
        "test_qdrant_stand_in",
        "test_qdrant_wire",
        "test_rate_limits",
        "test_read_budget",
        "test_recall",
        "test_refusals",
        "test_replay",
        "test_rest",
        "test_retrieval",
        "test_server_snapshots",
        "test_simulator",
        "test_simulator_plan",
        "test_snapshots",
        "test_stop",
        "test_sweeper",
        "test_wiring",
        "test_worker",
        "test_zygote",
    }
)
"""Unit tests over real stores, with many generated examples or with waits: two seconds or more. They get the marker
`slow`."""


def pytest_configure() -> None:
    """Set up logging as a service does, so that log lines have their real cost and form.

    Hypothesis has no deadline for an example: its duration depends on the load of the machine. It makes EXAMPLES of them
    where a test names no number.
    """
    set_up_logging("json", "warning")
    current = settings.get_profile(settings.get_current_profile_name())
    settings.register_profile("lorestream", current, deadline=None, max_examples=EXAMPLES)
    settings.load_profile("lorestream")
    # Brokers run for seconds or minutes: Java's second compiler would cost more CPU time than it saves.
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
    # Each HTTP client would read the certificates of all authorities anew, which takes 50 ms of CPU time.
    httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)
    # Typer would read the signatures of all verbs anew for each command line, which takes 60 ms of CPU time.
    typer.main.get_command = typer.testing._get_command = functools.cache(typer.main.get_command)
    local_process.Child.popen = LorestreamProcess.popen = zygote.Popen
    # Ports of its own for each process of a run: otherwise two could choose the same one before its server listens.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw7").removeprefix("gw"))
    local_process.ports = local_process.ports[worker % 8 :: 8]
    _temporary_files_in_memory()


def _temporary_files_in_memory() -> None:
    """Put all temporary files into memory, those under `tmp_path` too, unless PYTEST_DEBUG_TEMPROOT names a directory.

    Making a store takes a thousand fsyncs: 0.1 s in memory, 1.5 s on a disk. The files are removed at the end. Where
    memory has no room, as in most containers, all files lie on the disk.
    """
    if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free >= FREE_BYTES_NEEDED:
        tempfile.tempdir = tempfile.mkdtemp(prefix="lorestream-tests-", dir=IN_MEMORY)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())


def pytest_unconfigure() -> None:
    """Remove the files in memory."""
    if tempfile.tempdir is not None and Path(tempfile.tempdir).parent == IN_MEMORY:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
        tempfile.tempdir = None


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import a share of the test files before all others, in each of several processes that collect the same ones.

    In a clean checkout pytest has to rewrite the assertions of every file, which takes 13 s of CPU time for all of
    them. It keeps the result: so each process rewrites its share, and reads those of the others.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes == 1:
        return
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    folders = [path for path in map(Path, session.config.args) if path.is_dir()]
    files = sorted(file.resolve() for folder in folders for file in folder.rglob("test_*.py"))
    for file in files[number % processes :: processes]:
        with contextlib.suppress(BaseException):  # the collection reports it
            importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files: those with whole systems between the others, so that few run at once and none at the end.

    Those on the shared cluster come first, because they take longest. Mark tests that use a service.
    """
    for item in items:
        if SERVICES & set(getattr(item, "fixturenames", ())) or item.path.parent.name in WHOLE_SYSTEMS:
            item.add_marker("service")
        if item.path.stem in SLOW:
            item.add_marker("slow")
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    parts = [path for path in files if path.parent.name not in WHOLE_SYSTEMS]
    order: list[Path] = []
    systems = [path for path in files if path.parent.name in WHOLE_SYSTEMS]
    for whole in sorted(systems, key=lambda path: _scope(path) != _CLUSTER_SCOPE):
        order += [whole, *parts[:3]]
        del parts[:3]
    items[:] = [item for path in (*order, *parts) for item in files[path]]


def pytest_collection_finish() -> None:
    """What only the processes need that run tests, not the one that distributes them.

    The garbage collector looks no more at what the collection has left, and less often at the rest: with its defaults
    it takes 8% of the CPU time of the tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    from lorestream.adapters.qdrant.edge import shard  # noqa: PLC0415
    from tests.empty_shards import create_in_this_process, written_from_first  # noqa: PLC0415

    shard._create = written_from_first(shard._create)
    shard.create_in_subprocess = create_in_this_process
    if (
        "PYTEST_XDIST_WORKER" in os.environ
    ):  # not where the tests run that compare times with what is promised
        page_hints.ignore()


_CLUSTER_SCOPE = "the shared cluster"


def _scope(path: Path | str) -> str:
    """Tests of one scope run in one process: those of a file, and those of all files on the shared cluster."""
    name = str(Path(path).relative_to(ROOT)) if Path(path).is_absolute() else str(path)
    return _CLUSTER_SCOPE if name in ON_THE_SHARED_CLUSTER else name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute the tests by scope over the processes of pytest-xdist."""
    from tests.distribution import ByScope  # noqa: PLC0415

    return ByScope(config, log, _scope)


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """A verb that runs in the test's own process sets up logging on a stream that ends with the test: undo that."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def lorestream_hash(tmp_path: Path) -> Iterator[LorestreamProcess]:
    """A real `lorestream up` with the hash embedder and an empty data directory."""
    with running(tmp_path / "lorestream", HASH) as process:
        yield process


@pytest.fixture
def lorestream_url(lorestream_hash: LorestreamProcess) -> str:
    """The base URL of `lorestream_hash`."""
    return lorestream_hash.url
