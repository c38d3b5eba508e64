"""Checks of rows that come from an export: their keys and their bodies."""

from __future__ import annotations

import msgspec

from lorestream import limits
from lorestream.errors import InvalidEvent
from lorestream.state import documents, policies, q_tables
from lorestream.state.rows import KeyPart, Row, RowKey, RowKind

_PARTS: dict[RowKind, tuple[type, ...]] = {
    RowKind.DOCUMENT: (str,),
    RowKind.VERSION: (str, int),
    RowKind.ANSWER: (str, str),
    RowKind.Q_STATE: (str, str),
    RowKind.Q_TABLE: (str,),
    RowKind.POLICY_PART: (str, str, int),
}


def row_key(tenant: str, agent_id: str, kind: str, parts: tuple[KeyPart, ...]) -> RowKey:
    """The key of a row. Raises InvalidEvent for a kind that is not known, or parts that it has not."""
    try:
        known = RowKind(kind)
    except ValueError as error:
        raise InvalidEvent(f"{kind[:64]!r} is no kind of rows", path="kind") from error
    if tuple(map(type, parts)) != _PARTS[known]:
        raise InvalidEvent(f"a row of the kind {known} has other parts", path="parts")
    return RowKey(tenant, agent_id, known, parts)


def check_body(row: Row) -> None:
    """Raises InvalidEvent for a body that folds and reads of the row could not decode, or that is too large."""
    try:
        _check(row)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InvalidEvent(
            f"not the body of a row of the kind {row.key.kind}: {error}", path="body"
        ) from error


def _check(row: Row) -> None:
    match row.key.kind:
        case RowKind.DOCUMENT | RowKind.VERSION:
            document = documents.decode(row)
            limits.check_json(document.data, "body.data")
            if policies.policy_name(str(row.key.parts[0])) is not None:
                policies.manifest_of(document)
            _check_size(len(msgspec.json.encode(document.data)), limits.MAX_DOCUMENT_BYTES)
        case RowKind.ANSWER:
            documents.decode_answer(row)
        case RowKind.Q_STATE:
            _check_size(len(q_tables.decode_values(row)), q_tables.MAX_ACTIONS)
        case RowKind.Q_TABLE:
            q_tables.decode_count(row)
        case RowKind.POLICY_PART:
            _check_size(len(msgspec.json.decode(row.body, type=bytes)), policies.PART_BYTES)


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise InvalidEvent(f"{size} bytes or entries, where at most {most} are allowed", path="body")
