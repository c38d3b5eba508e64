"""Serves a prepared model in OpenVINO on this machine's processor. Loading takes half a second."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tokenizers import Tokenizer

from lorestream.adapters.embedders import model_files
from lorestream.adapters.embedders.dense_heads import HEAD, DenseHead
from lorestream.adapters.embedders.model_files import NETWORK, TOKENIZER, ModelFiles
from lorestream.adapters.embedders.queue import OnTexts, QueuedEmbedder
from lorestream.adapters.embedders.texts import characters_read
from lorestream.errors import Misconfigured, Unavailable
from lorestream.ports import Embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_CPU_FLAGS = Path("/proc/cpuinfo")


def cpu_flags(cpuinfo: Path = _CPU_FLAGS) -> frozenset[str]:
    """The processor's feature flags as Linux names them; empty on other systems."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def precision(flags: Collection[str]) -> Literal["bf16", "f32"]:
    """The precision to compute in: bf16 only where the processor has instructions for it.

    On other processors OpenVINO emulates bf16, although it lists BF16 among the capabilities. Measured against
    float32 on one thread: 2.5 to 3 times the texts per second with AMX (Xeon), 1.65 times with AVX-512 (Zen 5);
    the cosine to float32 is 0.9999 on both.
    """
    return "bf16" if {"amx_bf16", "avx512_bf16"} & set(flags) else "f32"


def openvino_runtime() -> Any:  # noqa: ANN401 (openvino has no types for what we use)
    """Import the module openvino without its telemetry, which would send usage statistics."""
    name = "openvino_telemetry"
    previous = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        import openvino  # noqa: PLC0415
    finally:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
    return openvino


class _OpenVinoEncoder:
    def __init__(self, files: ModelFiles, *, threads: int, device: str) -> None:
        self.model_id = files.model_id
        self.dim = files.manifest.dim
        self._max_tokens = files.manifest.max_tokens
        self.max_characters = characters_read(self._max_tokens)
        self.prefixes = files.manifest.prefixes
        self._pooling = files.manifest.pooling
        head = files.directory / HEAD
        self._head = DenseHead(head, files.manifest.dense) if files.manifest.dense else None
        self._tokenizer = _load_tokenizer(files.directory / TOKENIZER)
        self._special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        openvino = openvino_runtime()
        try:
            network = openvino.Core().read_model(files.directory / NETWORK)
            # Other outputs, such as those of a pooler, are not computed.
            network = openvino.Model(
                [network.output("last_hidden_state")], network.get_parameters(), "embedder"
            )
            compiled = openvino.Core().compile_model(network, device, _hints(device, threads))
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            raise Misconfigured(f"{files.directory} does not load on {device}: {_brief(error)}") from error
        self._inputs = {name for port in compiled.inputs for name in port.get_names()}
        if not self._inputs <= _INPUTS:
            raise Misconfigured(
                f"{self.model_id} needs inputs that a text does not have: {sorted(self._inputs)}"
            )

    def encode(self, texts: Sequence[str]) -> Embeddings:
        tokens, truncated = zip(*map(self._tokens, texts), strict=True)
        mask = np.zeros((len(tokens), max(map(len, tokens))), np.int64)
        ids = np.zeros_like(mask)
        for row, numbers in enumerate(tokens):
            ids[row, : len(numbers)] = numbers
            mask[row, : len(numbers)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
        try:
            self._request.infer({name: inputs[name] for name in self._inputs}, share_inputs=True)
            hidden: NDArray[np.float32] = self._request.get_output_tensor(0).data
        except RuntimeError as error:
            raise Unavailable(f"{self.model_id} failed: {_brief(error)}") from error
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

    def count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _tokens(self, text: str) -> tuple[Sequence[int], bool]:
        """At most `max_tokens` token ids, special tokens included, and whether the text has more of them."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        limit = self._max_tokens - self._special
        cut = len(encoding.ids) > limit
        encoding.truncate(limit)
        return self._tokenizer.post_process(encoding).ids, cut


def _load_tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise Misconfigured(f"{path} cannot be loaded as a tokenizer: {_brief(error)}") from error
    # The file may set padding and truncation to other lengths than the model's (128 in that of all-MiniLM-L6-v2).
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _hints(device: str, threads: int) -> dict[str, object]:
    hints: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
    if device.startswith("CPU"):
        hints |= {
            "INFERENCE_PRECISION_HINT": precision(cpu_flags()),
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # With pinning, the threads of several processes share the same cores while others are idle.
            "ENABLE_CPU_PINNING": False,
        }
    return hints


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:300] if str(error).strip() else type(error).__name__


class OpenVinoEmbedder(QueuedEmbedder):
    """`lorestream.ports.Embedder` over a prepared model."""

    @classmethod
    def open(
        cls,
        model_dir: Path,
        *,
        threads: int = 0,
        device: str = "CPU",
        queue_texts: int = 4096,
        cache_entries: int = 20_000,
        on_texts: OnTexts | None = None,
    ) -> OpenVinoEmbedder:
        """Load the prepared model in `model_dir`, and verify its files meanwhile. Blocks for half a second.

        `threads`: 0 = as many as cores. `device`: as OpenVINO names it. The rest as in `QueuedEmbedder`. Raises
        ModelMissing, and Misconfigured for damaged files or an unknown device.
        """
        files = model_files.read(model_dir)
        with ThreadPoolExecutor(1) as pool:
            verified = pool.submit(model_files.verify, files)
            try:
                encoder = _OpenVinoEncoder(files, threads=threads, device=device.upper())
            finally:
                verified.result()  # says more than the error of a network that does not load
        return cls(encoder, queue_texts=queue_texts, cache_entries=cache_entries, on_texts=on_texts)
