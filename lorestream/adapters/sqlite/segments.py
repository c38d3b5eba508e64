"""The SQL statements of the embedded log. Every function runs in the transaction of its caller.

A segment is one row with up to 256 records of one transaction: its column `records` is a msgpack array of
[key, value, headers, appended_at]. Many records share a row because Python releases the GIL for every row that it
reads or writes, and then has to wait for it while the event loop is busy.
"""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from lorestream.errors import Misconfigured
from lorestream.ports import DeadLetter, Record, StoredDeadLetter
from lorestream.retry_headers import first_failed_at

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from lorestream.ports import RecordId, Resolution

PARTITION = 0
"""The only partition of the embedded log."""

DAMAGED = (
    "restore a snapshot into another --data, or move log.sqlite3 away and start again: then the memories in the store"
    " stay, and events that were not indexed yet are lost"
)
"""What to do about a damaged log: the end of a message."""

UNLIMITED = sys.maxsize
"""Of the bytes that a read returns."""

SEGMENT_RECORDS = 256
SEGMENT_BYTES = 1024 * 1024
"""A segment ends at the first of these two limits; a larger record has a segment of its own."""

TRIM_SEGMENTS = 1000
TRIM_BYTES = 8 * 1024 * 1024
"""How much one transaction of a trim deletes at most, so that appends wait only milliseconds for it."""

_records = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, dict[str, bytes], float]])
_headers = msgspec.msgpack.Decoder(dict[str, bytes])
_encoder = msgspec.msgpack.Encoder()


def load(connection: sqlite3.Connection) -> tuple[int, dict[str, int]]:
    """The offset that the next record will get, and the next offset to read of each group."""
    return _end(connection)[0], dict(connection.execute("SELECT consumers, position FROM commits"))


def pack(key: bytes, value: bytes, headers: Mapping[str, bytes], appended_at: float) -> bytes:
    """One record, encoded as an element of a segment."""
    return _encoder.encode((key, value, dict(headers), appended_at))


def append(connection: sqlite3.Connection, packed: Sequence[bytes], appended_at: float) -> int:
    """Append the packed records and return the offset of the first. `appended_at`: Unix time of the newest."""
    first, size = _end(connection)
    offset = first
    for segment in _split(packed):
        # The header of a msgpack array with a 16-bit length.
        records = b"\xdc" + len(segment).to_bytes(2, "big") + b"".join(segment)
        row = (offset, len(segment), appended_at, size, records)
        connection.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?)", row)
        offset += len(segment)
        size += len(records)
    return first


def _end(connection: sqlite3.Connection) -> tuple[int, int]:
    """The offset that the next record will get, and `size_before` of the next segment, in bytes."""
    last = "SELECT first + count, size_before + length(records) FROM segments ORDER BY first DESC LIMIT 1"
    row = connection.execute(last).fetchone()
    return row or (connection.execute("SELECT start FROM log").fetchone()[0], 0)


def _split(packed: Sequence[bytes]) -> list[list[bytes]]:
    """The packed records of each segment."""
    segments: list[list[bytes]] = []
    size = SEGMENT_BYTES
    for record in packed:
        if size + len(record) > SEGMENT_BYTES or len(segments[-1]) == SEGMENT_RECORDS:
            segments.append([])
            size = 0
        segments[-1].append(record)
        size += len(record)
    return segments


def commit(connection: sqlite3.Connection, positions: Mapping[str, int]) -> None:
    """Store the next offset to read of each group. Never lowers one."""
    connection.executemany(
        "INSERT INTO commits VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET position = max(position, excluded.position)",
        positions.items(),
    )


def read(connection: sqlite3.Connection, offset: int, limit: int, max_bytes: int = UNLIMITED) -> list[Record]:
    """At most `limit` records from `offset` on, and `max_bytes` of values after the first.

    They begin with the oldest record left, if that one is later.
    """
    records: list[Record] = []
    size = 0
    rows = connection.execute(
        "SELECT first, records FROM segments WHERE first >="
        " coalesce((SELECT max(first) FROM segments WHERE first <= ?), 0) ORDER BY first",
        (offset,),
    )
    # An open cursor keeps its snapshot, and SQLite cannot truncate the write-ahead log while it does.
    with closing(rows):
        for first, blob in rows:
            elements = _decode(first, blob)
            skipped = max(0, offset - first)
            for at, element in enumerate(elements[skipped : skipped + limit - len(records)], first + skipped):
                record = Record(PARTITION, at, *element)
                size += len(record.value)
                if records and size > max_bytes:
                    return records
                records.append(record)
            if len(records) >= limit:
                break
    return records


def _decode(first: int, blob: bytes) -> list[tuple[bytes, bytes, dict[str, bytes], float]]:
    """The records of the segment whose first offset is `first`. Raises Misconfigured when it is damaged."""
    try:
        return _records.decode(blob)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Misconfigured(
            f"the log is damaged, its records from offset {first} on cannot be read ({error}): {DAMAGED}"
        ) from error


def first_since(connection: sqlite3.Connection, at: float) -> Record | None:
    """The first record that was appended at or after the Unix time `at`, or None."""
    row = connection.execute(
        "SELECT first, count FROM segments WHERE appended_at >= ? ORDER BY first LIMIT 1", (at,)
    ).fetchone()
    if row is None:
        return None
    return next((record for record in read(connection, row[0], row[1]) if record.appended_at >= at), None)


def last(connection: sqlite3.Connection) -> Record | None:
    """The newest record, or None when the log is empty."""
    row = connection.execute("SELECT first + count FROM segments ORDER BY first DESC LIMIT 1").fetchone()
    return read(connection, row[0] - 1, 1)[0] if row else None


def trim(
    connection: sqlite3.Connection, *, before: float, max_bytes: int, floor: int | None
) -> tuple[int, bool]:
    """Delete the oldest segments: those appended before the Unix time `before`, and those beyond `max_bytes` in all.

    `max_bytes` 0: no limit. `floor`: records from this offset on are kept. Returns the number of records deleted, and
    whether another call may delete more.
    """
    _, total = _end(connection)
    rows = connection.execute(
        "SELECT first, count, appended_at, size_before, length(records) FROM segments ORDER BY first LIMIT ?",
        (TRIM_SEGMENTS,),
    ).fetchall()
    records = size = 0
    end = None
    for first, count, appended_at, size_before, length in rows:
        expired = appended_at < before or (max_bytes and total - size_before > max_bytes)
        if not expired or (floor is not None and first + count > floor) or size >= TRIM_BYTES:
            break
        end = first + count
        records += count
        size += length
    if end is None:
        return 0, False
    connection.execute("DELETE FROM segments WHERE first < ?", (end,))
    connection.execute("UPDATE log SET start = ?", (end,))
    return records, True


def insert_dead_letters(
    connection: sqlite3.Connection, dead_letters: Sequence[DeadLetter], failed_at: float
) -> None:
    """Insert dead letters. One whose record has a dead letter already, or had one that was resolved, is ignored."""
    rows = (
        (
            dead_letter.record.partition,
            dead_letter.record.offset,
            failed_at,
            dead_letter.reason,
            dead_letter.error,
            dead_letter.attempts,
            dead_letter.record.appended_at,
            dead_letter.record.key,
            dead_letter.record.value,
            _encoder.encode(dict(dead_letter.record.headers)),
        )
        for dead_letter in dead_letters
    )
    connection.executemany(
        "INSERT OR IGNORE INTO dead_letters SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 WHERE NOT EXISTS"
        " (SELECT 1 FROM settled_letters WHERE partition = ?1 AND offset = ?2)",
        rows,
    )


def last_dead_letter(connection: sqlite3.Connection) -> int:
    """The row number of the newest dead letter, or 0."""
    return connection.execute("SELECT coalesce(max(rowid), 0) FROM dead_letters").fetchone()[0]


def dead_letters(
    connection: sqlite3.Connection, after: int, upto: int, limit: int
) -> list[tuple[int, StoredDeadLetter]]:
    """At most `limit` pairs (row number, dead letter) with row numbers above `after` and up to `upto`, in order."""
    rows = connection.execute(
        "SELECT rowid, partition, offset, key, value, headers, appended_at, reason, error, attempts, failed_at"
        " FROM dead_letters WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?",
        (after, upto, limit),
    )
    found: list[tuple[int, StoredDeadLetter]] = []
    for number, partition, offset, key, value, headers, appended_at, *why, failed_at in rows.fetchall():
        record = Record(partition, offset, key, value, _headers.decode(headers), appended_at)
        found.append((number, StoredDeadLetter(DeadLetter(record, *why), first_failed_at(record, failed_at))))
    return found


def resolve_dead_letters(
    connection: sqlite3.Connection,
    record_ids: Collection[RecordId],
    resolution: Resolution,
    resolved_at: float,
) -> int:
    """Delete the dead letters of these records and note how they were resolved; return how many were deleted."""
    connection.executemany(
        "INSERT OR IGNORE INTO settled_letters VALUES (?, ?, ?, ?)",
        [(*record_id, resolved_at, resolution.value) for record_id in record_ids],
    )
    delete = "DELETE FROM dead_letters WHERE partition = ? AND offset = ?"
    return connection.executemany(delete, record_ids).rowcount


def trim_dead_letters(connection: sqlite3.Connection, before: float, resolved_before: float) -> int:
    """Delete the dead letters from before the Unix time `before`, and the notes on those resolved before `resolved_before`.

    Returns how many dead letters were deleted.
    """
    connection.execute("DELETE FROM settled_letters WHERE settled_at < ?", (resolved_before,))
    return connection.execute("DELETE FROM dead_letters WHERE failed_at < ?", (before,)).rowcount
