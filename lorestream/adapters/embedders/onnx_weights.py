"""The weights of a BERT model out of an ONNX file with int8 weights, as float32.

A network that quantizes its activations at run time computes other values for a text in another batch, since the scale
is that of the whole batch. With the weights as float32 a text has one vector. The file has to be one that
`optimum` exported and ONNX Runtime quantized dynamically (one scale for each output column of a matrix, one for a table
of embeddings): OpenVINO reads it, and its operations carry the names of the model's modules.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lorestream.adapters.embedders.openvino_network import openvino_runtime
from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PRODUCT = "/MatMul_quant"
_QUANTIZED = "_quantized"


def load(path: Path) -> dict[str, NDArray[np.float32]]:
    """The weights by the names that `transformers.BertModel` gives them. Raises Misconfigured."""
    try:
        return dequantized(openvino_runtime().Core().read_model(path))
    except (RuntimeError, KeyError) as error:
        raise Misconfigured(f"{path} is no quantized BERT model: {error}") from error


def dequantized(network: Any) -> dict[str, NDArray[np.float32]]:  # noqa: ANN401 (openvino has no types)
    """The weights of a network that OpenVINO has read: matrices, embeddings, biases, normalisations.

    Raises KeyError when a quantized weight has no scale.
    """
    operations = network.get_ordered_ops()
    constants = {one.get_friendly_name(): one for one in operations if one.get_type_name() == "Constant"}
    weights = {
        name: np.array(one.data, np.float32)
        for name, one in constants.items()
        if name.startswith(("embeddings.", "encoder.")) and name.endswith((".weight", ".bias"))
    }
    for name in constants:
        if name.startswith("embeddings.") and name.endswith(_QUANTIZED):
            stem = name.removesuffix(_QUANTIZED)
            weights[stem] = _real(constants, stem)
    for one in operations:
        module = one.get_friendly_name()
        if one.get_type_name() == "MatMul" and module.endswith(_PRODUCT):
            stem = _source_name(one.input(1)).removesuffix(_QUANTIZED)
            # ONNX multiplies from the left, a linear layer of torch from the right.
            name = module.removesuffix(_PRODUCT).removeprefix("/").replace("/", ".")
            weights[f"{name}.weight"] = np.ascontiguousarray(_real(constants, stem).T)
    return weights


def _real(constants: dict[str, Any], stem: str) -> NDArray[np.float32]:
    numbers, zero, scale = (
        np.array(constants[stem + end].data, np.float32) for end in (_QUANTIZED, "_zero_point", "_scale")
    )
    return (numbers - zero) * scale


def _source_name(port: Any) -> str:  # noqa: ANN401
    """The name of the quantized constant from which a value is computed through conversions and a difference."""
    node = port.get_source_output().get_node()
    while node.get_type_name() != "Constant":
        node = node.input(0).get_source_output().get_node()
    return str(node.get_friendly_name())
