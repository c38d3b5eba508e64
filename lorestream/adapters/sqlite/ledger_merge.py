"""Deletions, erasures and rewinds of another data directory, merged into a restored one.

A snapshot is older than the data directory that it came from. What was deleted, erased or rewound there since must not
come back with the snapshot (`lorestream restore --ledger-from`).
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lorestream import events
from lorestream.adapters.sqlite.rewind_ledger import rewinds
from lorestream.errors import InvalidEvent, OperationRefused
from lorestream.memories import Erasure, SubjectKind
from lorestream.ports import NewRecord, Record

if TYPE_CHECKING:
    from lorestream.ports import ErasureLedger, EventLog, MemoryWriter
    from lorestream.rewinds import Rewind

_REMOVING_KINDS = frozenset({b"delete", b"erase", b"rewind"})
_REWINDS_FROM_VERSION = 4
"""The first version of the schema that has rewinds."""
_BATCH = 256

_segment = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, dict[str, bytes], float]])
_subjects = msgspec.json.Decoder(tuple[str, ...])


@dataclass(frozen=True, slots=True)
class Removals:
    """The deletions, erasures and rewinds of one data directory.

    `records`: the log's records of them. `erasures`: those of the ledger, by id. `subjects`: the Unix time of the newest
    erasure of each (tenant, kind, subject). `rewinds`: all of them, each with its undoing.
    """

    records: Sequence[Record]
    erasures: Mapping[str, Erasure]
    subjects: Mapping[tuple[str, str, str], float]
    rewinds: Sequence[Rewind]


def read_removals(database: Path) -> Removals:
    """The removals in the log and the ledger of that file, which another process may have open. Raises OperationRefused."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("PRAGMA query_only=ON")
            return Removals(
                list(_records(connection)),
                {erasure.id: erasure for erasure in _erasures(connection)},
                {
                    (tenant, kind, subject): accepted_at
                    for tenant, kind, subject, accepted_at in connection.execute(
                        "SELECT tenant, kind, subject, accepted_at FROM erased_subjects"
                    )
                },
                list(_rewinds(connection)),
            )
    except (sqlite3.Error, msgspec.DecodeError, RecursionError, ValueError) as error:
        raise OperationRefused(
            f"the ledger in {database} cannot be read ({error}): leave out --ledger-from"
        ) from error


async def merge(
    old: Removals, present: Removals, log: EventLog, ledger: ErasureLedger, store: MemoryWriter
) -> int:
    """Apply the removals in `old` that are missing in `present` to the restored log, ledger and store.

    `present`: the removals that the restored log and ledger hold. Returns how many deletions, erasures and rewinds were
    applied. Raises Unavailable.
    """
    known = {record.value for record in present.records}
    missing = [record for record in old.records if record.value not in known]
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        await log.append([NewRecord(record.key, record.value, record.headers) for record in batch])
    deletions, erasures = _decoded(missing)
    for start in range(0, len(deletions), _BATCH):
        await store.put_tombstones([one.tombstone() for one in deletions[start : start + _BATCH]])
    # Erasures whose records the old log no longer has are in its ledger alone.
    erasures |= {id_: one for id_, one in old.erasures.items() if id_ not in present.erasures}
    for erasure in [*erasures.values(), *_without_id(old, present, erasures.values())]:
        await ledger.add(erasure)
        await store.erase(erasure)
        await ledger.mark_done(erasure.id)
    changed = [rewind for rewind in old.rewinds if rewind not in present.rewinds]
    for rewind in changed:
        await ledger.rewinds.put(rewind)
        await store.set_aside(rewind, ledger.rewinds.covers)
        await ledger.rewinds.mark_done(rewind)
    await store.flush()
    # A deletion whose agent may be named after a player has one record for each form of the agent id.
    return len({(one.tenant, one.memory_id) for one in deletions}) + len(erasures) + len(changed)


def _records(connection: sqlite3.Connection) -> Iterator[Record]:
    for first, blob in connection.execute("SELECT first, records FROM segments ORDER BY first"):
        for offset, element in enumerate(_segment.decode(blob), first):
            if element[2].get("kind") in _REMOVING_KINDS:
                yield Record(0, offset, *element)


def _erasures(connection: sqlite3.Connection) -> Iterator[Erasure]:
    rows = connection.execute("SELECT id, tenant, kind, subjects, accepted_at FROM erasures")
    for id_, tenant, kind, subjects, accepted_at in rows:
        yield Erasure(id_, tenant, SubjectKind(kind), _subjects.decode(subjects), accepted_at)


def _rewinds(connection: sqlite3.Connection) -> Iterator[Rewind]:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version >= _REWINDS_FROM_VERSION:
        yield from (state.rewind for state in rewinds(connection))


def _decoded(records: Sequence[Record]) -> tuple[list[events.Delete], dict[str, Erasure]]:
    deletions: list[events.Delete] = []
    erasures: dict[str, Erasure] = {}
    for record in records:
        try:
            envelope = events.decode(record)
        except InvalidEvent:
            continue  # the indexer writes it to the dead letters
        if isinstance(envelope, events.Delete):
            deletions.append(envelope)
        elif isinstance(envelope, events.Erase):
            erasures[envelope.erasure_id] = envelope.erasure()
    return deletions, erasures


def _without_id(old: Removals, present: Removals, applied: Iterable[Erasure]) -> Iterator[Erasure]:
    """Erasures of subjects whose erasure has no id any more: its state was deleted after a year."""
    covered = dict(present.subjects)
    for erasure in applied:
        for subject in erasure.subjects:
            key = (erasure.tenant, erasure.kind.value, subject)
            covered[key] = max(erasure.accepted_at, covered.get(key, erasure.accepted_at))
    for (tenant, kind, subject), accepted_at in old.subjects.items():
        if covered.get((tenant, kind, subject), float("-inf")) < accepted_at:
            yield Erasure(str(uuid.uuid4()), tenant, SubjectKind(kind), (subject,), accepted_at)
