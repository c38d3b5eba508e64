"""What every VectorStore promises of a look at everything that lies in it, and at single places."""

from dataclasses import replace

import pytest

from lorestream.memories import Erasure, SubjectKind
from lorestream.ports import Tombstone
from tests.contracts.stored import NOW, START, memory, put
from tests.contracts.test_store import WHOLE


def identity(one):
    """What tells memories and tombstones apart, whatever has become of them."""
    key = one.memory_id if isinstance(one, Tombstone) else one.id
    return (one.tenant, one.agent_id, key)


async def walk(store, limit=1000, after=None):
    """Everything, page by page."""
    while True:
        page, after = await store.scan(after, limit)
        assert len(page) <= limit
        for one in page:
            yield one
        if after is None:
            return


async def everything(store, limit=1000):
    return [one async for one in walk(store, limit)]


async def test_an_empty_store(store):
    assert await store.scan(None, 10) == ([], None)


async def test_memories_of_every_tenant_expired_ones_and_tombstones_as_they_were(store):
    lasting = replace(WHOLE, agent_id="player:k2:x", lasting_agent="player:k1:x")
    kept = [WHOLE, lasting, memory("m", tenant="other"), memory("past", expires_at=NOW - 1)]
    await put(store, *kept, memory("gone"))
    graves = [Tombstone("default", "a", "gone", START + 0.1), Tombstone("other", "ä\x00", "never", 2e9)]
    await store.put_tombstones(graves)
    found = await everything(store)
    assert sorted(found, key=identity) == sorted([*kept, *graves], key=identity)


@pytest.mark.parametrize("limit", [1, 7, 10_000])
async def test_every_page_size_shows_everything_once(store, limit):
    await put(store, *(memory(f"m{n}", agent_id=f"a{n % 3}") for n in range(30)))
    await store.put_tombstones([Tombstone("default", "a", f"t{n}", START) for n in range(5)])
    found = [identity(one) for one in await everything(store, limit)]
    assert len(found) == len(set(found)) == 35
    assert found == [identity(one) for one in await everything(store)]


async def test_pages_are_whole_past_every_step_of_the_engine(store):
    await put(store, *(memory(f"m{n}") for n in range(1200)))
    found = [one.id for one in await everything(store, 5000)]
    assert len(found) == len(set(found)) == 1200


async def test_what_is_written_in_between_repeats_and_hides_nothing(store):
    """The memory at the cursor itself goes, others come: those that stay are all seen, each once."""
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


async def test_what_lies_in_the_place_of_each(store):
    lasting = memory("m", agent_id="player:k2:x", lasting_agent="player:k1:x")
    past = memory("past", expires_at=NOW - 1)
    await put(store, memory("m"), lasting, past)
    grave = Tombstone("default", "a", "gone", START)
    await store.put_tombstones([grave])
    asked = [memory("gone"), lasting, memory("m", text="another"), memory("m", tenant="other"), past]
    assert await store.lookup(asked) == [grave, lasting, memory("m"), None, past]
    assert await store.lookup([]) == []


async def test_many_places_at_once(store):
    many = [memory(f"m{n}") for n in range(600)]
    await put(store, *many[::2])
    assert await store.lookup(many) == [one if n % 2 == 0 else None for n, one in enumerate(many)]
