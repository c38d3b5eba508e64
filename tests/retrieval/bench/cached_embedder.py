"""An embedder that keeps its vectors in a file, so that a second run does not compute them again."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lorestream.ports import Embedder, Embeddings, Priority, Role, StoredVectors

_AT_ONCE = 256
_BUSY_S = 60.0


class CachedEmbedder:
    """`lorestream.ports.Embedder` over another one. The key of a vector: model, role of the text, text."""

    def __init__(self, inner: Embedder, file: sqlite3.Connection) -> None:
        self._inner = inner
        self._file = file
        self.computed = 0
        """Texts for which the model was asked."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def embed(
        self,
        texts: Sequence[str],
        priority: Priority = Priority.INGEST,
        role: Role = Role.PASSAGE,
        *,
        stored: StoredVectors | None = None,
    ) -> Embeddings:
        """As the embedder itself does; the file serves as what is stored."""
        del stored
        keys = [self._key(role, text) for text in texts]
        known = self._find(keys)
        missing = [
            (key, text) for key, text in dict(zip(keys, texts, strict=True)).items() if key not in known
        ]
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            made = await self._inner.embed([text for _, text in part], priority, role)
            self.computed += len(part)
            rows = [
                (key, np.asarray(vector, np.float32).tobytes(), cut)
                for (key, _), vector, cut in zip(part, made.vectors, made.truncated, strict=True)
            ]
            with self._file:
                self._file.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", rows)
        found = self._find(keys)
        vectors = np.frombuffer(b"".join(found[key][0] for key in keys), np.float32)
        return Embeddings(vectors.reshape(len(keys), self._inner.dim), [found[key][1] for key in keys])

    def _key(self, role: Role, text: str) -> bytes:
        return hashlib.sha256(f"{self._inner.model_id}\0{role.value}\0{text}".encode()).digest()

    def _find(self, keys: Sequence[bytes]) -> dict[bytes, tuple[bytes, bool]]:
        found: dict[bytes, tuple[bytes, bool]] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(part))
            rows = self._file.execute(f"SELECT key, vector, cut FROM vectors WHERE key IN ({marks})", part)
            found |= {key: (vector, bool(cut)) for key, vector, cut in rows}
        return found


@contextlib.contextmanager
def vector_file(directory: Path) -> Iterator[sqlite3.Connection]:
    """The file of vectors in this directory, which several runs may use at the same time."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(directory / "vectors.sqlite", timeout=_BUSY_S)) as file:
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = OFF")
        file.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB, cut INTEGER)")
        yield file
