"""Environments of the peers, made on first use. sentence-transformers and torch are 5.6 GB, shared by links."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_MODEL = ("sentence-transformers==6.2.0", "torch==2.15.0")
PACKAGES: Mapping[str, Sequence[str]] = {
    "service": (*_MODEL, "fastapi==0.165.0", "uvicorn==0.54.0", "qdrant-client==1.20.0", "redis==8.1.0"),
    "mem0": (*_MODEL, "mem0ai==2.2.1"),
    "chroma": (*_MODEL, "chromadb==1.5.9"),
    "langgraph": (*_MODEL, "langgraph-checkpoint==4.3.2"),
    "mcp-memory-service": (*_MODEL, "mcp-memory-service==12.4.0", "pysqlite3-binary==0.5.4.post2"),
}
"""By environment: what is installed into it."""


_TIMEOUT_S = 3600.0


def environment(name: str, cache: Path) -> Path:
    """The interpreter of the environment of a peer; see `python_of`."""
    return python_of(name, PACKAGES[name], cache)


def python_of(name: str, packages: Sequence[str], cache: Path) -> Path:
    """The interpreter of an environment in `cache`; the packages are installed if they are not there yet, in minutes.

    Raises subprocess.CalledProcessError and TimeoutExpired.
    """
    python = cache / name / "bin" / "python"
    ready = cache / name / ".ready"
    if not ready.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(python.parents[1]))
        _run(uv, "pip", "install", "--quiet", "--python", str(python), *packages)
        ready.touch()
    return python


def _run(*command: str) -> None:
    linked = {**os.environ, "UV_LINK_MODE": "hardlink"}
    subprocess.run(command, check=True, env=linked, stdout=sys.stderr, timeout=_TIMEOUT_S)
