"""Keys told from garbage, and a key file that changes while it is followed."""

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
from tests.api_keys import SOON_S, ShiftedClock, bearer, key_id, lets_in, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def clock() -> ShiftedClock:
    return ShiftedClock()


# --- a key -------------------------------------------------------------------------------------------------


def test_a_key_says_whose_it_is_and_what_it_may_do(path: Path, clock: ShiftedClock):
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
def test_whatever_else_is_sent_is_not_valid_in_the_same_words(path: Path, clock: ShiftedClock, sent: str):
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


def test_what_is_expired_or_revoked_is_refused_in_the_same_words(path: Path, clock: ShiftedClock):
    expired = bearer(path, life=timedelta(days=1))
    revoked = bearer(path)
    key_file.revoke(path, key_id(revoked))
    authenticator = ApiKeyAuthenticator(path, clock)
    assert lets_in(authenticator, expired)
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
        lets_in(authenticator, sent)
    assert compared == [(32, 32)] * 4


def test_no_secret_stands_in_a_repr_or_a_log_line(path: Path, clock: ShiftedClock):
    made = key_file.create(path, tenant="a", scopes=[KeyScope.QUERY])
    with structlog.testing.capture_logs() as lines:
        authenticator = ApiKeyAuthenticator(path, clock)
        authenticator.authenticate(f"Bearer {made.credential}")
        lets_in(authenticator, f"Bearer {made.credential}x")
    digest = hashlib.sha256(made.secret.encode()).digest()
    for text in (repr(vars(authenticator)), repr(lines)):
        assert made.secret not in text
        assert made.key.sha256 not in text
        assert repr(digest) not in text


# --- a file that changes -----------------------------------------------------------------------------------


async def test_the_file_is_followed(path: Path, clock: ShiftedClock):
    first = bearer(path)
    async with ApiKeyAuthenticator.open(path, clock, poll_interval_s=SOON_S) as authenticator:
        second = bearer(path, tenant="b")
        await until(lambda: lets_in(authenticator, second))
        assert authenticator.authenticate(second).tenant == "b"
        key_file.revoke(path, key_id(first))
        await until(lambda: not lets_in(authenticator, first))
        assert lets_in(authenticator, second)


@pytest.mark.parametrize("in_place", [False, True], ids=["replaced", "in place"])
async def test_a_file_of_the_same_size_and_time_is_another_one(
    path: Path, clock: ShiftedClock, in_place: bool
):
    first = bearer(path)
    before, raw = path.stat(), path.read_bytes()
    async with ApiKeyAuthenticator.open(path, clock, poll_interval_s=SOON_S) as authenticator:
        changed = path if in_place else path.with_name("other")
        with changed.open("r+b" if in_place else "wb") as file:
            file.write(raw.replace(key_id(first).encode(), b"f" * 12))
        os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
        changed.replace(path)
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        await until(lambda: not lets_in(authenticator, first))
        assert lets_in(authenticator, first.replace(key_id(first), "f" * 12))


def replace(path: Path, raw: bytes) -> None:
    """At once: a file that is written in place is seen half."""
    draft = path.with_name("draft")
    draft.write_bytes(raw)
    draft.rename(path)


@pytest.mark.parametrize("broken", ["empty", "half", "version", "gone", "unreadable"])
async def test_a_broken_file_changes_nothing_and_is_told_once(path: Path, clock: ShiftedClock, broken: str):
    first = bearer(path)
    raw = path.read_bytes()
    with structlog.testing.capture_logs() as lines:
        async with ApiKeyAuthenticator.open(path, clock, poll_interval_s=SOON_S) as authenticator:
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
            await until(lambda: any(line["log_level"] == "error" for line in lines))
            await asyncio.sleep(5 * SOON_S)
            assert lets_in(authenticator, first)
            assert sum(line["log_level"] == "error" for line in lines) == 1
            replace(path, raw)
            second = bearer(path)
            await until(lambda: lets_in(authenticator, second))
            assert lets_in(authenticator, first)
            assert sum(line["log_level"] == "error" for line in lines) == 1


async def test_a_mended_file_that_looks_like_the_broken_one_is_read(path: Path, clock: ShiftedClock):
    """A writer in place may be seen between two writes of the same moment."""
    first = bearer(path)
    raw = path.read_bytes()
    async with ApiKeyAuthenticator.open(path, clock, poll_interval_s=SOON_S) as authenticator:
        path.write_bytes(raw.replace(b'"version": 1', b'"version": 3'))
        await until(lambda: authenticator._read_error != "")
        path.write_bytes(raw.replace(key_id(first).encode(), b"f" * 12))
        authenticator._stamp = key_file.stamp(path)
        await until(lambda: not lets_in(authenticator, first))


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"version": 1, "keys": [{}]}'])
async def test_a_start_without_a_good_file_is_refused_in_one_line(
    path: Path, clock: ShiftedClock, content: bytes | None
):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured) as caught:
        async with ApiKeyAuthenticator.open(path, clock):
            pass
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_without_a_key_in_the_file_nobody_gets_in(path: Path, clock: ShiftedClock):
    path.write_bytes(b'{"version": 1, "keys": []}')
    async with ApiKeyAuthenticator.open(path, clock) as authenticator:
        assert authenticator.needs_keys
        assert not lets_in(authenticator, "Bearer a.b")
        assert not lets_in(authenticator, None)


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
def test_a_client_refuses_what_cannot_be_sent_as_a_key(given: str):
    with pytest.raises(Misconfigured, match=r"ID\.SECRET") as caught:
        MemoryClient(api_key=given)
    assert given not in str(caught.value)


def test_without_keys_everybody_here_may_do_everything():
    for sent in (None, "", "Bearer a.b", "nonsense"):
        assert NO_AUTHENTICATION.authenticate(sent) is ANONYMOUS
    assert not NO_AUTHENTICATION.needs_keys
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        require_loopback(host)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(Misconfigured, match="LORESTREAM_API_KEYS_FILE"):
            require_loopback(host)
