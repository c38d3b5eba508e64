"""`lorestream model prepare`."""

from __future__ import annotations

from pathlib import Path

from lorestream.adapters.embedders import model_files, model_preparation
from lorestream.cli import terminal
from lorestream.errors import ModelMissing
from lorestream.settings import load_settings


def prepare(model: str | None, models_dir: Path | None, *, as_json: bool) -> bool:
    """Prepare the model. Returns False, after printing what to install, when a package is missing for that."""
    settings = load_settings(models_dir=models_dir)
    if model is None and settings.embedder.kind == "hash":
        terminal.print_note("the hash embedder needs no model")
        return True
    name = model or settings.embedder.model
    try:
        files = model_preparation.prepare(name, settings.models_dir, report=terminal.print_note)
    except ModelMissing as missing:
        terminal.print_note(f"lorestream: {missing}")
        return False
    if as_json:
        terminal.print_json(_described(files))
    else:
        terminal.print_line(f"{files.manifest.name}, {files.manifest.dim} dimensions, in {files.directory}")
    return True


def _described(files: model_files.ModelFiles) -> dict[str, object]:
    return {
        "model": files.manifest.name,
        "model_id": files.model_id,
        "dim": files.manifest.dim,
        "directory": str(files.directory),
    }
