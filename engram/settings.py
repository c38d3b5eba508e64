"""Every setting, once: environment variables with the prefix ENGRAM_, nested by two underscores.

Nothing set means embedded: one process, everything in the data directory. A secret may also come as
`..._FILE`, the path of a file that holds it. The names that older documents use are read as aliases.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from engram.errors import Misconfigured

DAY_S = 86_400.0

ALIASES: Mapping[str, tuple[str, ...]] = {
    "EMBEDDING_MODEL": ("embedder", "model"),
    "EMBEDDING_DIM": ("embedder", "dim"),
    "MEMORY_TTL_DAYS": ("ttl_days",),
    "FLASK_PORT": ("http_port",),
    "GRPC_PORT": ("grpc_port",),
    "METRICS_PORT": ("metrics_port",),
    "QDRANT_COLLECTION": ("store", "collection"),
    "VECTOR_STORE_COLLECTION": ("store", "collection"),
}
"""Names from the users' own documents, and the setting that each stands for."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbeddedLog(_Part):
    """The log in one SQLite file of the data directory."""

    kind: Literal["embedded"] = "embedded"
    retention_days: Annotated[float, Field(gt=0, le=36_500)] = 30
    """How long a record is kept, in days: the horizon of a replay."""
    max_bytes: Annotated[int, Field(ge=0)] = 0
    """At most so many bytes of records, 0 = no bound. What no worker has read yet is never dropped."""


class EdgeStore(_Part):
    """Qdrant Edge in this process: `edge` in the data directory, `memory` forgets at exit."""

    kind: Literal["edge", "memory"] = "edge"
    collection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")] = "agent_memories"


class LocalCache(_Part):
    """Answers kept in this process, the least recently used leave first; `off` keeps none."""

    kind: Literal["local", "off"] = "local"
    max_entries: Annotated[int, Field(gt=0)] = 50_000
    max_bytes: Annotated[int, Field(gt=0)] = 64 * 2**20


class EmbedderSettings(_Part):
    """The model that turns texts into vectors."""

    kind: Literal["auto", "openvino", "torch", "hash"] = "auto"
    """auto = openvino; torch = sentence-transformers, CPU or GPU; hash = tests only, no meaning."""
    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    dim: Annotated[int, Field(gt=0)] | None = None
    """When set, a model of another dimension is refused."""
    device: str | None = None
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """0 = as many as the machine has cores."""


def _kind_is_optional(default: str) -> BeforeValidator:
    """ENGRAM_LOG__RETENTION_DAYS alone must not need ENGRAM_LOG__KIND as well."""

    def fill_in(value: object) -> object:
        return (
            {"kind": default, **cast("Mapping[str, object]", value)} if isinstance(value, Mapping) else value
        )

    return BeforeValidator(fill_in)


class Settings(BaseSettings):
    """All settings of a process, read once at its start and never changed."""

    model_config = SettingsConfigDict(
        env_prefix="ENGRAM_",
        env_nested_delimiter="__",
        env_file=".env",
        env_file_encoding="utf-8",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(default_factory=lambda: _default_data_dir(os.environ))
    log: Annotated[EmbeddedLog, _kind_is_optional("embedded")] = EmbeddedLog()
    store: Annotated[EdgeStore, _kind_is_optional("edge")] = EdgeStore()
    cache: Annotated[LocalCache, _kind_is_optional("local")] = LocalCache()
    embedder: EmbedderSettings = EmbedderSettings()
    ttl_days: Annotated[float, Field(ge=0, le=36_500)] = 30
    """The default lifetime of a memory in days, 0 = for ever."""
    api_keys_file: Path | None = None
    player_key: SecretStr | None = None
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    grpc_port: Annotated[int, Field(ge=0, le=65_535)] = 50_051
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    sweep_interval_s: Annotated[float, Field(gt=0)] = 60
    """How often expired memories and old records are removed, in seconds."""
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(  # noqa: D102 (pydantic-settings names it)
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del file_secret_settings
        others = _OtherNames(settings_cls)
        return init_settings, env_settings, others, dotenv_settings

    @property
    def ttl_s(self) -> float | None:
        """The default lifetime of a memory in seconds, None = for ever."""
        return self.ttl_days * DAY_S or None


class _OtherNames(PydanticBaseSettingsSource):
    """The aliases, and the secrets that come as files."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ANN401
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, path in ALIASES.items():
            if name in os.environ:
                _set(values, path, os.environ[name])
        if (secret := os.environ.get("ENGRAM_PLAYER_KEY_FILE")) is not None:
            _set(values, ("player_key",), _read_secret("ENGRAM_PLAYER_KEY_FILE", secret))
        return values


def load(**overrides: Any) -> Settings:  # noqa: ANN401 (a value per setting)
    """Read the settings. Raises Misconfigured with one line that names the variable at fault."""
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "ENGRAM_" + "__".join(str(part).upper() for part in first["loc"])
        raise Misconfigured(f"{name}: {first['msg']}") from error


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return Path(base) / "engram"


def _set(values: dict[str, Any], path: tuple[str, ...], value: str) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
    values[path[-1]] = value


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{name}: cannot read {path}: {error}") from error
