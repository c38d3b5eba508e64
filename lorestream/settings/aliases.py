"""Other sources of settings: variables without the prefix LORESTREAM_, such as QDRANT_URL, and secrets in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lorestream.errors import Misconfigured

ALIASES: Mapping[str, tuple[str, ...]] = {
    "EMBEDDING_MODEL": ("embedder", "model"),
    "EMBEDDING_DIM": ("embedder", "dim"),
    "MEMORY_TTL_DAYS": ("ttl_days",),
    "MAX_STORED_MESSAGES": ("keep_per_agent",),
    "FLASK_PORT": ("http_port",),
    "GRPC_PORT": ("grpc_port",),
    "METRICS_PORT": ("metrics_port",),
    "QDRANT_COLLECTION": ("store", "collection"),
    "VECTOR_STORE_COLLECTION": ("store", "collection"),
    "QDRANT_HOST": ("store", "url"),
    "QDRANT_PORT": ("store", "url"),
    "QDRANT_URL": ("store", "url"),
    "QDRANT_API_KEY": ("store", "api_key"),
    "REDIS_HOST": ("cache", "url"),
    "REDIS_PORT": ("cache", "url"),
    "REDIS_DB": ("cache", "url"),
    "REDIS_PASSWORD": ("cache", "url"),
    "REDIS_URL": ("cache", "url"),
    "REDIS_PREFIX": ("cache", "prefix"),
}
"""Variable names from users' documents, and the path of the setting that each one sets."""

SECRETS: Mapping[str, tuple[str, ...]] = {
    "LORESTREAM_PLAYER_KEY": ("player_key",),
    "LORESTREAM_LOG__SASL_PASSWORD": ("log", "sasl_password"),
    "LORESTREAM_STORE__API_KEY": ("store", "api_key"),
    "LORESTREAM_CACHE__URL": ("cache", "url"),
    "LORESTREAM_EMBEDDER__API_KEY": ("embedder", "api_key"),
}
"""Secrets that `NAME_FILE` may set too, by the path of a file that contains the value."""

_SERVERS = {"store": "qdrant", "cache": "redis"}
"""The parts whose aliases name a server, and the kind of that server."""


def other_names(environ: Mapping[str, str]) -> dict[str, Any]:
    """The nested settings from aliases and files of secrets. Raises Misconfigured if a file cannot be read."""
    values: dict[str, Any] = {}
    for name, path in ALIASES.items():
        if name in environ and path[-1] not in {"url", "api_key", "prefix"}:
            _set(values, path, environ[name])
    for part, kind in _SERVERS.items():
        # With another kind chosen, these variables are meant for other software.
        if environ.get(f"LORESTREAM_{part.upper()}__KIND", kind) == kind:
            server = _qdrant(environ) if kind == "qdrant" else _redis(environ)
            for field, value in server.items():
                _set(values, (part, field), value)
    for name, path in SECRETS.items():
        if (file := environ.get(f"{name}_FILE")) is not None:
            _set(values, path, _read(f"{name}_FILE", file))
    return values


def _qdrant(environ: Mapping[str, str]) -> dict[str, str]:
    address = environ.get("QDRANT_URL")
    if not address and (host := environ.get("QDRANT_HOST")):
        address = host if "://" in host else f"http://{host}:{environ.get('QDRANT_PORT') or 6333}"
    if (
        not address
        and environ.get("LORESTREAM_STORE__KIND") is None
        and "LORESTREAM_STORE__URL" not in environ
    ):
        return {}
    given = {"url": address, "api_key": environ.get("QDRANT_API_KEY")}
    return {field: value for field, value in given.items() if value}


def _redis(environ: Mapping[str, str]) -> dict[str, str]:
    address = environ.get("REDIS_URL")
    if not address and (host := environ.get("REDIS_HOST")):
        password = environ.get("REDIS_PASSWORD")
        user = f":{quote(password, safe='')}@" if password else ""
        address = f"redis://{user}{host}:{environ.get('REDIS_PORT') or 6379}/{environ.get('REDIS_DB') or 0}"
    if (
        not address
        and environ.get("LORESTREAM_CACHE__KIND") is None
        and "LORESTREAM_CACHE__URL" not in environ
    ):
        return {}
    given = {"url": address, "prefix": environ.get("REDIS_PREFIX")}
    return {field: value for field, value in given.items() if value}


def _set(values: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
    values[path[-1]] = value


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{name}: cannot read {path}: {error}") from error
