"""The API key file: reading it, and the changes that `lorestream keys` makes to it.

    {"version": 1,
     "keys": [{"id": "6f0c2d41a9e7", "sha256": "(64 hexadecimal digits)", "tenant": "default",
               "scopes": ["ingest", "query"], "created": "2026-01-31T12:00:00Z",
               "label": "the survival server", "expires": "2027-01-31T12:00:00Z", "revoked": null}]}

A caller sends `ID.SECRET`; the file holds only the SHA-256 of the secret. No salt and no slow hash are needed,
because a secret is 256 random bits and cannot be guessed. An unknown field is refused and not ignored, because it may
be a restriction. `label`, `expires` and `revoked` may be missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from lorestream import durable
from lorestream.errors import Misconfigured
from lorestream.limits import Tenant

VERSION = 1
MAX_BYTES = 16 * 2**20
SECRET_BYTES = 32

Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
Stamp: TypeAlias = tuple[int, ...]
"""Identifies one state of the file: it changes whenever the file is replaced."""


class KeyScope(StrEnum):
    """What a key may do. No scope includes another one.

    All scopes but OPERATOR are limited to the key's tenant. OPERATOR is for what concerns the machine or all tenants.
    """

    INGEST = "ingest"
    QUERY = "query"
    ERASE = "erase"
    ADMIN = "admin"
    OPERATOR = "operator"


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One key. `sha256`: the hash of its secret, 64 lower-case hexadecimal digits."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    tenant: Tenant
    scopes: Annotated[tuple[KeyScope, ...], msgspec.Meta(min_length=1)]
    created: Moment
    label: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    expires: Moment | None = None
    revoked: Moment | None = None

    def state(self, now: datetime) -> Literal["live", "expired", "revoked"]:
        """Whether the key is accepted at the time `now`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "live"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: tuple[ApiKey, ...]


class _Version(msgspec.Struct):
    version: int


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key with its secret, which is stored nowhere."""

    key: ApiKey
    secret: str = field(repr=False)

    @property
    def credential(self) -> str:
        """What the caller sends: `ID.SECRET`."""
        return f"{self.key.id}.{self.secret}"


# --- reading -------------------------------------------------------------------------------------------------


def stamp(path: Path) -> Stamp:
    """The stamp of the file as it is now. Raises OSError."""
    return _stamp(path.stat())


def read(path: Path) -> tuple[Stamp, tuple[ApiKey, ...]]:
    """The stamp of the file, and its keys. Raises Misconfigured when it is missing, unreadable or invalid."""
    try:
        with path.open("rb") as file:
            read_at = _stamp(os.fstat(file.fileno()))
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise Misconfigured(
            f"there is no key file {path}: `lorestream keys create --file {path} --tenant default --scope ingest"
            " --scope query` makes one"
        ) from error
    except OSError as error:
        raise Misconfigured(f"the key file {path} cannot be read: {error.strerror or error}") from error
    if len(raw) > MAX_BYTES:
        raise Misconfigured(
            f"the key file {path} is larger than {MAX_BYTES} bytes: check that this is the right file"
        )
    try:
        return read_at, _decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Misconfigured(f"{path} is not a key file: {error}") from error


def _decode(raw: bytes) -> tuple[ApiKey, ...]:
    """The keys of a file. Raises ValueError and msgspec's errors, which name a field and never its value."""
    version = msgspec.json.decode(raw, type=_Version).version
    if version != VERSION:
        raise ValueError(f"it has version {version}, and this lorestream reads version {VERSION}")
    keys = msgspec.json.decode(raw, type=_File).keys
    for key_id, times in Counter(key.id for key in keys).items():
        if times > 1:
            raise ValueError(f"it has {times} keys {key_id}")
    return keys


def _stamp(status: os.stat_result) -> Stamp:
    # st_ctime_ns as well: a file that is copied over this one may keep the modification time of its source.
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


# --- changes -------------------------------------------------------------------------------------------------


def create(
    path: Path,
    *,
    tenant: str,
    scopes: Iterable[KeyScope],
    label: str | None = None,
    life: timedelta | None = None,
) -> NewKey:
    """Add a key, and create the file if it is missing. `life` None: the key never expires. Raises Misconfigured."""
    with _locked(path):
        keys = read(path)[1] if path.exists() else ()
        made = _new_key(keys, tenant, scopes, label, life)
        _write(path, (*keys, made.key))
    return made


def rotate(path: Path, key_id: str, *, life: timedelta | None = None, revoke_old: bool = False) -> NewKey:
    """Add a key with the tenant, scopes and label of an old one.

    Both keys are valid, unless `revoke_old`: then the old one is revoked in the same write. `life` None: as long as
    that of the old key. Raises Misconfigured, also when the old key is revoked.
    """
    with _locked(path):
        keys = read(path)[1]
        old = _rotatable(path, keys, key_id)
        if life is None and old.expires is not None:
            life = old.expires - old.created
        made = _new_key(keys, old.tenant, old.scopes, old.label, life)
        kept = _revoked(keys, old) if revoke_old else keys
        _write(path, (*kept, made.key))
    return made


def revoke(path: Path, key_id: str) -> ApiKey:
    """Revoke a key for ever. A revoked key is not changed. Raises Misconfigured."""
    with _locked(path):
        keys = read(path)[1]
        old = _find(path, keys, key_id)
        if old.revoked is None:
            keys = _revoked(keys, old)
            _write(path, keys)
    return _find(path, keys, key_id)


def find(path: Path, key_id: str) -> ApiKey:
    """The key of that id. Raises Misconfigured when there is none."""
    return _find(path, read(path)[1], key_id)


def rotatable(path: Path, key_id: str) -> ApiKey:
    """The key of that id, which `rotate` can rotate. Raises Misconfigured when there is none, or it is revoked."""
    return _rotatable(path, read(path)[1], key_id)


def _rotatable(path: Path, keys: Sequence[ApiKey], key_id: str) -> ApiKey:
    found = _find(path, keys, key_id)
    if found.revoked is not None:
        raise Misconfigured(f"the key {key_id} is revoked: make another one with `lorestream keys create`")
    return found


def _find(path: Path, keys: Sequence[ApiKey], key_id: str) -> ApiKey:
    found = next((key for key in keys if key.id == key_id), None)
    if found is None:
        raise Misconfigured(f"{path} has no key {key_id}: `lorestream keys list` shows those that it has")
    return found


def _new_key(
    keys: Sequence[ApiKey], tenant: str, scopes: Iterable[KeyScope], label: str | None, life: timedelta | None
) -> NewKey:
    taken = {key.id for key in keys}
    key_id = next(made for made in iter(lambda: secrets.token_hex(6), None) if made not in taken)
    secret = secrets.token_urlsafe(SECRET_BYTES)
    now = datetime.now(UTC).replace(microsecond=0)
    wanted = set(scopes)
    key = ApiKey(
        id=key_id,
        sha256=hashlib.sha256(secret.encode()).hexdigest(),
        tenant=tenant,
        scopes=tuple(scope for scope in KeyScope if scope in wanted),
        created=now,
        label=label,
        expires=None if life is None else now + life,
    )
    return NewKey(key, secret)


def _revoked(keys: Sequence[ApiKey], old: ApiKey) -> tuple[ApiKey, ...]:
    now = datetime.now(UTC).replace(microsecond=0)
    return tuple(msgspec.structs.replace(key, revoked=now) if key is old else key for key in keys)


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the lock that every writer of the file takes, waiting for it; readers need no lock."""
    try:
        lock = durable.ProcessLock(path.with_name(f"{path.name}.lock"), wait=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    with lock:
        yield


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    """Replace the file as a whole, durably: a reader sees the old content or the new one."""
    path = path.resolve()  # a symbolic link is kept, and the file that it points to is replaced
    raw = msgspec.json.format(msgspec.json.encode(_File(VERSION, _checked(keys))), indent=2) + b"\n"
    try:
        durable.write_file(path, raw)
    except OSError as error:
        raise _unwritable(path, error) from error


def _checked(keys: Sequence[ApiKey]) -> tuple[ApiKey, ...]:
    """The keys, checked as a reader checks them. Raises Misconfigured."""
    try:
        return msgspec.convert(msgspec.to_builtins(keys), tuple[ApiKey, ...])
    except msgspec.ValidationError as error:
        raise Misconfigured(f"a new key is not valid, the file was not changed: {error}") from error


def _unwritable(path: Path, error: OSError) -> Misconfigured:
    return Misconfigured(f"the key file {path} cannot be written: {error.strerror or error}")
