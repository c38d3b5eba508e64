"""The calls of documents: keyed, versioned JSON objects of an agent. Each function builds one request.

A write returns once it is durable; with `wait_s`, once it is applied, at most that long. It carries an `event_id`, made here
unless given, so that a retry changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorestream.client.call import Call, applied, given, new_event_id, read_call, wait_ms, write_call
from lorestream.client.encoding import quoted
from lorestream.client.state_models import Entities, Entity, StateReceipt, Versions, WriteOutcome


def put_entity(
    type: str,  # noqa: A002 (the name in the contract)
    id: str,  # noqa: A002 (the name in the contract)
    data: Mapping[str, Any],
    *,
    tick: float | None = None,
    if_version: int | None = None,
    event_id: str | None = None,
    wait_s: float | None = None,
) -> Call[StateReceipt]:
    """Create or replace the document `type` of the agent `id`. `data` is a JSON object of at most 256 KiB.

    `if_version`: only if this is its version; 0: only if there is none. With `wait_s`, VersionConflict says that it was
    another one. `tick`: the tick of the game.
    """
    body = _fields(event_id, data=data, tick=tick, if_version=if_version)
    return write_call(
        StateReceipt, _path(type, id), body, method="PUT", params=applied(wait_s), wait_s=wait_s
    )


def patch_entity(
    type: str,  # noqa: A002
    id: str,  # noqa: A002
    data: Mapping[str, Any],
    *,
    tick: float | None = None,
    if_version: int | None = None,
    event_id: str | None = None,
    wait_s: float | None = None,
) -> Call[StateReceipt]:
    """Change fields of a document by a JSON Merge Patch (RFC 7396); the further arguments as in `put_entity`.

    None removes a field, an object is merged with the one that is there, anything else replaces.
    """
    body = _fields(event_id, data=data, tick=tick, if_version=if_version)
    path = _path(type, id)
    return write_call(StateReceipt, path, body, method="PATCH", params=applied(wait_s), wait_s=wait_s)


def delete_entity(
    type: str,  # noqa: A002
    id: str,  # noqa: A002
    *,
    if_version: int | None = None,
    event_id: str | None = None,
    wait_s: float | None = None,
) -> Call[StateReceipt]:
    """Delete a document; no error if there is none. Its version goes on rising, also when it is created again."""
    body = _fields(event_id, if_version=if_version)
    path = _path(type, id) + "/delete"
    return write_call(StateReceipt, path, body, params=applied(wait_s), wait_s=wait_s)


def rollback(
    type: str,  # noqa: A002
    id: str,  # noqa: A002
    to: int,
    *,
    if_version: int | None = None,
    event_id: str | None = None,
    wait_s: float | None = None,
) -> Call[StateReceipt]:
    """Make a new version with the data of the version `to`.

    With `wait_s`: raises NotFound if there was no such version, VersionGone if it is no longer kept.
    """
    body = _fields(event_id, to=to, if_version=if_version)
    path = _path(type, id) + "/rollback"
    return write_call(StateReceipt, path, body, params=applied(wait_s), wait_s=wait_s)


def entity(
    type: str,  # noqa: A002
    id: str,  # noqa: A002
    *,
    version: int | None = None,
    at: float | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[Entity]:
    """A document: as it is, in a `version`, or as it was `at` a time (Unix seconds). Raises NotFound, VersionGone.

    `after` is the token of a write that it must show, waited for at most `wait_s`; `Entity.fresh` says whether it does.
    """
    params = given(version=version, at=at, after=after, wait_ms=wait_ms(wait_s))
    return read_call(Entity, _path(type, id), params=params, wait_s=wait_s)


def entities(
    type: str,  # noqa: A002
    *,
    prefix: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[Entities]:
    """One page of the documents of a type, of all agents whose id begins with `prefix`; at most 1,000, by id.

    `cursor` is the `next_cursor` of the page before; `after` and `wait_s` as in `entity`.
    """
    params = given(
        prefix=prefix or None, limit=limit, cursor=cursor or None, after=after, wait_ms=wait_ms(wait_s)
    )
    return read_call(Entities, f"/v1/entities/{quoted(type, 'type')}", params=params, wait_s=wait_s)


def versions(
    type: str,  # noqa: A002
    id: str,  # noqa: A002
    *,
    limit: int = 20,
    cursor: str | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[Versions]:
    """One page of the versions of a document that are kept, newest first. Raises NotFound.

    `after` and `wait_s` as in `entity`.
    """
    params = given(limit=limit, cursor=cursor or None, after=after, wait_ms=wait_ms(wait_s))
    return read_call(Versions, _path(type, id) + "/versions", params=params, wait_s=wait_s)


def entity_write(
    type: str,  # noqa: A002
    id: str,  # noqa: A002
    event_id: str,
    *,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[WriteOutcome]:
    """What became of a write of a document in the last 7 days. Raises NotFound. `after`: the token of that write."""
    path = f"{_path(type, id)}/writes/{quoted(event_id, 'event_id')}"
    return read_call(WriteOutcome, path, params=given(after=after, wait_ms=wait_ms(wait_s)), wait_s=wait_s)


def _fields(event_id: str | None, **fields: object) -> dict[str, Any]:
    return given(**fields, event_id=event_id or new_event_id())


def _path(type_: str, id_: str) -> str:
    return f"/v1/entities/{quoted(type_, 'type')}/{quoted(id_, 'id')}"
