"""What every VectorStore promises of the vectors that lie in it."""

from dataclasses import replace

import numpy as np

from lorestream.ports import Tombstone
from tests.contracts.stored import EAST, START, memory, put

NORTH = (0.0, 1.0, 0.0, 0.0)


async def test_the_vector_of_a_memory_that_lies_there_with_the_same_text(store):
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


async def test_neither_tombstones_nor_other_agents_give_a_vector(store):
    await put(store, memory("gone"), memory("there"))
    await store.put_tombstones([Tombstone("default", "a", "gone", START)])
    found = await store.reusable_vectors(
        [memory("gone"), memory("there", agent_id="b"), memory("there", tenant="other")]
    )
    assert found == [None, None, None]


async def test_many_at_once_and_none(store):
    kept = [memory(f"m{n}") for n in range(300)]
    await put(store, *kept)
    assert [one is not None for one in await store.reusable_vectors(kept)] == [True] * 300
    assert await store.reusable_vectors([]) == []
