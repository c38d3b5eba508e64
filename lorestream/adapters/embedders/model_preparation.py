"""`lorestream model prepare`: makes a prepared model (`model_files`) from a model's name or directory.

Sources, in this order: a model that is prepared already; a local directory; the hub; on a machine without the hub,
a package of weights (`weights_packages`). Ways to get the network, in this order: the OpenVINO files of the source; built from
the weights of a BERT model (`bert_network`); exported through sentence-transformers (`model_export`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lorestream import durable
from lorestream.adapters.embedders import (
    bert_network,
    dense_heads,
    model_export,
    model_files,
    weights_packages,
)
from lorestream.adapters.embedders.model_files import MANIFEST, NETWORK, TOKENIZER, WEIGHTS, ModelFiles
from lorestream.errors import Misconfigured, ModelMissing

Report = Callable[[str], None]
"""Called with one line of text at each step."""

INSTALL_TORCH: Final = "type `pip install '.[server,torch]'` in a checkout of Lorestream"

_DESCRIPTION = ["*.json", "*_Pooling/config.json", "*_Dense/config.json", "*_Dense/model.safetensors"]
_PUBLIC = 0o644
"""A model is no secret, and one that was prepared by another user may be shared."""
_HUB_TIMEOUT_S = 5.0
_EXPORT_TIMEOUT_S = 1800


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A directory with a model in the format of sentence-transformers."""

    directory: Path
    name: str
    revision: str

    @property
    def network(self) -> Path | None:
        """The OpenVINO network that the source brings, or None."""
        for path in (self.directory / "openvino" / NETWORK, self.directory / NETWORK):
            if path.is_file() and path.with_suffix(".bin").is_file():
                return path
        return None


def prepare(model: str, models_dir: Path, *, report: Report, hub: str | None = None) -> ModelFiles:
    """Prepare a model for serving in `models_dir`, unless it is prepared already. Blocks for up to minutes.

    `hub`: another address of the hub. Raises ModelMissing when a package has to be installed first, and
    Misconfigured for a model that cannot be served or a directory that cannot be written.
    """
    try:
        return model_files.find(model, models_dir)
    except ModelMissing:
        pass
    try:
        with tempfile.TemporaryDirectory(prefix="lorestream-model-") as scratch:
            source = find_source(model, report=report, hub=hub, network_is_enough=True, scratch=Path(scratch))
            target = model_files.prepared_directory(models_dir, source.name, source.revision)
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".preparing-") as directory:
                prepared = Path(directory) / "model"
                prepared.mkdir()
                _write_files(prepared, source, report)
                _move_into_place(prepared, target)
    except OSError as error:
        raise Misconfigured(f"cannot prepare {model} in {models_dir}: {error}") from error
    report(f"{source.name} is ready in {target}")
    return model_files.read(target)


def find_source(
    model: str,
    *,
    report: Report,
    hub: str | None = None,
    network_is_enough: bool = False,
    scratch: Path | None = None,
) -> ModelSource:
    """The original files of a model, downloaded if necessary.

    `network_is_enough`: do not download the weights of a repository that has OpenVINO files. `scratch`: an empty
    directory for a model whose package must be unpacked; without one, such a package is not used. Raises ModelMissing
    when the model is in no source, Misconfigured when `model` is no valid name or a file of a package was changed.
    """
    directory = model_files.local_directory(model)
    if directory is not None:
        return ModelSource(directory, directory.name, model_files.fingerprint(directory))
    name = model_files.canonical_name(model)
    source, reason = _from_hub(name, report, hub, network_is_enough=network_is_enough)
    if source is not None:
        return source
    missing = f"the model {name} is not on this machine, and the hub did not provide it ({reason})"
    try:
        source = _from_package(name, report, scratch)
    except ModelMissing as error:
        raise ModelMissing(f"{missing}: {error}") from error
    if source is None:
        package = weights_packages.PACKAGES.get(name)
        raise ModelMissing(f"{missing}: {package.remedy if package else 'name a local directory instead'}")
    return source


def _from_hub(
    name: str, report: Report, endpoint: str | None, *, network_is_enough: bool
) -> tuple[ModelSource | None, str]:
    """The model's files from the hub or from the cache of an earlier download; else None and the reason."""
    import httpx  # noqa: PLC0415
    import huggingface_hub  # noqa: PLC0415
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    disable_progress_bars()
    report(f"looking up {name} on the hub")
    try:
        info = huggingface_hub.HfApi(endpoint=endpoint).model_info(name, timeout=_HUB_TIMEOUT_S)
        present = {file.rfilename for file in info.siblings or []}
        patterns = _patterns(present, network_is_enough=network_is_enough)
        report(f"fetching {name} from the hub")
        directory = huggingface_hub.snapshot_download(name, allow_patterns=patterns, endpoint=endpoint)
    except HFValidationError:
        raise Misconfigured(
            f"{name!r} is neither a directory with a model nor a model's name: give a name such as"
            " sentence-transformers/all-MiniLM-L6-v2"
        ) from None
    except (OSError, ValueError, httpx.HTTPError) as error:
        # ValueError: the answer is no JSON, such as the page of a sign-in portal.
        reason = str(error).partition("\n")[0]
    else:
        return _snapshot(name, directory), ""
    try:
        directory = huggingface_hub.snapshot_download(name, local_files_only=True)
    except OSError:
        return None, reason
    source = _snapshot(name, directory)
    complete = source.network if network_is_enough else None
    return (source if complete or _has_weights(source.directory) else None), reason


def _snapshot(name: str, directory: str) -> ModelSource:
    """The source in a directory of the hub's cache, whose name is the commit; the commit is the revision."""
    return ModelSource(Path(directory), name, Path(directory).name)


def _patterns(present: Collection[str], *, network_is_enough: bool) -> list[str]:
    """Which files to download: a repository may hold the same weights in up to seven formats."""
    if network_is_enough and TOKENIZER in present:
        for folder in ("openvino/", ""):
            if {folder + NETWORK, folder + WEIGHTS} <= set(present):
                return [*_DESCRIPTION, folder + NETWORK, folder + WEIGHTS]
    safe = any(name.endswith(".safetensors") and "/" not in name for name in present)
    texts = ["*.txt", "*.model", "*/config.json"]
    return [*_DESCRIPTION, *texts, "*.safetensors" if safe else "pytorch_model*.bin"]


def _has_weights(directory: Path) -> bool:
    return any(any(directory.glob(pattern)) for pattern in ("*.safetensors", "pytorch_model*.bin"))


def _from_package(name: str, report: Report, scratch: Path | None) -> ModelSource | None:
    """The model's files from a package of weights, or None. Raises ModelMissing when it cannot be fetched."""
    package = weights_packages.PACKAGES.get(name)
    if isinstance(package, weights_packages.PythonPackage):
        found = weights_packages.installed(package)
        return ModelSource(found[0], name, found[1]) if found else None
    if package is None or scratch is None:
        return None
    weights_packages.fetch(package, scratch, report)
    return ModelSource(scratch, name, package.revision)


def _write_files(target: Path, source: ModelSource, report: Report) -> None:
    """Write network, weights, tokenizer and manifest of the source into `target`."""
    manifest = model_files.describe(source.directory, source.name, source.revision)
    tokenizer = source.directory / TOKENIZER
    bert = bert_network.read_config(source.directory)
    if source.network is not None and tokenizer.is_file():
        report(f"copying {source.name}")
        shutil.copyfile(source.network, target / NETWORK)
        shutil.copyfile(source.network.with_suffix(".bin"), target / WEIGHTS)
        shutil.copyfile(tokenizer, target / TOKENIZER)
    elif bert is not None and tokenizer.is_file():
        report(f"building the network of {source.name} from its weights")
        bert_network.save_network(source.directory, bert, target / NETWORK)
        shutil.copyfile(tokenizer, target / TOKENIZER)
    elif manifest.kind == "reranker":
        raise Misconfigured(
            f"{source.name} is a cross-encoder of another architecture than BERT, without OpenVINO files: convert it"
            " with `optimum-cli export openvino --task text-classification` and name that directory"
        )
    elif importlib.util.find_spec("sentence_transformers") is None:
        raise ModelMissing(
            f"{source.name} must be exported to OpenVINO, which needs sentence-transformers: {INSTALL_TORCH}"
        )
    else:
        report(f"exporting {source.name} to OpenVINO; this takes about half a minute")
        _export(source, target)
    if manifest.dense:
        dense_heads.save(model_files.dense_layers(source.directory), target / dense_heads.HEAD)
    manifest = msgspec.structs.replace(manifest, files=model_files.digests(target, manifest))
    content = msgspec.json.format(msgspec.json.encode(manifest))
    durable.write_file(target / MANIFEST, content, mode=_PUBLIC)


def _export(source: ModelSource, target: Path) -> None:
    """Run `model_export` as a child process. Raises Misconfigured with the last line of its error."""
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", str(model_export.__file__), str(source.directory), str(target)]
    try:
        subprocess.run(  # noqa: S603 (a program of this package, with paths as arguments)
            command,
            env={**os.environ, **quiet},
            check=True,
            capture_output=True,
            text=True,
            timeout=_EXPORT_TIMEOUT_S,
        )
    except subprocess.SubprocessError as error:
        lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
        raise Misconfigured(f"{source.name} cannot be exported: {lines[-1]}") from error


def _move_into_place(prepared: Path, target: Path) -> None:
    """Move the complete directory to its place at once. When another process has done so, keep that one's files."""
    if (target / MANIFEST).is_file():
        return
    durable.sync_tree(prepared)
    durable.remove_tree(target)
    durable.rename(prepared, target)
