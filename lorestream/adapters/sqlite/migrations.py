"""The schema of the embedded database as ordered migrations, counted by `PRAGMA user_version`.

Migration N takes a file of version N - 1 to version N, in one transaction. To change the schema, append a migration;
never edit one that was released, because files exist that it has run on. A file of every released version is kept
as SQL in tests/fixtures and opened by the tests.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

Migration: TypeAlias = Sequence[str]
"""SQL statements."""

_LOG_AND_ERASURE_LEDGER: Migration = (
    # One row for up to 256 records (see segments.py): `first` is the offset of the first of them, and `size_before`
    # the sum of length(records) of all earlier rows, so that the size of any range is one subtraction.
    """CREATE TABLE segments (
        first INTEGER PRIMARY KEY, count INTEGER NOT NULL, appended_at REAL NOT NULL,
        size_before INTEGER NOT NULL, records BLOB NOT NULL)""",
    # The offset at which the log begins. It is kept when all segments are deleted: no offset is used twice.
    "CREATE TABLE log (only_row INTEGER PRIMARY KEY CHECK (only_row = 0), start INTEGER NOT NULL)",
    "INSERT INTO log VALUES (0, 0)",
    # The next offset to read of each consumer group.
    "CREATE TABLE commits (consumers TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE dead_letters (
        partition INTEGER NOT NULL, offset INTEGER NOT NULL, failed_at REAL NOT NULL, reason TEXT NOT NULL,
        error TEXT NOT NULL, attempts INTEGER NOT NULL, appended_at REAL NOT NULL,
        key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL, UNIQUE (partition, offset))""",
    # The resolved dead letters: a second reader of such a record must not add it again.
    """CREATE TABLE settled_letters (
        partition INTEGER NOT NULL, offset INTEGER NOT NULL, settled_at REAL NOT NULL, how TEXT NOT NULL,
        PRIMARY KEY (partition, offset)) WITHOUT ROWID""",
    # The newest erasure of each subject, kept for ever.
    """CREATE TABLE erased_subjects (
        tenant TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, accepted_at REAL NOT NULL,
        PRIMARY KEY (tenant, kind, subject)) WITHOUT ROWID""",
    # The erasures by id, for requests for their state.
    """CREATE TABLE erasures (
        id TEXT PRIMARY KEY, tenant TEXT NOT NULL, kind TEXT NOT NULL, subjects BLOB NOT NULL,
        accepted_at REAL NOT NULL, done INTEGER NOT NULL) WITHOUT ROWID""",
)

_PLAYER_KEYS: Migration = (
    # Which keys for player names the pseudonyms in log and ledger were made with.
    "CREATE TABLE player_keys (kid TEXT PRIMARY KEY, fingerprint TEXT NOT NULL) WITHOUT ROWID",
)

_IDENTITY: Migration = (
    # Tells this log from all others, also in a copy: a log that begins anew has the same offsets for other records.
    "CREATE TABLE identity (only_row INTEGER PRIMARY KEY CHECK (only_row = 0), value TEXT NOT NULL)",
    "INSERT INTO identity VALUES (0, lower(hex(randomblob(16))))",
)

_REWINDS: Migration = (
    # The rewinds of servers, kept for ever. `since`: the time that was rewound to (TO is a keyword of SQL).
    """CREATE TABLE rewinds (
        id TEXT PRIMARY KEY, tenant TEXT NOT NULL, server TEXT NOT NULL, since REAL NOT NULL,
        accepted_at REAL NOT NULL, undone_at REAL, done INTEGER NOT NULL) WITHOUT ROWID""",
)

_WEBHOOKS: Migration = (
    # The webhooks (kind `webhook`) and how far each has come (`progress`), as JSON.
    """CREATE TABLE webhooks (
        id TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (id, kind)) WITHOUT ROWID""",
)

MIGRATIONS: Sequence[Migration] = (_LOG_AND_ERASURE_LEDGER, _PLAYER_KEYS, _IDENTITY, _REWINDS, _WEBHOOKS)
"""The first one makes version 1 of an empty file."""


class NewerSchema(Exception):
    """A newer Lorestream wrote the file. `found`: its version; `known`: the newest that this code reads."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(f"the schema has version {found}, and {known} is the newest known")
        self.found = found
        self.known = known


def migrate(connection: sqlite3.Connection) -> None:
    """Run the migrations that the file has not had.

    A migration that fails leaves the file at the version before it. `connection`: in autocommit mode.
    Raises NewerSchema, with nothing changed, and sqlite3.Error.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise NewerSchema(version, len(MIGRATIONS))
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number}")  # part of the transaction
