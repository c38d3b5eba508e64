"""sentence-transformers: any of its models, on a GPU where there is one, and the reference of the tests."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from lorestream.adapters.embedders.model_files import model_id
from lorestream.adapters.embedders.model_preparation import Source, find_source
from lorestream.adapters.embedders.queue import OnTexts, QueuedEmbedder
from lorestream.adapters.embedders.text import beginning
from lorestream.errors import Misconfigured, Unavailable
from lorestream.ports import Embeddings


class _TorchEncoder:
    def __init__(self, source: Source, *, threads: int, device: str | None) -> None:
        # Imported by name, because torch is not installed where the types are checked.
        torch: Any = importlib.import_module("torch")
        sentence_transformers: Any = importlib.import_module("sentence_transformers")
        if threads:
            torch.set_num_threads(threads)
        try:
            self._model: Any = sentence_transformers.SentenceTransformer(
                str(source.directory), device=device, local_files_only=True
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise Misconfigured(f"{source.name} does not load in sentence-transformers: {error}") from error
        self._max_tokens = int(self._model.max_seq_length)
        # A tokenizer of its own: the model's changes its settings in every call, in the other thread.
        self._tokenizer = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.model_id = model_id(source.name, source.revision, _pooling(self._model))
        self.dim = self._vectors(["."]).shape[1]

    def encode(self, texts: Sequence[str]) -> Embeddings:
        seen, cut = zip(*(beginning(text, self._max_tokens) for text in texts), strict=True)
        room = self._max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=False)
        truncated = [was or self.count_tokens(text) > room for text, was in zip(seen, cut, strict=True)]
        return Embeddings(self._vectors(seen), truncated)

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _vectors(self, texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        try:
            made = self._model.encode(
                list(texts), batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False
            )
        except RuntimeError as error:
            raise Unavailable(f"sentence-transformers failed: {error}") from error
        return np.asarray(made, np.float32)


def _pooling(model: Any) -> str:  # noqa: ANN401 (a SentenceTransformer)
    """The same word as in a prepared model's manifest, so that the two share their collections."""
    modes: list[str] = []
    for module in model:
        if hasattr(module, "get_pooling_mode_str"):  # up to sentence-transformers 5
            modes.append(module.get_pooling_mode_str())
        elif hasattr(module, "pooling_mode"):
            modes += [module.pooling_mode] if isinstance(module.pooling_mode, str) else module.pooling_mode
    return "+".join(modes) or "own"


class TorchEmbedder(QueuedEmbedder):
    """`lorestream.ports.Embedder` over sentence-transformers in fp32."""

    @classmethod
    def open(
        cls,
        model: str,
        *,
        threads: int = 0,
        device: str | None = None,
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        on_texts: OnTexts | None = None,
    ) -> TorchEmbedder:
        """Load the model by name or directory; blocks for many seconds, and longer where it is downloaded.

        `device` as torch names it, None takes the best there is; `threads` 0 leaves torch's own number.
        Raises ModelMissing, and Misconfigured when sentence-transformers or the device is not there.
        """
        if importlib.util.find_spec("sentence_transformers") is None:
            raise Misconfigured(
                "sentence-transformers is not installed: run `pip install 'lorestream[torch]'`"
            )
        source = find_source(model, report=lambda line: None)  # noqa: ARG005
        encoder = _TorchEncoder(source, threads=threads, device=device)
        return cls(encoder, queue_texts=queue_texts, cache_entries=cache_entries, on_texts=on_texts)
