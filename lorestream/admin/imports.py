"""Exported memories on their way back: every line an event in the log, which the workers index like any other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec

from lorestream import events
from lorestream.admin import Outcome, Progress, Reports, Row, Task
from lorestream.admin.export_format import Line, read_line
from lorestream.errors import InvalidRequest
from lorestream.events import MAX_VALUE_BYTES
from lorestream.memories import Memory
from lorestream.ports import (
    Clock,
    ErasureLedger,
    EventLog,
    NewRecord,
    Tombstone,
    VectorStore,
    WatermarkReader,
)

MAX_LINES = 1000
STALLED_S = 60.0
"""After so long without any progress of the workers nobody waits for them any more."""
_LOOK_S = 1.0
_LINES_AT_ONCE = 64  # about a millisecond: in the embedded shape queries wait behind them


class Import(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Some lines of an export, each with its number in the file."""

    lines: Annotated[tuple[tuple[int, str], ...], msgspec.Meta(max_length=MAX_LINES)]
    done: int = 0
    """How many lines of the file came before, for its progress."""
    total: int | None = None
    behind: dict[int, int] = {}
    """Offsets of earlier portions that the workers have to have come past: events of the present wait behind these."""


class Indexed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to which offset of each partition the workers have to come."""

    positions: dict[int, int]


@dataclass(frozen=True, slots=True)
class Imports:
    """The way into a log. What lies in the store is looked up only to spare work: the worker decides."""

    log: EventLog
    ledger: ErasureLedger
    store: Callable[[], VectorStore]
    """The collection that is searched at the moment."""
    watermarks: WatermarkReader
    group: Callable[[], str]
    """The consumers that feed it."""
    clock: Clock

    def tasks(self) -> Sequence[Task]:
        """What an import is made of."""
        return [Task("import", Import, self.put), Task("indexed", Indexed, self.wait)]

    async def put(self, wanted: Import) -> Reports:
        """Append what is missing and may come back. The outcome counts, and names the offsets."""
        stalled, begun = False, time.monotonic()
        while not stalled and not await self.watermarks.reached(wanted.behind, _LOOK_S):
            stalled = time.monotonic() - begun > STALLED_S
            yield Progress("importing", wanted.done, wanted.total, "lines")
        counts: dict[str, int] = dict.fromkeys(
            ("imported", "present", "deleted", "erased", "expired", "bad"), 0
        )
        good: list[tuple[int, Line]] = []
        for number, text in wanted.lines:
            try:
                good.append((number, read_line(text, self.clock.now())))
            except InvalidRequest as error:
                counts["bad"] += 1
                yield Row({"line": number, "reason": error.message})
            if len(good) % _LINES_AT_ONCE == 0:
                await asyncio.sleep(0)
        entries = await self.store().lookup([line.put().memory(line.text) for _, line in good])
        records: list[NewRecord] = []
        for (number, line), entry in zip(good, entries, strict=True):
            record = _imported(line)
            verdict = self._verdict(line, entry)
            if verdict == "imported" and len(record.value) > MAX_VALUE_BYTES:
                verdict = "bad"
                yield Row({"line": number, "reason": f"an event of more than {MAX_VALUE_BYTES} bytes"})
            counts[verdict] += 1
            if verdict == "imported":
                records.append(record)
        appended = await self.log.append(records)
        yield Progress("importing", wanted.done + len(wanted.lines), wanted.total, "lines")
        positions = {str(partition): at for partition, at in appended.items()}
        yield Outcome({**counts, "positions": positions, "stalled": stalled})

    def _verdict(self, line: Line, entry: Memory | Tombstone | None) -> str:
        """What becomes of a line in whose place that lies."""
        if line.expires_at is not None and line.expires_at <= self.clock.now():
            return "expired"
        if self.ledger.covers(line.put().memory(line.text)):
            return "erased"
        if entry is not None:
            return "deleted" if isinstance(entry, Tombstone) else "present"
        return "imported"

    async def wait(self, wanted: Indexed) -> Reports:
        """Until the workers have come so far, or until they stand still."""
        positions = wanted.positions
        left = total = await self._left(positions)
        moved = time.monotonic()
        yield Progress("indexing", 0, total, "records")
        while not await self.watermarks.reached(positions, _LOOK_S):
            await asyncio.sleep(0)
            before, left = left, await self._left(positions)
            if left < before:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALLED_S:
                yield Outcome({"indexed": False, "left": left})
                return
            yield Progress("indexing", total - left, total, "records")
        yield Progress("indexing", total, total, "records")
        yield Outcome({"indexed": True, "left": 0})

    async def _left(self, positions: dict[int, int]) -> int:
        """About how many records: those of others count as well."""
        committed = await self.log.committed(self.group())
        return sum(max(0, at + 1 - committed.get(partition, 0)) for partition, at in positions.items())


def _imported(line: Line) -> NewRecord:
    record = events.encode(line.put())
    return replace(record, headers={**record.headers, events.IMPORTED: b"1"})
