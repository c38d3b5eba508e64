"""Prepared models on disk: found, read, described, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lorestream.adapters.embedders import model_files
from lorestream.adapters.embedders.model_files import MANIFEST, NETWORK, TOKENIZER, WEIGHTS
from lorestream.adapters.embedders.prefixes import NO_PREFIXES, Prefixes
from lorestream.errors import Misconfigured, ModelMissing

MINILM = {"name": "sentence-transformers/all-MiniLM-L6-v2", "revision": "r1", "dim": 384, "max_tokens": 256}


def put(directory: Path, **changes: object) -> Path:
    directory.mkdir(parents=True)
    for name in (NETWORK, WEIGHTS, TOKENIZER):
        (directory / name).touch()
    (directory / MANIFEST).write_text(json.dumps(MINILM | {"pooling": "mean"} | changes))
    return directory


@pytest.mark.parametrize("model", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"])
def test_a_prepared_model_is_found_by_either_name(tmp_path: Path, model: str):
    directory = put(model_files.prepared_directory(tmp_path, "sentence-transformers/all-MiniLM-L6-v2", "r1"))
    found = model_files.find(model, tmp_path)
    assert found.directory == directory
    assert found.model_id == "sentence-transformers/all-MiniLM-L6-v2@r1/mean"
    assert (found.manifest.dim, found.manifest.max_tokens) == (384, 256)


def test_a_name_that_begins_like_another_is_not_taken_for_it(tmp_path: Path):
    put(model_files.prepared_directory(tmp_path, "a/b--c", "r1"), name="a/b--c")
    with pytest.raises(ModelMissing):
        model_files.find("a/b", tmp_path)


def test_a_missing_model_says_what_to_run(tmp_path: Path):
    with pytest.raises(ModelMissing, match="run `lorestream model prepare"):
        model_files.find("all-MiniLM-L6-v2", tmp_path)
    with pytest.raises(ModelMissing, match="run `lorestream model prepare"):
        model_files.read(tmp_path)


def test_a_prepared_directory_may_be_named(tmp_path: Path):
    directory = put(tmp_path / "elsewhere")
    assert model_files.find(str(directory), tmp_path / "models").directory == directory


@pytest.mark.parametrize("name", [NETWORK, WEIGHTS, TOKENIZER])
def test_damage_is_named(tmp_path: Path, name: str):
    directory = put(tmp_path / "model")
    (directory / name).unlink()
    with pytest.raises(Misconfigured, match=name):
        model_files.read(directory)


@pytest.mark.parametrize("text", ["", "{", '{"name": 3}', "[]", "[" * 100_000])
def test_a_broken_manifest_is_named(tmp_path: Path, text: str):
    directory = put(tmp_path / "model")
    (directory / MANIFEST).write_text(text)
    with pytest.raises(Misconfigured, match=MANIFEST):
        model_files.read(directory)


def describe(directory: Path, **files: object) -> model_files.Manifest:
    content: dict[str, object] = {
        "config.json": {"hidden_size": 384, "max_position_embeddings": 512},
        "modules.json": [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {
                "path": "1_Pooling",
                "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
            },
            {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 256},
    } | files
    for name, value in content.items():
        (directory / name).parent.mkdir(exist_ok=True)
        if value is not None:
            (directory / name).write_text(json.dumps(value))
    return model_files.describe(directory, "a/b", "r")


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        (
            {
                "pooling_mode_cls_token": True,
                "pooling_mode_mean_tokens": False,
                "word_embedding_dimension": 3,
            },
            "cls",
        ),
        ({"embedding_dimension": 384, "pooling_mode": "mean"}, "mean"),
        ({"embedding_dimension": 384, "pooling_mode": "cls"}, "cls"),
    ],
)
def test_pooling_is_read_in_both_spellings(tmp_path: Path, config: object, pooling: str):
    made = describe(tmp_path, **{"1_Pooling/config.json": config})
    assert (made.pooling, made.dim, made.max_tokens) == (pooling, 384, 256)


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode": "lasttoken"},
        {"pooling_mode": ["mean", "cls"]},
        {},
    ],
)
def test_other_pooling_is_refused(tmp_path: Path, config: object):
    with pytest.raises(Misconfigured, match="only mean and cls"):
        describe(tmp_path, **{"1_Pooling/config.json": config})


def modules(*kinds: str) -> list[dict[str, str]]:
    return [
        {"path": "" if kind == "Transformer" else f"{i}_{kind}", "type": f"x.{kind}"}
        for i, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    "kinds",
    [
        ("Transformer", "Dense"),
        ("Transformer", "Pooling", "Normalize", "Dense"),
        ("Transformer", "Pooling", "LSTM"),
    ],
)
def test_parts_that_would_be_left_out_are_refused(tmp_path: Path, kinds: tuple[str, ...]):
    with pytest.raises(Misconfigured, match=",".join(kinds)):
        describe(tmp_path, **{"modules.json": modules(*kinds)})


def test_dense_layers_give_the_dimension(tmp_path: Path):
    layer = {
        "in_features": 384,
        "out_features": 96,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    files = {"modules.json": modules("Transformer", "Pooling", "Dense"), "2_Dense/config.json": layer}
    made = describe(tmp_path, **files)
    assert (made.dim, made.dense) == (96, ("identity",))
    for other in ({"activation_function": "x.Softmax"}, {"module_input_name": "token_embeddings"}):
        with pytest.raises(Misconfigured, match="Dense layer that only"):
            describe(tmp_path, **files | {"2_Dense/config.json": layer | other})


@pytest.mark.parametrize(
    ("name", "prompts", "wanted"),
    [
        ("people/tiny", {"query": "q: ", "document": "d: "}, Prefixes("q: ", "d: ")),
        ("people/tiny", {"query": "q: ", "passage": "p: ", "document": "d: "}, Prefixes("q: ", "p: ")),
        ("people/tiny", {"clustering": "c: "}, NO_PREFIXES),
        ("intfloat/e5-small-v2", {}, Prefixes("query: ", "passage: ")),
        ("intfloat/multilingual-e5-base", {"query": "", "document": ""}, Prefixes("query: ", "passage: ")),
        ("intfloat/multilingual-e5-large-instruct", {}, NO_PREFIXES),
    ],
)
def test_prefixes_are_the_models_own_or_those_of_its_family(
    tmp_path: Path, name: str, prompts: dict[str, str], wanted: Prefixes
):
    describe(tmp_path, **{"config_sentence_transformers.json": {"prompts": prompts}})
    assert model_files.describe(tmp_path, name, "r").prefixes == wanted


def test_a_vector_space_is_known_by_its_prefixes():
    plain = model_files.model_id("a/b", "r", "mean")
    one, other = (
        model_files.model_id("a/b", "r", "mean", Prefixes(*both)) for both in (("q", ""), ("", "q"))
    )
    assert plain == model_files.model_id("a/b", "r", "mean", NO_PREFIXES) == "a/b@r/mean"
    assert len({plain, one, other}) == 3


def test_a_plain_transformer_is_a_mean_of_all_its_positions(tmp_path: Path):
    files = {"modules.json": None, "1_Pooling/config.json": None, "sentence_bert_config.json": None}
    made = describe(tmp_path, **files)
    assert (made.pooling, made.max_tokens) == ("mean", 512)


def test_what_is_no_embedding_model_is_refused(tmp_path: Path):
    with pytest.raises(Misconfigured, match="is it a text embedding model"):
        describe(tmp_path, **{"config.json": {}})


def test_a_fingerprint_follows_the_content(tmp_path: Path):
    first, second = tmp_path / "a", tmp_path / "b"
    for directory in (first, second):
        directory.mkdir()
        (directory / "config.json").write_text("{}")
        (directory / "model.safetensors").write_bytes(b"weights")
    assert model_files.fingerprint(first) == model_files.fingerprint(second)
    (second / "model.safetensors").write_bytes(b"Weights")
    assert model_files.fingerprint(first) != model_files.fingerprint(second)
    shutil.copy(first / "model.safetensors", second)
    assert model_files.fingerprint(first) == model_files.fingerprint(second)
