"""Variables of the original documents without an effect: one warning names them and the page, never their values."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lorestream.cli.setup.settings import effective
from lorestream.settings import ALIASES, load_settings, warn_of_unread
from lorestream.settings.unread import PAGE, of_services, unknown, unread
from lorestream.wiring import open_runtime


def test_the_warning_names_the_variables_of_the_environment_and_of_dotenv_but_not_their_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / ".env").write_text("DB_PASSWORD=secret\nLORESTREAM_TTL_DAYS=3\n")
    monkeypatch.setenv("MONGODB_URI", "mongodb://user:secret@host")
    monkeypatch.setenv("MEMORY_TYPE", "mongodb")
    with capture_logs() as lines:
        warn_of_unread(tmp_path / ".env")
    (line,) = lines
    assert line["variables"] == ["DB_PASSWORD", "MEMORY_TYPE", "MONGODB_URI"]
    assert (line["log_level"], PAGE in line["event"]) == ("warning", True)
    assert "secret" not in str(line)


def test_without_such_variables_nothing_is_logged(tmp_path: Path):
    with capture_logs() as lines:
        warn_of_unread(tmp_path / ".env")
    assert lines == []


def test_names_that_lorestream_reads_are_not_among_them():
    assert unread([*ALIASES, "LORESTREAM_LOG__KIND", "PATH", "MY_DB_HOST"]) == []


def test_the_page_exists_and_names_every_variable():
    page = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    for name in (
        "DB_",
        "MONGODB_",
        "MEMORY_TYPE",
        "MEMORY_NAMESPACE",
        "MAX_RECENT_MESSAGES",
        "CLEANUP_INTERVAL",
    ):
        assert name in page


async def test_a_start_warns_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORESTREAM_STORE__KIND", "memory")
    monkeypatch.setenv("LORESTREAM_EMBEDDER__KIND", "hash")
    monkeypatch.setenv("DB_HOST", "localhost")
    with capture_logs() as lines:
        async with open_runtime(load_settings(data_dir=tmp_path / "data")):
            pass
    assert [line["variables"] for line in lines if PAGE in line["event"]] == [["DB_HOST"]]


def test_unknown_settings_are_named_in_one_warning_with_the_name_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / ".env").write_text("LORESTREAM_STORE_KIND=memory\nLORESTREAM_TTL_DAYS=3\n")
    monkeypatch.setenv("LORESTREAM_COLOUR", "secret")
    monkeypatch.setenv("LORESTREAM_API_KEY_FILE", "key")
    with capture_logs() as lines:
        warn_of_unread(tmp_path / ".env")
    (line,) = lines
    assert line["variables"] == [
        "LORESTREAM_COLOUR",
        "LORESTREAM_STORE_KIND (similar: LORESTREAM_STORE__KIND)",
    ]
    assert "secret" not in str(line)


def test_variables_of_clients_are_named_where_only_the_dotenv_file_has_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / ".env").write_text("LORESTREAM_URL=http://a\nLORESTREAM_API_KEY=secret\n")
    monkeypatch.setenv("LORESTREAM_URL", "http://b")
    with capture_logs() as lines:
        warn_of_unread(tmp_path / ".env")
    (line,) = lines
    assert line["variables"] == ["LORESTREAM_API_KEY"]
    assert "secret" not in str(line)


def test_no_setting_is_unknown():
    """Those of the documentation and of the deployment files included."""
    root = Path(__file__).parents[2]
    files = [
        *root.glob("docs/*.md"),
        *root.glob("deploy/**/*.*"),
        root / "docker-compose.yml",
        root / "README.md",
    ]
    names = {
        name
        for file in files
        if file.is_file() and file.suffix in {".md", ".yml", ".env", ".sh"}
        for name in re.findall(r"\bLORESTREAM_[A-Z_]*[A-Z]\b(?=[=`:}])", file.read_text(encoding="utf-8"))
    }
    assert len(names) > 20
    assert unknown(names) == []


SERVICES = {
    "REDIS_PORT": "tcp://10.0.0.1:6379",
    "REDIS_SERVICE_HOST": "10.0.0.1",
    "QDRANT_PORT": "tcp://10.0.0.2:6333",
    "GRPC_PORT": "tcp://10.0.0.3:50051",
    "METRICS_PORT": "udp://10.0.0.3:8000",
    "LORESTREAM_PORT": "tcp://10.0.0.4:8080",
    "LORESTREAM_PORT_8080_TCP": "tcp://10.0.0.4:8080",
    "LORESTREAM_PORT_8080_TCP_PROTO": "tcp",
    "LORESTREAM_PORT_8080_TCP_PORT": "8080",
    "LORESTREAM_PORT_8080_TCP_ADDR": "10.0.0.4",
    "LORESTREAM_SERVICE_HOST": "10.0.0.4",
    "LORESTREAM_SERVICE_PORT": "8080",
    "LORESTREAM_SERVICE_PORT_HTTP": "8080",
    "LORESTREAM_HTTP_PORT": "tcp://10.0.0.5:8080",
    "LORESTREAM_QUERY_SERVICE_HOST": "10.0.0.6",
}
"""What Kubernetes sets for Services called redis, qdrant, grpc, metrics, lorestream, lorestream-http, lorestream-query."""


def test_variables_that_kubernetes_sets_for_its_services_are_no_settings(monkeypatch: pytest.MonkeyPatch):
    for name, value in SERVICES.items():
        monkeypatch.setenv(name, value)
    chosen = load_settings()
    assert (chosen.store.kind, chosen.cache.kind) == ("edge", "local")
    assert (chosen.http_port, chosen.grpc_port, chosen.metrics_port) == (8080, 50_051, 8000)
    with capture_logs() as lines:
        warn_of_unread()
    assert [line for line in lines if line["log_level"] != "debug"] == []
    ignored = {name for name in SERVICES if name.startswith("LORESTREAM_") or name in ALIASES}
    assert set(of_services(os.environ)) == ignored


def test_beside_them_the_addresses_of_the_same_servers_are_read(monkeypatch: pytest.MonkeyPatch):
    for name, value in {**SERVICES, "REDIS_HOST": "redis", "QDRANT_HOST": "qdrant"}.items():
        monkeypatch.setenv(name, value)
    chosen = load_settings()
    assert chosen.store.url == "http://qdrant:6333"  # type: ignore[union-attr]
    assert chosen.cache.url.get_secret_value() == "redis://redis:6379/0"  # type: ignore[union-attr]
    shown = {one.name: one.origin for one in effective(os.environ)}
    assert shown["LORESTREAM_STORE__URL"] == "alias QDRANT_HOST"
    assert shown["LORESTREAM_HTTP_PORT"] == "default"
