"""A store of an older schema is filled again from the log, where the log still holds everything."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from lorestream import durable
from lorestream.adapters.qdrant.edge import shard
from lorestream.adapters.qdrant.edge.messages import translate_errors
from lorestream.adapters.qdrant.payload import READABLE_SCHEMAS, SCHEMA_VERSION
from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT, FIRST_LAYOUT
from lorestream.errors import Misconfigured, ModelMismatch, Unavailable
from lorestream.events import encode
from lorestream.memories import KeywordQuery, Memory, Scope
from lorestream.wiring import Runtime
from tests.parts import everything, indexer_over, open_parts
from tests.parts import put as event

EDGE = {"kind": "edge"}
NAME = "agent_memories"


def label(data: Path) -> Path:
    return data / "store" / NAME / "store.json"


UNREADABLE = READABLE_SCHEMAS[0] - 1


def make_older(data: Path, schema: int = UNREADABLE) -> None:
    """As if an older version had written the store."""
    about = json.loads(label(data).read_bytes())
    label(data).write_text(json.dumps(about | {"schema": schema, "words": FIRST_LAYOUT}))


async def fill(data: Path, count: int = 20) -> Sequence[Memory]:
    """A data directory with so many indexed events; what is in the store."""
    async with open_parts(data, store=EDGE) as runtime:
        now = runtime.clock.now()
        await runtime.log.append(
            [encode(event(f"text {n}", event_id=f"{n}", at=now + n)) for n in range(count)]
        )
        await indexer_over(runtime).run(burst=True)
        return await everything(runtime)


async def indexed(runtime: Runtime) -> Sequence[Memory]:
    """What is in the store once the log is drained."""
    current = runtime.collections.current
    await indexer_over(runtime, group=current.group).run(burst=True)
    return await everything(runtime)


async def opened(data: Path, **overrides: Any) -> None:
    async with open_parts(data, store=EDGE, **overrides):
        pass


async def refused(data: Path, said: str) -> None:
    """Opening ends in one line, and changes nothing."""
    before = label(data).read_bytes()
    for _ in range(2):
        with pytest.raises(Misconfigured, match=said) as raised:
            await opened(data)
        assert "\n" not in str(raised.value)
    assert label(data).read_bytes() == before


async def test_it_is_filled_again_and_holds_the_same(tmp_path: Path) -> None:
    memories = await fill(tmp_path)
    assert len(memories) == 20
    make_older(tmp_path)
    with structlog.testing.capture_logs() as lines:
        async with open_parts(tmp_path, store=EDGE) as runtime:
            assert await everything(runtime) == []
            assert await indexed(runtime) == memories
            group = runtime.collections.current.group
    [line] = [line for line in lines if "older schema" in line["event"]]
    assert (line["log_level"], line["schema"], line["records"]) == ("warning", UNREADABLE, 20)
    about = json.loads(label(tmp_path).read_bytes())
    assert (about["schema"], about["words"]) == (SCHEMA_VERSION, DEFAULT_LAYOUT)
    with structlog.testing.capture_logs() as lines:
        async with open_parts(tmp_path, store=EDGE) as runtime:
            assert await everything(runtime) == memories
            assert runtime.collections.current.group == group
            assert (await runtime.log.committed(group))[0] == 20
    assert not [line for line in lines if "older schema" in line["event"]]


@pytest.mark.parametrize("step", ["rename", "remove_file"])
async def test_a_crash_while_it_is_emptied_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    memories = await fill(tmp_path)
    make_older(tmp_path)

    def killed(*_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(durable, step, killed)
    with pytest.raises(asyncio.CancelledError):
        await opened(tmp_path)
    monkeypatch.undo()
    async with open_parts(tmp_path, store=EDGE) as runtime:
        assert await indexed(runtime) == memories
    assert not (label(tmp_path).parent / "shard.old").exists()


async def test_a_log_that_no_longer_holds_everything_is_refused(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with open_parts(tmp_path, store=EDGE, log={"kind": "embedded", "max_bytes": 1}) as runtime:
        assert runtime.trim is not None
        assert await runtime.trim() == 20
    make_older(tmp_path)
    await refused(tmp_path, r"older schema.*lorestream export.*lorestream import")


async def test_a_readable_schema_is_used_as_it_is_where_the_log_is_too_short(tmp_path: Path) -> None:
    memories = await fill(tmp_path)
    log = {"kind": "embedded", "max_bytes": 1}
    async with open_parts(tmp_path, store=EDGE, log=log) as runtime:
        assert runtime.trim is not None
        assert await runtime.trim() == 20
    make_older(tmp_path, READABLE_SCHEMAS[0])
    with structlog.testing.capture_logs() as lines:
        async with open_parts(tmp_path, store=EDGE) as runtime:
            assert await everything(runtime) == memories
            found = await runtime.store.search(KeywordQuery(Scope("default"), "text", 1, runtime.clock.now()))
    assert len(found) == 1
    [line] = [line for line in lines if "lorestream replay" in line["event"]]
    assert (line["log_level"], line["wanted"]) == ("warning", "english")
    assert json.loads(label(tmp_path).read_bytes())["schema"] == READABLE_SCHEMAS[0]


async def test_a_log_that_the_store_was_not_filled_from_is_refused(tmp_path: Path) -> None:
    await fill(tmp_path)
    (tmp_path / "log.sqlite3").unlink()
    make_older(tmp_path)
    await refused(tmp_path, "no longer holds all of its memories")


async def test_an_older_store_of_another_model_is_refused_first(tmp_path: Path) -> None:
    await fill(tmp_path)
    make_older(tmp_path)
    with pytest.raises(ModelMismatch, match="hash-v1-384"):
        await opened(tmp_path, embedder={"kind": "hash", "dim": 64})
    assert json.loads(label(tmp_path).read_bytes())["schema"] == UNREADABLE


# --- a store that is gone or damaged ---------------------------------------------------------------------------


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory, where there is room: a store is made with a thousand fsyncs."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def follow(advice: str, aside: Path) -> None:
    """Do what the message says: move the named directory away."""
    moved = re.search(r"move (\S+) away and start again, which fills the store from the log", advice)
    assert moved, advice
    Path(moved[1]).rename(aside)


async def start_refused(data: Path) -> str:
    with pytest.raises(Misconfigured) as raised:
        await opened(data)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("lost", ["store/agent_memories", "store"])
async def test_a_store_that_was_moved_away_is_filled_from_the_log(place: Path, lost: str) -> None:
    """The position in the log does not outlive the store: it would stay empty for good, with all green."""
    data = place / "data"
    memories = await fill(data)
    for turn in range(2):  # the second time there is a catalogue, whose collection is gone
        (data / lost).rename(place / f"aside{turn}")
        with structlog.testing.capture_logs() as lines:
            async with open_parts(data, store=EDGE) as runtime:
                assert await indexed(runtime) == memories
        assert [line["log_level"] for line in lines if "the store is new" in line["event"]] == ["warning"]
    async with open_parts(data, store=EDGE) as runtime:
        assert await everything(runtime) == memories


async def test_a_lost_store_is_filled_with_the_present_model(place: Path) -> None:
    data = place / "data"
    memories = await fill(data)
    for turn in range(2):
        (data / "store" / NAME).rename(place / f"aside{turn}")
        async with open_parts(data, store=EDGE, embedder={"kind": "hash", "dim": 64 + turn}) as runtime:
            assert len(await indexed(runtime)) == len(memories)


async def test_what_the_log_no_longer_holds_is_said(place: Path) -> None:
    data = place / "data"
    await fill(data)
    async with open_parts(data, store=EDGE, log={"kind": "embedded", "max_bytes": 1}) as runtime:
        assert runtime.trim is not None
        assert await runtime.trim() == 20
    (data / "store").rename(place / "aside")
    with structlog.testing.capture_logs() as lines:
        await opened(data)
    [line] = [line for line in lines if "the store is new" in line["event"]]
    assert "only in snapshots" in line["event"]


async def test_the_advice_for_a_damaged_label_works(place: Path) -> None:
    data = place / "data"
    memories = await fill(data)
    advice = ""
    for content in ("", "{", "[" * 100_000, '{"model_id": "hash-v1-384", "x": %s' % ("[" * 100_000)):
        label(data).write_text(content)
        advice = await start_refused(data)
    follow(advice, place / "aside")
    async with open_parts(data, store=EDGE) as runtime:
        assert await indexed(runtime) == memories


async def test_the_advice_for_a_damaged_catalogue_works(place: Path) -> None:
    """Also for one that names directories outside of the store."""
    data = place / "data"
    memories = await fill(data)
    one = '{"model_id": "hash-v1-384", "dim": 384}'
    advice = ""
    for content in (
        "",
        "[" * 100_000,
        '{"active": "a", "collections": {}}',
        f'{{"active": "../../evil", "collections": {{"../../evil": {one}}}}}',
        f'{{"active": "a", "collections": {{"a": {one}}}, "withdrawn": {{"../x": 0}}}}',
    ):
        (data / "store" / f"{NAME}.json").write_text(content)
        advice = await start_refused(data)
    follow(advice, place / "aside")
    assert not (place / "evil").exists()
    async with open_parts(data, store=EDGE) as runtime:
        assert await indexed(runtime) == memories


async def test_a_full_disk_asks_for_room_and_not_to_move_the_store_away(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(place / "data")
    errors = [
        OSError(errno.ENOSPC, "No space left on device"),
        Exception("No space left on device (os error 28)"),
    ]

    class FullDisk:
        @staticmethod
        def load(_path: str) -> None:
            raise errors.pop()

    monkeypatch.setattr(shard.edge, "EdgeShard", FullDisk)
    while errors:
        said = await start_refused(place / "data")
        assert "free some space" in said
        assert "away" not in said


async def test_a_panic_of_the_engine_is_an_error_in_one_line(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyo3 raises panics of Rust code as a BaseException, which `except Exception` does not catch."""
    panic = type("PanicException", (BaseException,), {})("index out of bounds:\nthe len is 3")
    with pytest.raises(Unavailable, match="out of bounds: the len is 3"), translate_errors():
        raise panic
    with pytest.raises(KeyboardInterrupt), translate_errors():
        raise KeyboardInterrupt
    memories = await fill(place / "data")

    class Panicking:
        @staticmethod
        def load(_path: str) -> None:
            raise panic

    with monkeypatch.context() as patch:
        patch.setattr(shard.edge, "EdgeShard", Panicking)
        advice = await start_refused(place / "data")
    follow(advice, place / "aside")
    async with open_parts(place / "data", store=EDGE) as runtime:
        assert await indexed(runtime) == memories
