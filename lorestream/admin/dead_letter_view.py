"""A dead letter as JSON for operators, decoded as far as possible; and the ids by which operators name dead letters."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lorestream import events, identity
from lorestream.errors import InvalidRequest
from lorestream.memories import Memory
from lorestream.ports import Record, RecordId, StoredDeadLetter
from lorestream.retry_headers import first_appended_at

SHOWN_BYTES = 64 * 1024
"""A value that is not JSON is shown up to this size."""

_ID = re.compile(r"([0-9]{1,10})-([0-9]{1,19})")
_envelopes = msgspec.json.Decoder(events.Put | events.Delete | events.Erase)
_keys = msgspec.json.Decoder(tuple[str, str])


def parse_dead_letter_id(text: str) -> RecordId:
    """The (partition, offset) that an id such as "3-1742" stands for. Raises InvalidRequest."""
    match = _ID.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            f"{text[:50]!r} is not the id of a dead letter: an id looks like 3-1742 (partition-offset)"
        )
    return int(match[1]), int(match[2])


def dead_letter_id(record_id: RecordId) -> str:
    """The id of the dead letter at (partition, offset), such as "3-1742"."""
    return f"{record_id[0]}-{record_id[1]}"


def memory_of(record: Record) -> Memory | None:
    """The memory that the record would have become; decides whether an erasure or a deletion covers the record.

    For a value that cannot be decoded: a memory without id and text of the agent in the record's key. None when the
    key cannot be decoded either, and for deletes and erasures, which nothing covers.
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
    appended_at = first_appended_at(record)
    return Memory(
        "", tenant, agent_id, "", appended_at, appended_at, agent_player=identity.player_name(agent_id)
    )


def summary(stored: StoredDeadLetter) -> dict[str, Any]:
    """The fields that a list of dead letters shows. Fields that cannot be decoded are None."""
    dead_letter = stored.dead_letter
    value = _json(dead_letter.record.value)
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    memory = memory_of(dead_letter.record)
    return {
        "id": dead_letter_id(stored.record_id),
        "failed_at": stored.failed_at,
        "reason": dead_letter.reason,
        "op": fields.get("op")
        or dead_letter.record.headers.get("kind", b"").decode(errors="replace")
        or None,
        "type": fields.get("type"),
        "tenant": memory.tenant if memory else fields.get("tenant"),
        "agent_id": memory.agent_id if memory else fields.get("agent_id"),
        "attempts": dead_letter.attempts,
        "error": dead_letter.error,
    }


def details(stored: StoredDeadLetter) -> dict[str, Any]:
    """The summary, key, headers and value. `value` is the decoded JSON; without valid JSON, `raw` has the escaped bytes."""
    record = stored.dead_letter.record
    value = _json(record.value)
    shown = {"value": value} if value is not None else {"raw": _escaped(record.value[:SHOWN_BYTES])}
    return {
        **summary(stored),
        "partition": record.partition,
        "offset": record.offset,
        "appended_at": record.appended_at,
        "bytes": len(record.value),
        "key": _escaped(record.key),
        "headers": {name: _escaped(held) for name, held in record.headers.items()},
        **shown,
    }


def _json(value: bytes) -> Any:  # noqa: ANN401 (any JSON value)
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _escaped(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
