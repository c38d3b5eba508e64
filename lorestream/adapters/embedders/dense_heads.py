"""Layers behind the pooling: the modules `Dense` of sentence-transformers, each y = activation(W x + b)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from zipfile import BadZipFile

import numpy as np

from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEAD: Final = "dense.npz"
"""The weights of all layers of a prepared model: `0.weight`, `0.bias`, `1.weight`, ..."""
WEIGHTS: Final = "model.safetensors"

Activation: TypeAlias = Literal["identity", "tanh", "relu"]
_ACTIVATIONS: Mapping[str, Activation] = {"Identity": "identity", "Tanh": "tanh", "ReLU": "relu"}
_EMBEDDING = "sentence_embedding"
"""What a layer reads and writes, unless its file names something else: the vector of the whole text."""


def activation_of(config: Mapping[str, Any], model: str) -> Activation:
    """The activation of one layer, from its `config.json`. Raises Misconfigured for a layer of another kind."""
    name = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    ends = {str(config.get(f"module_{end}_name") or _EMBEDDING) for end in ("input", "output")} - {_EMBEDDING}
    if name not in _ACTIVATIONS or ends:
        raise Misconfigured(
            f"{model} has a Dense layer that only LORESTREAM_EMBEDDER__KIND=torch computes: its activation is {name},"
            f" it works on {', '.join(sorted(ends)) or _EMBEDDING}"
        )
    return _ACTIVATIONS[name]


def save(layers: Sequence[Path], target: Path) -> None:
    """Write the weights of `layers`, directories of sentence-transformers, in their order into the file `target`.

    Raises Misconfigured when the weights of one are missing or damaged.
    """
    # Imported here, because serving a model does not need it.
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load_file  # noqa: PLC0415

    weights: dict[str, Any] = {}
    for number, layer in enumerate(layers):
        try:
            read = load_file(layer / WEIGHTS)
            weights[f"{number}.weight"] = read["linear.weight"].astype(np.float32)
            bias = read.get("linear.bias", np.zeros(len(read["linear.weight"])))
            weights[f"{number}.bias"] = bias.astype(np.float32)
        except (OSError, SafetensorError, KeyError) as error:
            raise Misconfigured(
                f"{layer / WEIGHTS} does not hold the weights of a Dense layer ({error}): use"
                " LORESTREAM_EMBEDDER__KIND=torch, which reads other formats"
            ) from error
    np.savez(target, **weights)


class DenseHead:
    """The layers of one prepared model."""

    def __init__(self, path: Path, activations: Sequence[Activation]) -> None:
        """Read the weights from the file that `save` wrote. Raises Misconfigured."""
        try:
            with np.load(path, allow_pickle=False) as weights:
                self._layers = [
                    (weights[f"{number}.weight"], weights[f"{number}.bias"], activation)
                    for number, activation in enumerate(activations)
                ]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise Misconfigured(
                f"{path} does not hold the weights of {len(activations)} layers: {error}"
            ) from error

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """From pooled vectors of shape (n, input) to vectors of shape (n, output)."""
        for weight, bias, activation in self._layers:
            vectors = vectors @ weight.T + bias
            if activation == "tanh":
                vectors = np.tanh(vectors)
            elif activation == "relu":
                vectors = np.maximum(vectors, 0)
        return vectors
