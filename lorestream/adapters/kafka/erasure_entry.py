"""Records of the erasures topic: per erased subject its newest erasure, per erasure id its state, per rewind its state.

Beside them the fingerprints of the keys for player names: the subjects of players are pseudonyms made with these keys.
"""

from __future__ import annotations

import contextlib
from typing import TypeAlias

import msgspec
import orjson

from lorestream.adapters.in_process import known_rewinds
from lorestream.memories import Erasure, SubjectKind
from lorestream.ports import ErasureState, RewindState
from lorestream.rewinds import Rewind


class Entry(msgspec.Struct, frozen=True):
    """The value of a record, as JSON: an erasure and whether it is done."""

    id: str
    tenant: str
    kind: str
    subjects: tuple[str, ...]
    accepted_at: float
    done: bool = False

    @classmethod
    def of(cls, erasure: Erasure) -> Entry:
        """The entry of an erasure that is not done."""
        return cls(erasure.id, erasure.tenant, erasure.kind.value, erasure.subjects, erasure.accepted_at)

    def erasure(self) -> Erasure:
        """The erasure. Raises ValueError for an unknown kind of subject."""
        return Erasure(self.id, self.tenant, SubjectKind(self.kind), self.subjects, self.accepted_at)

    def state(self) -> ErasureState:
        """The erasure and whether it is done."""
        return ErasureState(self.erasure(), done=self.done)

    def finished(self) -> Entry:
        """A copy that is marked as done."""
        return msgspec.structs.replace(self, done=True)

    def encoded(self) -> bytes:
        """The entry as JSON."""
        return _encoder.encode(self)


class RewindEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """The value of a rewind's record, as JSON. Versions that do not know rewinds skip it: it has no `subjects`."""

    id: str
    tenant: str
    server: str
    to: float
    accepted_at: float
    undone_at: float | None = None
    done: bool = False

    @classmethod
    def of(cls, state: RewindState) -> RewindEntry:
        """The entry of a rewind."""
        one = state.rewind
        return cls(one.id, one.tenant, one.server, one.to, one.accepted_at, one.undone_at, state.done)

    def state(self) -> RewindState:
        """The rewind, and whether its last change was applied."""
        rewind = Rewind(self.id, self.tenant, self.server, self.to, self.accepted_at, self.undone_at)
        return RewindState(rewind, done=self.done)

    def encoded(self) -> bytes:
        """The entry as JSON."""
        return _encoder.encode(self)

    def key(self) -> bytes:
        """The key of its record."""
        return key_of(self.tenant, _REWIND, self.id)


AnyEntry: TypeAlias = Entry | RewindEntry

_PLAYER_KEY = "player_key"
_REWIND = "rewind"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)
_rewind_decoder = msgspec.json.Decoder(RewindEntry)


def key_of(tenant: str, kind: str, subject: str) -> bytes:
    """The record key: the JSON array [tenant, kind, subject]. With kind "state", `subject` is an erasure id."""
    return orjson.dumps([tenant, kind, subject])


def player_key_record(kid: str, fingerprint: str) -> tuple[bytes, bytes]:
    """Key and value of the record that holds the fingerprint of a key for player names. No tenant has the name ""."""
    return key_of("", _PLAYER_KEY, kid), orjson.dumps({"fingerprint": fingerprint})


def player_key_of(key: bytes, value: bytes | None) -> tuple[str, str] | None:
    """The key id and the fingerprint in such a record, None for every other record."""
    with contextlib.suppress(orjson.JSONDecodeError, ValueError, TypeError, KeyError):
        tenant, kind, kid = orjson.loads(key)
        if (tenant, kind) == ("", _PLAYER_KEY):
            return str(kid), str(orjson.loads(value or b"")["fingerprint"])
    return None


def decoded(key: bytes, value: bytes | None) -> AnyEntry | None:
    """The entry in a record's value, or None when the value is not a valid entry of that key."""
    with contextlib.suppress(msgspec.DecodeError, RecursionError, ValueError):
        entry = _decoder.decode(value or b"")
        entry.erasure()
        return entry
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        rewind = _rewind_decoder.decode(value or b"")
        if rewind.key() == key:
            return rewind
    return None


def merged(known: AnyEntry | None, arrived: AnyEntry) -> AnyEntry:
    """The entry that a key has after `arrived` was read.

    It is the newest erasure (by time, then id), independent of the order of arrival; one that is done stays done.
    For rewinds see `known_rewinds.merged`.
    """
    if isinstance(arrived, RewindEntry):
        before = known.state() if isinstance(known, RewindEntry) else None
        return RewindEntry.of(known_rewinds.merged(before, arrived.state()))
    if not isinstance(known, Entry):
        return arrived
    if known.id == arrived.id:
        return arrived.finished() if known.done else arrived
    return max(known, arrived, key=lambda each: (each.accepted_at, each.id))
