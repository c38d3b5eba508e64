"""Settings: defaults, nesting, aliases, secrets in files, one error line for a wrong value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from lorestream.cli.setup.settings import effective
from lorestream.errors import Misconfigured
from lorestream.settings import ALIASES, load_settings, warn_of_unread
from lorestream.settings.backends import QdrantStore, RedisCache


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("LORESTREAM_") or name in ALIASES:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_with_nothing_set_everything_is_embedded() -> None:
    chosen = load_settings()
    assert (chosen.log.kind, chosen.store.kind, chosen.cache.kind) == ("embedded", "edge", "local")
    assert (chosen.embedder.kind, chosen.ttl_s, chosen.log.retention_days) == ("auto", 30 * 86_400, 30)
    assert (chosen.http_port, chosen.grpc_port) == (8080, 50051)


def test_a_nested_setting_needs_no_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORESTREAM_LOG__RETENTION_DAYS", "2.5")
    monkeypatch.setenv("LORESTREAM_TTL_DAYS", "0")
    chosen = load_settings()
    assert chosen.log.retention_days == 2.5
    assert chosen.ttl_s is None


def test_aliases_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_MODEL", "my/model")
    monkeypatch.setenv("EMBEDDING_DIM", "768")
    monkeypatch.setenv("MEMORY_TTL_DAYS", "7")
    monkeypatch.setenv("FLASK_PORT", "9000")
    monkeypatch.setenv("GRPC_PORT", "9001")
    chosen = load_settings()
    assert (chosen.embedder.model, chosen.embedder.dim) == ("my/model", 768)
    assert (chosen.ttl_days, chosen.http_port, chosen.grpc_port) == (7, 9000, 9001)


def test_an_own_name_overrides_an_alias_and_an_argument_overrides_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLASK_PORT", "9000")
    monkeypatch.setenv("LORESTREAM_HTTP_PORT", "9002")
    assert load_settings().http_port == 9002
    assert load_settings(http_port=9003).http_port == 9003
    assert load_settings(http_port=None).http_port == 9002


def test_the_environment_overrides_a_dotenv_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LORESTREAM_TTL_DAYS=3\nLORESTREAM_HTTP_PORT=9004\nUNRELATED=1\n")
    monkeypatch.setenv("LORESTREAM_TTL_DAYS", "4")
    chosen = load_settings()
    assert (chosen.ttl_days, chosen.http_port) == (4, 9004)


def test_a_secret_can_be_read_from_a_file_and_is_never_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("k7:very-secret\n")
    monkeypatch.setenv("LORESTREAM_PLAYER_KEY_FILE", str(tmp_path / "key"))
    chosen = load_settings()
    assert chosen.player_key is not None
    assert chosen.player_key.get_secret_value() == "k7:very-secret"
    assert "very-secret" not in repr(chosen) + str(chosen.model_dump())
    monkeypatch.setenv("LORESTREAM_PLAYER_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(Misconfigured, match="LORESTREAM_PLAYER_KEY_FILE"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LORESTREAM_LOG__KIND", "papyrus"),
        ("LORESTREAM_LOG__RETENTION_DAYS", "-1"),
        ("LORESTREAM_LOG__PARTITIONS", "12"),  # of the kind kafka, which needs an address
        ("LORESTREAM_STATE", '{"no_such_setting": 1}'),
        ("LORESTREAM_STORE__KIND", "cloud nine"),
        ("LORESTREAM_EMBEDDER__DIM", "many"),
        ("LORESTREAM_HTTP_PORT", "70000"),
        ("LORESTREAM_TTL_DAYS", "nan"),
        ("LORESTREAM_SWEEP_INTERVAL_S", "inf"),
        ("LORESTREAM_SEARCH__NEIGHBOUR_GAP_S", "inf"),
    ],
)
def test_a_wrong_value_is_one_error_line_with_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as caught:
        load_settings()
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["EMBEDDER", "LIMITS", "STORE", "LOG", "CACHE", "SNAPSHOT"])
@pytest.mark.parametrize("value", ["hash", "[1]", '"a"', "[" * 100_000])
@pytest.mark.parametrize("in_file", [False, True])
def test_a_part_that_is_no_object_is_refused_with_a_setting_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, in_file: bool
) -> None:
    if in_file:
        (tmp_path / ".env").write_text(f"LORESTREAM_{name}='{value}'\n")
    else:
        monkeypatch.setenv(f"LORESTREAM_{name}", value)
    with pytest.raises(Misconfigured, match=rf"^LORESTREAM_{name}: .*LORESTREAM_{name}__[A-Z_]+$"):
        load_settings()


def test_a_dotenv_file_that_cannot_be_read_is_one_error_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"LORESTREAM_TTL_DAYS=3\n# caf\xe9\n")
    for read in (load_settings, warn_of_unread):
        with pytest.raises(Misconfigured, match=r"\.env"):
            read()


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("DATA_DIR", "data_dir"),
        ("SNAPSHOT__DIR", "snapshot_dir"),
        ("API_KEYS_FILE", "api_keys_file"),
        ("PLAYER_KEY_FILE", "player_key"),
        ("EMBEDDER__MODEL", "embedder"),
        ("TTL_DAYS", "ttl_s"),
        ("LIMITS", "limits"),
        ("STORE__URL", "store"),
    ],
)
def test_an_empty_variable_counts_as_not_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, setting: str
) -> None:
    """As `${NAME:-}` in a compose file makes it."""
    unset, shown = getattr(load_settings(), setting), origins()
    monkeypatch.setenv(f"LORESTREAM_{name}", "")
    assert getattr(load_settings(), setting) == unset
    assert origins() == shown
    monkeypatch.delenv(f"LORESTREAM_{name}")
    (tmp_path / ".env").write_text(f"LORESTREAM_{name}=\n")
    assert getattr(load_settings(), setting) == unset
    assert origins() == shown


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"MEMORY_TTL_DAYS": "x"}, r"LORESTREAM_TTL_DAYS \(from MEMORY_TTL_DAYS\): "),
        ({"EMBEDDING_DIM": "x"}, r"LORESTREAM_EMBEDDER__DIM \(from EMBEDDING_DIM\): "),
        ({"QDRANT_URL": "q:6333"}, r"LORESTREAM_STORE__URL \(from QDRANT_URL\): "),
        ({"QDRANT_HOST": "h", "QDRANT_PORT": "abc"}, "QDRANT_PORT: "),
        ({"REDIS_HOST": "h", "REDIS_PORT": "abc"}, "REDIS_PORT: "),
        ({"MEMORY_TTL_DAYS": "3", "LORESTREAM_TTL_DAYS": "x"}, "LORESTREAM_TTL_DAYS: "),
    ],
)
def test_an_error_names_the_variable_that_was_set(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    set_variables(monkeypatch, **variables)
    with pytest.raises(Misconfigured, match=rf"^{named}"):
        load_settings()


@pytest.mark.parametrize(
    "name", ["STATE__FOO", "STORE__KINDD", "LOG__NO_SUCH", "STATE__KEEP_VERSIONS__X", "FOO__X"]
)
def test_an_unknown_setting_has_no_effect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """Of a part, too: in the environment and in `.env`."""
    monkeypatch.setenv("LORESTREAM_STATE__KEEP_VERSIONS", "3")
    (tmp_path / ".env").write_text(f"LORESTREAM_{name}=1\n")
    assert load_settings().state.keep_versions == 3
    monkeypatch.setenv(f"LORESTREAM_{name}", "1")
    assert load_settings().state.keep_versions == 3


KAFKA = {"LORESTREAM_LOG__BOOTSTRAP": "127.0.0.1:9092", "LORESTREAM_STORE__URL": "http://127.0.0.1:6333"}
LOGIN = {"LORESTREAM_LOG__SECURITY_PROTOCOL": "SASL_SSL"}


def set_variables(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_an_address_implies_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(
        monkeypatch,
        **KAFKA,
        LORESTREAM_CACHE__URL="redis://127.0.0.1/0",
        LORESTREAM_EMBEDDER__URL="http://127.0.0.1:1",
    )
    chosen = load_settings()
    kinds = (chosen.log.kind, chosen.store.kind, chosen.cache.kind, chosen.embedder.kind)
    assert kinds == ("kafka", "qdrant", "redis", "http")
    assert chosen.distributed


def test_with_kafka_the_default_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, **KAFKA)
    assert load_settings().cache.kind == "off"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LORESTREAM_STORE__KIND", "edge"),
        ("LORESTREAM_STORE__KIND", "memory"),
        ("LORESTREAM_CACHE__KIND", "local"),
    ],
)
def test_backends_of_one_process_are_refused_with_kafka(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    set_variables(monkeypatch, **KAFKA)
    if name.startswith("LORESTREAM_STORE"):
        monkeypatch.delenv("LORESTREAM_STORE__URL")
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=rf"^{name}: .*LORESTREAM_(STORE|CACHE)__URL="):
        load_settings()


def test_an_address_alias_implies_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, QDRANT_HOST="qdrant", QDRANT_PORT="7333", QDRANT_API_KEY="open sesame")
    set_variables(
        monkeypatch, REDIS_HOST="redis", REDIS_DB="2", REDIS_PASSWORD="p@ss/word", REDIS_PREFIX="game"
    )
    chosen = load_settings()
    assert isinstance(chosen.store, QdrantStore)
    assert isinstance(chosen.cache, RedisCache)
    assert chosen.store.url == "http://qdrant:7333"
    assert chosen.store.api_key is not None
    assert chosen.store.api_key.get_secret_value() == "open sesame"
    assert chosen.cache.url.get_secret_value() == "redis://:p%40ss%2Fword@redis:6379/2"
    assert chosen.cache.prefix == "game"
    assert "sesame" not in repr(chosen)
    assert "p%40ss" not in repr(chosen)

    set_variables(monkeypatch, QDRANT_URL="https://cloud.example:6333", REDIS_URL="redis://other/1")
    chosen = load_settings()
    assert chosen.store.url == "https://cloud.example:6333"  # type: ignore[union-attr]
    assert chosen.cache.url.get_secret_value() == "redis://other/1"  # type: ignore[union-attr]


def test_an_explicit_kind_overrides_an_address_alias(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_variables(monkeypatch, QDRANT_HOST="qdrant", REDIS_URL="redis://redis/0", QDRANT_COLLECTION="mine")
    set_variables(monkeypatch, LORESTREAM_STORE__KIND="edge", LORESTREAM_CACHE__KIND="local")
    chosen = load_settings()
    assert (chosen.store.kind, chosen.cache.kind, chosen.store.collection) == ("edge", "local", "mine")


def test_a_key_or_a_port_alone_does_not_imply_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, QDRANT_API_KEY="x", QDRANT_PORT="1", REDIS_PASSWORD="y", REDIS_PREFIX="z")
    chosen = load_settings()
    assert (chosen.store.kind, chosen.cache.kind) == ("edge", "local")


@pytest.mark.parametrize(
    ("variable", "kind", "secret"),
    [
        ("LORESTREAM_STORE__API_KEY", {"LORESTREAM_STORE__URL": "http://q"}, "store.api_key"),
        ("LORESTREAM_CACHE__URL", {}, "cache.url"),
        ("LORESTREAM_LOG__SASL_PASSWORD", KAFKA | LOGIN, "log.sasl_password"),
        ("LORESTREAM_EMBEDDER__API_KEY", {}, "embedder.api_key"),
    ],
)
def test_every_secret_can_be_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, kind: dict[str, str], secret: str
) -> None:
    (tmp_path / "secret").write_text("redis://hidden\n")
    set_variables(monkeypatch, **kind, **{f"{variable}_FILE": str(tmp_path / "secret")})
    value: object = load_settings()
    for part in secret.split("."):
        value = getattr(value, part)
    assert value.get_secret_value() == "redis://hidden"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"SASL_USERNAME": "lorestream"}, "login"),
        ({"SASL_PASSWORD": "secret", "SECURITY_PROTOCOL": "SSL"}, "login"),
        ({"SSL_CAFILE": "/ca.pem"}, "TLS"),
        ({"SSL_KEYFILE": "/key.pem", "SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "TLS"),
    ],
)
def test_a_login_or_a_certificate_that_the_protocol_ignores_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    servers = KAFKA | {"LORESTREAM_STORE__URL": "http://qdrant:6333"}
    for name, value in (
        servers | {f"LORESTREAM_LOG__{name}": value for name, value in variables.items()}
    ).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=f"SECURITY_PROTOCOL.*{message}") as refused:
        load_settings()
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("LORESTREAM_LOG__SECURITY_PROTOCOL", "SASL_SSL")
    load_settings()


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("LORESTREAM_STORE__URL", "qdrant:6333", "LORESTREAM_STORE__URL"),
        ("LORESTREAM_STORE__URL", "https://user:key@qdrant:6333", "LORESTREAM_STORE__URL"),
        ("LORESTREAM_STORE__URL", "http://qdrant:port", "LORESTREAM_STORE__URL"),
        ("LORESTREAM_LOG__PARTITIONS", "0", "LORESTREAM_LOG__PARTITIONS"),
        ("LORESTREAM_LOG__BOOTSTRAP", "", "LORESTREAM_LOG__BOOTSTRAP"),
        ("LORESTREAM_CACHE__PREFIX", "a b", "LORESTREAM_CACHE__PREFIX"),
    ],
)
def test_a_wrong_value_of_a_backend_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    set_variables(
        monkeypatch, **KAFKA, LORESTREAM_LOG__KIND="kafka", LORESTREAM_CACHE__URL="redis://127.0.0.1/0"
    )
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=rf"^{named}: "):
        load_settings()


def test_a_kind_without_its_address_names_the_missing_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORESTREAM_STORE__KIND", "qdrant")
    with pytest.raises(Misconfigured, match=r"^LORESTREAM_STORE__URL: Field required"):
        load_settings()


def test_keep_per_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().keep_per_agent == 0
    monkeypatch.setenv("MAX_STORED_MESSAGES", "200")
    assert load_settings().keep_per_agent == 200
    monkeypatch.setenv("LORESTREAM_KEEP_PER_AGENT", "300")
    assert load_settings().keep_per_agent == 300
    monkeypatch.setenv("LORESTREAM_KEEP_PER_AGENT", "-1")
    with pytest.raises(Misconfigured, match="LORESTREAM_KEEP_PER_AGENT"):
        load_settings()


@pytest.mark.parametrize(
    ("lines", "setting", "value"),
    [
        ("QDRANT_HOST=q\nQDRANT_PORT=7000", "store.url", "http://q:7000"),
        ("QDRANT_HOST=q", "store.kind", "qdrant"),
        ("MEMORY_TTL_DAYS=7", "ttl_days", 7),
        ("EMBEDDING_MODEL=my/model", "embedder.model", "my/model"),
        ("REDIS_HOST=r\nREDIS_PASSWORD=p", "cache.url", "redis://:p@r:6379/0"),
        ("LORESTREAM_PLAYER_KEY_FILE=key", "player_key", "k1:from-a-file"),
        (
            "LORESTREAM_STORE__URL=http://q:1\nLORESTREAM_STORE__API_KEY_FILE=key",
            "store.api_key",
            "k1:from-a-file",
        ),
        ("LORESTREAM_TTL_DAYS=3\nMEMORY_TTL_DAYS=7", "ttl_days", 3),
    ],
)
def test_a_dotenv_file_is_read_as_the_environment_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: str, setting: str, value: object
) -> None:
    """Aliases and files of secrets, too: a player key that was given so must not be replaced by a new one."""
    (tmp_path / "key").write_text("k1:from-a-file\n")

    def chosen() -> object:
        found: object = load_settings()
        for name in setting.split("."):
            found = getattr(found, name)
        return found.get_secret_value() if isinstance(found, SecretStr) else found

    (tmp_path / ".env").write_text(lines + "\n")
    assert chosen() == value
    (tmp_path / ".env").unlink()
    for line in lines.split("\n"):
        monkeypatch.setenv(*line.split("=", 1))
    assert chosen() == value


def test_an_alias_of_the_environment_overrides_the_dotenv_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("LORESTREAM_TTL_DAYS=3\nQDRANT_PORT=7000\nQDRANT_HOST=other\n")
    monkeypatch.setenv("MEMORY_TTL_DAYS", "7")
    monkeypatch.setenv("QDRANT_HOST", "q")
    assert load_settings().ttl_days == 7
    store = load_settings().store
    assert isinstance(store, QdrantStore)
    assert store.url == "http://q:7000"


def origins() -> dict[str, tuple[object, str]]:
    return {one.name.removeprefix("LORESTREAM_"): (one.value, one.origin) for one in effective(os.environ)}


def test_config_show_tells_the_true_origin_of_each_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("REDIS_HOST=r\nLORESTREAM_TTL_DAYS=3\n")
    monkeypatch.setenv("QDRANT_HOST", "q")
    monkeypatch.setenv("QDRANT_PORT", "7000")
    monkeypatch.setenv("LORESTREAM_EMBEDDER__URL", "https://me:secret@host/v1?key=secret")
    shown = origins()
    assert shown["STORE__URL"] == ("http://q:7000", "alias QDRANT_HOST")
    assert shown["STORE__KIND"] == ("qdrant", "alias QDRANT_HOST")
    assert shown["CACHE__KIND"] == ("redis", ".env REDIS_HOST")
    assert shown["TTL_DAYS"] == (3, ".env")
    assert shown["EMBEDDER__KIND"] == ("http", "environment LORESTREAM_EMBEDDER__URL")
    assert shown["EMBEDDER__URL"][0] == "https://(hidden)@host/v1?(hidden)"
    assert shown["LOG__KIND"] == ("embedded", "default")
    assert "secret" not in str(shown)


def test_config_show_tells_why_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORESTREAM_LOG__BOOTSTRAP", "k:9092")
    monkeypatch.setenv("LORESTREAM_STORE__URL", "http://q:6333")
    assert origins()["CACHE__KIND"] == ("off", "environment LORESTREAM_LOG__BOOTSTRAP")
