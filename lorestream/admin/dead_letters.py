"""The tasks on dead letters: list, show, retry, drop.

A dead letter whose memory was erased or deleted is never shown or retried; DeadLetterCleanup also removes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec

from lorestream.admin import AdminTask, Outcome, Progress, ReportStream, Row
from lorestream.admin.dead_letter_view import (
    dead_letter_id,
    details,
    memory_of,
    parse_dead_letter_id,
    summary,
)
from lorestream.errors import EventTooLarge, InvalidRequest, OperationRefused
from lorestream.memories import Memory
from lorestream.ports import (
    Clock,
    ErasureLedger,
    EventLog,
    MemoryWriter,
    Resolution,
    StoredDeadLetter,
    Tombstone,
)
from lorestream.retry_headers import retry_record

MAX_ATTEMPTS = 5
"""A record with this number of failed attempts is parked: a retry skips it unless forced."""
CLEANUP_INTERVAL_S = 3600.0

_BATCH_SIZE = 100

Ids: TypeAlias = Annotated[tuple[str, ...], msgspec.Meta(max_length=10_000)]


class ListArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `dlq-ls`: at most `limit` dead letters, of `reason` if it is given."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    reason: str | None = None


class ShowArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `dlq-show`."""

    id: str


class RetryArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `dlq-retry`: either `ids`, or `every`, which may be limited to one `reason`."""

    ids: Ids = ()
    every: bool = False
    reason: str | None = None
    max_attempts: Annotated[int, msgspec.Meta(ge=1)] = MAX_ATTEMPTS
    force: bool = False
    dry_run: bool = False


class DropArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `dlq-drop`: either `ids`, or `every`, which may be limited to one `reason`."""

    ids: Ids = ()
    every: bool = False
    reason: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The dead letters of a log, without those whose memory was erased or deleted."""

    log: EventLog
    ledger: ErasureLedger
    store: Callable[[], MemoryWriter]
    """Returns the store of the active collection."""

    def tasks(self) -> Sequence[AdminTask]:
        """The tasks `dlq-ls`, `dlq-show`, `dlq-retry` and `dlq-drop`."""
        return [
            AdminTask("dlq-ls", ListArguments, self.ls),
            AdminTask("dlq-show", ShowArguments, self.show),
            AdminTask("dlq-retry", RetryArguments, self.retry),
            AdminTask("dlq-drop", DropArguments, self.drop),
        ]

    async def ls(self, arguments: ListArguments) -> ReportStream:
        """Yield a summary of each of the newest dead letters, the newest first. Raises Unavailable."""
        newest: deque[StoredDeadLetter] = deque(maxlen=arguments.limit)
        total = 0
        async with aclosing(self._visible(_selector((), arguments.reason))) as batches:
            async for dead_letters in batches:
                newest.extend(dead_letters)
                total += len(dead_letters)
        for stored in reversed(newest):
            yield Row(summary(stored))
        yield Outcome({"shown": len(newest), "total": total})

    async def show(self, arguments: ShowArguments) -> ReportStream:
        """Yield one dead letter with all details. Raises InvalidRequest, OperationRefused if there is none, Unavailable."""
        async with aclosing(self._visible(_selector([arguments.id], None))) as batches:
            async for dead_letters in batches:
                for stored in dead_letters:
                    yield Row(details(stored))
                    yield Outcome({"shown": 1})
                    return
        raise OperationRefused(f"there is no dead letter {arguments.id}: `lorestream dlq ls` lists them")

    async def retry(self, arguments: RetryArguments) -> ReportStream:
        """Append the records again. A dead letter is resolved only after its record is durable: none can be lost.

        A record appended just before a crash may be appended twice; its ids make that harmless.
        Raises InvalidRequest, Unavailable.
        """
        _validate(arguments)
        retried = parked = too_large = 0
        found: set[str] = set()
        async with aclosing(self._visible(_selector(arguments.ids, arguments.reason))) as batches:
            async for dead_letters in batches:
                found |= {dead_letter_id(stored.record_id) for stored in dead_letters}
                ready = [
                    one
                    for one in dead_letters
                    if arguments.force or one.dead_letter.attempts < arguments.max_attempts
                ]
                parked += len(dead_letters) - len(ready)
                sent = ready if arguments.dry_run else await self._append_again(ready)
                too_large += len(ready) - len(sent)
                retried += len(sent)
                yield Progress("retrying", retried, unit="dead letters")
        yield Outcome(
            {
                "retried": retried,
                "parked": parked,
                "too_large": too_large,
                "missing": [one for one in arguments.ids if one not in found],
                "dry_run": arguments.dry_run,
            }
        )

    async def drop(self, arguments: DropArguments) -> ReportStream:
        """Remove the dead letters. Raises InvalidRequest, Unavailable."""
        _validate(arguments)
        dropped = 0
        found: set[str] = set()
        async with aclosing(self._visible(_selector(arguments.ids, arguments.reason))) as batches:
            async for dead_letters in batches:
                found |= {dead_letter_id(stored.record_id) for stored in dead_letters}
                if not arguments.dry_run:
                    await self.log.resolve_dead_letters(
                        [stored.record_id for stored in dead_letters], Resolution.DROPPED
                    )
                dropped += len(dead_letters)
                yield Progress("dropping", dropped, unit="dead letters")
        missing = [one for one in arguments.ids if one not in found]
        yield Outcome({"dropped": dropped, "missing": missing, "dry_run": arguments.dry_run})

    async def remove_erased(self) -> int:
        """Remove the dead letters whose memory was erased or deleted; return how many. Raises Unavailable."""
        removed = 0
        async with aclosing(self._batches()) as batches:
            async for dead_letters in batches:
                covered = await self._erased_or_deleted(dead_letters)
                if covered:
                    await self.log.resolve_dead_letters(
                        [stored.record_id for stored in covered], Resolution.ERASED
                    )
                    removed += len(covered)
        return removed

    # --- selection ---------------------------------------------------------------------------------------------

    async def _visible(
        self, chosen: Callable[[StoredDeadLetter], bool]
    ) -> AsyncGenerator[list[StoredDeadLetter]]:
        """The chosen dead letters that are neither erased nor deleted, in batches, the oldest first."""
        async with aclosing(self._batches()) as batches:
            async for dead_letters in batches:
                wanted = [stored for stored in dead_letters if chosen(stored)]
                covered = {stored.record_id for stored in await self._erased_or_deleted(wanted)}
                shown = [stored for stored in wanted if stored.record_id not in covered]
                if shown:
                    yield shown

    async def _batches(self) -> AsyncGenerator[list[StoredDeadLetter]]:
        batch: list[StoredDeadLetter] = []
        async with aclosing(self.log.dead_letters()) as dead_letters:
            async for stored in dead_letters:
                batch.append(stored)
                if len(batch) == _BATCH_SIZE:
                    yield batch
                    batch = []
        if batch:
            yield batch

    async def _erased_or_deleted(self, dead_letters: Sequence[StoredDeadLetter]) -> list[StoredDeadLetter]:
        """The dead letters whose memory an erasure covers, or whose memory was deleted by its id."""
        covered: list[StoredDeadLetter] = []
        puts: list[tuple[StoredDeadLetter, Memory]] = []
        for stored in dead_letters:
            memory = memory_of(stored.dead_letter.record)
            if memory is None:
                continue
            if self.ledger.covers(memory):
                covered.append(stored)
            elif memory.id:
                puts.append((stored, memory))
        entries = await self.store().lookup([memory for _, memory in puts]) if puts else ()
        return covered + [
            stored for (stored, _), entry in zip(puts, entries, strict=True) if isinstance(entry, Tombstone)
        ]

    async def _append_again(self, dead_letters: Sequence[StoredDeadLetter]) -> Sequence[StoredDeadLetter]:
        """Append the records and resolve the dead letters; return those that were not too large. Raises Unavailable."""
        if not dead_letters:
            return ()
        try:
            await self.log.append([retry_record(stored) for stored in dead_letters])
        except EventTooLarge:
            if len(dead_letters) == 1:
                return ()
            middle = len(dead_letters) // 2
            return [
                *await self._append_again(dead_letters[:middle]),
                *await self._append_again(dead_letters[middle:]),
            ]
        await self.log.resolve_dead_letters([stored.record_id for stored in dead_letters], Resolution.RETRIED)
        return dead_letters


def _validate(arguments: RetryArguments | DropArguments) -> None:
    if bool(arguments.ids) == arguments.every or (arguments.reason is not None and not arguments.every):
        raise InvalidRequest(
            "name the dead letters by their ids, or choose all of them (of one reason, if given)"
        )


def _selector(ids: Sequence[str], reason: str | None) -> Callable[[StoredDeadLetter], bool]:
    """A condition on dead letters: one of `ids` if any is given, and of `reason` if given. Raises InvalidRequest."""
    record_ids = {parse_dead_letter_id(one) for one in ids}

    def chosen(stored: StoredDeadLetter) -> bool:
        return (not record_ids or stored.record_id in record_ids) and reason in {
            None,
            stored.dead_letter.reason,
        }

    return chosen


class DeadLetterCleanup:
    """Removes dead letters whose memory was erased or deleted. Called by the sweeper at each of its runs."""

    def __init__(self, dead_letters: DeadLetters, clock: Clock) -> None:
        self._dead_letters = dead_letters
        self._clock = clock
        self._erasures_seen = 0
        self._due_at = 0.0

    async def __call__(self) -> int:
        """Clean up if there is a new erasure, or if the last time is `CLEANUP_INTERVAL_S` ago.

        Returns how many dead letters were removed. Raises Unavailable.
        """
        new_erasures = self._dead_letters.ledger.added_since(self._erasures_seen)
        now = self._clock.now()
        if not new_erasures and now < self._due_at:
            return 0
        removed = await self._dead_letters.remove_erased()
        self._erasures_seen += len(new_erasures)
        self._due_at = now + CLEANUP_INTERVAL_S
        return removed
