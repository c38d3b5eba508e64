"""Contract of every VectorStore: scans of everything, and look-ups by id."""

import pytest
from msgspec import structs

from lorestream.memories import Erasure, SubjectKind
from lorestream.ports import Tombstone
from tests.contracts.stored import NOW, START, memory, put
from tests.contracts.test_store import WHOLE


def identity(one):
    """The id of a memory or tombstone."""
    key = one.memory_id if isinstance(one, Tombstone) else one.id
    return (one.tenant, one.agent_id, key)


async def scan_pages(store, limit=1000, after=None):
    """Everything, one page at a time."""
    while True:
        page, after = await store.scan(after, limit)
        assert len(page) <= limit
        for one in page:
            yield one
        if after is None:
            return


async def scan_all(store, limit=1000):
    return [one async for one in scan_pages(store, limit)]


async def test_an_empty_store(store):
    assert await store.scan(None, 10) == ([], None)


async def test_scan_returns_all_tenants_expired_memories_and_tombstones(store):
    lasting = structs.replace(WHOLE, agent_id="player:k2:x", lasting_agent="player:k1:x")
    kept = [WHOLE, lasting, memory("m", tenant="other"), memory("past", expires_at=NOW - 1)]
    await put(store, *kept, memory("gone"))
    graves = [Tombstone("default", "a", "gone", START + 0.1), Tombstone("other", "ä\x00", "never", 2e9)]
    await store.put_tombstones(graves)
    found = await scan_all(store)
    assert sorted(found, key=identity) == sorted([*kept, *graves], key=identity)


@pytest.mark.parametrize("limit", [1, 7, 10_000])
async def test_every_page_size_returns_everything_once(store, limit):
    await put(store, *(memory(f"m{n}", agent_id=f"a{n % 3}") for n in range(30)))
    await store.put_tombstones([Tombstone("default", "a", f"t{n}", START) for n in range(5)])
    found = [identity(one) for one in await scan_all(store, limit)]
    assert len(found) == len(set(found)) == 35
    assert found == [identity(one) for one in await scan_all(store)]


async def test_pages_larger_than_the_engines_batches(store):
    await put(store, *(memory(f"m{n}") for n in range(1200)))
    found = [one.id for one in await scan_all(store, 5000)]
    assert len(found) == len(set(found)) == 1200


async def test_writes_between_pages_do_not_repeat_or_hide_entries(store):
    """The memory at the cursor is removed and others are added: those that remain are returned once each."""
    await put(store, *(memory(f"m{n}", agent_id="stays") for n in range(20)))
    await put(store, *(memory(f"x{n}", agent_id="goes") for n in range(20)))
    seen, after, turn = [], None, 0
    while True:
        page, after = await store.scan(after, 5)
        seen += [identity(one) for one in page]
        if after is None:
            break
        turn += 1
        if turn == 2:
            await store.erase(Erasure("e", "default", SubjectKind.AGENT, ("goes",), START))
        await put(store, *(memory(f"new{turn}-{n}", agent_id="comes") for n in range(2)))
        await store.put_tombstones([Tombstone("default", "stays", f"m{turn}", START)])
    assert len(seen) == len(set(seen))
    assert {one for one in seen if one[1] == "stays"} == {("default", "stays", f"m{n}") for n in range(20)}


async def test_lookup(store):
    lasting = memory("m", agent_id="player:k2:x", lasting_agent="player:k1:x")
    past = memory("past", expires_at=NOW - 1)
    await put(store, memory("m"), lasting, past)
    grave = Tombstone("default", "a", "gone", START)
    await store.put_tombstones([grave])
    asked = [memory("gone"), lasting, memory("m", text="another"), memory("m", tenant="other"), past]
    assert await store.lookup(asked) == [grave, lasting, memory("m"), None, past]
    assert await store.lookup([]) == []


async def test_lookup_of_many(store):
    many = [memory(f"m{n}") for n in range(600)]
    await put(store, *many[::2])
    assert await store.lookup(many) == [one if n % 2 == 0 else None for n, one in enumerate(many)]
