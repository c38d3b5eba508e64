"""A prepared network in OpenVINO on this machine: its runtime, its precision, its inputs."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from tokenizers import Tokenizer

from lorestream.adapters.embedders.model_files import NETWORK, TOKENIZER, ModelFiles
from lorestream.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Integers: TypeAlias = NDArray[np.int64]

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


class Network:
    """A compiled network with its tokenizer. Several threads may use it, each with a request of its own."""

    def __init__(
        self, files: ModelFiles, output: str, *, threads: int, device: str, exact: bool = False
    ) -> None:
        """Load the network of `files`, to compute its output of that name. Blocks for half a second.

        `threads`: 0 = as many as cores. `device`: as OpenVINO names it. `exact`: compute in float32 whatever the
        processor offers. Raises Misconfigured.
        """
        self.model_id = files.model_id
        self.tokenizer = _load_tokenizer(files.directory / TOKENIZER)
        openvino = openvino_runtime()
        device = device.upper()
        try:
            network = openvino.Core().read_model(files.directory / NETWORK)
            # Other outputs, such as those of a pooler, are not computed.
            network = openvino.Model([network.output(output)], network.get_parameters(), "model")
            self._compiled = openvino.Core().compile_model(
                network, device, _hints(device, threads, exact=exact)
            )
        except RuntimeError as error:
            raise Misconfigured(f"{files.directory} does not load on {device}: {_brief(error)}") from error
        self._inputs = {name for port in self._compiled.inputs for name in port.get_names()}
        if not self._inputs <= _INPUTS:
            raise Misconfigured(
                f"{self.model_id} needs inputs that a text does not have: {sorted(self._inputs)}"
            )

    def request(self) -> Request:
        """A request, to be used by one thread at a time."""
        return Request(self.model_id, self._compiled.create_infer_request(), self._inputs)


class Request:
    """Runs a network. Made by `Network.request`."""

    def __init__(self, model_id: str, request: Any, inputs: Collection[str]) -> None:  # noqa: ANN401
        self._model_id = model_id
        self._request = request
        self._inputs = inputs

    def infer(
        self, tokens: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None
    ) -> tuple[Floats, Integers]:
        """The output for each row of token ids, float32 with the rows first, and the mask (rows, tokens): 1 = a token.

        `types`: the segment of each token, 0 by default. The output is overwritten by the next call. Raises
        Unavailable.
        """
        mask = np.zeros((len(tokens), max(map(len, tokens))), np.int64)
        ids, segments = np.zeros_like(mask), np.zeros_like(mask)
        for row, numbers in enumerate(tokens):
            ids[row, : len(numbers)] = numbers
            mask[row, : len(numbers)] = 1
            if types is not None:
                segments[row, : len(numbers)] = types[row]
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        try:
            self._request.infer({name: inputs[name] for name in self._inputs}, share_inputs=True)
            return self._request.get_output_tensor(0).data, mask
        except RuntimeError as error:
            raise Unavailable(f"{self._model_id} failed: {_brief(error)}") from error


def _load_tokenizer(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise Misconfigured(f"{path} cannot be loaded as a tokenizer: {_brief(error)}") from error
    # The file may set padding and truncation to other lengths than the model's (128 in that of all-MiniLM-L6-v2).
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _hints(device: str, threads: int, *, exact: bool) -> dict[str, object]:
    hints: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
    if device.startswith("CPU"):
        hints |= {
            "INFERENCE_PRECISION_HINT": "f32" if exact else precision(cpu_flags()),
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # With pinning, the threads of several processes share the same cores while others are idle.
            "ENABLE_CPU_PINNING": False,
        }
    return hints


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:300] if str(error).strip() else type(error).__name__
