"""The tasks `import` and `indexed`: exported memories and rows of state back into the log.

Every line becomes an event in the log, which the workers index like any other. The command line sends a file in
batches, one `import` task for each, and waits with `indexed` at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec

from lorestream import events
from lorestream.access.authentication import Principal
from lorestream.admin import (
    TENANT_SCOPES,
    AdminTask,
    Outcome,
    Progress,
    ReportStream,
    Row,
    only_own_tenant,
)
from lorestream.admin.export_format import ExportedMemory, ExportedRow, parse_line
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
from lorestream.state.rows import Row as StateRow
from lorestream.turns import Turns

MAX_LINES = 1000
STALL_TIMEOUT_S = 60.0
"""Waiting for the workers ends after this time without progress."""
_POLL_INTERVAL_S = 1.0


class ImportArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `import`: a batch of lines of an export, each with its number in the file."""

    lines: Annotated[tuple[tuple[int, str], ...], msgspec.Meta(max_length=MAX_LINES)]
    done: int = 0
    """How many lines of the file were sent before, for the progress."""
    total: int | None = None
    """How many lines the file has, for the progress."""
    behind: dict[int, int] = {}
    """Offsets of an earlier batch, by partition: wait until they are indexed before appending more.

    This bounds the backlog of the import, because live events queue behind it in the log.
    """
    tenant: str | None = None
    """Lines of another tenant are bad lines. None: all tenants."""


class WaitArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `indexed`: wait until these offsets are indexed, by partition."""

    positions: dict[int, int]


def _restrict(arguments: ImportArguments, caller: Principal) -> ImportArguments:
    return msgspec.structs.replace(arguments, tenant=only_own_tenant(arguments.tenant, caller))


@dataclass(frozen=True, slots=True)
class Importer:
    """Imports memories and rows into a log.

    The lookup in the store only saves work and gives the counts: whether a memory is inserted is decided by the worker.
    """

    log: EventLog
    ledger: ErasureLedger
    store: Callable[[], VectorStore]
    """Returns the store of the active collection."""
    watermarks: WatermarkReader
    group: Callable[[], str]
    """Returns the consumer group that indexes into that store."""
    clock: Clock

    def tasks(self) -> Sequence[AdminTask]:
        """The tasks `import` and `indexed`."""
        return [
            AdminTask("import", ImportArguments, self.put, TENANT_SCOPES, _restrict),
            AdminTask("indexed", WaitArguments, self.wait, TENANT_SCOPES),
        ]

    async def put(self, arguments: ImportArguments) -> ReportStream:
        """Append the memories that are missing, and neither expired, deleted, erased nor rewound.

        Yields a row for each bad line. The outcome has a count for each result (`rows`: of imported rows), the highest offset appended to each
        partition, and whether the wait for `behind` timed out. Raises Unavailable.
        """
        stalled, started = False, time.monotonic()
        while not stalled and not await self.watermarks.reached(arguments.behind, _POLL_INTERVAL_S):
            stalled = time.monotonic() - started > STALL_TIMEOUT_S
            yield Progress("importing", arguments.done, arguments.total, "lines")
        counts: dict[str, int] = dict.fromkeys(
            ("imported", "rows", "present", "deleted", "erased", "rewound", "expired", "bad"), 0
        )
        good: list[tuple[int, ExportedMemory | ExportedRow]] = []
        turns = Turns()
        for number, text in arguments.lines:
            try:
                line = parse_line(text, self.clock.now())
                _check_tenant(line, arguments.tenant)
                good.append((number, line))
            except InvalidRequest as error:
                counts["bad"] += 1
                yield Row({"line": number, "reason": error.message})
            await turns.next()
        results = await self._results([line for _, line in good])
        records: list[NewRecord] = []
        for (number, line), found in zip(good, results, strict=True):
            record, result = _to_record(line), found
            if result == "imported" and len(record.value) > MAX_VALUE_BYTES:
                result = "bad"
                yield Row({"line": number, "reason": f"the event has more than {MAX_VALUE_BYTES} bytes"})
            if result == "imported":
                records.append(record)
                result = "rows" if isinstance(line, ExportedRow) else "imported"
            counts[result] += 1
            await turns.next()
        appended = await self.log.append(records)
        yield Progress("importing", arguments.done + len(arguments.lines), arguments.total, "lines")
        positions = {str(partition): at for partition, at in appended.items()}
        yield Outcome({**counts, "positions": positions, "stalled": stalled})

    async def _results(self, lines: Sequence[ExportedMemory | ExportedRow]) -> Sequence[str]:
        """The result for each line: the name of its count. Raises Unavailable."""
        memories = [line.to_event().memory(line.text) for line in lines if isinstance(line, ExportedMemory)]
        rows = [line.to_row() for line in lines if isinstance(line, ExportedRow)]
        of_memories = iter(map(self._result, memories, await self.store().lookup(memories)))
        of_rows = iter(map(self._result_of_row, rows, await self.store().rows([row.key for row in rows])))
        return [next(of_memories if isinstance(line, ExportedMemory) else of_rows) for line in lines]

    def _result(self, memory: Memory, entry: Memory | Tombstone | None) -> str:
        """The result for a memory. `entry` is what the store has under its id."""
        if self._has_expired(memory):
            return "expired"
        if self.ledger.covers(memory):
            return "erased"
        if self.ledger.rewinds.covers(memory):
            return "rewound"
        if isinstance(entry, Tombstone):
            return "deleted"
        return "imported" if entry is None or self.ledger.rewinds.replaces(entry, memory) else "present"

    def _result_of_row(self, row: StateRow, stored: StateRow | None) -> str:
        """The result for a row. `stored` is what the store has under its key."""
        if self._has_expired(row):
            return "expired"
        if self.ledger.covers_state(row.key.agent, row.agent_player, row.since):
            return "erased"
        return "present" if stored is not None and stored.accepted_at >= row.accepted_at else "imported"

    def _has_expired(self, one: Memory | StateRow) -> bool:
        return one.expires_at is not None and one.expires_at <= self.clock.now()

    async def wait(self, arguments: WaitArguments) -> ReportStream:
        """Wait until the offsets are indexed, or until there is no progress for `STALL_TIMEOUT_S`. Raises Unavailable."""
        positions = arguments.positions
        left = total = await self._remaining(positions)
        progressed_at = time.monotonic()
        yield Progress("indexing", 0, total, "records")
        while not await self.watermarks.reached(positions, _POLL_INTERVAL_S):
            await asyncio.sleep(0)
            previous, left = left, await self._remaining(positions)
            if left < previous:
                progressed_at = time.monotonic()
            elif time.monotonic() - progressed_at > STALL_TIMEOUT_S:
                yield Outcome({"indexed": False, "left": left})
                return
            yield Progress("indexing", total - left, total, "records")
        yield Progress("indexing", total, total, "records")
        yield Outcome({"indexed": True, "left": 0})

    async def _remaining(self, positions: dict[int, int]) -> int:
        """About how many records are not indexed yet; those of other writers count as well."""
        committed = await self.log.committed(self.group())
        return sum(max(0, at + 1 - committed.get(partition, 0)) for partition, at in positions.items())


def _check_tenant(line: ExportedMemory | ExportedRow, tenant: str | None) -> None:
    """Raise InvalidRequest for a line of another tenant. Nothing about that tenant's memories is looked up."""
    if tenant not in {None, line.tenant}:
        raise InvalidRequest(
            f"it belongs to the tenant {line.tenant}, and only lines of {tenant} are imported: a key with the"
            " scope operator imports those of all tenants"
        )


def _to_record(line: ExportedMemory | ExportedRow) -> NewRecord:
    record = events.encode(line.to_event())
    return replace(record, headers={**record.headers, events.IMPORTED_HEADER: b"1"})
