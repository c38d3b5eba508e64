"""sentence-transformers: serves any of its models, on a GPU where there is one.

This module is named after the backend; the library itself is imported by name, where it is needed.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from lorestream.adapters.embedders import prefixes
from lorestream.adapters.embedders.chunk_size import CHUNK_TEXTS, GPU_CHUNK_TEXTS
from lorestream.adapters.embedders.model_files import model_id
from lorestream.adapters.embedders.model_preparation import INSTALL_TORCH, ModelSource, find_source
from lorestream.adapters.embedders.queue import OnTexts, Precision, QueuedEmbedder
from lorestream.adapters.embedders.same_tokens import same_tokens
from lorestream.adapters.embedders.texts import characters_read, special_ends
from lorestream.errors import Misconfigured, Unavailable
from lorestream.ports import Embeddings


class _TorchEncoder:
    """`queue.Encoder` over a SentenceTransformer."""

    def __init__(self, source: ModelSource, *, threads: int, device: str | None, half: bool) -> None:
        # Imported by name, because torch is not installed where the types are checked.
        torch: Any = importlib.import_module("torch")
        sentence_transformers: Any = importlib.import_module("sentence_transformers")
        self._lock = threading.Lock()
        """`encode` and `token_vectors` are called from two threads, and the model's tokenizer serves one at a time."""
        if threads:
            torch.set_num_threads(threads)
        try:
            self._model: Any = sentence_transformers.SentenceTransformer(
                str(source.directory), device=device, local_files_only=True
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise Misconfigured(f"{source.name} does not load in sentence-transformers: {error}") from error
        self.on_gpu = self._model.device.type != "cpu"
        if half and not self.on_gpu:
            raise Misconfigured(
                f"LORESTREAM_EMBEDDER__PRECISION is fp16, but the device is {self._model.device.type}: fp16 is for a GPU; set"
                " it to auto"
            )
        self._half = half
        if half:
            self._model.half()
        self._max_tokens = int(self._model.max_seq_length)
        self.max_characters = characters_read(self._max_tokens)
        # A separate tokenizer: the model changes the settings of its own in every call, in the worker thread.
        self._tokenizer = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.same_tokens = same_tokens(self._tokenizer)
        self.prefixes = prefixes.of_model(source.name, getattr(self._model, "prompts", None) or {})
        self.model_id = model_id(source.name, source.revision, _pooling(self._model), self.prefixes)
        self.dim = self._vectors(["."]).shape[1]

    def encode(self, texts: Sequence[str]) -> Embeddings:
        limit = self._max_tokens - self._tokenizer.num_special_tokens_to_add(is_pair=False)
        return Embeddings(self._vectors(texts), [self.count_tokens(text) > limit for text in texts])

    def token_vectors(self, texts: Sequence[str]) -> list[np.ndarray[tuple[int, int], np.dtype[np.float32]]]:
        try:
            with self._lock:
                found = self._model.encode(
                    list(texts), prompt="", output_value="token_embeddings", show_progress_bar=False
                )
        except RuntimeError as error:
            raise Unavailable(f"sentence-transformers failed: {error}") from error
        before, behind = special_ends(self._tokenizer)
        return [np.asarray(one[before : len(one) - behind].float().cpu(), np.float32) for one in found]

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _vectors(self, texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        try:
            with self._lock:
                vectors = self._model.encode(
                    list(texts),
                    prompt="",  # the texts have their prefix; without this the model's default one would be added
                    batch_size=len(texts),
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
        except RuntimeError as error:
            raise Unavailable(f"sentence-transformers failed: {error}") from error
        found = np.asarray(vectors, np.float32)
        if self._half:  # their lengths are 1 only as exactly as float16 is
            found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found


def _pooling(model: Any) -> str:  # noqa: ANN401 (a SentenceTransformer)
    """The pooling mode as a prepared model's manifest names it, so that both embedders share their collections."""
    modes: list[str] = []
    for module in model:
        if hasattr(module, "get_pooling_mode_str"):  # up to sentence-transformers 5
            modes.append(module.get_pooling_mode_str())
        elif hasattr(module, "pooling_mode"):
            modes += [module.pooling_mode] if isinstance(module.pooling_mode, str) else module.pooling_mode
    return "+".join(modes) or "own"


class TorchEmbedder(QueuedEmbedder):
    """`lorestream.ports.Embedder` over sentence-transformers, in float32 unless float16 is wanted."""

    @classmethod
    def open(
        cls,
        model: str,
        *,
        threads: int = 0,
        device: str | None = None,
        precision: Precision = "auto",
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        on_texts: OnTexts | None = None,
    ) -> TorchEmbedder:
        """Load a model by its name or directory. Blocks for seconds, longer when it is downloaded.

        `device`: as torch names it, None = the best one present. `threads`: 0 = torch's default. `precision`: "fp16" on
        a GPU only; "auto" is "fp32". The rest as in `QueuedEmbedder`; a GPU gets more texts at once. Raises ModelMissing,
        and Misconfigured when sentence-transformers is not installed or the device does not exist.
        """
        if importlib.util.find_spec("sentence_transformers") is None:
            raise Misconfigured(f"sentence-transformers is not installed: {INSTALL_TORCH}")
        source = find_source(model, report=lambda line: None)  # noqa: ARG005
        encoder = _TorchEncoder(source, threads=threads, device=device, half=precision == "fp16")
        return cls(
            encoder,
            queue_texts=queue_texts,
            cache_entries=cache_entries,
            chunk_texts=GPU_CHUNK_TEXTS if encoder.on_gpu else CHUNK_TEXTS,
            on_texts=on_texts,
        )
