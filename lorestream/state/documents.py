"""Documents: keyed, versioned JSON objects of an agent, and the answers to their writes."""

from __future__ import annotations

from typing import Any

import msgspec

from lorestream.errors import InvalidRequest
from lorestream.limits import DOCUMENT_TYPE
from lorestream.state.rows import Row, RowKey, RowKind

ANSWER_LIFETIME_S = 7 * 86_400.0
"""How long the answer to a write is kept, so that its `event_id` is recognized."""


def check_type(type_: str, path: str = "type") -> None:
    """Raise InvalidRequest unless callers may use this type."""
    if not DOCUMENT_TYPE.fullmatch(type_):
        raise InvalidRequest(
            f"a type has 1 to 64 characters of a-z, 0-9, _ . - (matching {DOCUMENT_TYPE.pattern})", path=path
        )


class Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version of a document: the body of rows of the kinds DOCUMENT and VERSION. Times are Unix seconds."""

    version: int
    created_at: float
    updated_at: float
    data: dict[str, Any] = {}
    tick: float | None = None
    deleted: bool = False
    """This version is a deletion; it has no data."""
    oldest: int = 1
    """In the current version: the oldest version that is kept."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a write: the body of rows of the kind ANSWER.

    `version`: the version that it made. `code` and `current`: why it was not applied, and the version at that time.
    """

    applied: bool
    version: int | None = None
    code: str | None = None
    current: int | None = None


_document = msgspec.json.Decoder(Document)
_answer = msgspec.json.Decoder(Answer)


def document_key(tenant: str, agent_id: str, type_: str) -> RowKey:
    """The row of a document's current version."""
    return RowKey(tenant, agent_id, RowKind.DOCUMENT, (type_,))


def version_key(tenant: str, agent_id: str, type_: str, version: int) -> RowKey:
    """The row of an earlier version of a document."""
    return RowKey(tenant, agent_id, RowKind.VERSION, (type_, version))


def answer_key(tenant: str, agent_id: str, topic: str, event_id: str) -> RowKey:
    """The row of the answer to a write. `topic`: of `document_topic` or `q_tables.q_topic`."""
    return RowKey(tenant, agent_id, RowKind.ANSWER, (topic, event_id))


def document_topic(type_: str) -> str:
    """The topic of the answers to a document's writes."""
    return f"document:{type_}"


def decode(row: Row) -> Document:
    """The document of a row of the kind DOCUMENT or VERSION."""
    return _document.decode(row.body)


def decode_answer(row: Row) -> Answer:
    """The answer of a row of the kind ANSWER."""
    return _answer.decode(row.body)


def encode(body: Document | Answer) -> str:
    """The body of a row."""
    return msgspec.json.encode(body).decode()


def merge_patch(target: Any, patch: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """The target changed by a JSON Merge Patch (RFC 7396). Neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    merged: dict[str, Any] = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
