"""The OpenVINO adapter on a model of eight words, where every component can be foretold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorestream.adapters.embedders import model_preparation
from lorestream.adapters.embedders.dense_heads import HEAD
from lorestream.adapters.embedders.model_files import MANIFEST, NETWORK, TOKENIZER, WEIGHTS
from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.adapters.embedders.openvino_network import cpu_flags, precision
from lorestream.errors import Misconfigured, ModelMissing
from lorestream.ports import Priority, Role
from tests.models import TINY_DIM, write_tiny_model


def prepared(tmp_path: Path, **how: Any) -> Path:
    write_tiny_model(tmp_path / "tiny", **how)
    return model_preparation.prepare(str(tmp_path / "tiny"), tmp_path / "models", report=print).directory


async def test_the_mean_is_of_the_words_and_not_of_the_padding(tmp_path: Path):
    async with OpenVinoEmbedder.open(prepared(tmp_path)) as embedder:
        assert embedder.dim == TINY_DIM
        made = (await embedder.embed(["oak oak iron", "gold", "oak elm water " * 2])).vectors
    #         pad cls sep unk oak iron gold water
    counts = [[0, 1, 1, 0, 2, 1, 0, 0], [0, 1, 1, 0, 0, 0, 1, 0], [0, 1, 1, 2, 2, 0, 0, 2]]
    wanted = np.array(counts, np.float32) / np.linalg.norm(counts, axis=1, keepdims=True)
    np.testing.assert_allclose(made, wanted, atol=5e-3)  # bf16 has 8 bits


async def test_cls_pooling_takes_the_first_token(tmp_path: Path):
    async with OpenVinoEmbedder.open(prepared(tmp_path, pooling="cls")) as embedder:
        made = (await embedder.embed(["oak", "iron gold"])).vectors
    np.testing.assert_allclose(made, np.eye(TINY_DIM)[[1, 1]], atol=1e-6)


async def test_the_prefix_is_read_and_counts(tmp_path: Path):
    prompts = {"query": "gold ", "document": "water "}
    async with OpenVinoEmbedder.open(prepared(tmp_path, prompts=prompts)) as embedder:
        stored = await embedder.embed(["oak", "oak " * 13, "oak " * 14])
        asked = await embedder.embed(["oak"], Priority.QUERY, Role.QUERY)
        assert embedder.count_tokens("oak") == 1
    cls_sep_oak = np.array([0, 1, 1, 0, 1, 0, 0, 0])
    gold, water = np.eye(TINY_DIM)[[6, 7]]
    np.testing.assert_allclose(stored.vectors[0], (cls_sep_oak + water) / 2, atol=5e-3)
    np.testing.assert_allclose(asked.vectors[0], (cls_sep_oak + gold) / 2, atol=5e-3)
    assert list(stored.truncated) == [False, False, True]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
async def test_dense_layers_follow_the_pooling(tmp_path: Path, pooling: str):
    random = np.random.default_rng(1)
    layers = [(random.normal(size=(5, TINY_DIM)), random.normal(size=5)), (random.normal(size=(3, 5)), None)]
    directory = prepared(tmp_path, pooling=pooling, dense=layers)
    async with OpenVinoEmbedder.open(directory) as embedder:
        assert embedder.dim == 3
        made = (await embedder.embed(["oak oak iron"])).vectors[0]
    pooled = np.eye(TINY_DIM)[[1, 4, 4, 5, 2]].mean(axis=0) if pooling == "mean" else np.eye(TINY_DIM)[1]
    (first, bias), (second, _) = layers
    wanted = np.tanh(second @ np.tanh(first @ pooled + bias))
    np.testing.assert_allclose(made, wanted / np.linalg.norm(wanted), atol=2e-2)
    (directory / HEAD).write_bytes(b"other")
    with pytest.raises(Misconfigured, match=HEAD):
        OpenVinoEmbedder.open(directory)


async def test_the_end_of_a_long_text_is_not_seen_but_the_special_tokens_are(tmp_path: Path):
    async with OpenVinoEmbedder.open(prepared(tmp_path)) as embedder:
        made = await embedder.embed(["oak " * 14, "oak " * 14 + "iron"])
        assert embedder.count_tokens("oak " * 100) == 100
    assert list(made.truncated) == [False, True]
    np.testing.assert_allclose(made.vectors[0], made.vectors[1], atol=1e-6)
    assert made.vectors[1][2] > 0  # [SEP] stands at the end all the same


def test_a_model_that_is_not_there(tmp_path: Path):
    with pytest.raises(ModelMissing):
        OpenVinoEmbedder.open(tmp_path)


@pytest.mark.parametrize("name", [NETWORK, TOKENIZER])
def test_damaged_files_are_named(tmp_path: Path, name: str):
    directory = prepared(tmp_path)
    (directory / name).write_text("not what it should be")
    with pytest.raises(Misconfigured, match=str(directory)):
        OpenVinoEmbedder.open(directory)


@pytest.mark.parametrize("name", [NETWORK, TOKENIZER, WEIGHTS])
async def test_one_flipped_bit_is_noticed(tmp_path: Path, name: str):
    """Weights with a flipped bit load without an error, and give other vectors."""
    directory = prepared(tmp_path)
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).write_bytes(content)
    with pytest.raises(
        Misconfigured, match=rf"{name} is damaged.*remove .*`lorestream model prepare`"
    ) as refused:
        OpenVinoEmbedder.open(directory)
    assert "\n" not in str(refused.value)
    # What the message says works.
    shutil.rmtree(directory)
    await OpenVinoEmbedder.open(prepared(tmp_path)).close()


async def test_a_model_without_checksums_is_served(tmp_path: Path):
    """Earlier versions wrote none."""
    directory = prepared(tmp_path)
    manifest = json.loads((directory / MANIFEST).read_bytes())
    assert set(manifest.pop("files")) == {NETWORK, TOKENIZER, WEIGHTS}
    (directory / MANIFEST).write_text(json.dumps(manifest))
    await OpenVinoEmbedder.open(directory).close()


def test_an_unknown_device(tmp_path: Path):
    with pytest.raises(Misconfigured, match="NPU9"):
        OpenVinoEmbedder.open(prepared(tmp_path), device="npu9")


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({"avx512f", "avx512_vnni"}, "f32"),  # OpenVINO would emulate bf16 here
        ({"avx512f", "avx512_bf16"}, "bf16"),
        ({"amx_bf16", "amx_tile"}, "bf16"),
        (set(), "f32"),
    ],
)
def test_bf16_only_where_the_processor_has_it(flags: set[str], wanted: str):
    assert precision(flags) == wanted


def test_flags_are_read_as_linux_writes_them(tmp_path: Path):
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nflags\t\t: fpu sse2 amx_bf16\nbugs\t: x\n\nflags\t: other\n"
    )
    assert cpu_flags(tmp_path / "cpuinfo") == {"fpu", "sse2", "amx_bf16"}
    assert cpu_flags(tmp_path / "none") == frozenset()
