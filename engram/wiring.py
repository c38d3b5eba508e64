"""The composition root: from settings to running parts, each adapter imported where it is chosen.

Everything opened here is closed in the opposite order when the context ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from engram.errors import InvalidEvent, Misconfigured
from engram.identity import Pseudonyms
from engram.settings import DAY_S, Settings
from engram.telemetry import Metrics

if TYPE_CHECKING:
    from engram.ports import Cache, Clock, Embedder, ErasureLedger, EventLog, VectorStore, Watermarks

_log = structlog.get_logger("engram")


class SystemClock:
    """The time of day as the machine has it."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of one process, open and ready."""

    settings: Settings
    log: EventLog
    ledger: ErasureLedger
    store: VectorStore
    cache: Cache | None
    watermarks: Watermarks
    embedder: Embedder
    pseudonyms: Pseudonyms
    metrics: Metrics
    clock: Clock
    trim: Callable[[], Awaitable[int]]
    """Removes what is past its retention from the log and the ledger; returns how many records went."""
    last_accepted_at: float
    """No acceptance may be stamped earlier, whatever the clock says."""


@contextlib.asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncGenerator[Runtime]:
    """Open every part that the settings ask for. Raises Misconfigured with one line that says what to do."""
    if settings.api_keys_file is not None:
        raise Misconfigured(
            "ENGRAM_API_KEYS_FILE: this version has no API keys; unset it and serve loopback only"
        )
    clock, metrics = SystemClock(), Metrics()
    async with contextlib.AsyncExitStack() as stack:
        home = _writable(settings.data_dir)
        state = home
        if settings.store.kind == "memory":
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="engram-")))
        else:
            stack.enter_context(_only_process(home))
        embedder = await _open_embedder(settings, home, metrics, stack)
        if settings.embedder.dim not in {None, embedder.dim}:
            raise Misconfigured(
                f"EMBEDDING_DIM is {settings.embedder.dim}, but {embedder.model_id} has {embedder.dim}:"
                f" set it to {embedder.dim} or leave it out"
            )
        log, ledger, trim, last = await _open_log(settings, state, clock, stack)
        store = await _open_store(settings, state, embedder, stack)
        runtime = Runtime(
            settings=settings,
            log=log,
            ledger=ledger,
            store=store,
            cache=_open_cache(settings),
            watermarks=_open_watermarks(),
            embedder=embedder,
            pseudonyms=_pseudonyms(settings, home),
            metrics=metrics,
            clock=clock,
            trim=trim,
            last_accepted_at=last,
        )
        _announce(runtime)
        yield runtime


def _announce(runtime: Runtime) -> None:
    settings = runtime.settings
    forgets = settings.store.kind == "memory"
    _log.info(
        "open",
        log="memory" if forgets else settings.log.kind,
        store=settings.store.kind,
        cache=settings.cache.kind,
        embedder=runtime.embedder.model_id,
        data=str(settings.data_dir),
    )
    if forgets:
        _log.warning("the log and the store forget everything at exit: ENGRAM_STORE__KIND=edge keeps it")


async def _open_embedder(
    settings: Settings, home: Path, metrics: Metrics, stack: contextlib.AsyncExitStack
) -> Embedder:
    chosen = settings.embedder

    def count(source: str, texts: int) -> None:
        metrics.embed_texts.labels(source).inc(texts)

    match chosen.kind:
        case "auto" | "openvino":
            from engram.adapters import model_files  # noqa: PLC0415
            from engram.adapters.openvino_embedder import OpenVinoEmbedder  # noqa: PLC0415

            model = model_files.find(chosen.model, home)
            embedder = OpenVinoEmbedder.open(
                model.directory, threads=chosen.threads, device=chosen.device or "CPU", on_texts=count
            )
            return await stack.enter_async_context(embedder)
        case "torch":
            from engram.adapters.torch_embedder import TorchEmbedder  # noqa: PLC0415

            torch = TorchEmbedder.open(
                chosen.model, device=chosen.device, threads=chosen.threads, on_texts=count
            )
            return await stack.enter_async_context(torch)
        case "hash":
            from engram.adapters.hash_embedder import HashEmbedder  # noqa: PLC0415

            return await stack.enter_async_context(HashEmbedder(chosen.dim or 384, on_texts=count))


async def _open_log(
    settings: Settings, state: Path, clock: Clock, stack: contextlib.AsyncExitStack
) -> tuple[EventLog, ErasureLedger, Callable[[], Awaitable[int]], float]:
    from engram import events  # noqa: PLC0415
    from engram.adapters.sqlite_database import Database  # noqa: PLC0415
    from engram.adapters.sqlite_ledger import SqliteErasureLedger  # noqa: PLC0415
    from engram.adapters.sqlite_log import SqliteLog  # noqa: PLC0415

    database = await stack.enter_async_context(Database.open(state / "log.sqlite3"))
    ledger = await SqliteErasureLedger.open(database, clock=clock)
    log = await stack.enter_async_context(
        SqliteLog.open(
            database,
            retention_s=settings.log.retention_days * DAY_S,
            max_bytes=settings.log.max_bytes,
            clock=clock,
        )
    )
    last = await log.last()
    floor = 0.0
    if last is not None:
        with contextlib.suppress(InvalidEvent):
            floor = events.decode(last).accepted_at

    async def trim() -> int:
        return await log.trim() + await ledger.trim()

    return log, ledger, trim, floor


async def _open_store(
    settings: Settings, state: Path, embedder: Embedder, stack: contextlib.AsyncExitStack
) -> VectorStore:
    from engram.adapters.qdrant_edge import EdgeStore  # noqa: PLC0415

    path = state / "store" / settings.store.collection
    return await stack.enter_async_context(EdgeStore.open(path, model_id=embedder.model_id, dim=embedder.dim))


def _open_cache(settings: Settings) -> Cache | None:
    if settings.cache.kind == "off":
        return None
    from engram.adapters.local_cache import LocalCache  # noqa: PLC0415

    return LocalCache(max_entries=settings.cache.max_entries, max_bytes=settings.cache.max_bytes)


def _open_watermarks() -> Watermarks:
    from engram.adapters.local_watermarks import LocalWatermarks  # noqa: PLC0415

    return LocalWatermarks()


def _pseudonyms(settings: Settings, home: Path) -> Pseudonyms:
    """The key from the settings, else the data directory's own, made at first start."""
    if settings.player_key is not None:
        return Pseudonyms.parse(settings.player_key.get_secret_value())
    path = home / "player.key"
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(f"k1:{secrets.token_hex(32)}\n", encoding="ascii")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # the first of two processes wins, and neither sees half a key
        draft.unlink()
    return Pseudonyms.parse(path.read_text(encoding="ascii").strip())


def _writable(home: Path) -> Path:
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise Misconfigured(
            f"the data directory {home} cannot be written ({error.strerror}): choose another with --data"
            " or ENGRAM_DATA_DIR"
        ) from error
    return home


@contextlib.contextmanager
def _only_process(home: Path) -> Generator[None]:
    """Hold the data directory for this process alone."""
    with (home / "lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise Misconfigured(
                f"the data directory {home} is in use by process {lock.read().strip() or 'unknown'}:"
                " stop that one, or choose another with --data"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
