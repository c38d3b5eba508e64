"""The API key file: its content, its changes, and the commands that change it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lorestream.access import key_file
from lorestream.access.key_file import KeyScope, NewKey
from lorestream.cli.keys.commands import TenantScope
from lorestream.errors import Misconfigured
from tests import command_line
from tests.processes import clean_environment

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def made(path: Path, **fields: Any) -> NewKey:
    return key_file.create(path, **{"tenant": "default", "scopes": [KeyScope.QUERY], **fields})


def listed(path: Path) -> list[key_file.ApiKey]:
    return list(key_file.read(path)[1])


# --- the file ------------------------------------------------------------------------------------------------


def test_the_file_holds_hashes_and_is_readable_by_its_owner_only(path: Path):
    new = made(path, scopes=[KeyScope.ERASE, KeyScope.INGEST, KeyScope.ERASE], label="survival-1")
    raw = path.read_text()
    assert new.secret not in raw
    [line] = json.loads(raw)["keys"]
    assert line["sha256"] == hashlib.sha256(new.secret.encode()).hexdigest()
    assert (line["id"], line["scopes"], line["label"]) == (new.key.id, ["ingest", "erase"], "survival-1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_a_secret_has_256_bits_and_is_not_in_repr(path: Path):
    news = [made(path) for _ in range(20)]
    assert len({new.secret for new in news}) == len({new.key.id for new in news}) == 20
    for new in news:
        assert len(new.secret) == 43  # 32 bytes in base64 without padding
        assert new.credential == f"{new.key.id}.{new.secret}"
        assert "." not in new.secret
        assert "." not in new.key.id
        assert new.secret not in repr(new)


def test_the_example_in_the_documentation_is_a_key_file(path: Path):
    example = str(key_file.__doc__).partition("\n\n")[2].partition("\n\n")[0]
    path.write_text(example.replace("(64 hexadecimal digits)", "0" * 64))
    [key] = listed(path)
    assert (key.tenant, key.label, key.revoked) == ("default", "the survival server", None)


def test_the_guide_shows_a_key_file(path: Path):
    guide = (Path(__file__).parents[2] / "docs" / "access.md").read_text()
    path.write_text(guide.partition("```json\n")[2].partition("```")[0])
    [key] = listed(path)
    assert set(key.scopes) == {KeyScope.INGEST, KeyScope.QUERY}
    assert all(f"`{scope}`" in guide for scope in KeyScope)


def test_a_key_lives_until_it_expires_or_is_revoked(path: Path):
    key = made(path, life=timedelta(days=1)).key
    assert key.expires == key.created + timedelta(days=1)
    assert key.state(key.created) == "live"
    assert key.state(key.created + timedelta(days=1)) == "expired"
    assert key_file.revoke(path, key.id).state(key.created) == "revoked"
    assert made(path).key.state(datetime.max.replace(tzinfo=UTC)) == "live"


def test_rotation_adds_an_equal_key_and_keeps_the_old_one(path: Path):
    old = made(path, tenant="a", scopes=[KeyScope.ADMIN], label="x", life=timedelta(days=7)).key
    new = key_file.rotate(path, old.id).key
    assert new.id != old.id
    assert new.sha256 != old.sha256
    assert (new.tenant, new.scopes, new.label) == (old.tenant, old.scopes, old.label)
    assert new.expires == new.created + timedelta(days=7)
    assert listed(path) == [old, new]
    third = key_file.rotate(path, new.id, life=timedelta(days=1), revoke_old=True).key
    assert [(key.id, key.revoked is None) for key in listed(path)] == [
        (old.id, True),
        (new.id, False),
        (third.id, True),
    ]
    assert third.expires == third.created + timedelta(days=1)


def test_a_revoked_key_cannot_be_changed(path: Path):
    key = made(path).key
    revoked = key_file.revoke(path, key.id)
    assert revoked.revoked is not None
    before = path.stat().st_ino
    assert key_file.revoke(path, key.id) == revoked
    assert path.stat().st_ino == before, "an unchanged file was written again"
    with pytest.raises(Misconfigured, match="is revoked"):
        key_file.rotate(path, key.id)


def test_an_unknown_key_is_named_in_the_error(path: Path):
    made(path)
    for change in (key_file.rotate, key_file.revoke, key_file.find):
        with pytest.raises(Misconfigured, match="has no key nobody"):
            change(path, "nobody")


def test_a_symbolic_link_is_kept(tmp_path: Path, path: Path):
    link = tmp_path / "deep" / "link.json"
    link.parent.mkdir()
    link.symlink_to(path)
    made(link)
    assert link.is_symlink()
    assert len(listed(path)) == 1


def test_a_write_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch):
    made(path)
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Misconfigured, match="No space left"):
        made(path)
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


@pytest.mark.parametrize("fields", [{"tenant": "A"}, {"tenant": ""}, {"scopes": []}, {"label": "x" * 201}])
def test_an_invalid_key_is_not_written(path: Path, fields: dict[str, Any]):
    with pytest.raises(Misconfigured):
        made(path, **fields)
    assert not path.exists()


def _make_keys(path: Path, count: int) -> None:
    for _ in range(count):
        made(path)


def test_concurrent_writers_lose_no_key(path: Path):
    spawned = multiprocessing.get_context("spawn")
    writers = [spawned.Process(target=_make_keys, args=(path, 15)) for _ in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            listed(path)  # a reader without the lock sees a whole file at every moment
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len({key.id for key in listed(path)}) == 45


KEY = {
    "id": "a",
    "sha256": "0" * 64,
    "tenant": "default",
    "scopes": ["query"],
    "created": "2026-01-01T00:00:00Z",
}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "JSON|truncated"),
        (b"{", "truncated"),
        (b"\xff", "malformed|UTF-8|utf-8"),
        (b"[" * 100_000, "recursion|nested|Expected"),
        ([], "object"),
        ({"keys": []}, "version"),
        ({"version": 2, "keys": [{"of": "another kind"}]}, "version 2"),
        ({"version": 1}, "keys"),
        ({"version": 1, "keys": [], "servers": []}, "servers"),
        ({"version": 1, "keys": [KEY, KEY]}, "2 keys a"),
        ({"version": 1, "keys": [{**KEY, "only_from": "10.0.0.1"}]}, "only_from"),
        ({"version": 1, "keys": [{**KEY, "id": "a.b"}]}, "id"),
        ({"version": 1, "keys": [{**KEY, "id": "a\n"}]}, "id"),
        ({"version": 1, "keys": [{**KEY, "sha256": "F" * 64}]}, "sha256"),
        ({"version": 1, "keys": [{**KEY, "sha256": "0" * 63}]}, "sha256"),
        ({"version": 1, "keys": [{**KEY, "tenant": "Default"}]}, "tenant"),
        ({"version": 1, "keys": [{**KEY, "tenant": "x" * 65}]}, "tenant"),
        ({"version": 1, "keys": [{**KEY, "scopes": []}]}, "scopes"),
        ({"version": 1, "keys": [{**KEY, "scopes": ["all"]}]}, "scopes"),
        ({"version": 1, "keys": [{**KEY, "expires": "2026-01-01T00:00:00"}]}, "expires"),
        ({"version": 1, "keys": [{**KEY, "expires": 5}]}, "expires"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_invalid_file_is_refused_in_one_line_that_names_the_cause(path: Path, content: object, named: str):
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(Misconfigured, match=named) as caught:
        key_file.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "0" * 63 not in str(caught.value)


def test_a_missing_unreadable_or_too_large_file_is_misconfigured(tmp_path: Path, path: Path):
    with pytest.raises(Misconfigured, match="lorestream keys create"):
        key_file.read(path)
    with pytest.raises(Misconfigured, match="cannot be read"):
        key_file.read(tmp_path)
    with pytest.raises(Misconfigured, match="cannot be written"):
        made(tmp_path / "nowhere" / "keys.json")
    path.write_bytes(b" " * (key_file.MAX_BYTES + 1))
    with pytest.raises(Misconfigured, match="larger"):
        key_file.read(path)


# --- the commands -----------------------------------------------------------------------------------------------


@pytest.fixture
def lorestream(tmp_path: Path, path: Path) -> Run:
    """Runs `lorestream keys ARGUMENTS` on the key file."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {"HOME": str(tmp_path), "COLUMNS": "200"}
        if "--file" not in arguments:
            settings["LORESTREAM_API_KEYS_FILE"] = str(path)
        given = clean_environment(**settings)
        return command_line.run_main("keys", *arguments, environment=given, directory=tmp_path)

    return run


@pytest.mark.parametrize("verb", ["create", "rotate", "revoke", "list"])
def test_the_help_of_every_command_has_an_example(lorestream: Run, verb: str):
    answer = lorestream(verb, "--help")
    assert answer.returncode == 0
    assert f" lorestream keys {verb}" in answer.stdout.partition("Usage:")[2].partition("\n")[2]


def test_from_create_to_revoke(lorestream: Run, path: Path):
    created = lorestream(
        "create", "--tenant", "a", "--scope", "query", "--scope", "ingest", "--label", "shop"
    )
    assert created.returncode == 0, created.stderr
    assert created.stdout.count("\n") == 1, "something that is not the key stands on stdout"
    key_id, dot, secret = created.stdout.strip().partition(".")
    assert dot
    assert hashlib.sha256(secret.encode()).hexdigest() == listed(path)[0].sha256

    rotated = json.loads(lorestream("rotate", key_id, "--expires", "7", "--json").stdout)
    assert rotated["key"].startswith(rotated["id"] + ".")
    assert (rotated["tenant"], rotated["scopes"], rotated["label"]) == ("a", ["ingest", "query"], "shop")

    looked = lorestream("revoke", key_id, "--dry-run")
    assert (looked.returncode, listed(path)[0].revoked) == (0, None)
    assert key_id in looked.stdout
    revoked = json.loads(lorestream("revoke", key_id, "--yes", "--json").stdout)
    assert (revoked["id"], revoked["state"], revoked["dry_run"]) == (key_id, "revoked", False)
    assert lorestream("revoke", key_id, "--yes").stdout == f"{key_id} was revoked already\n"

    table, as_json = lorestream("list").stdout, lorestream("list", "--json").stdout
    assert [(key["id"], key["state"]) for key in json.loads(as_json)["keys"]] == [
        (key_id, "revoked"),
        (rotated["id"], "live"),
    ]
    for shown in (table, as_json):
        assert key_id in shown
        for hidden in (secret, rotated["key"].partition(".")[2], *(key.sha256 for key in listed(path))):
            assert hidden not in shown


def test_only_the_option_operator_gives_the_scope_operator(lorestream: Run, path: Path):
    assert lorestream("create", "--tenant", "a", "--scope", "operator").returncode == 2
    assert not path.exists()
    given = json.loads(lorestream("create", "--tenant", "a", "--operator", "--json").stdout)
    assert given["scopes"] == ["operator"]
    given = json.loads(
        lorestream("create", "--tenant", "a", "--scope", "admin", "--operator", "--json").stdout
    )
    assert given["scopes"] == ["admin", "operator"]
    assert {*TenantScope, "operator"} == set(KeyScope)


def test_rotate_with_revoke_old_revokes_the_old_key_at_once(lorestream: Run, path: Path):
    old = made(path).key
    assert lorestream("rotate", old.id, "--revoke-old").returncode == 2, "nobody was asked"
    looked = lorestream("rotate", old.id, "--revoke-old", "--dry-run")
    assert (looked.returncode, old.id in looked.stdout, "revoke" in looked.stdout) == (0, True, True)
    looked = lorestream("rotate", old.id, "--dry-run", "--json")
    assert (json.loads(looked.stdout)["dry_run"], json.loads(looked.stdout)["id"]) == (True, old.id)
    assert [key.revoked for key in listed(path)] == [None]
    answer = lorestream("rotate", old.id, "--revoke-old", "--yes")
    assert answer.returncode == 0, answer.stderr
    assert [key.revoked is None for key in listed(path)] == [False, True]
    assert "is revoked" in lorestream("rotate", old.id, "--dry-run").stderr


def test_the_option_file_names_another_file(lorestream: Run, tmp_path: Path, path: Path):
    other = tmp_path / "other.json"
    answer = lorestream("create", "--tenant", "a", "--scope", "query", "--file", "other.json")
    assert answer.returncode == 0
    assert f"LORESTREAM_API_KEYS_FILE={other}" in answer.stderr
    assert len(listed(other)) == 1
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["create", "--tenant", "a"], 2),
        (["create", "--scope", "query"], 2),
        (["create", "--tenant", "A", "--scope", "query"], 2),
        (["create", "--tenant", "a", "--scope", "all"], 2),
        (["create", "--tenant", "a", "--scope", "query", "--expires", "0"], 2),
        (["revoke", "a"], 1),
        (["rotate", "a"], 1),
        (["list"], 1),
    ],
    ids=str,
)
def test_errors_have_their_exit_codes(lorestream: Run, arguments: list[str], code: int, path: Path):
    answer = lorestream(*arguments)
    assert (answer.returncode, answer.stdout) == (code, "")
    assert "Traceback" not in answer.stderr
    assert not path.exists()


def test_without_a_file_the_error_names_the_option(tmp_path: Path):
    command = [sys.executable, "-m", "lorestream.cli", "keys", "list"]
    answer = subprocess.run(
        command, env=clean_environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert "--file" in answer.stderr
