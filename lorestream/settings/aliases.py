"""Other sources of settings: variables without the prefix LORESTREAM_, such as QDRANT_URL, and secrets in files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dotenv import dotenv_values

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
_ADDRESSES = {
    "store": ("QDRANT_URL", "QDRANT_HOST", "QDRANT_PORT"),
    "cache": ("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_PASSWORD"),
}
"""The aliases that make up the address of a server, the deciding ones first."""
_SERVICE_NAME = re.compile(
    r"\w+_SERVICE_(?:HOST|PORT(?:_\w+)?)|\w+_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?"
)
_SERVICE_VALUE = re.compile(r"(?:tcp|udp|sctp)://.*")


@dataclass(frozen=True, slots=True)
class OtherName:
    """A setting that variables of other names give: its path, its value, and the variables, the deciding one first."""

    path: tuple[str, ...]
    value: str
    variables: tuple[str, ...]


def environment(env_file: Path = Path(".env")) -> dict[str, str]:
    """The variables of the `.env` file and of the environment, but those of Kubernetes. The environment takes precedence.

    An empty variable counts as not set: compose files make such ones of `${NAME:-}`. Raises Misconfigured if the file
    cannot be read.
    """
    return {
        **from_file(env_file),
        **{name: value for name, value in os.environ.items() if value and not of_kubernetes(name, value)},
    }


def from_file(env_file: Path = Path(".env")) -> dict[str, str]:
    """The variables of the `.env` file that are not empty. Raises Misconfigured if it cannot be read."""
    try:
        return {name: value for name, value in dotenv_values(env_file).items() if value}
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the file {env_file} cannot be read: {error}") from error


def of_kubernetes(name: str, value: str | None) -> bool:
    """Whether Kubernetes sets this variable in a pod for each Service: REDIS_PORT=tcp://10.0.0.11:6379, REDIS_SERVICE_HOST.

    See https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    name = name.upper()
    is_port = name.endswith("_PORT") and _SERVICE_VALUE.fullmatch(value or "") is not None
    return is_port or _SERVICE_NAME.fullmatch(name) is not None


def other_names(environ: Mapping[str, str]) -> list[OtherName]:
    """The settings from aliases and files of secrets.

    Raises Misconfigured if a file cannot be read, or a port is no number.
    """
    found = [
        OtherName(path, environ[name], (name,))
        for name, path in ALIASES.items()
        if name in environ and path[-1] not in {"url", "api_key", "prefix"}
    ]
    for part, kind in _SERVERS.items():
        # With another kind chosen, these variables are meant for other software.
        if environ.get(f"LORESTREAM_{part.upper()}__KIND", kind) == kind:
            found += _qdrant(environ) if kind == "qdrant" else _redis(environ)
    found += [
        OtherName(path, _read(f"{name}_FILE", file), (f"{name}_FILE",))
        for name, path in SECRETS.items()
        if (file := environ.get(f"{name}_FILE"))
    ]
    return found


def nested(found: Iterable[OtherName]) -> dict[str, Any]:
    """The settings as nested dictionaries. Of two for the same path the later wins."""
    values: dict[str, Any] = {}
    for one in found:
        group = values
        for part in one.path[:-1]:
            group = group.setdefault(part, {})
        group[one.path[-1]] = one.value
    return values


def _qdrant(environ: Mapping[str, str]) -> list[OtherName]:
    address = environ.get("QDRANT_URL")
    if not address and (host := environ.get("QDRANT_HOST")):
        port = _number(environ, "QDRANT_PORT", 6333)
        address = host if "://" in host else f"http://{host}:{port}"
    return _server(environ, "store", address, _ADDRESSES["store"], api_key="QDRANT_API_KEY")


def _redis(environ: Mapping[str, str]) -> list[OtherName]:
    address = environ.get("REDIS_URL")
    if not address and (host := environ.get("REDIS_HOST")):
        password = environ.get("REDIS_PASSWORD")
        user = f":{quote(password, safe='')}@" if password else ""
        port, database = _number(environ, "REDIS_PORT", 6379), _number(environ, "REDIS_DB", 0)
        address = f"redis://{user}{host}:{port}/{database}"
    return _server(environ, "cache", address, _ADDRESSES["cache"], prefix="REDIS_PREFIX")


def _number(environ: Mapping[str, str], name: str, otherwise: int) -> str:
    value = environ.get(name) or str(otherwise)
    if not re.fullmatch(r"[0-9]{1,5}", value):
        raise Misconfigured(f"{name}: not a number of at most five digits")
    return value


def _server(
    environ: Mapping[str, str], part: str, address: str | None, address_names: tuple[str, ...], **others: str
) -> list[OtherName]:
    """The settings of a server; the other ones only where its address or its kind is set."""
    own = f"LORESTREAM_{part.upper()}__"
    if not address and environ.get(f"{own}KIND") is None and f"{own}URL" not in environ:
        return []
    given = tuple(name for name in address_names if environ.get(name))
    found = [OtherName((part, "url"), address, given)] if address else []
    found += [
        OtherName((part, field), environ[name], (name,))
        for field, name in others.items()
        if environ.get(name)
    ]
    return found


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{name}: cannot read {path}: {error}") from error
