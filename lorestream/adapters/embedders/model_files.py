"""A prepared model on disk: `<models directory>/<name>--<revision>/` with network, weights, tokenizer and manifest.

Serving a prepared model needs neither torch nor the hub nor a network connection.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from lorestream.adapters.embedders import dense_heads, prefixes
from lorestream.adapters.embedders.dense_heads import HEAD, Activation
from lorestream.adapters.embedders.prefixes import NO_PREFIXES, Prefixes
from lorestream.errors import Misconfigured, ModelMissing

NETWORK: Final = "openvino_model.xml"
WEIGHTS: Final = "openvino_model.bin"
TOKENIZER: Final = "tokenizer.json"
MANIFEST: Final = "lorestream-model.json"
HIDDEN_STATES: Final = "last_hidden_state"
"""The output of an embedder's network: a vector for each token."""
LOGITS: Final = "logits"
"""The output of a cross-encoder's network: one number for each pair of texts."""

_OTHER_NAMES = {
    "all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2",
    "e5-small-v2": "intfloat/e5-small-v2",
}
_MODULES = re.compile(r"(Transformer(,Pooling(,Dense)*)?(,Normalize)?)?")
"""The modules that OpenVinoEmbedder computes, in their order. Every vector is scaled to length 1 at the end."""
_POOLING: Mapping[str, Literal["mean", "cls"]] = {
    "mean": "mean",
    "cls": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}
_FINGERPRINTED = (
    "*.json",
    "*_Pooling/*.json",
    "*_Dense/*",
    "*.safetensors",
    "*.bin",
    "openvino/*.bin",
    "openvino/*.xml",
)


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The content of the manifest: what the embedder needs to know about a model beside its weights."""

    name: str
    revision: str
    """The hub's commit, the version of a weights package, or a digest of a local directory."""
    dim: int
    max_tokens: int
    """How many tokens of a text the model reads, special tokens included."""
    pooling: Literal["mean", "cls"]
    kind: Literal["embedder", "reranker"] = "embedder"
    """What the model is for. A reranker is a cross-encoder: it has no prefixes, and its pooling means nothing."""
    prefixes: Prefixes = NO_PREFIXES
    """What the model reads before a query and before a passage."""
    dense: Sequence[Activation] = ()
    """The activations of the layers behind the pooling; their weights are in a file of their own."""
    files: Mapping[str, str] = msgspec.field(default_factory=dict[str, str])
    """The SHA-256 of each file, in hex digits. Empty for models that were prepared by earlier versions."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A prepared model: its directory and its manifest."""

    directory: Path
    manifest: Manifest

    @property
    def model_id(self) -> str:
        """Equal for models whose vectors can be compared.

        The precision of the arithmetic is not part of it: bf16 and float32 vectors have a cosine above 0.9999.
        """
        manifest = self.manifest
        return model_id(manifest.name, manifest.revision, manifest.pooling, manifest.prefixes)


def model_id(name: str, revision: str, pooling: str, prefixes: Prefixes = NO_PREFIXES) -> str:
    """The identifier of a vector space: vectors can be compared only within one."""
    return "/prefixes-".join(filter(None, [f"{name}@{revision}/{pooling}", prefixes.fingerprint]))


def canonical_name(model: str) -> str:
    """The model's name on the hub, for a short name that is commonly used."""
    return _OTHER_NAMES.get(model, model)


def local_directory(model: str) -> Path | None:
    """The directory, when `model` is the path of one that holds a model, else None."""
    directory = Path(model).expanduser()
    holds_one = any((directory / name).is_file() for name in (MANIFEST, "modules.json", "config.json"))
    return directory.resolve() if holds_one else None


def prepared_directory(models_dir: Path, name: str, revision: str) -> Path:
    """The directory of a prepared model; it need not exist."""
    return models_dir / f"{_slug(name)}--{_slug(revision)}"


def find(model: str, models_dir: Path) -> ModelFiles:
    """The prepared model of that name or directory, the newest of several.

    Raises ModelMissing when there is none, Misconfigured when its files are damaged.
    """
    directory = local_directory(model)
    if directory is None:
        name = canonical_name(model)
        candidates = models_dir.glob(f"{_slug(name)}--*/{MANIFEST}")
        found = sorted(candidates, key=lambda path: (path.stat().st_mtime, path), reverse=True)
        for files in (read(path.parent) for path in found):
            if files.manifest.name == name:
                return files
    elif (directory / MANIFEST).is_file():
        return read(directory)
    else:
        prepared = prepared_directory(models_dir, directory.name, fingerprint(directory))
        if (prepared / MANIFEST).is_file():
            return read(prepared)
    raise ModelMissing(
        f"the model {model} is not prepared in {models_dir}: run `lorestream model prepare {model}`"
    )


def read(directory: Path) -> ModelFiles:
    """Read the prepared model in a directory. Raises ModelMissing, and Misconfigured when its files are damaged."""
    try:
        manifest = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ModelMissing(
            f"there is no prepared model in {directory}: run `lorestream model prepare`"
        ) from None
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise Misconfigured(
            f"{directory / MANIFEST} cannot be read ({error}): {_remedy(directory)}"
        ) from error
    for name in _files(manifest):
        if not (directory / name).is_file():
            raise Misconfigured(f"{directory / name} is missing: {_remedy(directory)}")
    return ModelFiles(directory, manifest)


def digests(directory: Path, manifest: Manifest) -> dict[str, str]:
    """The SHA-256 of a prepared model's files by name: 0.1 s for 90 MB. Raises OSError."""
    found: dict[str, str] = {}
    for name in _files(manifest):
        with (directory / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def verify(files: ModelFiles) -> None:
    """Compare the files with the digests in the manifest: changed weights load, and give other vectors.

    Blocks; most of the time without the GIL. Raises Misconfigured.
    """
    if not files.manifest.files:
        return
    try:
        found = digests(files.directory, files.manifest)
    except OSError as error:
        raise Misconfigured(
            f"{files.directory} cannot be read ({error.strerror}): {_remedy(files.directory)}"
        ) from error
    for name, digest in found.items():
        if files.manifest.files.get(name) != digest:
            raise Misconfigured(
                f"{files.directory / name} is damaged, its checksum is not that of the manifest:"
                f" {_remedy(files.directory)}"
            )


def describe(directory: Path, name: str, revision: str) -> Manifest:
    """The manifest of a model, from its files in the format of sentence-transformers.

    Raises Misconfigured when the size cannot be read, or when the model has a module or a pooling mode that
    OpenVinoEmbedder does not compute.
    """
    if is_cross_encoder(directory):
        return _describe_cross_encoder(directory, name, revision)
    modules = _modules(directory)
    kinds = ",".join(kind for kind, _ in modules)
    if not _MODULES.fullmatch(kinds):
        raise Misconfigured(
            f"{name} has the modules {kinds}, and only LORESTREAM_EMBEDDER__KIND=torch computes them"
        )
    config = _json(directory / "config.json") or {}
    sentence_bert = _json(directory / "sentence_bert_config.json") or {}
    max_tokens = sentence_bert.get("max_seq_length") or _token_limit(directory, config)
    dim = config.get("hidden_size") or config.get("dim")
    if not dim or not max_tokens:
        raise Misconfigured(
            f"{directory} names no hidden size or no token limit for {name}: is it a text embedding model?"
        )
    paths = [path for kind, path in modules if kind == "Pooling"]
    pooling = _pooling(_json(paths[0] / "config.json") or {}, name) if paths else "mean"
    layers = [_json(path / "config.json") or {} for path in dense_layers(directory)]
    prompts = (_json(directory / prefixes.CONFIG) or {}).get("prompts") or {}
    return Manifest(
        name=name,
        revision=revision,
        dim=int(layers[-1]["out_features"] if layers else dim),
        max_tokens=int(max_tokens),
        pooling=pooling,
        prefixes=prefixes.of_model(name, prompts),
        dense=tuple(dense_heads.activation_of(layer, name) for layer in layers),
    )


def is_cross_encoder(directory: Path) -> bool:
    """Whether the model in the format of `transformers` classifies pairs of texts, instead of embedding texts."""
    architectures = (_json(directory / "config.json") or {}).get("architectures") or []
    return any(str(one).endswith("ForSequenceClassification") for one in architectures)


def _describe_cross_encoder(directory: Path, name: str, revision: str) -> Manifest:
    config = _json(directory / "config.json") or {}
    max_tokens = _token_limit(directory, config)
    labels = len(config.get("id2label") or [""] * int(config.get("num_labels", 2)))
    if labels != 1 or not max_tokens:
        raise Misconfigured(
            f"{name} gives {labels} numbers for a pair of texts and reads {max_tokens} tokens: a cross-encoder that"
            " gives one number is needed, such as cross-encoder/ms-marco-MiniLM-L6-v2"
        )
    return Manifest(name, revision, dim=1, max_tokens=max_tokens, pooling="cls", kind="reranker")


def _token_limit(directory: Path, config: Mapping[str, Any]) -> int:
    """How many tokens the network reads; 0 if its files do not say."""
    tokenizer = _json(directory / "tokenizer_config.json") or {}
    limits = [config.get("max_position_embeddings"), tokenizer.get("model_max_length")]
    return int(min((n for n in limits if n), default=0))


def dense_layers(directory: Path) -> list[Path]:
    """The directories of the `Dense` modules of a model in the format of sentence-transformers, in their order."""
    return [path for kind, path in _modules(directory) if kind == "Dense"]


def fingerprint(directory: Path) -> str:
    """The revision of a local model: 12 hex digits of a SHA-256 over its configuration and weights."""
    digest = hashlib.sha256()
    paths = {path for pattern in _FINGERPRINTED for path in directory.glob(pattern)}
    for path in sorted(paths):
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(directory)}\0".encode())
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _files(manifest: Manifest) -> tuple[str, ...]:
    """The names of a prepared model's files, without the manifest."""
    return (NETWORK, WEIGHTS, TOKENIZER, *([HEAD] if manifest.dense else []))


def _modules(directory: Path) -> list[tuple[str, Path]]:
    """Kind and directory of each module of a model in the format of sentence-transformers, in their order."""
    modules = _json(directory / "modules.json") or []
    return [(str(one["type"]).rsplit(".", 1)[-1], directory / str(one["path"])) for one in modules]


def _pooling(config: Mapping[str, Any], name: str) -> Literal["mean", "cls"]:
    """How token vectors become one vector. Older files have a flag per mode, newer ones the name of one mode."""
    named = config.get("pooling_mode")
    flags = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    modes = [named] if isinstance(named, str) else flags
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise Misconfigured(
            f"{name} has the pooling modes {modes}: only mean and cls work without LORESTREAM_EMBEDDER__KIND=torch"
        )
    return _POOLING[modes[0]]


def _json(path: Path) -> Any:  # noqa: ANN401 (whatever the file holds)
    try:
        return msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}") from error


def _slug(text: str) -> str:
    return "--".join(re.sub(r"[^A-Za-z0-9._-]", "-", part) for part in text.split("/"))


def _remedy(directory: Path) -> str:
    return f"remove {directory} and run `lorestream model prepare`"
