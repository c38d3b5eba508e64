"""What another data directory was told to forget: read from its log and its ledger, merged into a restored one."""

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
from lorestream.errors import InvalidEvent, Refusal
from lorestream.memories import Erasure, SubjectKind
from lorestream.ports import NewRecord, Record

if TYPE_CHECKING:
    from lorestream.ports import ErasureLedger, EventLog, VectorStore

_FORGETTING = frozenset({b"delete", b"erase"})
_STEP = 256

_segment = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, dict[str, bytes], float]])
_subjects = msgspec.json.Decoder(tuple[str, ...])


@dataclass(frozen=True, slots=True)
class Forgotten:
    """`records`: every deletion and erasure that the log still has. `subjects`: up to when, by the ledger."""

    records: Sequence[Record]
    erasures: Mapping[str, Erasure]
    subjects: Mapping[tuple[str, str, str], float]


def read(database: Path) -> Forgotten:
    """What the log and the ledger in that file say, whether a lorestream uses it or not. Raises Refusal."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("PRAGMA query_only=ON")
            return Forgotten(
                list(_records(connection)),
                {erasure.id: erasure for erasure in _erasures(connection)},
                {
                    (tenant, kind, subject): accepted_at
                    for tenant, kind, subject, accepted_at in connection.execute(
                        "SELECT tenant, kind, subject, accepted_at FROM erased_subjects"
                    )
                },
            )
    except (sqlite3.Error, msgspec.DecodeError, ValueError) as error:
        raise Refusal(
            f"the ledger in {database} cannot be read ({error}): leave out --ledger-from"
        ) from error


async def merge(
    old: Forgotten, present: Forgotten, log: EventLog, ledger: ErasureLedger, store: VectorStore
) -> int:
    """Let a restored log, ledger and store, which hold `present`, forget what `old` was told as well.

    Returns how many deletions and erasures that were. Raises Unavailable.
    """
    known = {record.value for record in present.records}
    news = [record for record in old.records if record.value not in known]
    for start in range(0, len(news), _STEP):
        step = news[start : start + _STEP]
        await log.append([NewRecord(record.key, record.value, record.headers) for record in step])
    deletions, erasures = _decoded(news)
    for start in range(0, len(deletions), _STEP):
        await store.put_tombstones([one.tombstone() for one in deletions[start : start + _STEP]])
    # What the log has forgotten by now stands in the ledger alone.
    erasures |= {id_: one for id_, one in old.erasures.items() if id_ not in present.erasures}
    for erasure in [*erasures.values(), *_newer(old, present, erasures.values())]:
        await ledger.add(erasure)
        await store.erase(erasure)
        await ledger.mark_done(erasure.id)
    await store.flush()
    return len(deletions) + len(erasures)


def _records(connection: sqlite3.Connection) -> Iterator[Record]:
    for first, blob in connection.execute("SELECT first, records FROM segments ORDER BY first"):
        for offset, element in enumerate(_segment.decode(blob), first):
            if element[2].get("kind") in _FORGETTING:
                yield Record(0, offset, *element)


def _erasures(connection: sqlite3.Connection) -> Iterator[Erasure]:
    rows = connection.execute("SELECT id, tenant, kind, subjects, accepted_at FROM erasures")
    for id_, tenant, kind, subjects, accepted_at in rows:
        yield Erasure(id_, tenant, SubjectKind(kind), _subjects.decode(subjects), accepted_at)


def _decoded(records: Sequence[Record]) -> tuple[list[events.Delete], dict[str, Erasure]]:
    deletions: list[events.Delete] = []
    erasures: dict[str, Erasure] = {}
    for record in records:
        try:
            envelope = events.decode(record)
        except InvalidEvent:
            continue  # it goes to the dead letters, as it did before
        if isinstance(envelope, events.Delete):
            deletions.append(envelope)
        elif isinstance(envelope, events.Erase):
            erasures[envelope.erasure_id] = envelope.erasure()
    return deletions, erasures


def _newer(old: Forgotten, present: Forgotten, told: Iterable[Erasure]) -> Iterator[Erasure]:
    """Subjects whose erasure neither the log nor the ledger knows by an id any more."""
    covered = dict(present.subjects)
    for erasure in told:
        for subject in erasure.subjects:
            place = (erasure.tenant, erasure.kind.value, subject)
            covered[place] = max(erasure.accepted_at, covered.get(place, erasure.accepted_at))
    for (tenant, kind, subject), accepted_at in old.subjects.items():
        if covered.get((tenant, kind, subject), float("-inf")) < accepted_at:
            yield Erasure(str(uuid.uuid4()), tenant, SubjectKind(kind), (subject,), accepted_at)
