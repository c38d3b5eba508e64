"""A Qdrant Edge shard in a directory of its own: made, locked, and known by the model that fills it.

    lock          held while the store is open
    store.json    model, dimension and schema of what lies in `shard`
    shard         Edge's own files
    shard.new     a shard in the making; what a killed process leaves of it is thrown away

A shard appears under its name only when it is whole, so that a kill at any moment leaves one that loads.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import qdrant_edge as edge

from lorestream import durable
from lorestream.adapters.qdrant.payload import FLOAT_INDEX_KEYS, SCHEMA_VERSION
from lorestream.durable import LockHeld, ProcessLock
from lorestream.errors import Misconfigured, ModelMismatch, Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator

VECTOR = "dense"
WORDS = "words"
"""The names of the vectors."""


class About(msgspec.Struct, forbid_unknown_fields=False):
    """Who filled the shard, and how: what `store.json` holds."""

    model_id: str
    dim: int
    schema: int


@contextmanager
def translated() -> Generator[None]:
    """Edge's faults as Unavailable. It raises bare `Exception` for all of them; keep the body to its calls."""
    try:
        yield
    except Exception as error:
        raise Unavailable(f"Qdrant Edge: {_one_line(error)}") from error


def open_shard(directory: Path, *, model_id: str, dim: int) -> tuple[edge.EdgeShard, ProcessLock]:
    """Load the shard of a directory, or make one. Raises Misconfigured, ModelMismatch."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = ProcessLock(directory / "lock")
    except LockHeld as error:
        raise Misconfigured(
            f"{directory} is in use by another lorestream (process {error.holder}): stop that one, or start with"
            " another --data"
        ) from error
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        return _open_locked(directory, About(model_id, dim, SCHEMA_VERSION)), lock
    except OSError as error:
        lock.release()
        raise _unwritable(directory, error) from error
    except BaseException:
        lock.release()
        raise


async def make_elsewhere(directory: Path, *, model_id: str, dim: int) -> None:
    """Make the shard of a directory in a process of its own: it stops every thread of a process for up to seconds.

    What goes wrong there goes wrong again in `open_shard`, which then says it.
    """
    arguments = ("-m", __name__, str(directory), model_id, str(dim))
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=quiet, stderr=quiet)
    try:
        await process.wait()
    except BaseException:
        process.kill()
        raise


def _open_locked(directory: Path, about: About) -> edge.EdgeShard:
    final, making, label = directory / "shard", directory / "shard.new", directory / "store.json"
    if not final.exists():
        if making.exists():
            shutil.rmtree(making)
        _make(making, about.dim)
        durable.write_file(label, msgspec.json.encode(about))
        durable.rename(making, final)
    _compare(directory, _read(label), about)
    try:
        return edge.EdgeShard.load(str(final))
    except Exception as error:
        message = f"{final} cannot be loaded ({_one_line(error)}): move {directory} away and start again"
        raise Misconfigured(message) from error


def _make(path: Path, dim: int) -> None:
    try:
        shard = edge.EdgeShard.create(str(path), _config(dim))
        for key, schema in _indexes().items():
            shard.update(edge.UpdateOperation.create_field_index(key, schema))
        shard.flush()
        shard.close()
    except Exception as error:
        raise Misconfigured(f"no store can be made in {path.parent}: {_one_line(error)}") from error


def _config(dim: int) -> edge.EdgeConfig:
    """One search at a time, so one thread for it.

    Left to itself, Edge takes eight threads for the few segments of an agent's search: three times the CPU time and
    half as long again for 30 memories of an agent, and nothing gained with 20,000.
    """
    vectors = {VECTOR: edge.EdgeVectorParams(dim, edge.Distance.Cosine)}
    words = {WORDS: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)}
    flat = edge.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=10_000)
    return edge.EdgeConfig(vectors, words, hnsw_config=flat, max_search_threads=1)


def _indexes() -> dict[str, edge.PayloadSchemaParams]:
    keyword = edge.KeywordIndexParams
    return {
        "agent": keyword(is_tenant=True),
        "tenant": keyword(),
        "type": keyword(),
        "server": keyword(),
        "player": keyword(),
        "agent_player": keyword(),
        "facts": edge.IntegerIndexParams(lookup=True, range=False),
        "t": edge.IntegerIndexParams(lookup=False, range=True),
        "expires": edge.IntegerIndexParams(lookup=False, range=True),
        "deleted": edge.IntegerIndexParams(lookup=False, range=True),
        **{key: edge.FloatIndexParams() for key in FLOAT_INDEX_KEYS},
    }


def _compare(directory: Path, found: About, wanted: About) -> None:
    if found.schema != wanted.schema:
        message = (
            f"{directory} has schema {found.schema}, this lorestream writes {wanted.schema}:"
            " start the version that made it, or with another --data"
        )
        raise Misconfigured(message)
    if (found.model_id, found.dim) != (wanted.model_id, wanted.dim):
        message = (
            f"{directory} was filled by {found.model_id} ({found.dim} dimensions), not by {wanted.model_id}"
            f" ({wanted.dim}): start with that model, or with another --data"
        )
        raise ModelMismatch(message)


def _read(label: Path) -> About:
    try:
        return msgspec.json.decode(label.read_bytes(), type=About)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        message = f"{label} does not say what filled the store: move {label.parent} away and start again"
        raise Misconfigured(message) from error


def _unwritable(directory: Path, error: OSError) -> Misconfigured:
    return Misconfigured(f"{directory} cannot be written ({error.strerror}): start with another --data")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    open_shard(Path(sys.argv[1]), model_id=sys.argv[2], dim=int(sys.argv[3]))[0].close()
