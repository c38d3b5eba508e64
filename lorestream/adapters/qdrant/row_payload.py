"""A row as a Qdrant point without vectors: its id, its payload, and the row decoded from the payload.

`row` is JSON text with everything but the body (see `_Header`), and `row_body` the body, which may have hundreds of KiB:
it is read only where it is needed. The other keys exist for guards, conditions and facets:

    owner         JSON array [tenant, agent_id]        offset, log   the position in the log, for guarded writes
    group         JSON array [tenant, kind, name]      row_expires   ticks; the row expires while it has this key
    agent_player  as in memories

`group` is there only if the row is listed; its name is the first part of the row's key. Without `agent` and `tenant` a
row matches no condition on memories.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from lorestream.adapters.qdrant.payload import POINT_NAMESPACE, agent_keyword, ticks
from lorestream.errors import InvalidEvent
from lorestream.state.rows import Row, RowGroup, RowKey, RowKind

if TYPE_CHECKING:
    from lorestream.memories import AgentKey

ROW_KEYS = ["row", "row_expires", "row_body"]
"""The payload keys that `decode_row` needs."""
EXPIRES = "row_expires"
_BYTES_PER_POINT = 4096
"""About what a memory takes: a vector of 384 components and its payload."""


class _Header(msgspec.Struct, array_like=True):
    """The row without its body. Fields may only be added at the end, with a default: stored rows lack them."""

    tenant: str
    agent_id: str
    kind: RowKind
    parts: tuple[str | int, ...]
    accepted_at: float
    since: float
    log: str
    offset: int
    born: int
    agent_player: str | None
    expires_at: float | None
    listed: bool
    size: int
    """Of the body, in characters."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Header)


def row_id(key: RowKey) -> str:
    """UUIDv5 of [tenant, agent_id, kind, *parts]. The ids of memories are made of three strings, these of more."""
    name = orjson.dumps([key.tenant, key.agent_id, key.kind.value, *key.parts]).decode()
    return str(uuid.uuid5(POINT_NAMESPACE, name))


def owner_keyword(agent: AgentKey) -> str:
    """The payload key `owner`."""
    return agent_keyword(agent.tenant, agent.agent_id)


def group_keyword(group: RowGroup) -> str:
    """The payload key `group`."""
    return orjson.dumps([group.tenant, group.kind.value, group.name]).decode()


def is_group_of(kind: RowKind, keyword: str) -> bool:
    """Whether points that have this payload key `group` are rows of the kind. Records have groups, too."""
    return orjson.loads(keyword)[1] == kind.value


def encode_row(row: Row) -> dict[str, Any]:
    """The payload of a row. Raises InvalidEvent for one that cannot be stored."""
    key = row.key
    header = _Header(
        key.tenant,
        key.agent_id,
        key.kind,
        key.parts,
        row.accepted_at,
        row.since,
        row.log,
        row.offset,
        row.born,
        row.agent_player,
        row.expires_at,
        row.listed,
        len(row.body),
    )
    try:
        row.body.encode()  # raises for half of a surrogate pair
        payload: dict[str, Any] = {
            "owner": owner_keyword(key.agent),
            "row": _encoder.encode(header).decode(),
            "row_body": row.body,
            "offset": row.offset,
            "log": row.log,
        }
        if row.listed:
            payload["group"] = group_keyword(key.group)
    except (TypeError, ValueError) as error:
        raise InvalidEvent(f"the row {key.kind} {key.parts} cannot be stored: {error}") from error
    if row.agent_player is not None:
        payload["agent_player"] = row.agent_player
    if row.expires_at is not None:
        payload[EXPIRES] = ticks(row.expires_at)
    return payload


def decode_row(stored: Mapping[str, Any], *, body: str | None = None) -> Row:
    """The row of a payload with `ROW_KEYS`. `body` replaces one that was not read."""
    header = _decoder.decode(stored["row"])
    return Row(
        key=RowKey(header.tenant, header.agent_id, header.kind, header.parts),
        body=stored["row_body"] if body is None else body,
        accepted_at=header.accepted_at,
        since=header.since,
        log=header.log,
        offset=header.offset,
        born=header.born,
        agent_player=header.agent_player,
        expires_at=header.expires_at if EXPIRES in stored else None,
        listed=header.listed,
    )


def points_of_space(stored: Mapping[str, Any]) -> int:
    """How many memories take about as much space as this point, with `payload.READ_KEYS`; 0 for a tombstone."""
    if "row" in stored:
        return 1 + _decoder.decode(stored["row"]).size // _BYTES_PER_POINT
    return int("body" in stored)
