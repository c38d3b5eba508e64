"""Serves a prepared model in OpenVINO on this machine's processor. Loading takes half a second."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorestream.adapters.embedders import model_files
from lorestream.adapters.embedders.dense_heads import HEAD, DenseHead
from lorestream.adapters.embedders.model_files import HIDDEN_STATES, ModelFiles
from lorestream.adapters.embedders.openvino_network import Network
from lorestream.adapters.embedders.queue import OnTexts, Precision, QueuedEmbedder
from lorestream.adapters.embedders.same_tokens import same_tokens
from lorestream.adapters.embedders.texts import characters_read, special_ends
from lorestream.errors import Misconfigured
from lorestream.ports import Embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _OpenVinoEncoder:
    def __init__(self, files: ModelFiles, *, threads: int, device: str, exact: bool) -> None:
        manifest = files.manifest
        self.model_id = files.model_id
        self.dim = manifest.dim
        self.prefixes = manifest.prefixes
        self._max_tokens = manifest.max_tokens
        self.max_characters = characters_read(self._max_tokens)
        self._pooling = manifest.pooling
        self._head = DenseHead(files.directory / HEAD, manifest.dense) if manifest.dense else None
        network = Network(files, HIDDEN_STATES, threads=threads, device=device, exact=exact)
        self._tokenizer = network.tokenizer
        self.same_tokens = same_tokens(self._tokenizer)
        self._special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        self._special_ends = special_ends(self._tokenizer)
        self._request = network.request()
        self._token_request = network.request()
        """Not that of `encode`, because `token_vectors` is called from another thread."""

    def encode(self, texts: Sequence[str]) -> Embeddings:
        tokens, truncated = zip(*map(self._tokens, texts), strict=True)
        hidden, mask = self._request.infer(tokens)
        if self._pooling == "cls":
            vectors = hidden[:, 0].astype(np.float32)
        else:
            # The mean over the tokens, without the division: the vector is scaled to length 1 below.
            vectors = np.einsum("ntd,nt->nd", hidden, mask.astype(np.float32))
        if self._head is not None:
            if self._pooling == "mean":
                vectors /= mask.sum(axis=1, keepdims=True)
            vectors = self._head(vectors)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors, truncated)

    def token_vectors(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        tokens = [self._tokens(text)[0] for text in texts]
        hidden, _ = self._token_request.infer(tokens)
        before, behind = self._special_ends
        return [
            hidden[row, before : len(numbers) - behind].astype(np.float32)
            for row, numbers in enumerate(tokens)
        ]

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _tokens(self, text: str) -> tuple[Sequence[int], bool]:
        """At most `max_tokens` token ids, special tokens included, and whether the text has more of them."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        limit = self._max_tokens - self._special
        cut = len(encoding.ids) > limit
        encoding.truncate(limit)
        return self._tokenizer.post_process(encoding).ids, cut


class OpenVinoEmbedder(QueuedEmbedder):
    """`lorestream.ports.Embedder` over a prepared model."""

    @classmethod
    def open(
        cls,
        model_dir: Path,
        *,
        threads: int = 0,
        device: str = "CPU",
        precision: Precision = "auto",
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        on_texts: OnTexts | None = None,
    ) -> OpenVinoEmbedder:
        """Load the prepared model in `model_dir`, and verify its files meanwhile. Blocks for half a second.

        `threads`: 0 = as many as cores. `device`: as OpenVINO names it. `precision`: "fp32", or "auto", see
        `openvino_network.precision`. The rest as in `QueuedEmbedder`. Raises ModelMissing, and Misconfigured for damaged
        files, an unknown device or another precision.
        """
        if precision == "fp16":
            raise Misconfigured(
                "LORESTREAM_EMBEDDER__PRECISION is fp16, which is for LORESTREAM_EMBEDDER__KIND=torch on a GPU: set it to auto"
            )
        files = model_files.read(model_dir)
        if files.manifest.kind != "embedder":
            raise Misconfigured(
                f"LORESTREAM_EMBEDDER__MODEL: {files.manifest.name} is a cross-encoder, which gives no vectors: set it"
                " as LORESTREAM_RERANKER__MODEL"
            )
        with ThreadPoolExecutor(1) as pool:
            verified = pool.submit(model_files.verify, files)
            try:
                encoder = _OpenVinoEncoder(files, threads=threads, device=device, exact=precision == "fp32")
            finally:
                verified.result()  # says more than the error of a network that does not load
        return cls(encoder, queue_texts=queue_texts, cache_entries=cache_entries, on_texts=on_texts)
