"""Which models get a network from their weights, and what that network computes for a model of one layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorestream.adapters.embedders import bert_network
from lorestream.adapters.embedders.openvino_network import openvino_runtime
from lorestream.errors import Misconfigured

CONFIG = {
    "model_type": "bert",
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "layer_norm_eps": 1e-12,
}
SHAPES = {
    "embeddings.word_embeddings": (6, 4),
    "embeddings.position_embeddings": (8, 4),
    "embeddings.token_type_embeddings": (2, 4),
    "encoder.layer.0.attention.self.query": (4, 4),
    "encoder.layer.0.attention.self.key": (4, 4),
    "encoder.layer.0.attention.self.value": (4, 4),
    "encoder.layer.0.attention.output.dense": (4, 4),
    "encoder.layer.0.intermediate.dense": (8, 4),
    "encoder.layer.0.output.dense": (4, 8),
}
NORMS = (
    "embeddings.LayerNorm",
    "encoder.layer.0.attention.output.LayerNorm",
    "encoder.layer.0.output.LayerNorm",
)


def weights(prefix: str = "") -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    made = {f"{prefix}{name}.weight": random.normal(size=shape) for name, shape in SHAPES.items()}
    made |= {
        f"{prefix}{name}.bias": random.normal(size=shape[0])
        for name, shape in SHAPES.items()
        if name.startswith("encoder")
    }
    made |= {f"{prefix}{name}.{part}": random.normal(size=4) for name in NORMS for part in ("weight", "bias")}
    return {name: value.astype(np.float32) for name, value in made.items()}


def write(directory: Path, values: dict[str, np.ndarray], **config: object) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG | config))
    save_file(values, directory / "model.safetensors")
    return directory


def hidden_states(
    directory: Path, ids: list[list[int]], mask: list[list[int]], output: str = "last_hidden_state"
) -> np.ndarray:
    config = bert_network.read_config(directory)
    assert config is not None
    bert_network.save_network(directory, config, directory / "network.xml")
    openvino = openvino_runtime()
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(directory / "network.xml", "CPU", precision)
    tokens = np.array(ids, np.int64)
    inputs = {
        "input_ids": tokens,
        "attention_mask": np.array(mask, np.int64),
        "token_type_ids": np.zeros_like(tokens),
    }
    return compiled(inputs)[output]


def expected_states(values: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """The same in numpy, for one text without padding."""
    from math import erf, sqrt  # noqa: PLC0415

    def norm(hidden: np.ndarray, name: str) -> np.ndarray:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * values[f"{name}.weight"] + values[f"{name}.bias"]

    def linear(hidden: np.ndarray, name: str) -> np.ndarray:
        name = f"encoder.layer.0.{name}"
        return hidden @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    embedded = values["embeddings.word_embeddings.weight"][ids]
    embedded = embedded + values["embeddings.position_embeddings.weight"][: len(ids)]
    embedded = embedded + values["embeddings.token_type_embeddings.weight"][0]
    hidden = norm(embedded, "embeddings.LayerNorm")
    heads = []
    for head in (slice(0, 2), slice(2, 4)):
        query, key, value = (
            linear(hidden, f"attention.self.{part}")[:, head] for part in ("query", "key", "value")
        )
        scores = np.exp(query @ key.T / sqrt(2))
        heads.append(scores / scores.sum(axis=-1, keepdims=True) @ value)
    attended = linear(np.concatenate(heads, axis=-1), "attention.output.dense") + hidden
    hidden = norm(attended, "encoder.layer.0.attention.output.LayerNorm")
    inner = linear(hidden, "intermediate.dense")
    inner = inner * 0.5 * (1 + np.vectorize(erf)(inner / sqrt(2)))
    return norm(linear(inner, "output.dense") + hidden, "encoder.layer.0.output.LayerNorm")


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_the_network_computes_what_the_paper_says(tmp_path: Path, prefix: str):
    states = hidden_states(write(tmp_path, weights(prefix)), [[1, 3, 5]], [[1, 1, 1]])
    np.testing.assert_allclose(states[0], expected_states(weights(), [1, 3, 5]), atol=1e-4)


def test_a_classifier_reads_the_first_token(tmp_path: Path):
    random = np.random.default_rng(5)
    shapes = {"pooler.dense": (4, 4), "classifier": (1, 4)}
    head = {f"{name}.weight": random.normal(size=shape) for name, shape in shapes.items()}
    head |= {f"{name}.bias": random.normal(size=shape[0]) for name, shape in shapes.items()}
    values = weights("bert.") | {
        name if name.startswith("classifier") else f"bert.{name}": value.astype(np.float32)
        for name, value in head.items()
    }
    found = hidden_states(write(tmp_path, values), [[1, 3, 5]], [[1, 1, 1]], output="logits")
    first = expected_states(weights(), [1, 3, 5])[0]
    pooled = np.tanh(head["pooler.dense.weight"] @ first + head["pooler.dense.bias"])
    wanted = head["classifier.weight"] @ pooled + head["classifier.bias"]
    np.testing.assert_allclose(found[0], wanted, atol=1e-4)


def test_padding_changes_nothing(tmp_path: Path):
    directory = write(tmp_path, weights())
    states = hidden_states(directory, [[1, 3, 0, 0], [2, 4, 5, 1]], [[1, 1, 0, 0], [1, 1, 1, 1]])
    np.testing.assert_allclose(states[0, :2], expected_states(weights(), [1, 3]), atol=1e-4)


@pytest.mark.parametrize(
    "other",
    [
        {"model_type": "xlm-roberta"},
        {"hidden_act": "relu"},
        {"position_embedding_type": "relative_key"},
        {"num_attention_heads": 3},
        {"hidden_size": "4"},
    ],
)
def test_other_architectures_are_left_to_the_export(tmp_path: Path, other: dict[str, object]):
    assert bert_network.read_config(write(tmp_path, weights(), **other)) is None


def test_a_model_without_safetensors_is_left_to_the_export(tmp_path: Path):
    (write(tmp_path, weights()) / "model.safetensors").unlink()
    assert bert_network.read_config(tmp_path) is None
    assert bert_network.read_config(tmp_path / "none") is None


@pytest.mark.parametrize("fault", ["missing", "shape", "file"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, fault: str):
    values = weights()
    name = "encoder.layer.0.output.dense.weight"
    if fault == "missing":
        del values[name]
    elif fault == "shape":
        values[name] = np.zeros((5, 5), np.float32)
    directory = write(tmp_path, values)
    if fault == "file":
        (directory / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(Misconfigured, match="does not hold the weights of a BERT model"):
        hidden_states(directory, [[1]], [[1]])
