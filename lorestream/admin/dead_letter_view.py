"""What stands in a dead letter, as far as it can be read."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lorestream import events, identity
from lorestream.errors import InvalidRequest
from lorestream.memories import Memory
from lorestream.ports import Place, Record, StoredDeadLetter
from lorestream.retry_headers import first_appended_at

SHOWN_BYTES = 64 * 1024
"""Of a value that cannot be decoded."""

_ID = re.compile(r"([0-9]{1,10})-([0-9]{1,19})")
_envelopes = msgspec.json.Decoder(events.Put | events.Delete | events.Erase)
_keys = msgspec.json.Decoder(tuple[str, str])


def place_of(text: str) -> Place:
    """The place of the letter that `text` names. Raises InvalidRequest."""
    match = _ID.fullmatch(text)
    if match is None:
        raise InvalidRequest(f"{text[:50]!r} is not the id of a dead letter: such a one looks like 3-1742")
    return int(match[1]), int(match[2])


def letter_id(place: Place) -> str:
    """What people call the letter of a place: partition and offset."""
    return f"{place[0]}-{place[1]}"


def memory_of(record: Record) -> Memory | None:
    """The memory that the record would have become; of what cannot be read, one of its key's agent without an id.

    None where not even the key tells an agent, and for deletions: nothing takes those.
    """
    try:
        envelope = _envelopes.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    else:
        return envelope.memory("") if isinstance(envelope, events.Put) else None
    try:
        tenant, agent_id = _keys.decode(record.key)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    came = first_appended_at(record)
    return Memory("", tenant, agent_id, "", came, came, agent_player=identity.player_name(agent_id))


def line(stored: StoredDeadLetter) -> dict[str, Any]:
    """A letter in a list: what can be told of it in a word."""
    letter = stored.letter
    value = _json(letter.record.value)
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    memory = memory_of(letter.record)
    return {
        "id": letter_id(stored.place),
        "failed_at": stored.failed_at,
        "reason": letter.reason,
        "op": fields.get("op") or letter.record.headers.get("kind", b"").decode(errors="replace") or None,
        "type": fields.get("type"),
        "tenant": memory.tenant if memory else fields.get("tenant"),
        "agent_id": memory.agent_id if memory else fields.get("agent_id"),
        "attempts": letter.attempts,
        "error": letter.error,
    }


def whole(stored: StoredDeadLetter) -> dict[str, Any]:
    """All of a letter: decoded where it can be, raw bytes escaped else."""
    record = stored.letter.record
    value = _json(record.value)
    shown = {"value": value} if value is not None else {"raw": _escaped(record.value[:SHOWN_BYTES])}
    return {
        **line(stored),
        "partition": record.partition,
        "offset": record.offset,
        "appended_at": record.appended_at,
        "bytes": len(record.value),
        "key": _escaped(record.key),
        "headers": {name: _escaped(held) for name, held in record.headers.items()},
        **shown,
    }


def _json(value: bytes) -> Any:  # noqa: ANN401 (whatever stands there)
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _escaped(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
