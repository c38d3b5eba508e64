"""Every setting, once: environment variables with the prefix LORESTREAM_, nested by two underscores.

Nothing set means embedded: one process, everything in the data directory. A secret may also come as
`..._FILE`, the path of a file that holds it. The names that older documents use are read as aliases.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lorestream.errors import Misconfigured
from lorestream.settings.aliases import SECRETS, other_names
from lorestream.settings.backends import (
    EdgeStore,
    EmbeddedLog,
    EmbedderSettings,
    KafkaLog,
    LimitSettings,
    LocalCache,
    QdrantStore,
    RedisCache,
    SnapshotSettings,
)

DAY_S = 86_400.0

_IMPLIED = {
    "log": ("bootstrap", "kafka", "embedded"),
    "store": ("url", "qdrant", "edge"),
    "cache": ("url", "redis", "local"),
    "embedder": ("url", "http", "auto"),
}
"""Of each part: the field whose presence chooses a kind, that kind, and the kind otherwise."""

_FILES = frozenset(f"{path[-1]}_file" for path in SECRETS.values())


class Settings(BaseSettings):
    """All settings of a process, read once at its start and never changed."""

    model_config = SettingsConfigDict(
        env_prefix="LORESTREAM_",
        env_nested_delimiter="__",
        env_file=".env",
        env_file_encoding="utf-8",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(default_factory=lambda: _default_data_dir(os.environ))
    models_dir: Path = Field(default_factory=lambda: default_models_dir(os.environ))
    """Where the prepared embedding models lie, shared by all data directories."""
    log: Annotated[EmbeddedLog | KafkaLog, Field(discriminator="kind")] = EmbeddedLog()
    store: Annotated[EdgeStore | QdrantStore, Field(discriminator="kind")] = EdgeStore()
    cache: Annotated[LocalCache | RedisCache, Field(discriminator="kind")] = LocalCache()
    embedder: EmbedderSettings = EmbedderSettings()
    limits: LimitSettings = LimitSettings()
    snapshot: SnapshotSettings = SnapshotSettings()
    ttl_days: Annotated[float, Field(ge=0, le=36_500)] = 30
    """The default lifetime of a memory in days, 0 = for ever."""
    keep_per_agent: Annotated[int, Field(ge=0)] = 0
    """How many memories of each agent stay, the newest of them; 0 = all."""
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

    @model_validator(mode="before")
    @classmethod
    def _kinds(cls, values: dict[str, Any]) -> dict[str, Any]:
        """LORESTREAM_LOG__RETENTION_DAYS alone must not need a kind, and an address is one."""
        values = dict(values)
        for name, (address, implied, otherwise) in _IMPLIED.items():
            part = values.get(name, {})
            if isinstance(part, Mapping):
                # The environment's reader takes the name of a secret's file for a field.
                given = {
                    key: value for key, value in cast("Mapping[str, Any]", part).items() if key not in _FILES
                }
                without = "off" if name == "cache" and _of_kind(values["log"], "kafka") else otherwise
                values[name] = {"kind": implied if given.get(address) else without, **given}
        return values

    @property
    def ttl_s(self) -> float | None:
        """The default lifetime of a memory in seconds, None = for ever."""
        return self.ttl_days * DAY_S or None

    @property
    def snapshot_dir(self) -> Path:
        """Where the snapshots lie that are kept."""
        return self.snapshot.dir or self.data_dir / "snapshots"

    @property
    def distributed(self) -> bool:
        """Whether several processes share the work."""
        return self.log.kind == "kafka"


class _OtherNames(PydanticBaseSettingsSource):
    """The aliases, and the secrets that come as files."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ANN401
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return other_names(os.environ)


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 (a value per setting)
    """Read the settings. Raises Misconfigured with one line that names the variable at fault."""
    try:
        settings = Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise Misconfigured(f"{_variable(first['loc'])}: {first['msg']}") from error
    _refuse_what_cannot_be_shared(settings)
    _refuse_what_would_be_ignored(settings.log)
    return settings


def _refuse_what_cannot_be_shared(settings: Settings) -> None:
    if not settings.distributed:
        return
    if settings.store.kind != "qdrant":
        raise Misconfigured(
            f"LORESTREAM_STORE__KIND: {settings.store.kind} serves one process, and with the Kafka log there are"
            " several: set LORESTREAM_STORE__URL=http://HOST:6333 of a Qdrant server"
        )
    if settings.cache.kind == "local":
        raise Misconfigured(
            "LORESTREAM_CACHE__KIND: local serves one process, and with the Kafka log there are several:"
            " set LORESTREAM_CACHE__URL=redis://HOST:6379/0, or LORESTREAM_CACHE__KIND=off"
        )


def _refuse_what_would_be_ignored(log: EmbeddedLog | KafkaLog) -> None:
    """A login or a certificate that nobody asks for: the way to the brokers would be open where it was meant not to be."""
    if isinstance(log, EmbeddedLog):
        return
    protocol = log.security_protocol
    if not protocol.startswith("SASL") and (log.sasl_username is not None or log.sasl_password is not None):
        raise Misconfigured(
            f"LORESTREAM_LOG__SECURITY_PROTOCOL: {protocol} has no login, and there is one: set it to SASL_SSL or"
            " SASL_PLAINTEXT, or leave out LORESTREAM_LOG__SASL_USERNAME and LORESTREAM_LOG__SASL_PASSWORD"
        )
    if not protocol.endswith("SSL") and (log.ssl_cafile or log.ssl_certfile or log.ssl_keyfile):
        raise Misconfigured(
            f"LORESTREAM_LOG__SECURITY_PROTOCOL: {protocol} has no TLS, and there are files for it: set it to SSL or"
            " SASL_SSL, or leave out LORESTREAM_LOG__SSL_..."
        )


def _variable(place: tuple[int | str, ...]) -> str:
    parts = [str(part) for part in place]
    # Behind a part stands the kind that was read, which is no part of the name.
    if len(parts) > 1 and parts[0] in {"log", "store", "cache"}:
        del parts[1]
    if len(parts) == 1 and parts[0] in _IMPLIED:
        parts.append("kind")
    return "LORESTREAM_" + "__".join(parts).upper()


def _of_kind(part: object, kind: str) -> bool:
    given = (
        cast("Mapping[str, Any]", part).get("kind")
        if isinstance(part, Mapping)
        else getattr(part, "kind", None)
    )
    return given == kind


def default_models_dir(environ: Mapping[str, str]) -> Path:
    """`lorestream/models` in the user's cache directory: XDG_CACHE_HOME, or ~/.cache."""
    base = environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "lorestream" / "models"


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return Path(base) / "lorestream"
