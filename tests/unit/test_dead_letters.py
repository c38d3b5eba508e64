"""What operators do to dead letters, over the real parts; once over a real Kafka, too."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lorestream import events
from lorestream.admin import Outcome, Report, Row
from lorestream.admin.dead_letters import DeadLetterCleanup, DeadLetters
from lorestream.errors import InvalidRequest, OperationRefused
from lorestream.events import Delete
from lorestream.memories import Erasure, SubjectKind
from lorestream.ports import DeadLetter, EventLog, NewRecord, Record, Tombstone
from lorestream.wiring import Runtime
from stream_workers.indexing.indexer import Indexer
from tests.contracts.test_log import kafka as kafka_log
from tests.http_gateway import SetClock
from tests.parts import open_parts, pipeline_over, put, read_dead_letters, texts


@dataclass
class Desk:
    """The tasks, and what they work on."""

    runtime: Runtime
    log: EventLog
    dead_letters: DeadLetters

    async def run(self, name: str, **arguments: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The rows and the outcome of a task, with arguments as they come over the wire."""
        [task] = [task for task in self.dead_letters.tasks() if task.name == name]
        reports: list[Report] = [
            report async for report in task.run(msgspec.convert(arguments, task.arguments))
        ]
        outcome = reports[-1]
        assert isinstance(outcome, Outcome)
        return [report.value for report in reports if isinstance(report, Row)], outcome.value

    async def ids(self, **arguments: Any) -> list[str]:
        return [row["id"] for row in (await self.run("dlq-ls", **arguments))[0]]

    async def aside(self, *records: Record, reason: str = "undecodable", attempts: int = 1) -> None:
        await self.log.append_dead_letters([DeadLetter(one, reason, "no JSON", attempts) for one in records])

    async def index(self) -> None:
        pipeline = pipeline_over(self.runtime)
        await Indexer(self.log, pipeline, self.runtime.collections.current.publisher, cache=None).run(
            burst=True
        )


@contextlib.asynccontextmanager
async def open_desk(data: Path, log: EventLog | None = None) -> AsyncIterator[Desk]:
    async with open_parts(data) as runtime:
        log = log or runtime.log
        yield Desk(runtime, log, DeadLetters(log, runtime.ledger, lambda: runtime.store))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as opened:
        yield opened


def rubbish(offset: int, key: bytes = b'["default","a"]', at: float = 1000.0) -> Record:
    return Record(0, offset, key, b"\xff rubbish", {"schema": b"1"}, at)


def good(offset: int, **fields: Any) -> Record:
    """The record of a put that could have been processed."""
    new = events.encode(put("a text", **fields))
    return Record(0, offset, new.key, new.value, new.headers, 1000.0)


async def test_the_newest_come_first_and_reasons_choose(desk: Desk) -> None:
    await desk.aside(rubbish(1), rubbish(2), rubbish(3))
    await desk.aside(good(4, type="dig"), reason="unprocessable", attempts=2)
    rows, outcome = await desk.run("dlq-ls", limit=2)
    assert [row["id"] for row in rows] == ["0-4", "0-3"]
    assert outcome == {"shown": 2, "total": 4}
    assert rows[0] | {"failed_at": 0} == {
        "id": "0-4",
        "failed_at": 0,
        "reason": "unprocessable",
        "op": "put",
        "type": "dig",
        "tenant": "default",
        "agent_id": "a",
        "attempts": 2,
        "error": "no JSON",
    }
    assert await desk.ids(reason="undecodable") == ["0-3", "0-2", "0-1"]


async def test_one_is_shown_decoded_or_as_its_bytes(desk: Desk) -> None:
    await desk.aside(rubbish(1), good(2))
    [[raw], [decoded]] = [(await desk.run("dlq-show", id=one))[0] for one in ("0-1", "0-2")]
    assert raw["raw"] == "\\xff rubbish"
    assert (raw["headers"], raw["key"], raw["bytes"]) == ({"schema": "1"}, '["default","a"]', 9)
    assert (decoded["value"]["text"], decoded["partition"], decoded["offset"]) == ("a text", 0, 2)


async def test_what_is_no_letter(desk: Desk) -> None:
    for wrong in ("", "1", "1-", "-1-2", "1-2-3", "a-b", "1" * 40 + "-1"):
        with pytest.raises(InvalidRequest, match="looks like"):
            await desk.run("dlq-show", id=wrong)
    with pytest.raises(OperationRefused, match="0-7"):
        await desk.run("dlq-show", id="0-7")
    for name in ("dlq-retry", "dlq-drop"):
        _, outcome = await desk.run(name, ids=["0-7"])
        assert outcome["missing"] == ["0-7"]
        for wrong in ({}, {"ids": ["0-1"], "every": True}, {"ids": ["0-1"], "reason": "x"}):
            with pytest.raises(InvalidRequest):
                await desk.run(name, **wrong)


async def test_what_is_dropped_stays_away(desk: Desk) -> None:
    await desk.aside(rubbish(1), rubbish(2), good(3))
    _, outcome = await desk.run("dlq-drop", every=True, reason="undecodable", dry_run=True)
    assert (outcome["dropped"], len(await desk.ids())) == (3, 3)
    _, outcome = await desk.run("dlq-drop", ids=["0-1", "0-3"])
    assert outcome == {"dropped": 2, "missing": [], "dry_run": False}
    await desk.aside(rubbish(1))
    assert await desk.ids() == ["0-2"]


@pytest.fixture(params=["sqlite", "kafka"])
async def whole(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> AsyncIterator[Desk]:
    """A desk over either log."""
    async with contextlib.AsyncExitStack() as stack:
        log = None
        if request.param == "kafka":
            broker = request.getfixturevalue("kafka")
            log = await stack.enter_async_context(kafka_log(broker.bootstrap, unique)())
        yield await stack.enter_async_context(open_desk(tmp_path, log))


async def test_a_retry_goes_through_the_same_workers_until_it_is_parked(whole: Desk) -> None:
    """One letter can be processed by now, one never will: it comes back with one attempt more each time."""
    desk = whole
    await desk.log.append([NewRecord(b'["default","a"]', b"rubbish", {"schema": b"1"})])
    await desk.log.append([events.encode(put("kept", event_id="e2"))])
    await desk.index()
    await desk.log.append([events.encode(put("failed for a while", event_id="e3"))])
    [stored] = await read_dead_letters(desk.log)
    last = {partition: end - 1 for partition, end in (await desk.log.end()).items()}
    partition = stored.dead_letter.record.partition
    third = events.encode(put("failed for a while", event_id="e3"))
    await desk.aside(Record(partition, last[partition], third.key, third.value, third.headers, 1000.0))
    assert len(await desk.ids()) == 2

    for attempts in (2, 3):
        _, outcome = await desk.run("dlq-retry", every=True, max_attempts=3)
        assert outcome["retried"] == (2 if attempts == 2 else 1)
        assert await desk.ids() == []
        await desk.index()
        [row] = (await desk.run("dlq-ls"))[0]
        assert (row["reason"], row["attempts"]) == ("undecodable", attempts)
        assert row["failed_at"] == stored.failed_at
    assert await texts(desk.runtime) == ["failed for a while", "kept"]

    _, outcome = await desk.run("dlq-retry", every=True, max_attempts=3)
    assert (outcome["retried"], outcome["parked"]) == (0, 1)
    assert await desk.ids() == [row["id"]]
    _, outcome = await desk.run("dlq-retry", ids=[row["id"]], max_attempts=3, force=True)
    assert (outcome["retried"], outcome["parked"]) == (1, 0)


async def test_a_dry_run_changes_nothing(desk: Desk) -> None:
    await desk.aside(rubbish(1), good(2))
    end = await desk.log.end()
    _, outcome = await desk.run("dlq-retry", every=True, dry_run=True)
    assert (outcome["retried"], outcome["dry_run"]) == (2, True)
    assert await desk.log.end() == end
    assert len(await desk.ids()) == 2


async def test_what_an_erasure_takes_is_hidden_and_then_removed(desk: Desk) -> None:
    """Decoded, by the memory that it would be; else by the agent of its key, when it came before the erasure."""
    hashed = "k1:" + "0" * 64
    of_player = good(3, agent="b", player=hashed)
    named_after = rubbish(4, b'["default","player:%s"]' % hashed.encode())
    later = rubbish(5, at=3000.0)
    others = [
        good(6, agent="c"),
        rubbish(7, b'["other","a"]'),
        rubbish(8, b"no key"),
        good(9, at=3000.0),
        replace(rubbish(10), value=msgspec.json.encode(Delete("default", "a", "m", 1000.0))),
    ]
    await desk.aside(rubbish(1), good(2), of_player, named_after, later, *others)
    for number, (kind, subject) in enumerate([(SubjectKind.AGENT, "a"), (SubjectKind.PLAYER, hashed)]):
        await desk.runtime.ledger.add(Erasure(f"e{number}", "default", kind, (subject,), 2000.0))
    left = [f"0-{one}" for one in (10, 9, 8, 7, 6, 5)]
    assert await desk.ids() == left
    _, outcome = await desk.run("dlq-retry", every=True, dry_run=True)
    assert outcome["retried"] == 6
    with pytest.raises(OperationRefused):
        await desk.run("dlq-show", id="0-2")

    cleanup = DeadLetterCleanup(desk.dead_letters, clock := SetClock())
    assert await cleanup() == 4
    assert [f"0-{one.dead_letter.record.offset}" for one in await read_dead_letters(desk.log)] == left[::-1]

    # Then only when another erasure came, or an hour has passed.
    await desk.aside(good(11))
    assert await cleanup() == 0
    clock.time += 3600
    assert await cleanup() == 1
    await desk.runtime.ledger.add(Erasure("e9", "default", SubjectKind.AGENT, ("c",), 2000.0))
    assert await cleanup() == 1


async def test_an_undecodable_letter_that_was_tried_again_is_as_old_as_at_first(desk: Desk) -> None:
    await desk.aside(rubbish(7))
    await desk.run("dlq-retry", every=True)
    await desk.index()
    assert len(await desk.ids()) == 1
    await desk.runtime.ledger.add(Erasure("e", "default", SubjectKind.AGENT, ("a",), 2000.0))
    assert await desk.ids() == []


async def test_what_was_deleted_by_its_id_is_hidden(desk: Desk) -> None:
    await desk.aside(good(1), good(2, event_id="e2"))
    deleted = put("a text")
    await desk.runtime.store.put_tombstones([Tombstone("default", "a", deleted.memory_id, 2000.0)])
    assert await desk.ids() == ["0-2"]
    assert await desk.dead_letters.remove_erased() == 1


async def test_the_sweeper_of_an_lorestream_removes_them(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        await desk.aside(rubbish(1))
        await desk.runtime.ledger.add(Erasure("e", "default", SubjectKind.AGENT, ("a",), 2000.0))
        assert desk.runtime.trim is not None
        await desk.runtime.trim()
        assert await read_dead_letters(desk.log) == []
