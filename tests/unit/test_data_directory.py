"""The data directory: whose it is, what is refused in it, and its key for player names."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lorestream.errors import Misconfigured
from lorestream.wiring import data_directory
from tests.processes import clean_environment


def former(directory: Path) -> Path:
    """A data directory with a model as the versions of the former name prepared it."""
    model = directory / "models" / "sentence-transformers--all-MiniLM-L6-v2--1"
    model.mkdir(parents=True)
    (model / Path(data_directory._FORMER_MODEL_MANIFESTS).name).write_text("{}")
    return directory


def test_a_directory_of_the_former_name_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        Misconfigured, match=r"as Lorestream was called before.*--data.*move it away"
    ) as refused:
        data_directory.ensure_writable(former(tmp_path))
    assert "\n" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_up_ends_with_that_line(tmp_path: Path) -> None:
    before = sorted(former(tmp_path / "data").rglob("*"))
    answer = subprocess.run(
        [sys.executable, "-m", "lorestream.cli", "up", "--data", str(tmp_path / "data"), "--port", "0"],
        env=clean_environment(LORESTREAM_EMBEDDER__KIND="hash"),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "as Lorestream was called before" in answer.stderr
    assert sorted((tmp_path / "data").rglob("*")) == before


def test_the_player_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    key = data_directory.own_player_key(tmp_path)
    assert key.startswith("k1:")
    assert len(key) == len("k1:") + 64
    assert data_directory.own_player_key(tmp_path) == key
    assert stat.S_IMODE((tmp_path / "player.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["player.key"]


def test_the_player_key_is_on_the_disk_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes | str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(path.read_bytes() if path.is_file() else path.name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    key = data_directory.own_player_key(tmp_path)
    assert synced == [f"{key}\n".encode(), tmp_path.name]


@pytest.mark.parametrize("entry", ["log.sqlite3", "store"])
def test_a_missing_player_key_is_not_made_beside_a_log_or_a_store(tmp_path: Path, entry: str) -> None:
    """Another key would match no name: erasing a player would say "done" and erase nothing."""
    (tmp_path / entry).mkdir()
    with pytest.raises(Misconfigured, match=r"player\.key is missing.*copy or a snapshot.*k2:") as refused:
        data_directory.own_player_key(tmp_path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "player.key").exists()


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"k1:", b"k1:" + b"a" * 63, b"\xff" * 67, b"k1:" + b"a" * 65]
)
def test_a_damaged_player_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "player.key").write_bytes(content)
    with pytest.raises(Misconfigured, match=r"player\.key is damaged.*copy or a snapshot") as refused:
        data_directory.own_player_key(tmp_path)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "player.key").read_bytes() == content


@pytest.mark.parametrize("content", ["k1:" + "a" * 64, f"k2:{'b' * 64},k1:{'a' * 64}\n"])
def test_a_whole_player_key_is_taken(tmp_path: Path, content: str) -> None:
    (tmp_path / "log.sqlite3").touch()
    (tmp_path / "player.key").write_text(content)
    assert data_directory.own_player_key(tmp_path) == content.strip()
