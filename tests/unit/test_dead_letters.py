"""The tasks on dead letters, over real parts; the retry also over a real Kafka log."""

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
class Fixture:
    """The tasks, and the parts that they work on."""

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

    async def add_dead_letters(
        self, *records: Record, reason: str = "undecodable", attempts: int = 1
    ) -> None:
        await self.log.append_dead_letters([DeadLetter(one, reason, "no JSON", attempts) for one in records])

    async def index(self) -> None:
        pipeline = pipeline_over(self.runtime)
        await Indexer(self.log, pipeline, self.runtime.collections.current.publisher, cache=None).run(
            burst=True
        )


@contextlib.asynccontextmanager
async def open_fixture(data: Path, log: EventLog | None = None) -> AsyncIterator[Fixture]:
    async with open_parts(data) as runtime:
        log = log or runtime.log
        yield Fixture(runtime, log, DeadLetters(log, runtime.ledger, lambda: runtime.store))


@pytest.fixture
async def tasks(tmp_path: Path) -> AsyncIterator[Fixture]:
    async with open_fixture(tmp_path) as opened:
        yield opened


def undecodable(offset: int, key: bytes = b'["default","a"]', at: float = 1000.0) -> Record:
    return Record(0, offset, key, b"\xff rubbish", {"schema": b"1"}, at)


def good(offset: int, **fields: Any) -> Record:
    """The record of a put that could have been processed."""
    new = events.encode(put("a text", **fields))
    return Record(0, offset, new.key, new.value, new.headers, 1000.0)


async def test_ls_lists_the_newest_first_and_filters_by_reason(tasks: Fixture) -> None:
    await tasks.add_dead_letters(undecodable(1), undecodable(2), undecodable(3))
    await tasks.add_dead_letters(good(4, type="dig"), reason="unprocessable", attempts=2)
    rows, outcome = await tasks.run("dlq-ls", limit=2)
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
    assert await tasks.ids(reason="undecodable") == ["0-3", "0-2", "0-1"]


async def test_show_decodes_the_value_or_escapes_its_bytes(tasks: Fixture) -> None:
    await tasks.add_dead_letters(undecodable(1), good(2))
    [[raw], [decoded]] = [(await tasks.run("dlq-show", id=one))[0] for one in ("0-1", "0-2")]
    assert raw["raw"] == "\\xff rubbish"
    assert (raw["headers"], raw["key"], raw["bytes"]) == ({"schema": "1"}, '["default","a"]', 9)
    assert (decoded["value"]["text"], decoded["partition"], decoded["offset"]) == ("a text", 0, 2)


async def test_unknown_and_invalid_ids(tasks: Fixture) -> None:
    for wrong in ("", "1", "1-", "-1-2", "1-2-3", "a-b", "1" * 40 + "-1"):
        with pytest.raises(InvalidRequest, match="looks like"):
            await tasks.run("dlq-show", id=wrong)
    with pytest.raises(OperationRefused, match="0-7"):
        await tasks.run("dlq-show", id="0-7")
    for name in ("dlq-retry", "dlq-drop"):
        _, outcome = await tasks.run(name, ids=["0-7"])
        assert outcome["missing"] == ["0-7"]
        for wrong in ({}, {"ids": ["0-1"], "every": True}, {"ids": ["0-1"], "reason": "x"}):
            with pytest.raises(InvalidRequest):
                await tasks.run(name, **wrong)


async def test_a_dropped_dead_letter_does_not_come_back(tasks: Fixture) -> None:
    await tasks.add_dead_letters(undecodable(1), undecodable(2), good(3))
    _, outcome = await tasks.run("dlq-drop", every=True, reason="undecodable", dry_run=True)
    assert (outcome["dropped"], len(await tasks.ids())) == (3, 3)
    _, outcome = await tasks.run("dlq-drop", ids=["0-1", "0-3"])
    assert outcome == {"dropped": 2, "missing": [], "dry_run": False}
    await tasks.add_dead_letters(undecodable(1))
    assert await tasks.ids() == ["0-2"]


@pytest.fixture(params=["sqlite", "kafka"])
async def whole(request: pytest.FixtureRequest, tmp_path: Path, unique: str) -> AsyncIterator[Fixture]:
    """The fixture over either log."""
    async with contextlib.AsyncExitStack() as stack:
        log = None
        if request.param == "kafka":
            broker = request.getfixturevalue("kafka")
            log = await stack.enter_async_context(kafka_log(broker.bootstrap, unique)())
        yield await stack.enter_async_context(open_fixture(tmp_path, log))


async def test_retries_count_attempts_until_the_dead_letter_is_parked(whole: Fixture) -> None:
    """One record can be processed by now. The other never can: it comes back with one more attempt each time."""
    tasks = whole
    await tasks.log.append([NewRecord(b'["default","a"]', b"rubbish", {"schema": b"1"})])
    await tasks.log.append([events.encode(put("kept", event_id="e2"))])
    await tasks.index()
    await tasks.log.append([events.encode(put("failed for a while", event_id="e3"))])
    [stored] = await read_dead_letters(tasks.log)
    last = {partition: end - 1 for partition, end in (await tasks.log.end()).items()}
    partition = stored.dead_letter.record.partition
    third = events.encode(put("failed for a while", event_id="e3"))
    await tasks.add_dead_letters(
        Record(partition, last[partition], third.key, third.value, third.headers, 1000.0)
    )
    assert len(await tasks.ids()) == 2

    for attempts in (2, 3):
        _, outcome = await tasks.run("dlq-retry", every=True, max_attempts=3)
        assert outcome["retried"] == (2 if attempts == 2 else 1)
        assert await tasks.ids() == []
        await tasks.index()
        [row] = (await tasks.run("dlq-ls"))[0]
        assert (row["reason"], row["attempts"]) == ("undecodable", attempts)
        assert row["failed_at"] == stored.failed_at
    assert await texts(tasks.runtime) == ["failed for a while", "kept"]

    _, outcome = await tasks.run("dlq-retry", every=True, max_attempts=3)
    assert (outcome["retried"], outcome["parked"]) == (0, 1)
    assert await tasks.ids() == [row["id"]]
    _, outcome = await tasks.run("dlq-retry", ids=[row["id"]], max_attempts=3, force=True)
    assert (outcome["retried"], outcome["parked"]) == (1, 0)


async def test_a_dry_run_changes_nothing(tasks: Fixture) -> None:
    await tasks.add_dead_letters(undecodable(1), good(2))
    end = await tasks.log.end()
    _, outcome = await tasks.run("dlq-retry", every=True, dry_run=True)
    assert (outcome["retried"], outcome["dry_run"]) == (2, True)
    assert await tasks.log.end() == end
    assert len(await tasks.ids()) == 2


async def test_erased_dead_letters_are_hidden_and_then_removed(tasks: Fixture) -> None:
    """A decodable record by its memory; others by the agent in the key and the time of the append."""
    hashed = "k1:" + "0" * 64
    of_player = good(3, agent="b", player=hashed)
    named_after = undecodable(4, b'["default","player:%s"]' % hashed.encode())
    later = undecodable(5, at=3000.0)
    others = [
        good(6, agent="c"),
        undecodable(7, b'["other","a"]'),
        undecodable(8, b"no key"),
        good(9, at=3000.0),
        replace(undecodable(10), value=msgspec.json.encode(Delete("default", "a", "m", 1000.0))),
    ]
    await tasks.add_dead_letters(undecodable(1), good(2), of_player, named_after, later, *others)
    for number, (kind, subject) in enumerate([(SubjectKind.AGENT, "a"), (SubjectKind.PLAYER, hashed)]):
        await tasks.runtime.ledger.add(Erasure(f"e{number}", "default", kind, (subject,), 2000.0))
    left = [f"0-{one}" for one in (10, 9, 8, 7, 6, 5)]
    assert await tasks.ids() == left
    _, outcome = await tasks.run("dlq-retry", every=True, dry_run=True)
    assert outcome["retried"] == 6
    with pytest.raises(OperationRefused):
        await tasks.run("dlq-show", id="0-2")

    cleanup = DeadLetterCleanup(tasks.dead_letters, clock := SetClock())
    assert await cleanup() == 4
    assert [f"0-{one.dead_letter.record.offset}" for one in await read_dead_letters(tasks.log)] == left[::-1]

    # After that, the cleanup runs only after another erasure, or after an hour.
    await tasks.add_dead_letters(good(11))
    assert await cleanup() == 0
    clock.time += 3600
    assert await cleanup() == 1
    await tasks.runtime.ledger.add(Erasure("e9", "default", SubjectKind.AGENT, ("c",), 2000.0))
    assert await cleanup() == 1


async def test_a_retried_undecodable_record_keeps_the_time_of_its_first_append(tasks: Fixture) -> None:
    await tasks.add_dead_letters(undecodable(7))
    await tasks.run("dlq-retry", every=True)
    await tasks.index()
    assert len(await tasks.ids()) == 1
    await tasks.runtime.ledger.add(Erasure("e", "default", SubjectKind.AGENT, ("a",), 2000.0))
    assert await tasks.ids() == []


async def test_a_dead_letter_of_a_deleted_memory_is_hidden(tasks: Fixture) -> None:
    await tasks.add_dead_letters(good(1), good(2, event_id="e2"))
    deleted = put("a text")
    await tasks.runtime.store.put_tombstones([Tombstone("default", "a", deleted.memory_id, 2000.0)])
    assert await tasks.ids() == ["0-2"]
    assert await tasks.dead_letters.remove_erased() == 1


async def test_the_trim_of_the_runtime_removes_erased_dead_letters(tmp_path: Path) -> None:
    async with open_fixture(tmp_path) as tasks:
        await tasks.add_dead_letters(undecodable(1))
        await tasks.runtime.ledger.add(Erasure("e", "default", SubjectKind.AGENT, ("a",), 2000.0))
        assert tasks.runtime.trim is not None
        await tasks.runtime.trim()
        assert await read_dead_letters(tasks.log) == []
