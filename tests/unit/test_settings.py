"""Settings: defaults, nesting, aliases, secrets in files, one line for what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engram import settings
from engram.errors import Misconfigured


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("ENGRAM_") or name in settings.ALIASES:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_with_nothing_set_everything_is_embedded() -> None:
    chosen = settings.load()
    assert (chosen.log.kind, chosen.store.kind, chosen.cache.kind) == ("embedded", "edge", "local")
    assert (chosen.embedder.kind, chosen.ttl_s, chosen.log.retention_days) == ("auto", 30 * 86_400, 30)
    assert (chosen.http_port, chosen.grpc_port) == (8080, 50051)


def test_a_nested_setting_needs_no_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGRAM_LOG__RETENTION_DAYS", "2.5")
    monkeypatch.setenv("ENGRAM_TTL_DAYS", "0")
    chosen = settings.load()
    assert chosen.log.retention_days == 2.5
    assert chosen.ttl_s is None


def test_the_names_of_older_documents_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_MODEL", "my/model")
    monkeypatch.setenv("EMBEDDING_DIM", "768")
    monkeypatch.setenv("MEMORY_TTL_DAYS", "7")
    monkeypatch.setenv("FLASK_PORT", "9000")
    monkeypatch.setenv("GRPC_PORT", "9001")
    chosen = settings.load()
    assert (chosen.embedder.model, chosen.embedder.dim) == ("my/model", 768)
    assert (chosen.ttl_days, chosen.http_port, chosen.grpc_port) == (7, 9000, 9001)


def test_our_own_name_wins_over_an_alias_and_an_option_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_PORT", "9000")
    monkeypatch.setenv("ENGRAM_HTTP_PORT", "9002")
    assert settings.load().http_port == 9002
    assert settings.load(http_port=9003).http_port == 9003
    assert settings.load(http_port=None).http_port == 9002


def test_a_dotenv_file_is_read_below_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENGRAM_TTL_DAYS=3\nENGRAM_HTTP_PORT=9004\nUNRELATED=1\n")
    monkeypatch.setenv("ENGRAM_TTL_DAYS", "4")
    chosen = settings.load()
    assert (chosen.ttl_days, chosen.http_port) == (4, 9004)


def test_a_secret_may_come_as_a_file_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("k7:very-secret\n")
    monkeypatch.setenv("ENGRAM_PLAYER_KEY_FILE", str(tmp_path / "key"))
    chosen = settings.load()
    assert chosen.player_key is not None
    assert chosen.player_key.get_secret_value() == "k7:very-secret"
    assert "very-secret" not in repr(chosen) + str(chosen.model_dump())
    monkeypatch.setenv("ENGRAM_PLAYER_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(Misconfigured, match="ENGRAM_PLAYER_KEY_FILE"):
        settings.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENGRAM_LOG__KIND", "papyrus"),
        ("ENGRAM_LOG__RETENTION_DAYS", "-1"),
        ("ENGRAM_LOG__NO_SUCH_SETTING", "1"),
        ("ENGRAM_STORE__KIND", "cloud nine"),
        ("ENGRAM_EMBEDDER__DIM", "many"),
        ("ENGRAM_HTTP_PORT", "70000"),
        ("ENGRAM_TTL_DAYS", "nan"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured) as caught:
        settings.load()
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)
