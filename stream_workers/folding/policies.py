"""The fold of policies: their parts, and the manifest that makes a version visible.

Parts expire until a manifest names them. They are removed when no version that is kept names them any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from lorestream.errors import InvalidEvent
from lorestream.state import documents, policies
from lorestream.state.policies import Manifest
from lorestream.state.rows import Row, RowKey, RowKind
from stream_workers.folding import documents as document_fold
from stream_workers.folding.changes import Changes, Position, Rows

if TYPE_CHECKING:
    from lorestream.events import DocumentWrite, PolicyPart

MAX_PARTS = -(-policies.MAX_BYTES // policies.PART_BYTES)


def part_key(event: PolicyPart) -> RowKey:
    """The row of a part."""
    return policies.part_key(event.tenant, event.agent_id, event.name, event.upload, event.index)


def fold_part(rows: Rows, event: PolicyPart, position: Position) -> Changes:
    """Store a part until a manifest names it. One that is named already keeps its content."""
    key = part_key(event)
    row = rows.get(key)
    if position.is_in(row) or (row is not None and row.expires_at is None):
        return Changes()
    part = Row(
        key=key,
        body=msgspec.json.encode(event.content).decode(),  # a JSON string: base64
        accepted_at=event.accepted_at,
        since=event.accepted_at,
        log=position.log,
        offset=position.offset,
        born=position.born(row),
        agent_player=event.agent_player,
        expires_at=position.expiry(event.accepted_at, policies.PART_LIFETIME_S),
    )
    return Changes(put=[part])


def part_keys(event: DocumentWrite) -> list[RowKey]:
    """The rows of the parts that the manifest of a put names. Raises InvalidEvent for a manifest that is none."""
    name = policies.policy_name(event.type)
    if name is None or event.action != "put":
        return []
    try:
        manifest = msgspec.convert(event.data, Manifest)
    except msgspec.ValidationError as error:
        raise InvalidEvent(str(error), path="data") from error
    if not 1 <= manifest.parts <= MAX_PARTS:
        raise InvalidEvent(f"a policy has 1 to {MAX_PARTS} parts", path="data.parts")
    return policies.part_keys(event.tenant, event.agent_id, name, manifest)


def version_keys(rows: Rows, event: DocumentWrite) -> list[RowKey]:
    """The rows of all earlier versions of a policy that are kept; `rows` has the current one. Empty for other documents."""
    row = rows.get(documents.document_key(event.tenant, event.agent_id, event.type))
    if row is None or policies.policy_name(event.type) is None:
        return []
    current = documents.decode(row)
    return [
        documents.version_key(event.tenant, event.agent_id, event.type, version)
        for version in range(current.oldest, current.version)
    ]


def fold_manifest(rows: Rows, event: DocumentWrite, position: Position, keep_versions: int) -> Changes:
    """Fold a write into a policy's document; keep the parts that it names, remove those that nothing names any more.

    A put whose parts are not all there is refused: they expired, or were erased. Raises InvalidEvent.
    """
    named = part_keys(event)
    found = [row.since for key in named if (row := rows.get(key)) is not None and not _is_too_old(row, event)]
    whole = len(found) == len(named)
    since = min([event.accepted_at, *found]) if whole else None
    before = _uploads(rows, event)
    changes = document_fold.fold(rows, event, position, keep_versions, put_since=since)
    after = _uploads(_changed(rows, changes), event)
    uploads = {str(key.parts[1]) for key in named}
    if uploads & after.keys():
        # Also when the document has the event already: in a replay it may have been copied from the other collection.
        changes.keep = named
    elif changes.put:  # the put was refused
        changes.delete += named
    for upload in before.keys() - after.keys():
        changes.delete += before[upload]
    return changes


def _is_too_old(part: Row, event: DocumentWrite) -> bool:
    """Whether the part had expired when the manifest was accepted. By these times, so that a replay decides as well."""
    return part.expires_at is not None and event.accepted_at >= part.accepted_at + policies.PART_LIFETIME_S


def _changed(rows: Rows, changes: Changes) -> Rows:
    return {
        key: row
        for key, row in {**rows, **{row.key: row for row in changes.put}}.items()
        if key not in changes.delete
    }


def _uploads(rows: Rows, event: DocumentWrite) -> dict[str, list[RowKey]]:
    """The uploads that the kept versions of the event's policy name, with the keys of their parts."""
    name = policies.policy_name(event.type) or ""
    keys = [
        documents.document_key(event.tenant, event.agent_id, event.type),
        *version_keys(rows, event),
    ]
    uploads: dict[str, list[RowKey]] = {}
    for key in keys:
        row = rows.get(key)
        manifest = None if row is None else policies.manifest_of(documents.decode(row))
        if manifest is not None:
            uploads[manifest.upload] = policies.part_keys(event.tenant, event.agent_id, name, manifest)
    return uploads


def is_part(key: RowKey) -> bool:
    """Whether this is the key of a part."""
    return key.kind is RowKind.POLICY_PART
