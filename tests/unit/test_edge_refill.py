"""A store of an older schema is filled again from the log, where the log still holds everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from lorestream import durable
from lorestream.adapters.qdrant.payload import SCHEMA_VERSION
from lorestream.errors import Misconfigured, ModelMismatch
from lorestream.events import encode
from lorestream.memories import Memory
from lorestream.wiring import Runtime
from tests.parts import everything, indexer_over, open_parts
from tests.parts import put as event

EDGE = {"kind": "edge"}
NAME = "agent_memories"


def label(data: Path) -> Path:
    return data / "store" / NAME / "store.json"


def make_older(data: Path) -> None:
    """As if the version before had written the store."""
    about = json.loads(label(data).read_bytes())
    label(data).write_text(json.dumps(about | {"schema": SCHEMA_VERSION - 1}))


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
    assert (line["log_level"], line["schema"], line["records"]) == ("warning", SCHEMA_VERSION - 1, 20)
    assert json.loads(label(tmp_path).read_bytes())["schema"] == SCHEMA_VERSION
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
    assert json.loads(label(tmp_path).read_bytes())["schema"] == SCHEMA_VERSION - 1
