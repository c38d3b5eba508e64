"""The embedded log's tables and the statements on them; each function runs within the caller's transaction.

A segment is what one transaction appended, cut at 256 records: one row, whose `records` are a msgpack array of
[key, value, headers, appended_at]. One row for many records, because Python gives up the GIL at every row it
writes or reads, and has to win it back from a busy event loop each time.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from lorestream.ports import DeadLetter, Record, StoredDeadLetter
from lorestream.retry_headers import first_failed_at

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping, Sequence

    from lorestream.ports import RecordId, Resolution

PARTITION = 0
"""The only one."""

SEGMENT_RECORDS = 256
SEGMENT_BYTES = 1024 * 1024
"""A segment ends at the first of the two; a record that is larger has its own."""

STEP_SEGMENTS = 1000
STEP_BYTES = 8 * 1024 * 1024
"""What one transaction of a trim deletes at most, so that appends wait for milliseconds only."""

_SCHEMA = (
    # `size_before` is the running sum of len(records): the size of any stretch is one subtraction.
    """CREATE TABLE IF NOT EXISTS segments (
        first INTEGER PRIMARY KEY, count INTEGER NOT NULL, appended_at REAL NOT NULL,
        size_before INTEGER NOT NULL, records BLOB NOT NULL)""",
    # Where the log begins. It stays when every segment has gone, so that no offset is used twice.
    "CREATE TABLE IF NOT EXISTS log (only_row INTEGER PRIMARY KEY CHECK (only_row = 0), start INTEGER NOT NULL)",
    "INSERT OR IGNORE INTO log VALUES (0, 0)",
    "CREATE TABLE IF NOT EXISTS commits (consumers TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS dead_letters (
        partition INTEGER NOT NULL, offset INTEGER NOT NULL, failed_at REAL NOT NULL, reason TEXT NOT NULL,
        error TEXT NOT NULL, attempts INTEGER NOT NULL, appended_at REAL NOT NULL,
        key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL, UNIQUE (partition, offset))""",
    # Of a letter that is done with, so that no second reader of its record brings it back.
    """CREATE TABLE IF NOT EXISTS settled_letters (
        partition INTEGER NOT NULL, offset INTEGER NOT NULL, settled_at REAL NOT NULL, how TEXT NOT NULL,
        PRIMARY KEY (partition, offset)) WITHOUT ROWID""",
)

_records = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, dict[str, bytes], float]])
_headers = msgspec.msgpack.Decoder(dict[str, bytes])
_encoder = msgspec.msgpack.Encoder()


def create(connection: sqlite3.Connection) -> tuple[int, dict[str, int]]:
    """Make the tables that are missing; return the next offset and every group's position."""
    for statement in _SCHEMA:
        connection.execute(statement)
    return _tail(connection)[0], dict(connection.execute("SELECT consumers, position FROM commits"))


def pack(key: bytes, value: bytes, headers: Mapping[str, bytes], appended_at: float) -> bytes:
    """One record as an element of a segment's array."""
    return _encoder.encode((key, value, dict(headers), appended_at))


def append(connection: sqlite3.Connection, packed: Sequence[bytes], appended_at: float) -> int:
    """Append the packed records, the newest of them of `appended_at`; return the offset of the first."""
    first, size = _tail(connection)
    offset = first
    for segment in _cut(packed):
        # The header of a msgpack array with a 16-bit length.
        records = b"\xdc" + len(segment).to_bytes(2, "big") + b"".join(segment)
        row = (offset, len(segment), appended_at, size, records)
        connection.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?)", row)
        offset += len(segment)
        size += len(records)
    return first


def _tail(connection: sqlite3.Connection) -> tuple[int, int]:
    """The next offset, and the `size_before` of the segment that begins there."""
    last = "SELECT first + count, size_before + length(records) FROM segments ORDER BY first DESC LIMIT 1"
    row = connection.execute(last).fetchone()
    return row or (connection.execute("SELECT start FROM log").fetchone()[0], 0)


def _cut(packed: Sequence[bytes]) -> list[list[bytes]]:
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
    """Store the groups' positions; none is lowered."""
    connection.executemany(
        "INSERT INTO commits VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET position = max(position, excluded.position)",
        positions.items(),
    )


def read(connection: sqlite3.Connection, offset: int, limit: int) -> list[Record]:
    """At most `limit` records from `offset` on."""
    records: list[Record] = []
    rows = connection.execute(
        "SELECT first, records FROM segments WHERE first >="
        " coalesce((SELECT max(first) FROM segments WHERE first <= ?), 0) ORDER BY first",
        (offset,),
    )
    # A cursor left open would hold its snapshot, and with it the write-ahead log.
    with closing(rows):
        for first, blob in rows:
            elements = _records.decode(blob)
            skipped = max(0, offset - first)
            for at, element in enumerate(elements[skipped : skipped + limit - len(records)], first + skipped):
                records.append(Record(PARTITION, at, *element))
            if len(records) >= limit:
                break
    return records


def since(connection: sqlite3.Connection, at: float) -> Record | None:
    """The first record that was appended at or after `at`, or None."""
    row = connection.execute(
        "SELECT first, count FROM segments WHERE appended_at >= ? ORDER BY first LIMIT 1", (at,)
    ).fetchone()
    if row is None:
        return None
    return next((record for record in read(connection, row[0], row[1]) if record.appended_at >= at), None)


def last(connection: sqlite3.Connection) -> Record | None:
    """The newest record, or None when there is none."""
    row = connection.execute("SELECT first + count FROM segments ORDER BY first DESC LIMIT 1").fetchone()
    return read(connection, row[0] - 1, 1)[0] if row else None


def trim(
    connection: sqlite3.Connection, *, before: float, max_bytes: int, floor: int | None
) -> tuple[int, bool]:
    """Delete, from the oldest on, segments of before `before` and those beyond the newest `max_bytes` (0: no bound).

    Nothing at or behind the offset `floor`. Returns how many records went, and whether there may be more.
    """
    _, total = _tail(connection)
    rows = connection.execute(
        "SELECT first, count, appended_at, size_before, length(records) FROM segments ORDER BY first LIMIT ?",
        (STEP_SEGMENTS,),
    ).fetchall()
    records = size = 0
    end = None
    for first, count, appended_at, size_before, length in rows:
        overaged = appended_at < before or (max_bytes and total - size_before > max_bytes)
        if not overaged or (floor is not None and first + count > floor) or size >= STEP_BYTES:
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
    """Keep the letters; what is there already, or was settled, stays as it is."""
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
    """The number of the letter that was set aside last, 0 when there is none."""
    return connection.execute("SELECT coalesce(max(rowid), 0) FROM dead_letters").fetchone()[0]


def dead_letters(
    connection: sqlite3.Connection, after: int, upto: int, limit: int
) -> list[tuple[int, StoredDeadLetter]]:
    """At most `limit` letters behind the number `after` up to `upto`, each with its number, in their order."""
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
    settled_at: float,
) -> int:
    """Delete the letters of these places and note that they are done with; return how many went."""
    connection.executemany(
        "INSERT OR IGNORE INTO settled_letters VALUES (?, ?, ?, ?)",
        [(*record_id, settled_at, resolution.value) for record_id in record_ids],
    )
    delete = "DELETE FROM dead_letters WHERE partition = ? AND offset = ?"
    return connection.executemany(delete, record_ids).rowcount


def trim_dead_letters(connection: sqlite3.Connection, before: float) -> int:
    """Delete the letters set aside before `before`, and what is known of those settled; return how many letters."""
    connection.execute("DELETE FROM settled_letters WHERE settled_at < ?", (before,))
    return connection.execute("DELETE FROM dead_letters WHERE failed_at < ?", (before,)).rowcount
