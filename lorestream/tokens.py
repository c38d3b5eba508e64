"""Opaque strings that callers send back: write tokens, deletion receipts, page cursors.

Each is a kind, and the base64 of a CRC-32 checksum and a JSON value; the checksum detects strings that were not issued
here. They are not secret and not signed: they contain log offsets and times.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from lorestream.errors import InvalidCursor, InvalidToken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorestream.memories import Position

T = TypeVar("T", str, int)

_MAX_LENGTH = 64 * 1024
"""A write has at most MAX_EVENTS events, and so names at most as many partitions: 37,000 characters."""
_MAX_OFFSET = 2**63 - 1


def token(positions: Mapping[int, int]) -> str:
    """The token of a write. `positions`: the highest offset of each log partition that was written."""
    return _encode("w1", sorted(positions.items()))


def parse_token(text: str) -> dict[int, int]:
    """The offsets in a token, by partition. Raises InvalidToken."""
    match _decode("w1", text):
        case [*pairs] if all(_is_pair(pair) for pair in pairs):
            return dict(pairs)
        case _:
            raise InvalidToken("this is not the token of a write", path="after")


def stream_id(positions: Mapping[int, int]) -> str:
    """The id of an event in a stream of memories. `positions`: the next offset of every partition, 0 to the highest."""
    return _encode("s1", [positions.get(partition, 0) for partition in range(max(positions, default=-1) + 1)])


def parse_stream_id(text: str) -> dict[int, int]:
    """The positions in the id of a stream's event. Raises InvalidToken."""
    match _decode("s1", text):
        case [*offsets] if all(_is_pair([0, offset]) for offset in offsets):
            return dict(enumerate(offsets))
        case _:
            raise InvalidToken("this is not the id of an event of a stream", path="Last-Event-ID")


def cursor(position: Position) -> str:
    """The cursor of the page that follows a memory."""
    return _encode("c1", position)


def parse_cursor(text: str) -> Position:
    """The position in a cursor. Raises InvalidCursor."""
    match _decode("c1", text):
        case [
            int() | float() as time,
            int() | float() as accepted_at,
            str() as memory_id,
            str() as agent_id,
        ] if math.isfinite(time) and math.isfinite(accepted_at):
            return (float(time), float(accepted_at), memory_id, agent_id)
        case _:
            raise InvalidCursor("this is not the cursor of a page", path="cursor")


def list_cursor(listing: str, after: str | int) -> str:
    """The cursor of the page of a listing that follows the entry `after`. `listing`: which one, with its arguments."""
    return _encode("l1", [listing, after])


def parse_list_cursor(listing: str, text: str, kind: type[T]) -> T:
    """The `after` in a cursor of this listing, a `str` or an `int`. Raises InvalidCursor."""
    match _decode("l1", text):
        case [str() as of, after] if of == listing and type(after) is kind:
            return after
        case _:
            raise InvalidCursor("this is not the cursor of a page of this listing", path="cursor")


def receipt(tenant: str, accepted_at: float, positions: Mapping[int, int]) -> str:
    """The erasure id of a single deletion: its tenant, time of acceptance (Unix seconds), and log offsets."""
    return _encode("d1", [tenant, accepted_at, sorted(positions.items())])


def parse_receipt(text: str) -> tuple[str, float, dict[int, int]] | None:
    """The tenant, time of acceptance, and offsets in a receipt. None for any other string."""
    match _decode("d1", text):
        case [str() as tenant, int() | float() as accepted_at, [*pairs]] if math.isfinite(
            accepted_at
        ) and all(_is_pair(pair) for pair in pairs):
            return tenant, float(accepted_at), dict(pairs)
        case _:
            return None


def _is_pair(value: object) -> bool:
    match value:
        case [int() as partition, int() as offset]:
            return partition >= 0 and 0 <= offset <= _MAX_OFFSET
        case _:
            return False


def _encode(kind: str, value: object) -> str:
    body = orjson.dumps(value)
    checksum = zlib.crc32(body, zlib.crc32(kind.encode())).to_bytes(4, "big")
    return f"{kind}.{base64.urlsafe_b64encode(checksum + body).rstrip(b'=').decode()}"


def _decode(kind: str, text: str) -> Any:  # noqa: ANN401 (the callers match its shape)
    """The JSON value in `text`; None when the kind, the encoding or the checksum is wrong."""
    prefix, dot, rest = text.partition(".")
    if prefix != kind or not dot or len(text) > _MAX_LENGTH:
        return None
    try:
        raw = base64.b64decode(rest + "=" * (-len(rest) % 4), altchars=b"-_", validate=True)
        checksum, body = raw[:4], raw[4:]
        if zlib.crc32(body, zlib.crc32(kind.encode())).to_bytes(4, "big") != checksum:
            return None
        return orjson.loads(body)
    except (binascii.Error, ValueError):
        return None
