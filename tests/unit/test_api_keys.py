"""Authentication by API keys, and a key file that changes while the service runs."""

# ruff: noqa: ASYNC240 (a small file of the test's own)

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import structlog.testing

from lorestream.access import authentication, key_file
from lorestream.access.authentication import (
    ANONYMOUS,
    NO_AUTHENTICATION,
    ApiKeyAuthenticator,
    Principal,
    Unauthenticated,
    require_loopback,
)
from lorestream.access.key_file import KeyScope
from lorestream.client import MemoryClient
from lorestream.errors import Misconfigured
from tests.api_keys import POLL_INTERVAL_S, ShiftedClock, bearer, is_valid, key_id, wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


# --- a key -------------------------------------------------------------------------------------------------


def test_a_key_gives_tenant_and_scopes(path: Path, clock: ShiftedClock):
    mine = bearer(path, KeyScope.QUERY, KeyScope.INGEST, tenant="a")
    theirs = bearer(path, KeyScope.ADMIN, tenant="b")
    authenticator = ApiKeyAuthenticator(path, clock)
    assert authenticator.authenticate(mine) == Principal("a", frozenset({KeyScope.QUERY, KeyScope.INGEST}))
    assert authenticator.authenticate(theirs) == Principal("b", frozenset({KeyScope.ADMIN}))
    for spelt in (mine.replace("Bearer", "bearer"), mine.replace(" ", "   "), f" {mine}\t"):
        assert authenticator.authenticate(spelt).tenant == "a"


GARBAGE = [
    "",
    " ",
    "Bearer",
    "Bearer ",
    "Bearer .",
    "Bearer ID",
    "Bearer ID.",
    "Bearer .SECRET",
    "Basic SUQ6U0VDUkVU",
    "SECRET",
    "{credential}",
    "Bearer{credential}",
    "Basic {credential}",
    "Bearer {credential}.",
    "Bearer {credential}.more",
    "Bearer {credential},Bearer {credential}",
    "Bearer {credential} more",
    "Bearer {credential}\x00",
    "Bearer {id}.",
    "Bearer {id}.{id}",
    "Bearer {id}.{secret}x",
    "Bearer {id}..{secret}",
    "Bearer {id}.{secret}.{secret}",
    "Bearer x.{secret}",
    "Bearer {id}\xe9.{secret}",
    "Bearer {id}.{secret}\xe9",
    "Bearer \u212aey.{secret}",
    "Bearer \ud800.\udfff",
    "Bearer {sha256}",
    "Bearer {id}.{sha256}",
]


@pytest.mark.parametrize("sent", [*GARBAGE, "x" * 2**20, "Bearer " + "a." * 2**19], ids=lambda s: s[:30])
def test_every_invalid_authorization_gets_the_same_message(path: Path, clock: ShiftedClock, sent: str):
    made = key_file.create(path, tenant="a", scopes=[KeyScope.QUERY])
    authenticator = ApiKeyAuthenticator(path, clock)
    key_id, secret = made.key.id, made.secret
    for name, value in {
        "credential": made.credential,
        "id": key_id,
        "secret": secret,
        "sha256": made.key.sha256,
    }.items():
        sent = sent.replace(f"{{{name}}}", value)
    with pytest.raises(Unauthenticated) as caught:
        authenticator.authenticate(sent)
    assert str(caught.value) == authentication.INVALID_KEY


def test_expired_and_revoked_keys_get_the_same_message(path: Path, clock: ShiftedClock):
    expired = bearer(path, life=timedelta(days=1))
    revoked = bearer(path)
    key_file.revoke(path, key_id(revoked))
    authenticator = ApiKeyAuthenticator(path, clock)
    assert is_valid(authenticator, expired)
    clock.ahead = 86_401
    said: set[str] = set()
    for sent in (expired, revoked, f"{revoked}x", "Bearer nobody.nothing"):
        with pytest.raises(Unauthenticated) as caught:
            authenticator.authenticate(sent)
        said.add(str(caught.value))
    assert said == {authentication.INVALID_KEY}
    with pytest.raises(Unauthenticated, match="a key is needed"):
        authenticator.authenticate(None)


def test_every_well_formed_key_costs_one_comparison(
    path: Path, clock: ShiftedClock, monkeypatch: pytest.MonkeyPatch
):
    right, revoked = bearer(path), bearer(path)
    key_file.revoke(path, key_id(revoked))
    authenticator = ApiKeyAuthenticator(path, clock)
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac_compare(one, other)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for sent in (right, f"{right[:-1]}_", revoked, "Bearer nobody.nothing"):
        is_valid(authenticator, sent)
    assert compared == [(32, 32)] * 4


def test_no_secret_is_in_a_repr_or_a_log_line(path: Path, clock: ShiftedClock):
    made = key_file.create(path, tenant="a", scopes=[KeyScope.QUERY])
    with structlog.testing.capture_logs() as lines:
        authenticator = ApiKeyAuthenticator(path, clock)
        authenticator.authenticate(f"Bearer {made.credential}")
        is_valid(authenticator, f"Bearer {made.credential}x")
    digest = hashlib.sha256(made.secret.encode()).digest()
    for text in (repr(vars(authenticator)), repr(lines)):
        assert made.secret not in text
        assert made.key.sha256 not in text
        assert repr(digest) not in text


# --- a file that changes -----------------------------------------------------------------------------------


async def test_changes_of_the_file_are_read(path: Path, clock: ShiftedClock):
    first = bearer(path)
    async with ApiKeyAuthenticator.open(path, clock, poll_interval_s=POLL_INTERVAL_S) as authenticator:
        second = bearer(path, tenant="b")
        await wait_until(lambda: is_valid(authenticator, second))
        assert authenticator.authenticate(second).tenant == "b"
        key_file.revoke(path, key_id(first))
        await wait_until(lambda: not is_valid(authenticator, first))
        assert is_valid(authenticator, second)


@pytest.mark.parametrize("in_place", [False, True], ids=["replaced", "in place"])
async def test_a_file_of_the_same_size_and_time_is_read_again(
    path: Path, clock: ShiftedClock, in_place: bool
):
    first = bearer(path)
    before, raw = path.stat(), path.read_bytes()
    async with ApiKeyAuthenticator.open(path, clock, poll_interval_s=POLL_INTERVAL_S) as authenticator:
        changed = path if in_place else path.with_name("other")
        with changed.open("r+b" if in_place else "wb") as file:
            file.write(raw.replace(key_id(first).encode(), b"f" * 12))
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
        changed.replace(path)
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        await wait_until(lambda: not is_valid(authenticator, first))
        assert is_valid(authenticator, first.replace(key_id(first), "f" * 12))


def replace(path: Path, raw: bytes) -> None:
    """Replace the file atomically: a file written in place could be read half-written."""
    draft = path.with_name("draft")
    draft.write_bytes(raw)
    draft.rename(path)


@pytest.mark.parametrize("broken", ["empty", "half", "version", "gone", "unreadable"])
async def test_a_broken_file_changes_nothing_and_is_logged_once(path: Path, clock: ShiftedClock, broken: str):
    first = bearer(path)
    raw = path.read_bytes()
    with structlog.testing.capture_logs() as lines:
        async with ApiKeyAuthenticator.open(path, clock, poll_interval_s=POLL_INTERVAL_S) as authenticator:
            match broken:
                case "empty":
                    replace(path, b"")
                case "half":
                    replace(path, raw[: len(raw) // 2])
                case "version":
                    replace(path, b'{"version": 2, "keys": []}')
                case "gone":
                    path.unlink()
                case _:  # a directory; a file cannot be put in its place at once, but in that of a link to it
                    draft = path.with_name("draft")
                    draft.symlink_to(path.parent)
                    draft.rename(path)
            await wait_until(lambda: any(line["log_level"] == "error" for line in lines))
            await asyncio.sleep(5 * POLL_INTERVAL_S)
            assert is_valid(authenticator, first)
            assert sum(line["log_level"] == "error" for line in lines) == 1
            replace(path, raw)
            second = bearer(path)
            await wait_until(lambda: is_valid(authenticator, second))
            assert is_valid(authenticator, first)
            assert sum(line["log_level"] == "error" for line in lines) == 1


async def test_a_repaired_file_with_the_same_stamp_is_read(path: Path, clock: ShiftedClock):
    """A file written in place can be read between two writes with equal timestamps."""
    first = bearer(path)
    raw = path.read_bytes()
    async with ApiKeyAuthenticator.open(path, clock, poll_interval_s=POLL_INTERVAL_S) as authenticator:
        path.write_bytes(raw.replace(b'"version": 1', b'"version": 3'))
        await wait_until(lambda: authenticator._read_error != "")
        path.write_bytes(raw.replace(key_id(first).encode(), b"f" * 12))
        authenticator._stamp = key_file.stamp(path)
        await wait_until(lambda: not is_valid(authenticator, first))


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"version": 1, "keys": [{}]}'])
async def test_a_start_without_a_valid_file_is_refused_in_one_line(
    path: Path, clock: ShiftedClock, content: bytes | None
):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured) as caught:
        async with ApiKeyAuthenticator.open(path, clock):
            pass
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_file_without_keys_admits_nobody(path: Path, clock: ShiftedClock):
    path.write_bytes(b'{"version": 1, "keys": []}')
    async with ApiKeyAuthenticator.open(path, clock) as authenticator:
        assert authenticator.needs_keys
        assert not is_valid(authenticator, "Bearer a.b")
        assert not is_valid(authenticator, None)


async def test_a_key_is_checked_in_microseconds(path: Path, clock: ShiftedClock):
    for _ in range(3):
        sent = bearer(path)
    authenticator = ApiKeyAuthenticator(path, clock)
    rounds = 2000
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(rounds):
            authenticator.authenticate(sent)
        best = min(best, (time.perf_counter() - started) / rounds)
    assert best < 100e-6


@pytest.mark.parametrize("given", ["schl\u00fcssel.x", "a\nb", "a\r\nX-Other: b", "\ud800"])
def test_a_client_refuses_a_key_that_no_header_can_have(given: str):
    with pytest.raises(Misconfigured, match=r"ID\.SECRET") as caught:
        MemoryClient(api_key=given)
    assert given not in str(caught.value)


def test_without_keys_every_local_caller_has_all_scopes():
    for sent in (None, "", "Bearer a.b", "nonsense"):
        assert NO_AUTHENTICATION.authenticate(sent) is ANONYMOUS
    assert not NO_AUTHENTICATION.needs_keys
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        require_loopback(host)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(Misconfigured, match="LORESTREAM_API_KEYS_FILE"):
            require_loopback(host)
