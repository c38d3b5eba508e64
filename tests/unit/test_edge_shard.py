"""The directory of an embedded store: model, schema and lock, and what a killed process leaves in it."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import qdrant_edge as edge

from lorestream.adapters.qdrant.edge.shard import create_in_subprocess
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT
from lorestream.errors import Misconfigured, ModelMismatch, Unavailable
from lorestream.ports import Tombstone
from tests.contracts.stored import NOW, START, memory, names, nearest, put
from tests.contracts.test_store_rows import GROUP, row

CHILD = """
import asyncio, sys
from pathlib import Path
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.ports import Tombstone
from tests.contracts.stored import memory, put, START

async def main():
    store = EdgeStore.open(Path(sys.argv[1]), model_id="hash", dim=4)
    print("open", flush=True)
    for n in range(int(sys.argv[2])):
        await put(store, *(memory(f"m{n}.{i}", timestamp=START + n) for i in range(10)))
        await store.put_tombstones([Tombstone("default", "a", f"m{n}.0", START)])
        print(n, flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def open_store(path, model_id="hash", dim=4):
    return EdgeStore.open(path, model_id=model_id, dim=dim)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "store"


@pytest.fixture
def child(path):
    """Starts a process that opens the store, writes, and keeps it open; kills it when the test ends."""
    started = []

    def start(rounds=0):
        command = [sys.executable, "-c", CHILD, str(path), str(rounds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


async def test_flushed_writes_are_there_after_a_restart(path):
    async with open_store(path) as store:
        await put(store, memory("m"), memory("gone"))
        await store.put_tombstones([Tombstone("default", "a", "gone", START)])
        await store.flush()
    async with open_store(path) as store:
        assert await names(store) == ["m"]
        await put(store, memory("gone"), memory("m", text="second"))
        assert await names(store) == ["m"]
        assert (await store.get("default", "a", "m", now=NOW)).text == "text of m"


async def test_writes_survive_a_kill_without_a_flush(path, child):
    process = child(rounds=3)
    assert process.stdout.readline() == "open\n"
    for n in range(3):
        assert process.stdout.readline() == f"{n}\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    async with open_store(path) as store:
        shown = await names(store)
        assert shown == [f"m{n}.{i}" for n in (2, 1, 0) for i in range(9, 0, -1)]
        await put(store, memory("m1.0"))
        assert await names(store) == shown


async def test_a_store_killed_while_it_writes_can_be_opened(path, child):
    """Every round that was reported as done is there, and of later rounds at most the one that was running."""
    done = 0
    for rounds in (1, 8):
        process = child(rounds=100_000)
        assert process.stdout.readline() == "open\n"
        for _ in range(rounds):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        reported = [int(line) for line in process.stdout.read().split("\n")[:-1]]
        done = max([done, rounds - 1, *reported])
        async with open_store(path) as store:
            shown = set(await names(store))
        assert {f"m{n}.{i}" for n in range(done + 1) for i in range(1, 10)} <= shown
        assert not {f"m{n}.0" for n in range(done + 1)} & shown


async def test_a_store_whose_creation_was_killed_is_created_again(path, child):
    for _ in range(2):
        process = child()
        while not path.exists() and process.poll() is None:
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
        process.wait()
        async with open_store(path) as store:
            await put(store, memory("m"))
            assert await names(store) == ["m"]
        shutil.rmtree(path)


async def test_an_incomplete_shard_is_deleted_and_created_again(path):
    half = path / "shard.new" / "segments" / "1234"
    half.mkdir(parents=True)
    (half / "page_0.dat").write_bytes(b"\0" * 100)
    (path / "store.json").write_text(json.dumps({"model_id": "another", "dim": 3, "schema": 1}))
    async with open_store(path) as store:
        await put(store, memory("m"))
    assert not (path / "shard.new").exists()
    async with open_store(path) as store:
        assert await names(store) == ["m"]


async def test_another_model_is_refused(path):
    await open_store(path, "minilm@1").close()
    for model, dim in (("minilm@2", 4), ("minilm@1", 8)):
        with pytest.raises(ModelMismatch, match=r"filled by minilm@1 \(4 dimensions\).*--data") as refused:
            open_store(path, model, dim)
        assert "\n" not in str(refused.value)
    await open_store(path, "minilm@1").close()


async def test_a_second_process_is_refused_until_the_first_is_killed(path, child):
    process = child()
    assert process.stdout.readline() == "open\n"
    with pytest.raises(Misconfigured, match=r"in use by another lorestream.*--data") as refused:
        open_store(path)
    assert "\n" not in str(refused.value)
    process.send_signal(signal.SIGKILL)
    process.wait()
    await open_store(path).close()


async def test_a_second_store_of_the_same_process_is_refused_too(path):
    async with open_store(path):
        with pytest.raises(Misconfigured, match="in use"):
            open_store(path)


async def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Misconfigured, match=r"cannot be written \(Not a directory\).*--data"):
        open_store(tmp_path / "file" / "store")
    with pytest.raises(Misconfigured, match="cannot be written"):
        open_store(tmp_path / "file")


@pytest.mark.parametrize("damage", ["label gone", "label broken", "label old", "shard emptied"])
async def test_a_damaged_store_is_refused_with_its_path(path, damage):
    await open_store(path).close()
    label = path / "store.json"
    match damage:
        case "label gone":
            label.unlink()
        case "label broken":
            label.write_text("{")
        case "label old":
            label.write_text('{"model_id": "hash", "dim": 4, "schema": 0}')
        case "shard emptied":
            shutil.rmtree(path / "shard")
            (path / "shard").mkdir()
    with pytest.raises(Misconfigured) as refused:
        open_store(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_a_temporary_store_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = open_store(None)
    await put(store, memory("m"))
    assert list(tmp_path.iterdir())
    await store.close()
    await store.close()
    assert not list(tmp_path.iterdir())
    with pytest.raises(Unavailable):
        await store.search(nearest(1))


async def test_a_shard_created_in_a_subprocess_is_opened_unchanged(path):
    await create_in_subprocess(path, model_id="hash", dim=4, words=DEFAULT_LAYOUT)
    made = {one: one.stat().st_ino for one in (path / "store.json", path / "shard")}
    with pytest.raises(ModelMismatch):
        open_store(path, model_id="other")
    async with open_store(path) as store:
        await put(store, memory("m"))
        assert await names(store) == ["m"]
    assert {one: one.stat().st_ino for one in made} == made


async def test_a_shard_that_cannot_be_created_in_a_subprocess_is_an_outage_that_names_the_cause(path):
    path.parent.mkdir()
    path.write_text("no directory")
    with pytest.raises(Unavailable, match=r"could not be created \(.*cannot be written") as refused:
        await create_in_subprocess(path, model_id="hash", dim=4, words=DEFAULT_LAYOUT)
    assert "\n" not in refused.value.message


async def test_the_subprocess_runs_no_module_of_the_current_directory(path, tmp_path, monkeypatch):
    """A msgspec.py in the folder where `lorestream up` runs is not imported by compaction or replay."""
    (tmp_path / "msgspec.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    await create_in_subprocess(path, model_id="hash", dim=4, words=DEFAULT_LAYOUT)
    assert not (tmp_path / "was run").exists()
    assert (path / "shard").is_dir()


async def test_a_shard_of_an_older_version_gets_its_indexes_when_it_is_opened(path):
    async with open_store(path) as store:
        await store.put_rows([row()])
        for key in ("owner", "group", "row_expires", "accepted"):
            store._shard.update(edge.UpdateOperation.delete_field_index(key))
        await store.flush()
        assert len(store._shard.info().payload_schema) == 14
    async with open_store(path) as store:
        assert len(store._shard.info().payload_schema) == 18
        assert await store.owners(GROUP) == ["a"]
        assert await store.row_page(GROUP, "a", after=None, limit=10) == ([row()], None)


async def test_vectors_of_half_precision_take_half_the_bytes_and_stay_so(path):
    """The setting is for stores that are created: one that exists is opened with either value and keeps its own."""
    rows = np.random.default_rng(1).standard_normal((40, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    memories = [memory(f"m{number}") for number in range(40)]
    await create_in_subprocess(path, model_id="hash", dim=384, words=DEFAULT_LAYOUT, vectors="float16")
    async with open_store(path, dim=384) as store:
        await store.insert(memories, rows)
    assert json.loads((path / "store.json").read_text())["vectors"] == "float16"
    async with open_store(path, dim=384) as store:
        hits = await store.search(nearest(40, vector=tuple(rows[0])))
        kept = await store.get_many("default", "a", ["m7"], vectors=True)
    exact = sorted((rows @ rows[0]).tolist(), reverse=True)
    assert [hit.relevance for hit in hits] == pytest.approx(exact, abs=1e-4)
    [(_, vector)] = kept
    assert not np.array_equal(vector, rows[7])
    assert np.array_equal(vector, vector.astype(np.float16))
