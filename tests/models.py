"""Models for tests: the real one, prepared once for the whole checkout, and a tiny one made on the spot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from lorestream.adapters.embedders import model_preparation
from lorestream.adapters.embedders.model_files import NETWORK, TOKENIZER, ModelFiles
from lorestream.adapters.embedders.openvino_network import openvino_runtime
from lorestream.settings import default_models_dir

REAL_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
TINY_WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "oak", "iron", "gold", "water")
TINY_DIM = 8


def models_dir() -> Path:
    """Where the tests' prepared models lie: LORESTREAM_MODELS_DIR, or that setting's default."""
    return Path(os.environ.get("LORESTREAM_MODELS_DIR") or default_models_dir(os.environ))


def real_model() -> ModelFiles:
    """all-MiniLM-L6-v2, exported on first use: half a minute then, nothing later."""
    return model_preparation.prepare(REAL_MODEL, models_dir(), report=print)


def write_tiny_model(
    directory: Path,
    *,
    pooling: str = "mean",
    subfolder: str = "",
    prompts: Mapping[str, str] | None = None,
    dense: Sequence[tuple[np.ndarray, np.ndarray | None]] = (),
) -> None:
    """A model of eight words, each with a vector of its own, in the files of a hub repository.

    `dense`: weight and bias of layers behind the pooling, with tanh.
    """
    ov = openvino_runtime()
    ids, mask = (
        ov.opset13.parameter([-1, -1], np.int64, name=name) for name in ("input_ids", "attention_mask")
    )
    table = np.eye(len(TINY_WORDS), TINY_DIM, dtype=np.float32)
    hidden = ov.opset13.gather(ov.opset13.constant(table), ids, ov.opset13.constant(0))
    hidden.output(0).set_names({"last_hidden_state"})
    for parameter, name in ((ids, "input_ids"), (mask, "attention_mask")):
        parameter.output(0).set_names({name})
    network = ov.Model([hidden], [ids, mask], "tiny")
    (directory / subfolder).mkdir(parents=True, exist_ok=True)
    ov.save_model(network, directory / subfolder / NETWORK, compress_to_fp16=False)
    _write_tokenizer(directory)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    flags = {
        f"pooling_mode_{mode}": mode.startswith(pooling)
        for mode in ("mean_tokens", "cls_token", "max_tokens")
    }
    files = {
        "config.json": {"hidden_size": TINY_DIM, "max_position_embeddings": 64},
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 16},
        "1_Pooling/config.json": flags,
        "config_sentence_transformers.json": {"prompts": prompts or {}},
    }
    for number, (weight, bias) in enumerate(dense, start=2):
        path = f"{number}_Dense"
        modules.append(
            {"idx": number, "name": path, "path": path, "type": "sentence_transformers.models.Dense"}
        )
        files[f"{path}/config.json"] = {"in_features": weight.shape[1], "out_features": len(weight)}
        weights = {"linear.weight": weight, **({} if bias is None else {"linear.bias": bias})}
        (directory / path).mkdir(exist_ok=True)
        save_file(
            {name: value.astype(np.float32) for name, value in weights.items()},
            directory / path / "model.safetensors",
        )
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(msgspec.json.encode(content))


def write_tiny_cross_encoder(directory: Path, **config: object) -> None:
    """A cross-encoder of eight words: its number is how many words of the text the query has, one by one.

    `config`: further entries of config.json.
    """
    ov = openvino_runtime()
    ops = ov.opset13
    names = ("input_ids", "attention_mask", "token_type_ids")
    ids, mask, types = (ops.parameter([-1, -1], np.int64, name=name) for name in names)
    for parameter, name in zip((ids, mask, types), names, strict=True):
        parameter.output(0).set_names({name})
    table = np.eye(len(TINY_WORDS), dtype=np.float32)
    table[:4] = 0  # special tokens count for nothing
    words = ops.gather(ops.constant(table), ids, ops.constant(0))
    second = ops.unsqueeze(ops.convert(types, "f32"), ops.constant([2]))
    first = ops.subtract(ops.constant(np.float32(1)), second)
    query, text = (
        ops.reduce_sum(ops.multiply(words, side), ops.constant([1]), keep_dims=False)
        for side in (first, second)
    )
    logits = ops.reduce_sum(ops.multiply(query, text), ops.constant([1]), keep_dims=True)
    # The mask has to be an input of the network; padding is a special token.
    ones = ops.convert(ops.reduce_max(mask, ops.constant([1]), keep_dims=True), "f32")
    logits = ops.multiply(logits, ones)
    logits.output(0).set_names({"logits"})
    directory.mkdir(parents=True, exist_ok=True)
    ov.save_model(ov.Model([logits], [ids, mask, types], "tiny"), directory / NETWORK, compress_to_fp16=False)
    _write_tokenizer(directory)
    described = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    described |= {"max_position_embeddings": 16} | config
    (directory / "config.json").write_bytes(msgspec.json.encode(described))


def _write_tokenizer(directory: Path) -> None:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(TINY_WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    tokenizer.save(str(directory / TOKENIZER))
