"""The reference of the embedders: what sentence-transformers computes in float32 for fixed texts, recorded in a file.

`make reference` records it anew, which needs torch; tests only read it. `make soak` compares it with torch itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorestream.adapters.embedders.torch import TorchEmbedder
from tests.models import REAL_MODEL
from tests.sentences import game_sentences

FILE = Path(__file__).parent / "fixtures" / "reference_vectors.npz"
UNUSUAL_TEXTS = [
    "",
    " \t\r\n ",
    "\0",
    "\x1b",
    "\x1b(c@#ff0000)red\x1b(c@#ffffff)",
    "\x1b(never closed",
    "\x1b(b@\\",
    "\x1bE",
    "😀🧙‍♀️👨‍👩‍👧‍👦",
    "lone \ud800 and \udfff surrogates",
    "مرحبا بالعالم",
    "e\u0301\u0323" * 50,
    "\u200b\ufeff\u202e",
    "x" * 100_000,
    "a b " * 25_000,
    "🪓" * 100_000,
    "\n" * 100_000,
]


@dataclass(frozen=True, slots=True)
class Reference:
    """`vectors`: float32 of shape (texts, 384). `truncated`, `tokens`: of each text."""

    texts: list[str]
    model_id: str
    vectors: np.ndarray
    truncated: list[bool]
    tokens: list[int]


def texts() -> list[str]:
    """The 400 sentences and the unusual texts of which the vectors are recorded."""
    return [*game_sentences(400, seed=5), *UNUSUAL_TEXTS]


def load() -> Reference:
    """The recorded reference. Fails when the texts are not those that were recorded."""
    with np.load(FILE) as recorded:
        assert str(recorded["texts_digest"]) == _digest(), "the texts have changed: type `make reference`"
        return Reference(
            texts=texts(),
            model_id=str(recorded["model_id"]),
            vectors=recorded["vectors"],
            truncated=recorded["truncated"].tolist(),
            tokens=recorded["tokens"].tolist(),
        )


async def compute() -> Reference:
    """The reference, computed by torch."""
    async with TorchEmbedder.open(REAL_MODEL, device="cpu") as embedder:
        embeddings = await embedder.embed(texts())
        return Reference(
            texts=texts(),
            model_id=embedder.model_id,
            vectors=embeddings.vectors,
            truncated=list(embeddings.truncated),
            tokens=[embedder.count_tokens(text) for text in texts()],
        )


def record(reference: Reference) -> None:
    """Write the reference to its file."""
    np.savez_compressed(
        FILE,
        texts_digest=_digest(),
        model_id=reference.model_id,
        vectors=reference.vectors,
        truncated=reference.truncated,
        tokens=reference.tokens,
    )


def _digest() -> str:
    return hashlib.sha256(repr(texts()).encode()).hexdigest()


if __name__ == "__main__":
    record(asyncio.run(compute()))
