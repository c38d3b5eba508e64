"""Dead letters: shown, tried again, dropped; and hidden once what stands in them was erased or deleted."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec

from lorestream.admin import Outcome, Progress, Reports, Row, Task
from lorestream.admin.dead_letter_view import dead_letter_id, line, memory_of, parse_dead_letter_id, whole
from lorestream.errors import EventTooLarge, InvalidRequest, Refusal
from lorestream.memories import Memory
from lorestream.ports import (
    Clock,
    ErasureLedger,
    EventLog,
    Resolution,
    StoredDeadLetter,
    Tombstone,
    VectorStore,
)
from lorestream.retry_headers import retry_record

MAX_ATTEMPTS = 5
"""A record that was tried so often in vain is parked: a retry passes it by unless it is forced."""
FORGET_EVERY_S = 3600.0

_STEP = 100

Ids: TypeAlias = Annotated[tuple[str, ...], msgspec.Meta(max_length=10_000)]


class ListDeadLetters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest letters."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    reason: str | None = None


class ShowDeadLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One letter with all that is known of it."""

    id: str


class RetryDeadLetters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """These letters, or every one (of a reason)."""

    ids: Ids = ()
    every: bool = False
    reason: str | None = None
    max_attempts: Annotated[int, msgspec.Meta(ge=1)] = MAX_ATTEMPTS
    force: bool = False
    dry_run: bool = False


class DropDeadLetters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """These letters, or every one (of a reason)."""

    ids: Ids = ()
    every: bool = False
    reason: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """The letters of a log, as far as neither an erasure nor a deletion takes them."""

    log: EventLog
    ledger: ErasureLedger
    store: Callable[[], VectorStore]
    """The collection that is searched at the moment."""

    def tasks(self) -> Sequence[Task]:
        """What operators do to them."""
        return [
            Task("dlq-ls", ListDeadLetters, self.ls),
            Task("dlq-show", ShowDeadLetter, self.show),
            Task("dlq-retry", RetryDeadLetters, self.retry),
            Task("dlq-drop", DropDeadLetters, self.drop),
        ]

    async def ls(self, wanted: ListDeadLetters) -> Reports:
        """The newest letters, the latest first."""
        newest: deque[StoredDeadLetter] = deque(maxlen=wanted.limit)
        total = 0
        async with aclosing(self._visible(_chosen((), wanted.reason))) as steps:
            async for dead_letters in steps:
                newest.extend(dead_letters)
                total += len(dead_letters)
        for stored in reversed(newest):
            yield Row(line(stored))
        yield Outcome({"shown": len(newest), "total": total})

    async def show(self, wanted: ShowDeadLetter) -> Reports:
        """One letter."""
        async with aclosing(self._visible(_chosen([wanted.id], None))) as steps:
            async for dead_letters in steps:
                for stored in dead_letters:
                    yield Row(whole(stored))
                    yield Outcome({"shown": 1})
                    return
        raise Refusal(f"there is no dead letter {wanted.id}: `lorestream dlq ls` shows those that there are")

    async def retry(self, wanted: RetryDeadLetters) -> Reports:
        """Append the records anew. A letter is settled once its record is durable, so that none is lost."""
        _check(wanted)
        retried = parked = too_large = 0
        found: set[str] = set()
        async with aclosing(self._visible(_chosen(wanted.ids, wanted.reason))) as steps:
            async for dead_letters in steps:
                found |= {dead_letter_id(stored.record_id) for stored in dead_letters}
                ready = [
                    one
                    for one in dead_letters
                    if wanted.force or one.dead_letter.attempts < wanted.max_attempts
                ]
                parked += len(dead_letters) - len(ready)
                sent = ready if wanted.dry_run else await self._send(ready)
                too_large += len(ready) - len(sent)
                retried += len(sent)
                yield Progress("retrying", retried, unit="letters")
        yield Outcome(
            {
                "retried": retried,
                "parked": parked,
                "too_large": too_large,
                "missing": [one for one in wanted.ids if one not in found],
                "dry_run": wanted.dry_run,
            }
        )

    async def drop(self, wanted: DropDeadLetters) -> Reports:
        """Hide the letters for good."""
        _check(wanted)
        dropped = 0
        found: set[str] = set()
        async with aclosing(self._visible(_chosen(wanted.ids, wanted.reason))) as steps:
            async for dead_letters in steps:
                found |= {dead_letter_id(stored.record_id) for stored in dead_letters}
                if not wanted.dry_run:
                    await self.log.resolve_dead_letters(
                        [stored.record_id for stored in dead_letters], Resolution.DROPPED
                    )
                dropped += len(dead_letters)
                yield Progress("dropping", dropped, unit="letters")
        missing = [one for one in wanted.ids if one not in found]
        yield Outcome({"dropped": dropped, "missing": missing, "dry_run": wanted.dry_run})

    async def forget(self) -> int:
        """Settle what an erasure or a deletion takes; returns how many went. Raises Unavailable."""
        gone = 0
        async with aclosing(self._steps()) as steps:
            async for dead_letters in steps:
                covered = await self._covered(dead_letters)
                if covered:
                    await self.log.resolve_dead_letters(
                        [stored.record_id for stored in covered], Resolution.ERASED
                    )
                    gone += len(covered)
        return gone

    # --- which ------------------------------------------------------------------------------------------------

    async def _visible(
        self, chosen: Callable[[StoredDeadLetter], bool]
    ) -> AsyncGenerator[list[StoredDeadLetter]]:
        """Those that are chosen and that nothing takes, some at a time, the earliest first."""
        async with aclosing(self._steps()) as steps:
            async for dead_letters in steps:
                wanted = [stored for stored in dead_letters if chosen(stored)]
                hidden = {stored.record_id for stored in await self._covered(wanted)}
                shown = [stored for stored in wanted if stored.record_id not in hidden]
                if shown:
                    yield shown

    async def _steps(self) -> AsyncGenerator[list[StoredDeadLetter]]:
        step: list[StoredDeadLetter] = []
        async with aclosing(self.log.dead_letters()) as dead_letters:
            async for stored in dead_letters:
                step.append(stored)
                if len(step) == _STEP:
                    yield step
                    step = []
        if step:
            yield step

    async def _covered(self, dead_letters: Sequence[StoredDeadLetter]) -> list[StoredDeadLetter]:
        """Those whose memory an erasure takes, or whose memory was deleted by its id."""
        found: list[StoredDeadLetter] = []
        puts: list[tuple[StoredDeadLetter, Memory]] = []
        for stored in dead_letters:
            memory = memory_of(stored.dead_letter.record)
            if memory is None:
                continue
            if self.ledger.covers(memory):
                found.append(stored)
            elif memory.id:
                puts.append((stored, memory))
        entries = await self.store().lookup([memory for _, memory in puts]) if puts else ()
        return found + [
            stored for (stored, _), entry in zip(puts, entries, strict=True) if isinstance(entry, Tombstone)
        ]

    async def _send(self, dead_letters: Sequence[StoredDeadLetter]) -> Sequence[StoredDeadLetter]:
        """Append and settle; returns those that the log took. Raises Unavailable."""
        if not dead_letters:
            return ()
        try:
            await self.log.append([retry_record(stored) for stored in dead_letters])
        except EventTooLarge:
            if len(dead_letters) == 1:
                return ()
            middle = len(dead_letters) // 2
            return [*await self._send(dead_letters[:middle]), *await self._send(dead_letters[middle:])]
        await self.log.resolve_dead_letters([stored.record_id for stored in dead_letters], Resolution.RETRIED)
        return dead_letters


def _check(wanted: RetryDeadLetters | DropDeadLetters) -> None:
    if bool(wanted.ids) == wanted.every or (wanted.reason is not None and not wanted.every):
        raise InvalidRequest("name the letters, or take every one (of a reason)")


def _chosen(ids: Sequence[str], reason: str | None) -> Callable[[StoredDeadLetter], bool]:
    """Raises InvalidRequest for what is no id."""
    record_ids = {parse_dead_letter_id(one) for one in ids}

    def chosen(stored: StoredDeadLetter) -> bool:
        return (not record_ids or stored.record_id in record_ids) and reason in {
            None,
            stored.dead_letter.reason,
        }

    return chosen


class Forgetting:
    """Removes, where letters can be removed, those that an erasure or a deletion takes: called now and then."""

    def __init__(self, dead_letters: DeadLetters, clock: Clock) -> None:
        self._dead_letters = dead_letters
        self._clock = clock
        self._learned = 0
        self._due_at = 0.0

    async def __call__(self) -> int:
        """At once after an erasure, else every `FORGET_EVERY_S`; returns how many went. Raises Unavailable."""
        news, now = self._dead_letters.ledger.added_since(self._learned), self._clock.now()
        if not news and now < self._due_at:
            return 0
        gone = await self._dead_letters.forget()
        self._learned += len(news)
        self._due_at = now + FORGET_EVERY_S
        return gone
