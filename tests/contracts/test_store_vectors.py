"""Contract of every VectorStore: vectors that are reused, by memory and by text."""

import numpy as np
from msgspec import structs

from lorestream.memories import Erasure, SubjectKind
from lorestream.ports import Tombstone
from tests.contracts.stored import EAST, START, memory, put

NORTH = (0.0, 1.0, 0.0, 0.0)


async def test_vectors_are_reusable_for_equal_texts(store):
    east, north = memory("east"), memory("north", agent_id="b", truncated=True)
    await put(store, east)
    await put(store, north, vector=NORTH)
    other_text = structs.replace(east, text="something else")
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


async def test_vectors_of_memories_in_their_order(store):
    await put(store, memory("east"))
    await put(store, memory("north", agent_id="b"), vector=NORTH)
    found = await store.vectors([memory("north", agent_id="b"), memory("never"), memory("east")])
    assert [None if one is None else tuple(np.round(one, 5)) for one in found] == [NORTH, None, EAST]
    assert await store.vectors([]) == []


async def test_vectors_of_an_agent_whose_stored_name_has_changed(store):
    """After a rotation of the player key, the agent's new memories have another agent_id, and the same lasting one."""
    renamed = structs.replace(memory("east", agent_id="new"), lasting_agent="old", agent_player="p")
    await put(store, renamed)
    assert [tuple(np.round(one, 5)) for one in await store.vectors([renamed])] == [EAST]
    assert [one is not None for one in await store.reusable_vectors([renamed])] == [True]
    assert await store.lookup([renamed]) == [renamed]
    assert [one.id for one, _ in await store.get_many("default", "old", ["east"], vectors=True)] == ["east"]


async def test_many_memories_and_none(store):
    kept = [memory(f"m{n}") for n in range(300)]
    await put(store, *kept)
    assert [one is not None for one in await store.reusable_vectors(kept)] == [True] * 300
    assert await store.reusable_vectors([]) == []


async def test_the_vector_of_a_text_is_found_whoever_remembers_it(store):
    """By the exact text, of another agent and tenant too, byte for byte as it was inserted."""
    vector = np.array([0.1, 0.7, -0.7, 0.1], np.float32)
    vector /= np.linalg.norm(vector)
    await put(store, memory("first", tenant="other", text="dug oak", truncated=True), vector=vector)
    await put(store, memory("second", agent_id="b", text="dug oak"), memory("third", text="Dug oak"))
    found = await store.text_vectors(["dug oak", "dug", "Dug oak", "dug oak"])
    assert [one and one[1] for one in found] == [True, None, False, True]
    assert found[0][0].dtype == np.float32
    assert found[0][0].tobytes() == vector.tobytes()
    assert tuple(np.round(found[2][0], 5)) == EAST
    assert await store.text_vectors([]) == []


async def test_what_was_erased_or_deleted_or_is_metadata_gives_no_vector(store):
    await put(store, memory("a", text="mine"), memory("b", text="other", metadata={"text": "told"}))
    await put(store, structs.replace(memory("c", text="a record"), recall=False))
    assert [one is None for one in await store.text_vectors(["mine", "told", "a record"])] == [
        False,
        True,
        True,
    ]
    await store.put_tombstones([Tombstone("default", "a", "a", START)])
    await store.erase(Erasure("e", "default", SubjectKind.AGENT, ("a",), START))
    assert await store.text_vectors(["mine", "other"]) == [None, None]
