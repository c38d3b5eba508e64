"""A Qdrant Edge shard in a directory of its own: created, locked, and checked against the model that fills it.

    lock          held while the store is open
    store.json    model, dimension, schema and layout of the words of the content of `shard`
    shard         Edge's own files
    shard.new     a shard that is being created; deleted when a crash left it
    shard.old     a shard of an older schema that is being deleted; deleted when a crash left it

A shard gets its name only when it is complete, so that after a crash at any moment there is one that loads, or none.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Literal, TypeAlias, cast

import msgspec
import qdrant_edge as edge

from lorestream import durable
from lorestream.adapters.qdrant.edge.messages import VECTOR, WORDS, EdgeError, translate_errors
from lorestream.adapters.qdrant.payload import FLOAT_INDEX_KEYS, READABLE_SCHEMAS, SCHEMA_VERSION
from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT, FIRST_LAYOUT, Words, open_words
from lorestream.durable import LockHeld, ProcessLock
from lorestream.errors import Misconfigured, ModelMismatch, Unavailable

_SHARD = "shard"
_OLD_SHARD = "shard.old"
_METADATA_FILE = "store.json"
RECLAIMABLE = "dead.json"
"""The file in which the store keeps how much a compaction would free (see store.py)."""


VectorType: TypeAlias = 'Literal["float32", "float16"]'
_DATATYPES = {
    "float32": None,
    "float16": edge.VectorStorageDatatype.Float16,
}
_MAKE_ROOM = f"{durable.MAKE_ROOM} and start again"


class StoreMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The content of `store.json`: the model that filled the shard, and the schema of its points."""

    model_id: str
    dim: int
    schema: int
    words: str = FIRST_LAYOUT
    """The layout of the words, an argument of `open_words`."""
    vectors: VectorType = "float32"
    """How the components of vectors are stored."""


def open_shard(
    directory: Path,
    *,
    model_id: str,
    dim: int,
    words: str = DEFAULT_LAYOUT,
    vectors: VectorType = "float32",
) -> tuple[edge.EdgeShard, ProcessLock, Words]:
    """Lock a directory and load its shard, or create one. Raises Misconfigured, ModelMismatch.

    `words`, `vectors`: how a shard that is created stores words and vectors. Returns the layout of the words of the shard.
    """
    try:
        durable.private_directory(directory)
        lock = ProcessLock(directory / "lock")
    except LockHeld as error:
        raise Misconfigured(
            f"{directory} is in use by another lorestream (process {error.holder}): stop that one, or start with"
            " another --data"
        ) from error
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        shard, layout = _open_locked(directory, StoreMetadata(model_id, dim, SCHEMA_VERSION, words, vectors))
    except OSError as error:
        lock.release()
        raise _unwritable(directory, error) from error
    except BaseException:
        lock.release()
        raise
    return shard, lock, layout


def find_outdated(directory: Path, model_id: str, dim: int) -> StoreMetadata | None:
    """What `store.json` says of a shard with an older schema than this code's; None when there is no such shard.

    Raises ModelMismatch when another model filled it.
    """
    try:
        metadata = msgspec.json.decode((directory / _METADATA_FILE).read_bytes(), type=StoreMetadata)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None  # `open_shard` creates what is missing, and refuses what cannot be read
    if metadata.schema >= SCHEMA_VERSION or not exists(directory):
        return None
    _check_model(directory, metadata, model_id, dim)
    return metadata


def layout_of_shard(directory: Path) -> str | None:
    """The layout of the words in a directory that another process may have open; None if there is no shard."""
    try:
        return msgspec.json.decode((directory / _METADATA_FILE).read_bytes(), type=StoreMetadata).words
    except (OSError, msgspec.DecodeError, RecursionError):
        return None


def exists(directory: Path) -> bool:
    """Whether there is a complete shard in the directory."""
    return (directory / _SHARD).exists()


def count_points(directory: Path) -> int:
    """The number of points of a shard that is not open. 0 when Edge cannot load it, because it is too old."""
    try:
        with translate_errors():
            loaded = edge.EdgeShard.load(str(directory / _SHARD))
            points = loaded.info().points_count
            loaded.close()
    except Unavailable:
        return 0
    return points


def empty(directory: Path) -> None:
    """Delete the shard of a directory that no process has open. `open_shard` then creates an empty one.

    Raises Misconfigured when the directory cannot be written.
    """
    try:
        durable.remove_tree(directory / _OLD_SHARD)
        durable.rename(directory / _SHARD, directory / _OLD_SHARD)
        durable.remove_file(directory / RECLAIMABLE)
        durable.remove_tree(directory / _OLD_SHARD)
    except OSError as error:
        raise _unwritable(directory, error) from error


async def create_in_subprocess(
    directory: Path, *, model_id: str, dim: int, words: str, vectors: VectorType = "float32"
) -> None:
    """Create the shard of a directory in another process: Edge stops all threads of the process for up to seconds.

    Raises Unavailable when it could not be created.
    """
    # -P: without it a msgspec.py in the current directory would be imported instead of the package.
    arguments = ("-P", "-m", __name__, str(directory), model_id, str(dim), words, vectors)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, errors = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        reason = (errors.decode(errors="replace").strip().splitlines() or ["it was killed"])[-1]
        raise Unavailable(f"the store {directory} could not be created ({reason})")


def _open_locked(directory: Path, metadata: StoreMetadata) -> tuple[edge.EdgeShard, Words]:
    shard_path, new_shard, metadata_file = (
        directory / _SHARD,
        directory / "shard.new",
        directory / _METADATA_FILE,
    )
    durable.remove_temporaries(directory)
    if not shard_path.exists():
        if new_shard.exists():
            shutil.rmtree(new_shard)
        _create(new_shard, metadata)
        durable.write_file(metadata_file, msgspec.json.encode(metadata))
        durable.rename(new_shard, shard_path)
    shutil.rmtree(directory / _OLD_SHARD, ignore_errors=True)
    found = _read(metadata_file)
    _check(directory, found, metadata)
    words = open_words(found.words)

    def unreadable(error: EdgeError) -> Misconfigured:
        advice = _MAKE_ROOM if error.full else refill_advice(directory)
        return Misconfigured(f"{shard_path} cannot be loaded ({error.message}): {advice}")

    with translate_errors(unreadable):
        shard = edge.EdgeShard.load(str(shard_path))
        _create_missing_indexes(shard)
        return shard, words


def _create(path: Path, metadata: StoreMetadata) -> None:
    def refused(error: EdgeError) -> Misconfigured:
        advice = _MAKE_ROOM if error.full else "start with another --data"
        return Misconfigured(f"no store can be created in {path.parent} ({error.message}): {advice}")

    with translate_errors(refused):
        shard = edge.EdgeShard.create(str(path), _config(metadata))
        _create_missing_indexes(shard)
        shard.flush()
        shard.close()


def _config(metadata: StoreMetadata) -> edge.EdgeConfig:
    """No graph index, and one thread per search.

    By default Edge uses eight threads for the few segments of a search: measured with 30 memories of an agent, that
    takes three times the CPU time and 1.5 times as long; with 20,000 memories it is no faster.
    """
    parameters = edge.EdgeVectorParams(
        metadata.dim, edge.Distance.Cosine, datatype=_DATATYPES[metadata.vectors]
    )
    vectors = {VECTOR: parameters}
    words = {WORDS: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)}
    flat = edge.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=10_000)
    return edge.EdgeConfig(vectors, words, hnsw_config=flat, max_search_threads=1)


def _create_missing_indexes(shard: edge.EdgeShard) -> None:
    """Create the indexes that a shard lacks: all of a new one, and those that a newer version has added.

    An index takes about 8 microseconds per point.
    """
    present = shard.info().payload_schema
    for key, schema in _indexes().items():
        if key not in present:
            shard.update(edge.UpdateOperation.create_field_index(key, schema))


def _indexes() -> dict[str, edge.PayloadSchemaParams]:
    keyword = edge.KeywordIndexParams
    return {
        "agent": keyword(is_tenant=True),
        "tenant": keyword(),
        "type": keyword(),
        "server": keyword(),
        "player": keyword(),
        "agent_player": keyword(),
        "owner": keyword(),
        "group": keyword(),
        "facts": edge.IntegerIndexParams(lookup=True, range=False),
        "t": edge.IntegerIndexParams(lookup=False, range=True),
        "accepted": edge.IntegerIndexParams(lookup=False, range=True),
        "expires": edge.IntegerIndexParams(lookup=False, range=True),
        "row_expires": edge.IntegerIndexParams(lookup=False, range=True),
        "deleted": edge.IntegerIndexParams(lookup=False, range=True),
        **{key: edge.FloatIndexParams() for key in FLOAT_INDEX_KEYS},
    }


def _check(directory: Path, found: StoreMetadata, wanted: StoreMetadata) -> None:
    _check_model(directory, found, wanted.model_id, wanted.dim)
    if found.schema not in READABLE_SCHEMAS:
        raise Misconfigured(
            f"{directory} has schema {found.schema}, this lorestream writes {wanted.schema}:"
            " start the version that wrote it, or with another --data"
        )


def _check_model(directory: Path, found: StoreMetadata, model_id: str, dim: int) -> None:
    if (found.model_id, found.dim) != (model_id, dim):
        raise ModelMismatch(
            f"{directory} was filled by {found.model_id} ({found.dim} dimensions), not by {model_id} ({dim}):"
            " start with that model, or with another --data"
        )


def _read(metadata_file: Path) -> StoreMetadata:
    try:
        return msgspec.json.decode(metadata_file.read_bytes(), type=StoreMetadata)
    except (FileNotFoundError, msgspec.DecodeError, RecursionError) as error:
        raise Misconfigured(
            f"{metadata_file} is missing or damaged, so the model of the store is unknown:"
            f" {refill_advice(metadata_file.parent)}"
        ) from error


def _unwritable(directory: Path, error: OSError) -> Misconfigured:
    return Misconfigured(
        f"{directory} cannot be written ({error.strerror}): {durable.remedy(error)}, or start with another --data"
    )


def refill_advice(directory: Path) -> str:
    """What to do when a part of the store is damaged. Doing so loses nothing that the log still holds."""
    return (
        f"move {directory} away and start again, which fills the store from the log as far as the log goes back,"
        " or restore a snapshot into another --data"
    )


if __name__ == "__main__":
    try:
        opened = open_shard(
            Path(sys.argv[1]),
            model_id=sys.argv[2],
            dim=int(sys.argv[3]),
            words=sys.argv[4],
            vectors=cast("VectorType", sys.argv[5]),
        )
        opened[0].close()
    except Misconfigured as refused:
        sys.exit(str(refused))
