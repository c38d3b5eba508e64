"""The OpenVINO network of a BERT model, built from its weights: `model.safetensors` and `config.json`.

This is how all-MiniLM-L6-v2 and other models of the architectures `BertModel` and `BertForSequenceClassification`
(cross-encoders) are prepared without torch. The network
computes the encoder of Devlin et al. 2019 (https://arxiv.org/abs/1810.04805), layer normalisation after each
residual, as `transformers.BertModel` does: inputs `input_ids`, `attention_mask`, `token_type_ids`, each int64 of
shape (texts, tokens); output `last_hidden_state`, float32 of shape (texts, tokens, hidden size), or for a
cross-encoder `logits` of shape (texts, labels).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from lorestream.adapters.embedders.model_files import HIDDEN_STATES, LOGITS
from lorestream.adapters.embedders.openvino_network import openvino_runtime
from lorestream.errors import Misconfigured

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIG: Final = "config.json"
SAFETENSORS: Final = "model.safetensors"

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_MASKED = float(np.finfo(np.float32).min)
"""Added to the attention scores of padding, so that its weight after the softmax is 0."""


class BertConfig(msgspec.Struct, frozen=True):
    """The fields of a model's `config.json` that its network depends on; `transformers` names them."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    model_type: str = ""
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    position_embedding_type: str = "absolute"


def read_config(directory: Path) -> BertConfig | None:
    """The configuration of the model in `directory`, or None when this module cannot build its network."""
    try:
        config = msgspec.json.decode((directory / CONFIG).read_bytes(), type=BertConfig)
    except (OSError, msgspec.DecodeError, RecursionError):
        return None
    supported = (
        config.model_type == "bert"
        and config.hidden_act == "gelu"
        and config.position_embedding_type == "absolute"
        and config.hidden_size % config.num_attention_heads == 0
        and (directory / SAFETENSORS).is_file()
    )
    return config if supported else None


def save_network(directory: Path, config: BertConfig, path: Path) -> None:
    """Build the network of the model in `directory` and write it to `path` (.xml, and .bin beside it) in float32.

    Takes about a second. Raises Misconfigured when a weight is missing or has another shape, OSError on writing.
    """
    try:
        weights = load_file(directory / SAFETENSORS)
        network = _Builder(openvino_runtime(), config, weights).network()
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise Misconfigured(
            f"{directory / SAFETENSORS} does not hold the weights of a BERT model: {error}"
        ) from error
    openvino_runtime().save_model(network, path, compress_to_fp16=False)


class _Builder:
    """Adds the operations of one network; weights are looked up by the names that `transformers` gives them."""

    def __init__(self, openvino: Any, config: BertConfig, weights: dict[str, NDArray[np.float32]]) -> None:  # noqa: ANN401 (openvino has no types)
        self._openvino = openvino
        self._ops: Any = openvino.opset13
        self._config = config
        # Some files name every weight behind the prefix of a model with a head.
        self._weights = {name.removeprefix("bert."): value for name, value in weights.items()}

    def network(self) -> Any:  # noqa: ANN401
        inputs = [self._ops.parameter([-1, -1], np.int64, name=name) for name in _INPUTS]
        for name, parameter in zip(_INPUTS, inputs, strict=True):
            parameter.output(0).set_names({name})
        ids, mask, types = inputs
        bias = self._attention_bias(mask)
        hidden = self._embeddings(ids, types)
        for number in range(self._config.num_hidden_layers):
            hidden = self._layer(hidden, bias, f"encoder.layer.{number}")
        if "classifier.weight" in self._weights:
            # The class of the first token, as `transformers.BertForSequenceClassification` computes it.
            first = self._ops.gather(hidden, self._ops.constant(0), self._ops.constant(1))
            pooled = self._ops.tanh(self._linear(first, "pooler.dense"))
            output, name = self._linear(pooled, "classifier"), LOGITS
        else:
            output, name = hidden, HIDDEN_STATES
        output.output(0).set_names({name})
        return self._openvino.Model([output], inputs, "bert")

    def _embeddings(self, ids: Any, types: Any) -> Any:  # noqa: ANN401
        """The sum of word, position and segment embeddings, normalised."""
        ops = self._ops
        length = ops.gather(ops.shape_of(ids), ops.constant(1), ops.constant(0))
        positions = ops.range(ops.constant(0, np.int64), length, ops.constant(1, np.int64), output_type="i64")
        words = self._lookup("embeddings.word_embeddings.weight", ids)
        segments = self._lookup("embeddings.token_type_embeddings.weight", types)
        places = self._lookup("embeddings.position_embeddings.weight", positions)
        return self._normalised(ops.add(ops.add(words, segments), places), "embeddings.LayerNorm")

    def _layer(self, hidden: Any, bias: Any, name: str) -> Any:  # noqa: ANN401
        ops = self._ops
        query, key, value = (
            self._heads(self._linear(hidden, f"{name}.attention.self.{part}"))
            for part in ("query", "key", "value")
        )
        attended = ops.scaled_dot_product_attention(query, key, value, bias)
        joined = ops.reshape(
            ops.transpose(attended, ops.constant([0, 2, 1, 3])),
            ops.constant([0, 0, self._config.hidden_size]),
            special_zero=True,
        )
        mixed = ops.add(self._linear(joined, f"{name}.attention.output.dense"), hidden)
        hidden = self._normalised(mixed, f"{name}.attention.output.LayerNorm")
        inner = ops.gelu(self._linear(hidden, f"{name}.intermediate.dense"), "erf")
        outer = ops.add(self._linear(inner, f"{name}.output.dense"), hidden)
        return self._normalised(outer, f"{name}.output.LayerNorm")

    def _attention_bias(self, mask: Any) -> Any:  # noqa: ANN401
        """Shape (texts, 1, 1, tokens): 0 for a token, the lowest float32 for padding."""
        ops = self._ops
        padding = ops.subtract(ops.constant(1.0, np.float32), ops.convert(mask, "f32"))
        return ops.unsqueeze(ops.multiply(padding, ops.constant(_MASKED, np.float32)), ops.constant([1, 2]))

    def _heads(self, hidden: Any) -> Any:  # noqa: ANN401
        """From (texts, tokens, hidden) to (texts, heads, tokens, hidden / heads)."""
        heads = self._config.num_attention_heads
        shape = [0, 0, heads, self._config.hidden_size // heads]
        split = self._ops.reshape(hidden, self._ops.constant(shape), special_zero=True)
        return self._ops.transpose(split, self._ops.constant([0, 2, 1, 3]))

    def _linear(self, hidden: Any, name: str) -> Any:  # noqa: ANN401
        product = self._ops.matmul(
            hidden, self._constant(f"{name}.weight"), transpose_a=False, transpose_b=True
        )
        return self._ops.add(product, self._constant(f"{name}.bias"))

    def _normalised(self, hidden: Any, name: str) -> Any:  # noqa: ANN401
        ops = self._ops
        centred = ops.mvn(
            hidden,
            ops.constant([-1]),
            normalize_variance=True,
            eps=self._config.layer_norm_eps,
            eps_mode="inside_sqrt",
        )
        scaled = ops.multiply(centred, self._constant(f"{name}.weight"))
        return ops.add(scaled, self._constant(f"{name}.bias"))

    def _lookup(self, name: str, indices: Any) -> Any:  # noqa: ANN401
        return self._ops.gather(self._constant(name), indices, self._ops.constant(0))

    def _constant(self, name: str) -> Any:  # noqa: ANN401
        return self._ops.constant(self._weights[name].astype(np.float32))
