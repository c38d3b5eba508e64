"""The fold of a document's writes: a new version, the version before it as a row of its own, and the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from lorestream import limits
from lorestream.state import documents, policies
from lorestream.state.documents import Answer, Document
from lorestream.state.rows import Row
from stream_workers.folding.changes import Changes, Position, Rows, answer_row, earlier_answer

if TYPE_CHECKING:
    from lorestream.events import DocumentWrite
    from lorestream.state.rows import RowKey


class _Content(NamedTuple):
    """The content of a new version. `since`: acceptance time (Unix seconds) of the oldest event that is part of it."""

    data: dict[str, Any]
    since: float
    deleted: bool = False


class _Refused(Exception):
    """The event changes nothing; `code` is why."""

    def __init__(self, code: str) -> None:
        self.code = code


def keys(event: DocumentWrite) -> list[RowKey]:
    """The rows that the fold of this event may need."""
    owner = (event.tenant, event.agent_id)
    needed = [
        documents.document_key(*owner, event.type),
        documents.answer_key(*owner, documents.document_topic(event.type), event.event_id),
    ]
    if event.to is not None:
        needed.append(documents.version_key(*owner, event.type, event.to))
    return needed


def fold(
    rows: Rows,
    event: DocumentWrite,
    position: Position,
    keep_versions: int,
    *,
    put_since: float | None,
) -> Changes:
    """Fold a write into its document.

    `keep_versions`: how many versions are kept, the new one included. `put_since`: acceptance time (Unix seconds) of the
    oldest part of what a `put` writes; None: a part is missing, and the put is refused.
    """
    earlier = earlier_answer(rows, event, documents.document_topic(event.type), position)
    key = documents.document_key(event.tenant, event.agent_id, event.type)
    row = rows.get(key)
    if earlier.is_duplicate or position.is_in(row):
        return Changes()
    before = None if row is None else documents.decode(row)
    version = 0 if before is None else before.version
    changes = Changes()
    try:
        _check_version(event, before)
        content = _content(rows, event, row, before, put_since)
    except _Refused as refused:
        answer = Answer(applied=False, code=refused.code, current=version)
    else:
        if content is None:  # a deletion of what is not there
            answer = Answer(applied=True, version=version)
        else:
            after = _next(event, before, content, keep_versions)
            answer = Answer(applied=True, version=after.version)
            changes = _changes(event, position, row, after, content.since)
    if not position.is_in(earlier.row):
        changes.put.append(answer_row(earlier.key, answer, event, position))
    return changes


def _check_version(event: DocumentWrite, before: Document | None) -> None:
    """Raises _Refused when the document has not the version that the writer expects; 0: there must be none."""
    if event.if_version is None:
        return
    accepted = {0} if before is None else {before.version, *([0] if before.deleted else [])}
    if event.if_version not in accepted:
        raise _Refused("version_conflict")


def _content(
    rows: Rows, event: DocumentWrite, row: Row | None, before: Document | None, put_since: float | None
) -> _Content | None:
    """The content after the event; None if a deletion finds nothing. Raises _Refused."""
    match event.action:
        case "put":
            if put_since is None:
                raise _Refused("upload_incomplete")
            return _checked(_Content(event.data or {}, put_since))
        case "patch":
            if row is None or before is None or before.deleted:
                return _checked(_Content(documents.merge_patch({}, event.data or {}), event.accepted_at))
            merged = documents.merge_patch(before.data, event.data or {})
            return _checked(_Content(merged, min(row.since, event.accepted_at)))
        case "delete":
            if before is None or before.deleted:
                return None
            return _Content({}, event.accepted_at, deleted=True)
        case "rollback":
            return _rolled_back(rows, event, row, before)


def _rolled_back(rows: Rows, event: DocumentWrite, row: Row | None, before: Document | None) -> _Content:
    """The content of the version `to`, which was accepted when that version was."""
    to = event.to or 0
    if before is None or not 1 <= to <= before.version:
        raise _Refused("not_found")
    found = row
    if to < before.version:
        found = rows.get(documents.version_key(event.tenant, event.agent_id, event.type, to))
    if found is None or to < before.oldest:
        raise _Refused("version_gone")
    version = documents.decode(found)
    if version.deleted:
        raise _Refused("not_found")
    return _Content(version.data, found.since)


def _checked(content: _Content) -> _Content:
    """Raises _Refused for data beyond the limits: a gateway cannot tell what a patch leads to."""
    # A patch never makes data deeper than the deeper one of both is.
    if not _fits(content.data, limits.MAX_DEPTH):
        raise _Refused("document_too_deep")
    if len(msgspec.json.encode(content.data)) > limits.MAX_DOCUMENT_BYTES:
        raise _Refused("document_too_large")
    return content


def _fits(value: dict[str, Any] | list[Any], levels: int) -> bool:
    """Whether an object or list has at most so many levels."""
    parts = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(
        _fits(cast("dict[str, Any] | list[Any]", part), levels - 1)
        for part in parts
        if isinstance(part, dict | list)
    )


def _next(event: DocumentWrite, before: Document | None, content: _Content, keep_versions: int) -> Document:
    """The version that the event makes."""
    lives = None if before is None or before.deleted else before
    version = 1 if before is None else before.version + 1
    tick = event.tick if event.tick is not None or lives is None else lives.tick
    return Document(
        version=version,
        created_at=event.accepted_at if lives is None else lives.created_at,
        updated_at=event.accepted_at,
        data=content.data,
        tick=tick,
        deleted=content.deleted,
        oldest=max(1 if before is None else before.oldest, version - keep_versions + 1),
    )


def _changes(
    event: DocumentWrite, position: Position, row: Row | None, after: Document, since: float
) -> Changes:
    """The new version's row, that of the version before it, and the versions that are no longer kept."""
    log, offset, _ = position
    owner = (event.tenant, event.agent_id, event.type)
    changes = Changes()
    if row is not None:
        before = documents.decode(row)
        if after.oldest <= before.version:
            key = documents.version_key(*owner, before.version)
            changes.put.append(replace(row, key=key, log=log, offset=offset, born=offset, listed=False))
        changes.delete = [
            documents.version_key(*owner, version)
            for version in range(before.oldest, min(after.oldest, before.version))
        ]
    changes.put.append(
        Row(
            key=documents.document_key(*owner),
            body=documents.encode(after),
            accepted_at=event.accepted_at,
            since=since,
            log=log,
            offset=offset,
            born=position.born(row),
            agent_player=event.agent_player,
            # A deleted document is not listed; policies are not listed as documents.
            listed=not after.deleted and policies.policy_name(event.type) is None,
        )
    )
    return changes
