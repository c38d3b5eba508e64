"""A cross-encoder in OpenVINO: a network that reads a query and a text as one input, and gives one number."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lorestream.adapters.embedders import model_files
from lorestream.adapters.embedders.model_files import LOGITS, ModelFiles
from lorestream.adapters.embedders.openvino_network import Network
from lorestream.adapters.embedders.reranker import LocalReranker
from lorestream.adapters.embedders.texts import characters_read
from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from lorestream.adapters.embedders.reranker import Compare


class _CrossEncoder:
    """`reranker.PairModel` over a prepared model."""

    def __init__(self, files: ModelFiles, *, threads: int, device: str) -> None:
        self.model_id = files.model_id
        self._characters = characters_read(files.manifest.max_tokens)
        network = Network(files, LOGITS, threads=threads, device=device)
        self._tokenizer = network.tokenizer
        self._tokenizer.enable_truncation(files.manifest.max_tokens, strategy="longest_first")
        self._request = network.request()

    def with_query(self, query: str) -> Compare:
        return partial(self._compare, query[: self._characters])

    def _compare(self, query: str, texts: Sequence[str]) -> list[float]:
        encodings = [self._tokenizer.encode(query, text[: self._characters]) for text in texts]
        logits, _ = self._request.infer([one.ids for one in encodings], [one.type_ids for one in encodings])
        scores: list[float] = (1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))).tolist()
        return scores


def open_cross_encoder(model_dir: Path, *, threads: int = 0, device: str = "CPU") -> LocalReranker:
    """Load the prepared cross-encoder in `model_dir`, and verify its files meanwhile. Blocks for half a second.

    `threads`: 0 = as many as cores. `device`: as OpenVINO names it. Raises ModelMissing, and Misconfigured for damaged
    files, an unknown device, or a model that is no cross-encoder.
    """
    files = model_files.read(model_dir)
    if files.manifest.kind != "reranker":
        raise Misconfigured(
            f"LORESTREAM_RERANKER__MODEL: {files.manifest.name} is an embedding model, and a cross-encoder is needed,"
            " such as cross-encoder/ms-marco-MiniLM-L6-v2"
        )
    with ThreadPoolExecutor(1) as pool:
        verified = pool.submit(model_files.verify, files)
        try:
            model = _CrossEncoder(files, threads=threads, device=device)
        finally:
            verified.result()  # says more than the error of a network that does not load
    return LocalReranker(model)
