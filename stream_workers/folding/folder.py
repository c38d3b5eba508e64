"""Folder: reads the rows that state events touch, folds the events in the log's order, writes what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lorestream import events
from lorestream.errors import InvalidEvent
from lorestream.ports import DeadLetter
from lorestream.state.policies import policy_name
from lorestream.state.rows import Row, RowKey, RowKind
from lorestream.turns import Turns
from stream_workers.folding import fold, policies
from stream_workers.folding.changes import Position

if TYPE_CHECKING:
    from lorestream.events import StateEvent
    from lorestream.ports import Clock, ErasureLedger, Record, RowReader, RowWriter
    from stream_workers.folding.changes import Changes

MAX_EVENTS_AT_ONCE = 256
"""Events whose rows are read and written together."""
_MAIN_KINDS = frozenset([RowKind.DOCUMENT, RowKind.Q_STATE, RowKind.Q_TABLE])
"""Rows that are written last: once one has an event, all other rows of that event are written."""

_CONSTANT_KINDS = frozenset([RowKind.VERSION, RowKind.POLICY_PART])


@dataclass(frozen=True, slots=True)
class StateRecord:
    """A state event and its record in the log."""

    event: StateEvent
    record: Record


@dataclass(slots=True)
class Folded:
    """What became of the events: those that were folded (also into an answer), and those that cannot be."""

    records: list[StateRecord] = field(default_factory=list[StateRecord])
    dead_letters: list[DeadLetter] = field(default_factory=list[DeadLetter])


@dataclass(frozen=True, slots=True)
class Folder:
    """Folds state events into the rows of a store.

    Folding an event again changes nothing, whether the first attempt was completed, broke off between two writes, or is
    still under way in another worker: `put_rows` never replaces a row by an older one.
    """

    store: RowWriter
    ledger: ErasureLedger
    clock: Clock
    log: str
    """The identity of the log."""
    keep_versions: int
    """How many versions of a document are kept, the current one included."""
    row_source: Callable[[], RowReader | None] = lambda: None
    """Another collection, for a replay: rows that are older than what is replayed are taken from there."""

    async def fold(self, arrived: Sequence[StateRecord]) -> Folded:
        """Fold events, in the log's order, into the store. Raises Unavailable; then call it again with the same events."""
        folded = Folded()
        for chunk in _chunks(arrived):
            await self._fold_chunk(chunk, folded)
        return folded

    async def _fold_chunk(self, arrived: Sequence[StateRecord], folded: Folded) -> None:
        changed = _WorkingSet(self)
        needed: dict[RowKey, int] = {}
        good: list[StateRecord] = []
        for one in arrived:
            if fold.is_erased(one.event, self.ledger):
                continue
            try:
                keys = fold.keys(one.event)
            except InvalidEvent as error:
                folded.dead_letters.append(DeadLetter(one.record, "unfoldable", str(error)))
                continue
            good.append(one)
            for key in keys:
                needed.setdefault(key, one.record.offset)
        await changed.load(needed)
        more = {
            key: one.record.offset
            for one in reversed(good)
            for key in fold.more_keys(one.event, changed.rows)
        }
        await changed.load({key: offset for key, offset in more.items() if key not in needed})
        turns = Turns()
        for one in good:
            position = Position(self.log, one.record.offset, self.clock.now())
            try:
                changed.apply(fold.fold(changed.rows, one.event, position, self.keep_versions), one.record)
            except InvalidEvent as error:
                folded.dead_letters.append(DeadLetter(one.record, "unfoldable", str(error)))
            else:
                folded.records.append(one)
            await turns.next()
        await changed.write()


class _WorkingSet:
    """The rows of a chunk, as they are after the events so far; written once at its end."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._stored: dict[RowKey, Row | None] = {}
        self.rows: dict[RowKey, Row] = {}
        """What the folds see: without rows that an erasure covers, though they may still be stored."""
        self._put: dict[RowKey, None] = {}
        self._delete: dict[RowKey, int] = {}
        """Rows to remove, with the partition of their events."""
        self._last: dict[int, int] = {}
        """The offset of the last event of each partition."""
        self._keep: dict[RowKey, None] = {}

    async def load(self, needed: dict[RowKey, int]) -> None:
        """Read these rows. The numbers are the offsets of the first events that need them."""
        keys = list(needed)
        if not keys:
            return
        store, source = self._folder.store, self._folder.row_source()
        self._stored.update(zip(keys, await store.rows(keys), strict=True))
        missing = [] if source is None else [key for key in keys if self._stored[key] is None]
        copies = await source.rows(missing) if source is not None and missing else []
        for key, row in zip(missing, copies, strict=True):
            if row is not None and self._is_missed(row, needed[key]):
                self._see(key, row)
                if key in self.rows:
                    self._put[key] = None
        for key in keys:
            self._see(key, self._stored[key])

    def _is_missed(self, row: Row, offset: int) -> bool:
        """Whether a row of the source is taken over, because the events from `offset` on do not make it again.

        Versions and parts never change once they are written, so they are always taken over: the document that names
        them may have been. So is the answer to the event itself: what it refers to may have been.
        """
        if row.log != self._folder.log or row.key.kind in _CONSTANT_KINDS:
            return True
        return row.born < offset or (row.born == offset and row.key.kind is RowKind.ANSWER)

    def _see(self, key: RowKey, row: Row | None) -> None:
        covers = self._folder.ledger.covers_state
        if row is not None and not covers(key.agent, row.agent_player, row.since):
            self.rows[key] = row

    def apply(self, changes: Changes, record: Record) -> None:
        """Note what the event of this record changes."""
        self._last[record.partition] = record.offset
        for row in changes.put:
            self.rows[row.key] = row
            self._put[row.key] = None
            self._delete.pop(row.key, None)
            self._keep.pop(row.key, None)
        for key in changes.delete:
            self.rows.pop(key, None)
            self._put.pop(key, None)
            self._keep.pop(key, None)
            self._delete[key] = record.partition
        for key in changes.keep:
            if (row := self.rows.get(key)) is not None:
                self.rows[key] = replace(row, expires_at=None)
            self._keep[key] = None

    async def write(self) -> None:
        """Write what changed, in an order after each step of which the events can be folded again.

        The rows that belong to a main row come first, because an event that is in the main row is not folded again.
        Removals come before the main rows for the same reason; the version that names the parts is removed after them.
        """
        store = self._folder.store
        await self._write_rows(key for key in self._put if key.kind not in _MAIN_KINDS)
        if self._keep:
            await store.keep_rows(list(self._keep))
        for of_parts in (True, False):
            for partition, offset in self._last.items():
                keys = [
                    key
                    for key, number in self._delete.items()
                    if number == partition and policies.is_part(key) is of_parts
                ]
                if keys:
                    await store.delete_rows(keys, log=self._folder.log, offset=offset)
        await self._write_rows(key for key in self._put if key.kind in _MAIN_KINDS)

    async def _write_rows(self, keys: Iterable[RowKey]) -> None:
        await self._folder.store.put_rows([self.rows[key] for key in keys])


def _chunks(arrived: Sequence[StateRecord]) -> Iterator[Sequence[StateRecord]]:
    """Parts of the events whose rows fit in memory: at most one manifest of a policy in each, whose parts are large."""
    chunk: list[StateRecord] = []
    for one in arrived:
        chunk.append(one)
        if len(chunk) == MAX_EVENTS_AT_ONCE or _names_parts(one.event):
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _names_parts(event: StateEvent) -> bool:
    return isinstance(event, events.DocumentWrite) and policy_name(event.type) is not None
