"""Several collections in one process: all are kept up to date, one is searched, and `finished` follows the alias."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorestream import events
from lorestream.adapters.embedders import model_files
from lorestream.adapters.embedders.hash import HashEmbedder
from lorestream.adapters.in_process.watermarks import LocalWatermarks
from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.admin import NoArguments
from lorestream.collections import open_collections
from lorestream.collections.catalogue import REPLACED_RETENTION_S, Model
from lorestream.collections.open_collections import CLOSE_REPLACED_AFTER_S, GroupWatermarks
from lorestream.errors import InvalidRequest, OperationRefused, Unavailable
from lorestream.ports import Embeddings, Priority, Role
from lorestream.wiring import OpenCollection, Runtime
from query_service.recall import CurrentRecall
from stream_workers.rebuild import alias_swap
from stream_workers.rebuild.alias_swap import AliasTasks, DropArguments, SwapArguments, switch_alias
from stream_workers.worker import Worker
from tests.parts import open_parts, put, running_worker

EDGE = {"store": {"kind": "edge"}}
OTHER = Model("hash-v1-96", 96, "hash", "hash")
SAME = Model("hash-v1-384", 384, "hash", "hash")
TIMEOUT_S = 60


@contextlib.asynccontextmanager
async def lorestream(data: Path) -> AsyncIterator[tuple[Runtime, Worker]]:
    async with open_parts(data, **EDGE) as runtime, running_worker(runtime) as worker:
        yield runtime, worker


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not look():
            await asyncio.sleep(0.02)


async def create(
    runtime: Runtime, name: str = "other", model: Model = OTHER, run: str = "run"
) -> OpenCollection:
    """Create one more collection and open it."""
    await runtime.collections.catalogue.create(name, model, run)
    return await opened(runtime, name)


async def opened(runtime: Runtime, name: str) -> OpenCollection:
    listed = {one.name: one for one in await runtime.collections.refresh()}
    return await runtime.collections.ensure_open(listed[name])


async def write(runtime: Runtime, *numbers: int) -> dict[int, int]:
    return await runtime.log.append([events.encode(put(f"m{n}", event_id=f"{n}")) for n in numbers])


async def size(runtime: Runtime, collection: OpenCollection) -> int:
    return await collection.store.size(now=runtime.clock.now())


async def outcome(reports: Any) -> dict[str, Any]:
    """The outcome of an admin task."""
    return [report async for report in reports][-1].value


async def test_a_swap_by_another_process_is_followed(tmp_path: Path) -> None:
    async with open_parts(tmp_path, **EDGE) as runtime:
        current_recall, first = CurrentRecall(runtime), runtime.collections.current
        before = current_recall()
        other = await create(runtime)
        await runtime.collections.catalogue.swap("other", 1.0)
        await until(lambda: runtime.collections.current is other)
        assert (runtime.store, runtime.embedder.dim, runtime.group) == (other.store, 96, other.group)
        after = current_recall()
        assert (after.store, after.embedder) == (other.store, other.embedder)
        # A query that began before the swap ends in the old collection.
        assert (before.store, before.embedder) == (first.store, first.embedder)
        assert before.collection != after.collection
        # Otherwise the erasures that the old one had not applied to them were lost.
        assert before.accesses is after.accesses


async def test_a_list_that_was_read_before_a_swap_does_not_undo_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_parts(tmp_path, **EDGE) as runtime:
        collections = runtime.collections
        other, catalogue = await create(runtime), collections.catalogue
        read, release = asyncio.Event(), asyncio.Event()
        list_all = catalogue.list_all

        async def list_slowly() -> Any:
            listed = await list_all()
            if not read.is_set():
                read.set()
                await release.wait()
            return listed

        monkeypatch.setattr(catalogue, "list_all", list_slowly)
        slow = asyncio.create_task(collections.refresh())
        await read.wait()
        await catalogue.swap("other", 1.0)
        fast = asyncio.create_task(collections.refresh())
        await asyncio.sleep(0.01)
        release.set()
        await asyncio.wait({slow, fast})
        assert collections.current is other


async def test_a_model_that_cannot_be_loaded_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as (runtime, _worker):
        first = runtime.collections.current
        strange = Model(
            "of-another-kind", 96, "hash", "hash"
        )  # can be loaded, but is not the model that filled the collection
        await runtime.collections.catalogue.create("strange", strange, "run")
        await runtime.collections.catalogue.swap("strange", 1.0)
        await until(lambda: any(one.name == "strange" and one.active for one in runtime.collections.listed))
        with pytest.raises(Exception, match="prepare that one"):
            await runtime.collections.refresh()
        assert runtime.collections.current is first
        assert await runtime.watermarks.reached(await write(runtime, 1), TIMEOUT_S)
        assert await size(runtime, first) == 1


async def test_every_listed_collection_is_kept_up_to_date_and_closed_when_it_is_deleted(
    tmp_path: Path,
) -> None:
    async with lorestream(tmp_path) as (runtime, _worker):
        assert await runtime.watermarks.reached(await write(runtime, *range(20)), TIMEOUT_S)
        other = await create(runtime)
        end = await write(runtime, *range(20, 25))
        assert await other.watermarks.reached(end, TIMEOUT_S)
        assert await runtime.watermarks.reached(end, TIMEOUT_S)
        assert await size(runtime, other) == await size(runtime, runtime.collections.current) == 25
        await runtime.collections.catalogue.mark_deleted("other", 1.0)
        await runtime.collections.refresh()
        await until(lambda: not runtime.collections.is_open("other"))
        assert await runtime.watermarks.reached(await write(runtime, 25), TIMEOUT_S)


@pytest.mark.parametrize("kind", ["hash", None])  # None: the model of the settings, which were changed
async def test_a_collection_that_cannot_be_opened_does_not_stop_the_others(
    tmp_path: Path, kind: str | None
) -> None:
    async with lorestream(tmp_path) as (runtime, worker):
        await runtime.collections.catalogue.create("strange", Model("of-another-kind", 96, kind), "run")
        other = await create(runtime)
        end = await write(runtime, 1)
        assert await other.watermarks.reached(end, TIMEOUT_S)
        assert await runtime.watermarks.reached(end, TIMEOUT_S)
        assert worker.indexer.problem is None
        assert not runtime.collections.is_open("strange")


async def test_a_list_of_all_collections_leaves_none_of_them_open(tmp_path: Path) -> None:
    """One whose model is not installed is opened for its size only: it stayed open, in memory, until the process ended."""
    async with open_parts(tmp_path, **EDGE) as runtime:
        await runtime.collections.catalogue.create("strange", Model("of-another-kind", 96, None), "run")
        reports = [one async for one in AliasTasks(runtime).list_(NoArguments())]
        assert [one.value["memories"] for one in reports[:-1]] == [0, 0]
        async with EdgeStore.open(tmp_path / "store" / "strange", model_id="of-another-kind", dim=96):
            pass  # one that is open refuses this
        assert await size(runtime, runtime.collections.current) == 0


async def test_during_a_switch_a_write_must_be_finished_in_both_collections(tmp_path: Path) -> None:
    """Without a worker: the test itself publishes the watermarks."""
    async with open_parts(tmp_path, **EDGE) as runtime:
        collections, first, other = runtime.collections, runtime.collections.current, await create(runtime)
        await first.publisher.publish({0: 5})
        assert await runtime.watermarks.reached({0: 4}, 0)
        await collections.catalogue.announce_switch([first.name, "other"])
        await collections.refresh()
        assert not await runtime.watermarks.reached({0: 4}, 0.01)
        await other.publisher.publish({0: 5})
        assert await runtime.watermarks.reached({0: 4}, 0)

        # A caller that waited before the switch was announced waits for both as well.
        await collections.catalogue.announce_switch([])
        await collections.refresh()
        waiting = asyncio.create_task(runtime.watermarks.reached({0: 5}, TIMEOUT_S))
        await asyncio.sleep(0)
        await collections.catalogue.announce_switch([first.name, "other"])
        await collections.refresh()
        await first.publisher.publish({0: 6})
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        await other.publisher.publish({0: 6})
        assert await waiting


async def test_a_switch_waits_until_both_caught_up_and_ends_its_announcement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_swap, "CATCH_UP_TIMEOUT_S", 0.1)
    async with open_parts(tmp_path, **EDGE) as runtime:
        collections, first, other = runtime.collections, runtime.collections.current, await create(runtime)
        await write(runtime, 1, 2, 3)
        await first.publisher.publish({0: 3})
        assert await switch_alias(runtime, other) == 3
        assert collections.current is first
        assert not any(one.switching for one in collections.listed)
        monkeypatch.setattr(alias_swap, "CATCH_UP_TIMEOUT_S", TIMEOUT_S)
        switching = asyncio.create_task(switch_alias(runtime, other))
        await until(lambda: any(one.switching for one in collections.listed))
        await other.publisher.publish({0: 3})
        assert await switching == 0
        assert collections.current is other
        assert not any(one.switching for one in await collections.refresh())


async def test_swap_rollback_and_drop_are_refused_when_they_would_lose_writes_or_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alias_swap, "CATCH_UP_TIMEOUT_S", 0.1)
    async with open_parts(tmp_path, **EDGE) as runtime:
        tasks, first, other = AliasTasks(runtime), runtime.collections.current, await create(runtime)
        await write(runtime, 1, 2)
        await first.publisher.publish({0: 2})
        with pytest.raises(OperationRefused, match="not complete"):
            await outcome(tasks.swap(SwapArguments("other")))
        await runtime.collections.catalogue.mark_complete("other")
        with pytest.raises(OperationRefused, match="2 records behind the log"):
            await outcome(tasks.swap(SwapArguments()))
        with pytest.raises(OperationRefused, match="nothing to go back to"):
            await outcome(tasks.rollback(NoArguments()))
        with pytest.raises(OperationRefused, match="swap to another"):
            await outcome(tasks.drop(DropArguments(first.name)))
        with pytest.raises(InvalidRequest, match="no collection x"):
            await outcome(tasks.drop(DropArguments("x")))
        assert runtime.collections.current is first

        await other.publisher.publish({0: 2})
        assert await outcome(tasks.swap(SwapArguments())) == {"searched": "other", "before": first.name}
        with pytest.raises(OperationRefused, match="try again in"):
            await outcome(tasks.drop(DropArguments(first.name)))
        assert await outcome(tasks.rollback(NoArguments())) == {"searched": first.name, "before": "other"}
        rows = [report.value async for report in tasks.list_(NoArguments())][:-1]
        assert [(row["name"], row["searched"], row["replaced_at"] is None) for row in rows] == [
            (first.name, True, True),
            ("other", False, False),
        ]
        assert [0 < row["kept_for_s"] <= REPLACED_RETENTION_S for row in rows] == [False, True]


class Counting:
    """A real embedder that records its texts, and can be unavailable."""

    def __init__(self, embedder: Any, *, fails: bool = False) -> None:
        self._embedder = embedder
        self.fails = fails
        self.texts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    async def embed(
        self,
        texts: list[str],
        priority: Priority = Priority.INGEST,
        role: Role = Role.PASSAGE,
        **options: Any,
    ) -> Embeddings:
        if self.fails and texts:
            raise Unavailable("the model is unavailable")
        self.texts += texts
        return await self._embedder.embed(texts, priority, role, **options)


async def test_vectors_of_the_same_model_are_reused(tmp_path: Path) -> None:
    async with open_parts(tmp_path, **EDGE) as runtime:
        counting = runtime.collections._embedders[SAME.model_id] = Counting(
            runtime.collections.default_embedder
        )
        first = runtime.collections.current
        await write(runtime, *range(30))
        async with running_worker(runtime):
            assert await first.watermarks.reached({0: 29}, TIMEOUT_S)
            other = await create(runtime, model=SAME)
            assert other.embedder is counting
            assert await other.watermarks.reached({0: 29}, TIMEOUT_S)
            assert await size(runtime, other) == 30
            assert counting.texts == []


async def test_an_unavailable_model_delays_only_its_own_collection(tmp_path: Path) -> None:
    async with open_parts(tmp_path, **EDGE) as runtime:
        await create(runtime)
        await runtime.collections.close("other")
        unavailable = Counting(await runtime.collections.load_embedder(OTHER), fails=True)
        runtime.collections._embedders[OTHER.model_id] = unavailable
        other = await opened(runtime, "other")
        async with running_worker(runtime):
            assert await runtime.watermarks.reached(await write(runtime, 1), TIMEOUT_S)
            assert not await other.watermarks.reached({0: 0}, 0)
            unavailable.fails = False
            assert await other.watermarks.reached({0: 0}, TIMEOUT_S)
            assert await size(runtime, other) == 1


@pytest.mark.parametrize("kind", ["openvino", "torch"])
async def test_the_event_loop_runs_while_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """For a replay with a model, and for a swap to a collection of another one: it takes a second."""
    loop_ran = threading.Event()

    def load(*_: object, **__: object) -> HashEmbedder:
        assert loop_ran.wait(5), "the event loop stands still"
        return HashEmbedder(8)

    monkeypatch.setattr(model_files, "find", lambda *_: SimpleNamespace(directory=tmp_path))
    monkeypatch.setattr("lorestream.adapters.embedders.openvino.OpenVinoEmbedder.open", load)
    monkeypatch.setattr("lorestream.adapters.embedders.torch.TorchEmbedder.open", load)
    async with open_parts(tmp_path, **EDGE) as runtime:
        asyncio.get_running_loop().call_later(0.01, loop_ran.set)
        replayed = await runtime.collections.load_embedder(Model("", 0, kind, "model"))
        await runtime.collections.close_unused_models()
        loop_ran.clear()
        asyncio.get_running_loop().call_later(0.01, loop_ran.set)
        swapped = await runtime.collections.embedder_of(Model(replayed.model_id, 8, kind, "model"))
        assert swapped is not replayed


async def test_a_model_is_open_once_however_often_it_is_replayed_and_closed_with_its_collection(
    tmp_path: Path,
) -> None:
    async with open_parts(tmp_path, **EDGE) as runtime:
        collections = runtime.collections
        loaded = [await collections.load_embedder(OTHER) for _ in range(3)]
        assert loaded[0] is loaded[1] is loaded[2]
        assert len(collections._embedders) == 2
        await create(runtime)
        await collections.close("other")
        assert list(collections._embedders.values()) == [collections.default_embedder]
        with pytest.raises(Unavailable, match="closed"):
            await loaded[0].embed(["x"])
        assert (await opened(runtime, "other")).embedder is not loaded[0]  # loaded again where it is needed


async def test_a_query_service_closes_what_was_replaced_when_no_query_uses_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_parts(tmp_path, **EDGE) as runtime:
        collections, first = runtime.collections, runtime.collections.current
        await create(runtime)
        await collections.catalogue.mark_complete("other")
        await collections.catalogue.swap("other", 1.0)
        now = [0.0]
        monkeypatch.setattr(open_collections.time, "monotonic", lambda: now[0])
        collections._only_active = True
        for now[0] in (1.0, CLOSE_REPLACED_AFTER_S):
            await collections.refresh()
            assert collections.is_open(first.name)
        now[0] = CLOSE_REPLACED_AFTER_S + 2
        await collections.refresh()
        assert not collections.is_open(first.name)
        assert collections.current.name == "other"


async def test_the_watermarks_of_a_collection_are_closed_with_it(tmp_path: Path) -> None:
    """In Redis they are published twice a second, for as long as they are open."""
    watched: list[str] = []

    @contextlib.asynccontextmanager
    async def watch(group: str) -> AsyncIterator[GroupWatermarks]:
        watched.append(group)
        local = LocalWatermarks()
        yield GroupWatermarks(local, local)
        watched.remove(group)

    async with open_parts(tmp_path, **EDGE) as runtime:
        collections = runtime.collections
        collections._watch = watch
        other = await create(runtime)
        assert watched == [other.group]
        await collections.close("other")
        assert watched == []
        await opened(runtime, "other")
        await collections.catalogue.mark_deleted("other", 1.0)
        await collections.catalogue.delete("other")
        again = await create(runtime, run="again")
        assert watched == [again.group] != [other.group]
    assert watched == []
