"""Dead letters: shown, tried again, dropped; and hidden once what stands in them was erased or deleted."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec

from lorestream.admin import Outcome, Progress, Reports, Row, Task
from lorestream.admin.dead_letter_view import letter_id, line, memory_of, place_of, whole
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
from lorestream.retry_headers import again

MAX_ATTEMPTS = 5
"""A record that was tried so often in vain is parked: a retry passes it by unless it is forced."""
FORGET_EVERY_S = 3600.0

_STEP = 100

Ids: TypeAlias = Annotated[tuple[str, ...], msgspec.Meta(max_length=10_000)]


class ListLetters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest letters."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    reason: str | None = None


class ShowLetter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One letter with all that is known of it."""

    id: str


class RetryLetters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """These letters, or every one (of a reason)."""

    ids: Ids = ()
    every: bool = False
    reason: str | None = None
    max_attempts: Annotated[int, msgspec.Meta(ge=1)] = MAX_ATTEMPTS
    force: bool = False
    dry_run: bool = False


class DropLetters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
            Task("dlq-ls", ListLetters, self.ls),
            Task("dlq-show", ShowLetter, self.show),
            Task("dlq-retry", RetryLetters, self.retry),
            Task("dlq-drop", DropLetters, self.drop),
        ]

    async def ls(self, wanted: ListLetters) -> Reports:
        """The newest letters, the latest first."""
        newest: deque[StoredDeadLetter] = deque(maxlen=wanted.limit)
        total = 0
        async with aclosing(self._visible(_chosen((), wanted.reason))) as steps:
            async for letters in steps:
                newest.extend(letters)
                total += len(letters)
        for letter in reversed(newest):
            yield Row(line(letter))
        yield Outcome({"shown": len(newest), "total": total})

    async def show(self, wanted: ShowLetter) -> Reports:
        """One letter."""
        async with aclosing(self._visible(_chosen([wanted.id], None))) as steps:
            async for letters in steps:
                for letter in letters:
                    yield Row(whole(letter))
                    yield Outcome({"shown": 1})
                    return
        raise Refusal(f"there is no dead letter {wanted.id}: `lorestream dlq ls` shows those that there are")

    async def retry(self, wanted: RetryLetters) -> Reports:
        """Append the records anew. A letter is settled once its record is durable, so that none is lost."""
        _check(wanted)
        retried = parked = too_large = 0
        found: set[str] = set()
        async with aclosing(self._visible(_chosen(wanted.ids, wanted.reason))) as steps:
            async for letters in steps:
                found |= {letter_id(letter.place) for letter in letters}
                ready = [one for one in letters if wanted.force or one.letter.attempts < wanted.max_attempts]
                parked += len(letters) - len(ready)
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

    async def drop(self, wanted: DropLetters) -> Reports:
        """Hide the letters for good."""
        _check(wanted)
        dropped = 0
        found: set[str] = set()
        async with aclosing(self._visible(_chosen(wanted.ids, wanted.reason))) as steps:
            async for letters in steps:
                found |= {letter_id(letter.place) for letter in letters}
                if not wanted.dry_run:
                    await self.log.resolve_dead_letters(
                        [letter.place for letter in letters], Resolution.DROPPED
                    )
                dropped += len(letters)
                yield Progress("dropping", dropped, unit="letters")
        missing = [one for one in wanted.ids if one not in found]
        yield Outcome({"dropped": dropped, "missing": missing, "dry_run": wanted.dry_run})

    async def forget(self) -> int:
        """Settle what an erasure or a deletion takes; returns how many went. Raises Unavailable."""
        gone = 0
        async with aclosing(self._steps()) as steps:
            async for letters in steps:
                covered = await self._covered(letters)
                if covered:
                    await self.log.resolve_dead_letters(
                        [letter.place for letter in covered], Resolution.ERASED
                    )
                    gone += len(covered)
        return gone

    # --- which ------------------------------------------------------------------------------------------------

    async def _visible(
        self, chosen: Callable[[StoredDeadLetter], bool]
    ) -> AsyncGenerator[list[StoredDeadLetter]]:
        """Those that are chosen and that nothing takes, some at a time, the earliest first."""
        async with aclosing(self._steps()) as steps:
            async for letters in steps:
                wanted = [letter for letter in letters if chosen(letter)]
                hidden = {letter.place for letter in await self._covered(wanted)}
                shown = [letter for letter in wanted if letter.place not in hidden]
                if shown:
                    yield shown

    async def _steps(self) -> AsyncGenerator[list[StoredDeadLetter]]:
        step: list[StoredDeadLetter] = []
        async with aclosing(self.log.dead_letters()) as letters:
            async for letter in letters:
                step.append(letter)
                if len(step) == _STEP:
                    yield step
                    step = []
        if step:
            yield step

    async def _covered(self, letters: Sequence[StoredDeadLetter]) -> list[StoredDeadLetter]:
        """Those whose memory an erasure takes, or whose memory was deleted by its id."""
        found: list[StoredDeadLetter] = []
        puts: list[tuple[StoredDeadLetter, Memory]] = []
        for letter in letters:
            memory = memory_of(letter.letter.record)
            if memory is None:
                continue
            if self.ledger.covers(memory):
                found.append(letter)
            elif memory.id:
                puts.append((letter, memory))
        entries = await self.store().lookup([memory for _, memory in puts]) if puts else ()
        return found + [
            letter for (letter, _), entry in zip(puts, entries, strict=True) if isinstance(entry, Tombstone)
        ]

    async def _send(self, letters: Sequence[StoredDeadLetter]) -> Sequence[StoredDeadLetter]:
        """Append and settle; returns those that the log took. Raises Unavailable."""
        if not letters:
            return ()
        try:
            await self.log.append([again(letter) for letter in letters])
        except EventTooLarge:
            if len(letters) == 1:
                return ()
            middle = len(letters) // 2
            return [*await self._send(letters[:middle]), *await self._send(letters[middle:])]
        await self.log.resolve_dead_letters([letter.place for letter in letters], Resolution.RETRIED)
        return letters


def _check(wanted: RetryLetters | DropLetters) -> None:
    if bool(wanted.ids) == wanted.every or (wanted.reason is not None and not wanted.every):
        raise InvalidRequest("name the letters, or take every one (of a reason)")


def _chosen(ids: Sequence[str], reason: str | None) -> Callable[[StoredDeadLetter], bool]:
    """Raises InvalidRequest for what is no id."""
    places = {place_of(one) for one in ids}

    def chosen(letter: StoredDeadLetter) -> bool:
        return (not places or letter.place in places) and reason in {None, letter.letter.reason}

    return chosen


class Forgetting:
    """Removes, where letters can be removed, those that an erasure or a deletion takes: called now and then."""

    def __init__(self, letters: DeadLetters, clock: Clock) -> None:
        self._letters = letters
        self._clock = clock
        self._learned = 0
        self._due_at = 0.0

    async def __call__(self) -> int:
        """At once after an erasure, else every `FORGET_EVERY_S`; returns how many went. Raises Unavailable."""
        news, now = self._letters.ledger.added_since(self._learned), self._clock.now()
        if not news and now < self._due_at:
            return 0
        gone = await self._letters.forget()
        self._learned += len(news)
        self._due_at = now + FORGET_EVERY_S
        return gone
