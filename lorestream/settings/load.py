"""Settings of the services, and how they are read.

Sources, in this order of precedence: arguments of `load_settings`, environment variables with the prefix LORESTREAM_
(nested by two underscores), aliases and files of secrets (`..._FILE`) in the environment, both in the file `.env`,
defaults. With nothing set, everything is embedded: one process, all data in the data directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from lorestream.errors import Misconfigured
from lorestream.settings.aliases import OtherName, environment, nested, of_kubernetes, other_names
from lorestream.settings.backends import (
    EdgeStore,
    EmbeddedLog,
    EmbedderSettings,
    KafkaLog,
    KeywordSettings,
    LimitSettings,
    LocalCache,
    QdrantStore,
    RedisCache,
    RerankerSettings,
    SearchSettings,
    SnapshotSettings,
    StateSettings,
    WebhookSettings,
)

DAY_S = 86_400.0

IMPLIED_KINDS = {
    "log": ("bootstrap", "kafka", "embedded"),
    "store": ("url", "qdrant", "edge"),
    "cache": ("url", "redis", "local"),
    "embedder": ("url", "http", "auto"),
}
"""For each part: the field whose presence chooses a kind, that kind, and the kind otherwise."""

PREFIX = "LORESTREAM_"


class Settings(BaseSettings):
    """All settings of a process. Read once at its start, never changed."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(default_factory=lambda: _default_data_dir(os.environ))
    """Directory of log, store and player key. Default: lorestream in XDG_DATA_HOME, or in ~/.local/share."""
    models_dir: Path = Field(default_factory=lambda: default_models_dir(os.environ))
    """Directory of prepared embedding models, shared by all data directories. Default: in the user's cache directory."""
    log: Annotated[EmbeddedLog | KafkaLog, Field(discriminator="kind")] = EmbeddedLog()
    """The event log. Default: embedded; Kafka if `bootstrap` is set."""
    store: Annotated[EdgeStore | QdrantStore, Field(discriminator="kind")] = EdgeStore()
    """The vector store. Default: embedded; a Qdrant server if `url` is set."""
    cache: Annotated[LocalCache | RedisCache, Field(discriminator="kind")] = LocalCache()
    """The answer cache. Default: in the process, off with Kafka; Redis if `url` is set."""
    embedder: EmbedderSettings = EmbedderSettings()
    """The embedding model."""
    reranker: RerankerSettings = RerankerSettings()
    """The second look at the best memories of a search."""
    keyword: KeywordSettings = KeywordSettings()
    """Searches for words."""
    search: SearchSettings = SearchSettings()
    """Defaults of searches."""
    state: StateSettings = StateSettings()
    """Documents and policies."""
    limits: LimitSettings = LimitSettings()
    """Rate limits. Default: none."""
    webhooks: WebhookSettings = WebhookSettings()
    """Which addresses webhooks may have."""
    snapshot: SnapshotSettings = SnapshotSettings()
    """Scheduled snapshots. Default: none."""
    ttl_days: Annotated[float, Field(ge=0, le=36_500)] = 30
    """Default lifetime of a memory in days, 0 = unlimited."""
    keep_per_agent: Annotated[int, Field(ge=0)] = 0
    """How many memories of each agent are kept, the newest of them; 0 = all."""
    gateway_url: Annotated[str, Field(pattern=r"^https?://[^/]")] | None = None
    """The address of the gateway, for the tools of `/mcp` of the query service that write. Default: none; they refuse."""
    api_keys_file: Path | None = None
    """The file of API keys. Default: none; then only loopback is served, without keys."""
    player_key: SecretStr | None = None
    """The HMAC keys for player names, as kid1:key1,kid2:key2. Default: one in the data directory; none if distributed."""
    min_free_bytes: Annotated[int, Field(ge=0)] | None = None
    """Free bytes on the disk of the data directory below which nothing is written. 0 = no floor. Default: 200 MiB, or a
    tenth of a smaller disk; 16 MiB for the store of kind memory."""
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """HTTP port of `lorestream up` and `query`, 0 = any free one. The default of a gateway is 8081."""
    grpc_port: Annotated[int, Field(ge=0, le=65_535)] = 50_051
    """gRPC port of `lorestream up` and `query`, 0 = any free one. The default of a gateway is 50052."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """HTTP port of a worker, for /metrics, /ready and /health; 0 = any free one."""
    sweep_interval_s: Annotated[float, Field(gt=0)] = 60
    """Interval in seconds at which expired memories and old records are removed."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """Format of log lines. auto = console at a terminal, otherwise json."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level of log lines that are written."""

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
        known = {name.lower() for name in setting_names(settings_cls, PREFIX)}
        for source in (env_settings, dotenv_settings):
            assert isinstance(source, EnvSettingsSource)
            # Unknown names, of which a warning tells, and files of secrets would be taken for fields of a part.
            source.env_vars = {
                name: value
                for name, value in source.env_vars.items()
                if name.lower() in known and not of_kubernetes(name, value)
            }
        variables = environment()
        in_environment = [
            one for one in other_names(variables) if not os.environ.keys().isdisjoint(one.variables)
        ]
        return (
            init_settings,
            env_settings,
            _OtherNames(settings_cls, in_environment),
            dotenv_settings,
            _OtherNames(settings_cls, other_names(variables)),
        )

    @model_validator(mode="before")
    @classmethod
    def _kinds(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Fill in the kind of each part: LORESTREAM_LOG__RETENTION_DAYS alone needs none, and an address implies one."""
        values = dict(values)
        for name, (address, implied, otherwise) in IMPLIED_KINDS.items():
            part = values.get(name, {})
            if isinstance(part, Mapping):
                given = cast("Mapping[str, Any]", part)
                without = "off" if name == "cache" and _has_kind(values["log"], "kafka") else otherwise
                values[name] = {"kind": implied if given.get(address) else without, **given}
        return values

    @property
    def ttl_s(self) -> float | None:
        """The default lifetime of a memory in seconds, None = for ever."""
        return self.ttl_days * DAY_S or None

    @property
    def snapshot_dir(self) -> Path:
        """The directory of snapshots."""
        return self.snapshot.dir or self.data_dir / "snapshots"

    @property
    def distributed(self) -> bool:
        """Whether this is the distributed shape: several processes share a Kafka log."""
        return self.log.kind == "kafka"


class _OtherNames(PydanticBaseSettingsSource):
    """Aliases and secrets in files, as a source of pydantic-settings."""

    def __init__(self, settings_cls: type[BaseSettings], found: Sequence[OtherName]) -> None:
        super().__init__(settings_cls)
        self._found = found

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ANN401
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return nested(self._found)


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 (a value per setting)
    """Read the settings. `overrides` take precedence, except None.

    Raises Misconfigured with one line that names the wrong variable.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    variables = environment()
    _require_objects(variables)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        path = _path(first["loc"])
        alias = None if path[0] in given else _alias(path, variables)
        source = f" (from {alias})" if alias else ""
        raise Misconfigured(f"{_variable(path)}{source}: {first['msg']}") from error
    _require_shared_backends(settings)
    _require_effective_security(settings.log)
    return settings


def _require_objects(variables: Mapping[str, str]) -> None:
    """Refuse LORESTREAM_STORE=memory: a part has settings of its own, or is given as one JSON object."""
    for field, info in Settings.model_fields.items():
        part = next(_models(info.annotation), None)
        name = _variable((field,))
        for given, value in variables.items():
            if part and given.upper() == name and not _is_object(value):
                raise Misconfigured(
                    f"{given}: not a JSON object. It is a group of settings: set each by itself, such as"
                    f" {_variable((field, next(iter(part.model_fields))))}"
                )


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _require_shared_backends(settings: Settings) -> None:
    if not settings.distributed:
        return
    if settings.store.kind != "qdrant":
        raise Misconfigured(
            f"LORESTREAM_STORE__KIND: {settings.store.kind} works in one process only, and with the Kafka log there"
            " are several: set LORESTREAM_STORE__URL=http://HOST:6333 of a Qdrant server"
        )
    if settings.cache.kind == "local":
        raise Misconfigured(
            "LORESTREAM_CACHE__KIND: local works in one process only, and with the Kafka log there are several:"
            " set LORESTREAM_CACHE__URL=redis://HOST:6379/0, or LORESTREAM_CACHE__KIND=off"
        )


def _require_effective_security(log: EmbeddedLog | KafkaLog) -> None:
    """Refuse a login or certificates that the protocol does not use: the connection would be less secure than intended."""
    if isinstance(log, EmbeddedLog):
        return
    protocol = log.security_protocol
    if not protocol.startswith("SASL") and (log.sasl_username is not None or log.sasl_password is not None):
        raise Misconfigured(
            f"LORESTREAM_LOG__SECURITY_PROTOCOL: {protocol} uses no login, but one is set: set it to SASL_SSL or"
            " SASL_PLAINTEXT, or unset LORESTREAM_LOG__SASL_USERNAME and LORESTREAM_LOG__SASL_PASSWORD"
        )
    if not protocol.endswith("SSL") and (log.ssl_cafile or log.ssl_certfile or log.ssl_keyfile):
        raise Misconfigured(
            f"LORESTREAM_LOG__SECURITY_PROTOCOL: {protocol} uses no TLS, but files for TLS are set: set it to SSL or"
            " SASL_SSL, or unset LORESTREAM_LOG__SSL_..."
        )


def setting_names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """The variables of all settings of a model: its fields, and those of the models nested in them."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name.upper()}"
        for nested_model in _models(field.annotation):
            yield from setting_names(nested_model, f"{prefix}{name.upper()}__")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 (any annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _path(place: tuple[int | str, ...]) -> tuple[str, ...]:
    """The path of a setting, of a place in an error of pydantic."""
    parts = [str(part) for part in place]
    # pydantic adds the kind after the name of a part; it is not in the name of the variable.
    if len(parts) > 1 and parts[0] in {"log", "store", "cache"}:
        del parts[1]
    if len(parts) == 1 and parts[0] in IMPLIED_KINDS:
        parts.append("kind")
    return tuple(parts)


def _variable(path: tuple[str, ...]) -> str:
    return PREFIX + "__".join(path).upper()


def _alias(path: tuple[str, ...], variables: Mapping[str, str]) -> str | None:
    """The variable of another name that gives this setting. None if its own one is set."""
    if _variable(path) in {name.upper() for name in variables}:
        return None
    return next((one.variables[0] for one in other_names(variables) if one.path == path), None)


def _has_kind(part: object, kind: str) -> bool:
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
