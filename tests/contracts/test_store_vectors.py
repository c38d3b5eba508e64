"""Contract of every VectorStore: reusable vectors."""

from dataclasses import replace

import numpy as np

from lorestream.ports import Tombstone
from tests.contracts.stored import EAST, START, memory, put

NORTH = (0.0, 1.0, 0.0, 0.0)


async def test_vectors_are_reusable_for_equal_texts(store):
    east, north = memory("east"), memory("north", agent_id="b", truncated=True)
    await put(store, east)
    await put(store, north, vector=NORTH)
    other_text = replace(east, text="something else")
    found = await store.reusable_vectors([north, memory("never"), east, other_text])
    assert [one and (tuple(np.round(one[0], 5)), one[1]) for one in found] == [
        (NORTH, True),
        None,
        (EAST, False),
        None,
    ]


async def test_tombstones_and_other_agents_have_no_reusable_vector(store):
    await put(store, memory("gone"), memory("there"))
    await store.put_tombstones([Tombstone("default", "a", "gone", START)])
    found = await store.reusable_vectors(
        [memory("gone"), memory("there", agent_id="b"), memory("there", tenant="other")]
    )
    assert found == [None, None, None]


async def test_many_memories_and_none(store):
    kept = [memory(f"m{n}") for n in range(300)]
    await put(store, *kept)
    assert [one is not None for one in await store.reusable_vectors(kept)] == [True] * 300
    assert await store.reusable_vectors([]) == []
