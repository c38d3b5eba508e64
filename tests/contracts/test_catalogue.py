"""The contract of Catalogue, over a directory and over a server."""

import asyncio
import contextlib
import time
import uuid

import pytest
import structlog

from lorestream.adapters.qdrant.edge import shard
from lorestream.adapters.qdrant.edge.catalogue import EdgeCatalogue
from lorestream.adapters.qdrant.server import collection
from lorestream.adapters.qdrant.words import DEFAULT_LAYOUT, layout_of
from lorestream.collections.catalogue import Model
from lorestream.errors import ModelMismatch, OperationRefused
from tests.contracts.stored import everything, memory, put

MODEL = Model("hash", 4)
OTHER = Model("hash-8", 8, kind="hash", name="some/model")
LONG_AGO = 1_700_000_000.0


@pytest.fixture(params=["edge", "server"])
async def opener(request, tmp_path, qdrant):
    """Opens the catalogue of one alias; each time the same one."""
    alias = f"test-{uuid.uuid4().hex}"

    @contextlib.asynccontextmanager
    async def edge(**options):
        catalogue = EdgeCatalogue(tmp_path, alias, **options)
        try:
            yield catalogue
        finally:
            await catalogue.close_all()

    @contextlib.asynccontextmanager
    async def server(**options):
        async with qdrant.catalogue(alias, **options) as catalogue:
            yield catalogue

    opened = edge if request.param == "edge" else server
    yield opened
    if request.param == "server":
        async with opened() as catalogue:
            for one in await catalogue.list_all():
                await catalogue.mark_deleted(one.name, LONG_AGO)
            for name in await catalogue.pending_deletions():
                await catalogue.delete(name)


@pytest.fixture
async def catalogue(opener):
    async with opener() as opened:
        yield opened


async def listed(catalogue):
    return {one.name: one for one in await catalogue.list_all()}


async def test_the_first_collection_is_created_once_and_active(catalogue, opener):
    first = await catalogue.ensure_active(MODEL)
    assert (first.active, first.complete, first.run, first.model) == (True, True, "", MODEL)
    assert await catalogue.list_all() == [first]
    await catalogue.close(first.name)
    async with opener() as again:
        assert await again.ensure_active(MODEL) == first


async def test_a_new_store_beside_the_checkpoint_of_an_old_one_gets_a_run_of_its_own(opener):
    """With the old run it would continue where the old store ended, and stay empty for good."""

    async def has_checkpoint(_name, run):
        return not run

    async with opener(has_checkpoint=has_checkpoint) as catalogue:
        with structlog.testing.capture_logs() as lines:
            first = await catalogue.ensure_active(MODEL)
        assert (first.active, first.complete, bool(first.run)) == (True, True, True)
        assert [line["log_level"] for line in lines if "the store is new" in line["event"]] == ["warning"]
        await catalogue.close(first.name)
    async with opener(has_checkpoint=has_checkpoint) as again:
        assert await again.ensure_active(MODEL) == first


async def test_another_model_is_refused_when_the_collection_does_not_say_how_to_load_its_own(
    catalogue, opener
):
    first = await catalogue.ensure_active(MODEL)
    await catalogue.close(first.name)
    async with opener() as again:
        with pytest.raises(ModelMismatch, match="hash-8"):
            await again.ensure_active(Model("hash-8", 8))


async def test_a_collection_keeps_the_language_that_it_was_created_with(opener):
    german = layout_of(("german",))
    async with opener() as catalogue:
        first = await catalogue.ensure_active(MODEL)
        assert (await catalogue.open(first.name)).words.layout == DEFAULT_LAYOUT
        await catalogue.close(first.name)
    async with opener(words=german) as again:
        with structlog.testing.capture_logs() as lines:
            assert await again.ensure_active(MODEL) == first
            store = await again.open(first.name)
        assert store.words.layout == DEFAULT_LAYOUT
        [line] = [line for line in lines if "lorestream replay" in line["event"]]
        assert (line["collection"], line["wanted"]) == (first.name, "german")
        await again.create("second", OTHER, "run1")
        assert (await again.open("second")).words.layout == german
        for name in (first.name, "second"):
            await again.close(name)


async def test_another_collection_is_created_beside_the_first(catalogue, opener):
    first = await catalogue.ensure_active(MODEL)
    await catalogue.create("second", OTHER, "run1")
    made = (await listed(catalogue))["second"]
    assert (made.active, made.complete, made.run, made.model) == (False, False, "run1", OTHER)
    store = await catalogue.open("second")
    await put(store, memory("m"), vector=(1.0,) * 8)
    assert await (await catalogue.open(first.name)).count(everything()) == 0
    for name in (first.name, "second"):
        await catalogue.close(name)
    async with opener() as again:
        await again.ensure_active(MODEL)
        assert (await listed(again))["second"] == made
        assert await (await again.open("second")).count(everything()) == 1


async def test_a_name_in_use_is_refused(catalogue):
    first = await catalogue.ensure_active(MODEL)
    await catalogue.create("second", OTHER, "run1")
    for taken in ("second", first.name):
        with pytest.raises(OperationRefused, match="already"):
            await catalogue.create(taken, OTHER, "run2")


async def test_a_swap_and_a_swap_back(catalogue, opener):
    first = await catalogue.ensure_active(MODEL)
    await catalogue.create("second", OTHER, "run1")
    await catalogue.mark_complete("second")
    assert (await listed(catalogue))["second"].complete
    await catalogue.swap("second", LONG_AGO)
    found = await catalogue.list_all()
    assert [(one.name, one.active, one.replaced_at) for one in found] == [
        ("second", True, None),
        (first.name, False, LONG_AGO),
    ]
    for name in (first.name, "second"):
        await catalogue.close(name)
    async with opener() as again:
        active = await again.ensure_active(
            MODEL
        )  # it says how to load its model, so another model is not refused
        assert (active.name, active.model) == ("second", OTHER)
        await again.swap(first.name, LONG_AGO + 1)
        found = await again.list_all()
        assert [(one.name, one.replaced_at) for one in found] == [
            (first.name, None),
            ("second", LONG_AGO + 1),
        ]


async def test_a_switch_is_announced_and_the_announcement_ended(catalogue):
    first = await catalogue.ensure_active(MODEL)
    await catalogue.create("second", OTHER, "run1")

    async def switching():
        return {one.name for one in await catalogue.list_all() if one.switching}

    assert await switching() == set()
    await catalogue.announce_switch([first.name, "second"])
    assert await switching() == {first.name, "second"}
    await catalogue.swap("second", LONG_AGO)
    assert await switching() == {first.name, "second"}
    await catalogue.announce_switch(["second"])
    assert await switching() == {"second"}
    await catalogue.announce_switch([])
    assert await switching() == set()


@pytest.mark.parametrize("opener", ["server"], indirect=True)  # a directory is used by one process
async def test_a_name_used_again_is_another_collection_for_other_processes(catalogue, opener):
    async with opener() as other_process:
        await catalogue.ensure_active(MODEL)
        await catalogue.create("second", MODEL, "run1")
        assert (await listed(other_process))["second"].run == "run1"
        await catalogue.mark_deleted("second", LONG_AGO)
        assert "second" not in await listed(other_process)
        await catalogue.delete("second")
        await catalogue.create("second", OTHER, "run2")
        second = (await listed(other_process))["second"]
        assert (second.run, second.model) == ("run2", OTHER)


async def test_a_deleted_collection_is_gone_and_its_name_free(catalogue):
    await catalogue.ensure_active(MODEL)
    await catalogue.create("second", OTHER, "run1")
    await put(await catalogue.open("second"), memory("m"), vector=(1.0,) * 8)
    await catalogue.mark_deleted("second", LONG_AGO)
    assert "second" not in await listed(catalogue)
    await catalogue.close("second")
    await catalogue.delete("second")
    assert await catalogue.pending_deletions() == {}
    await catalogue.create("second", OTHER, "run2")
    assert (await listed(catalogue))["second"].run == "run2"
    assert await (await catalogue.open("second")).count(everything()) == 0


async def test_a_collection_marked_as_deleted_is_pending_until_it_is_deleted(catalogue, opener):
    first = await catalogue.ensure_active(MODEL)
    await catalogue.create("second", OTHER, "run1")
    assert await catalogue.pending_deletions() == {}
    await catalogue.mark_deleted("second", LONG_AGO)
    assert await catalogue.pending_deletions() == {"second": LONG_AGO}
    with pytest.raises(OperationRefused, match="second is just being"):
        await catalogue.create("second", OTHER, "run2")
    for name in (first.name, "second"):
        await catalogue.close(name)
    async with opener() as again:  # the process that was deleting it has ended
        await again.ensure_active(MODEL)
        assert set(await listed(again)) == {first.name}
        [(name, at)] = (await again.pending_deletions()).items()
        assert name == "second"
        assert at <= LONG_AGO
        await again.delete("second")
        assert await again.pending_deletions() == {}
        await again.create("second", OTHER, "run2")
        assert set(await listed(again)) == {first.name, "second"}


async def test_only_collections_marked_as_deleted_are_deleted(catalogue):
    first = await catalogue.ensure_active(MODEL)
    await catalogue.create("second", OTHER, "run1")
    await put(await catalogue.open("second"), memory("m"), vector=(1.0,) * 8)
    for name in (first.name, "second", "third"):
        await catalogue.delete(name)
    assert set(await listed(catalogue)) == {first.name, "second"}
    assert await (await catalogue.open("second")).count(everything()) == 1


async def test_a_collection_whose_creation_was_interrupted_is_pending_deletion_and_not_listed(
    catalogue, monkeypatch
):
    first = await catalogue.ensure_active(MODEL)

    seen = []

    async def killed(*_, **__):
        seen.append(await catalogue.pending_deletions())
        raise asyncio.CancelledError

    began = time.time()
    with monkeypatch.context() as patched:
        patched.setattr(collection, "create_with_indexes", killed)
        patched.setattr(shard, "create_in_subprocess", killed)
        with pytest.raises(asyncio.CancelledError):
            await catalogue.create("second", OTHER, "run1")
    assert set(await listed(catalogue)) == {first.name}
    assert set(await catalogue.pending_deletions()) == {"second"}
    assert seen[0]["second"] > began + 60  # not deleted while its creation may still be running
    with pytest.raises(OperationRefused, match="second is just being"):
        await catalogue.create("second", OTHER, "run2")
    await catalogue.delete("second")
    await catalogue.create("second", OTHER, "run2")
    assert (await listed(catalogue))["second"].run == "run2"
