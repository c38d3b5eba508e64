"""What stands in the topic of erasures: of each subject the newest one, of each id its state."""

from __future__ import annotations

import msgspec
import orjson

from lorestream.memories import Erasure, SubjectKind
from lorestream.ports import ErasureState


class Entry(msgspec.Struct, frozen=True):
    """The value of a record: an erasure, and whether it is done."""

    id: str
    tenant: str
    kind: str
    subjects: tuple[str, ...]
    accepted_at: float
    done: bool = False

    @classmethod
    def of(cls, erasure: Erasure) -> Entry:
        """One that is running."""
        return cls(erasure.id, erasure.tenant, erasure.kind.value, erasure.subjects, erasure.accepted_at)

    def erasure(self) -> Erasure:
        """Without its state."""
        return Erasure(self.id, self.tenant, SubjectKind(self.kind), self.subjects, self.accepted_at)

    def state(self) -> ErasureState:
        """With it."""
        return ErasureState(self.erasure(), done=self.done)

    def finished(self) -> Entry:
        """The same, done."""
        return msgspec.structs.replace(self, done=True)

    def encoded(self) -> bytes:
        """As JSON."""
        return _encoder.encode(self)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


def key_of(tenant: str, kind: str, subject: str) -> bytes:
    """The JSON array; `kind` is "state" where `subject` is an erasure's id."""
    return orjson.dumps([tenant, kind, subject])


def decoded(value: bytes | None) -> Entry | None:
    """The entry, or None for what is none."""
    try:
        entry = _decoder.decode(value or b"")
        entry.erasure()
    except (msgspec.DecodeError, ValueError):
        return None
    return entry


def merged(known: Entry | None, arrived: Entry) -> Entry:
    """What a key stands for: the newest erasure, the same for everybody in whatever order; what is done stays done."""
    if known is None:
        return arrived
    if known.id == arrived.id:
        return arrived.finished() if known.done else arrived
    return max(known, arrived, key=lambda each: (each.accepted_at, each.id))
