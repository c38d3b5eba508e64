"""Streams of memories as they become findable: what they send, resuming, slow receivers, several partitions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorestream import events, tokens
from lorestream.adapters.in_process.watermarks import LocalWatermarks
from lorestream.adapters.kafka.connection import KafkaConnection
from lorestream.adapters.kafka.log import KafkaLog
from lorestream.errors import InvalidToken, Overloaded
from lorestream.events import Delete, Put
from lorestream.ports import EventLog, Record
from lorestream.push import feed as feeds
from lorestream.push.feed import Feed
from lorestream.push.findable import Findable
from lorestream.push.selection import Selection
from lorestream.push.stream import MemoryStream
from lorestream.wiring import Runtime
from lorestream.wiring.feeds import feed_over
from tests.parts import open_parts, put, running_worker

ALL = Selection("default")


@contextlib.asynccontextmanager
async def system(data: Path) -> AsyncIterator[tuple[Runtime, Feed]]:
    """Parts with a worker, and the feed over them."""
    async with open_parts(data) as runtime, running_worker(runtime), feed_over(runtime) as feed:
        yield runtime, feed


async def write(runtime: Runtime, *envelopes: events.Envelope) -> dict[int, int]:
    """Append, and wait until it is finished; the offset of the last."""
    positions = await runtime.log.append([events.encode(one) for one in envelopes])
    assert await runtime.watermarks.reached(positions, 60)
    return positions


async def taken(stream: MemoryStream, count: int) -> list[str]:
    """The texts of the next `count` memories."""
    texts: list[str] = []
    async with asyncio.timeout(60), contextlib.aclosing(stream.items()) as steps:
        async for items in steps:
            for item in items:
                stream.take(item)
                if item.memory is not None:
                    texts.append(item.memory.text)
                if len(texts) == count:
                    return texts
    return texts


def now(runtime: Runtime, text: str, **fields: Any) -> Put:
    return put(text, event_id=text, at=runtime.clock.now(), **fields)


async def test_a_stream_sends_what_its_selection_wants_and_records_only_by_their_type(tmp_path: Path) -> None:
    async with system(tmp_path) as (runtime, feed):
        await write(runtime, now(runtime, "before"))
        wanted = {
            "all": ALL,
            "agent": Selection("default", agents=frozenset(["b"])),
            "player": Selection("default", players=frozenset(["k1:x"])),
            "type": Selection("default", types=frozenset(["reward"])),
            "important": Selection("default", min_importance=7),
            "other": Selection("other"),
        }
        async with contextlib.AsyncExitStack() as stack:
            streams = {
                name: await stack.enter_async_context(MemoryStream.open(feed, selection))
                for name, selection in wanted.items()
            }
            await write(
                runtime,
                now(runtime, "plain"),
                now(runtime, "of b", agent="b"),
                now(runtime, "of x", player="k1:x", importance=9.0),
                now(runtime, "record", type="reward", recall=False),
                now(runtime, "foreign", tenant="other"),
                now(runtime, "end", agent="b", player="k1:x", type="reward", importance=8.0),
                now(runtime, "end", agent="b", player="k1:x", type="reward", importance=8.0, tenant="other"),
            )
            sent = {
                "all": ["plain", "of b", "of x", "end"],
                "agent": ["of b", "end"],
                "player": ["of x", "end"],
                "type": ["record", "end"],
                "important": ["of x", "end"],
                "other": ["foreign", "end"],
            }
            assert {name: await taken(one, len(sent[name])) for name, one in streams.items()} == sent


async def test_what_was_accepted_before_and_becomes_findable_after_is_sent(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime, feed_over(runtime) as feed:
        async with running_worker(runtime):
            await write(runtime, now(runtime, "found before"))
        await runtime.log.append([events.encode(now(runtime, "in flight"))])
        async with MemoryStream.open(feed, ALL) as stream, running_worker(runtime):
            assert await taken(stream, 1) == ["in flight"]


async def test_a_resumed_stream_goes_on_behind_what_was_taken_and_leaves_out_what_reads_no_longer_show(
    tmp_path: Path,
) -> None:
    async with system(tmp_path) as (runtime, feed):
        async with MemoryStream.open(feed, ALL) as stream:
            await write(runtime, *(now(runtime, f"{number}") for number in range(3)))
            assert await taken(stream, 1) == ["0"]
            place = tokens.parse_stream_id(tokens.stream_id(stream.positions))
        old = now(runtime, "superseded")
        await write(runtime, old, now(runtime, "newer", supersedes=old.memory_id))
        gone, expired = (
            now(runtime, "deleted"),
            now(runtime, "expired", expires_at=runtime.clock.now() + 0.05),
        )
        await write(runtime, gone, expired, now(runtime, "1"))  # the last: sent again, with the same id
        await write(runtime, Delete("default", "a", gone.memory_id, runtime.clock.now()))
        await asyncio.sleep(0.05)
        await write(runtime, now(runtime, "newest"))
        async with MemoryStream.open(feed, ALL, place) as stream:
            assert await taken(stream, 4) == ["1", "2", "newer", "newest"]
            await write(runtime, now(runtime, "live"))
            assert await taken(stream, 1) == ["live"]
        with pytest.raises(InvalidToken, match="behind the end of the log"):
            async with MemoryStream.open(feed, ALL, {0: 10_000}):
                pass


async def test_a_receiver_that_is_too_slow_reads_from_the_log_and_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MAX_WAITING", 3)
    async with system(tmp_path) as (runtime, feed), MemoryStream.open(feed, ALL) as stream:
        async with MemoryStream.open(feed, ALL) as other:
            for start in range(0, 20, 5):
                await write(runtime, *(now(runtime, f"{start + number}") for number in range(5)))
                assert len(await taken(other, 5)) == 5
        assert len(feed._receivers) == 0  # both were too slow at some time, and nothing waits for them
        assert feed._waiting == 0
        assert await taken(stream, 20) == [str(number) for number in range(20)]


async def test_records_that_retention_has_deleted_are_passed_and_those_that_do_not_arrive_are_not() -> None:
    class Log:
        oldest: Mapping[int, tuple[int, float]]

        async def end(self) -> Mapping[int, int]:
            return {0: 5}

        async def offsets_for_time(self, _at: float) -> Mapping[int, tuple[int, float]]:
            return self.oldest

        @contextlib.asynccontextmanager
        async def reader(self, _positions: Mapping[int, int]) -> AsyncIterator[Log]:
            yield self

        async def read(self, *_: object, **__: object) -> list[Record]:
            await asyncio.sleep(0.001)
            return []

        async def finished(self) -> Mapping[int, int]:
            return {0: 2}

    log: Any = Log()
    findable: Any = None
    for oldest, problem in (({0: (3, 0.0)}, "no records of partition 0 arrive"), ({}, None)):
        log.oldest = oldest
        async with Feed.open(log, log, findable) as feed, feed.held(), asyncio.timeout(60):
            while feed.positions != {0: 5} and feed._problem is None:
                await asyncio.sleep(0.001)
            assert (feed._problem or "").startswith(problem or "")
            assert (feed._problem is None) == (problem is None)


async def test_idle_streams_share_one_reader_and_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MAX_RECEIVERS", 200)
    async with system(tmp_path) as (runtime, feed):
        opened, reader = list[Mapping[int, int]](), runtime.log.reader

        def counted(positions: Mapping[int, int]) -> Any:
            opened.append(positions)
            return reader(positions)

        monkeypatch.setattr(runtime.log, "reader", counted)
        async with contextlib.AsyncExitStack() as stack:
            for number in range(200):
                selection = Selection("default", agents=frozenset([f"agent {number}"]))
                stream = await stack.enter_async_context(MemoryStream.open(feed, selection))
            with pytest.raises(Overloaded, match="200 streams"):
                await stack.enter_async_context(MemoryStream.open(feed, ALL))
            await write(runtime, now(runtime, "x", agent="agent 199"))
            assert await taken(stream, 1) == ["x"]
        assert len(opened) == 1
        assert not feed._receivers
        assert not feed._by_agent


class Deployment:
    """A log in Kafka with three partitions, one store, and the watermarks, of which each service has its own feed."""

    def __init__(self, runtime: Runtime, log: EventLog) -> None:
        self.log = log
        self.watermarks = LocalWatermarks()
        self._runtime = runtime
        self._findable = Findable(lambda: runtime.store, runtime.ledger, runtime.clock)

    def service(self) -> contextlib.AbstractAsyncContextManager[Feed]:
        return Feed.open(self.log, self.watermarks, self._findable)

    async def write(self, *numbers: int) -> None:
        """One memory of each of these agents, which is stored and finished."""
        puts = [now(self._runtime, f"{number}", agent=f"{number % 7}") for number in numbers]
        offsets = await self.log.append([events.encode(one) for one in puts])
        vectors = np.eye(1, self._runtime.embedder.dim, dtype=np.float32).repeat(len(puts), axis=0)
        await self._runtime.store.insert([one.memory(one.text or "") for one in puts], vectors)
        await self.watermarks.publish({partition: offset + 1 for partition, offset in offsets.items()})


async def test_a_stream_goes_on_at_another_service_without_a_gap_or_a_double(
    tmp_path: Path, kafka: Any, unique: str
) -> None:
    async with (
        open_parts(tmp_path) as runtime,
        KafkaLog.open(
            KafkaConnection(kafka.bootstrap),
            topic=f"{unique}.events",
            dlq_topic=f"{unique}.dlq",
            partitions=3,
            retention_s=86_400,
            clock=runtime.clock,
        ) as log,
    ):
        deployment, seen = Deployment(runtime, log), list[str]()
        await deployment.write(*range(20))
        async with deployment.service() as first, MemoryStream.open(first, ALL) as stream:
            await deployment.write(*range(20, 60))
            seen += await taken(stream, 25)
            place = tokens.stream_id(stream.positions)
        await deployment.write(*range(60, 80))
        async with (
            deployment.service() as second,
            MemoryStream.open(second, ALL, tokens.parse_stream_id(place)) as stream,
        ):
            await deployment.write(*range(80, 100))
            seen += await taken(stream, 55)
    assert sorted(seen, key=int) == [str(number) for number in range(20, 100)]
    for agent in range(7):
        of_agent = [int(text) for text in seen if int(text) % 7 == agent]
        assert of_agent == sorted(of_agent)
