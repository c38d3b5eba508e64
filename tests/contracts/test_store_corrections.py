"""Contract of every VectorStore: memories that supersede others, whom memories are about, what they rest on."""

import itertools
import math

import pytest

from lorestream.memories import (
    And,
    AroundQuery,
    Condition,
    Correction,
    Erasure,
    Field,
    Not,
    Op,
    PageQuery,
    Scope,
    SubjectKind,
)
from lorestream.ports import Tombstone
from lorestream.rewinds import Rewind
from tests.contracts.stored import NOW, START, everything, memory, names, nearest, put

K1 = "k1:" + "a" * 64
K2 = "k1:" + "b" * 64


def newer(name, old, at=1.0, **fields):
    """A memory that supersedes another, accepted `at` seconds after it."""
    return memory(name, supersedes=old, accepted_at=START + at, timestamp=START + at, **fields)


def grave(name, agent="a"):
    return Tombstone("default", agent, name, START + 50)


async def all_of(store, agent="a"):
    """Every stored memory of the agent by id, superseded ones too."""
    query = PageQuery(Scope("default", (agent,), records=True, superseded=True), 1000, NOW)
    return {one.id: one for one in await store.page(query)}


async def test_a_superseded_memory_is_in_no_read_unless_it_is_asked_for(store):
    old, new = memory("old", text="red", type="t"), newer("new", "old", text="blue", type="t")
    await put(store, old, new)
    assert await names(store) == ["new"]
    assert await store.count_by_type(Scope("default", ("a",)), limit=5, now=NOW) == [("t", 1)]
    assert await store.agents(Scope("default"), limit=5, now=NOW) == [("a", 1)]
    asked = Scope("default", ("a",), superseded=True)
    hits = await store.search(nearest(5)), await store.search(nearest(5, scope=asked))
    assert [[hit.memory.id for hit in some] for some in hits] == [["new"], ["new", "old"]]
    [shown] = (found for found in await store.page(everything(superseded=True)) if found.id == "old")
    assert shown.superseded_by == (Correction("new", START + 1),)
    assert shown.text == "red"
    assert await store.get("default", "a", "old", now=NOW) == shown
    around = AroundQuery([await store.get("default", "a", "new", now=NOW)], 1, 10, NOW)
    assert [one.before for one in await store.around(around)] == [[]]


async def test_deleting_the_newer_memory_brings_the_older_one_back_unchanged(store):
    old = memory("old", metadata={"x": [1, 0.1 + 0.2]}, about=(K1, "npc:b"), sources=("s",), player=K2)
    await put(store, old, newer("new", "old"))
    await store.put_tombstones([grave("new", "other")])
    assert await names(store) == ["new"]
    await store.put_tombstones([grave("new")])
    assert await names(store) == ["old"]
    assert await all_of(store) == {"old": old}
    [hit] = await store.search(nearest(1))
    assert round(hit.relevance, 6) == 1


async def test_the_order_of_arrival_does_not_matter(store):
    """A chain, two for one, a deletion in the middle: the same content after some of the 120 orders of the writes."""
    steps = {
        "a": lambda agent: put(store, memory("a", agent_id=agent)),
        "b": lambda agent: put(store, newer("b", "a", 1, agent_id=agent)),
        "c": lambda agent: put(store, newer("c", "b", 2, agent_id=agent)),
        "d": lambda agent: put(store, newer("d", "a", 3, agent_id=agent)),
        "bury": lambda agent: store.put_tombstones([grave("b", agent)]),
    }
    for number, order in enumerate(list(itertools.permutations(steps))[::17]):
        agent = f"agent {number}"
        for step in order:
            await steps[step](agent)
        found = await all_of(store, agent)
        assert {name: [by.id for by in one.superseded_by] for name, one in found.items()} == {
            "a": ["d"],
            "c": [],
            "d": [],
        }, order


async def test_memories_that_supersede_each_other_are_never_all_hidden(store):
    """In a circle only a later one counts, in any order of arrival; also for what was known at a time."""
    accepted, superseded = Field(("accepted_at",)), Field(("superseded_at",))
    circles = {
        "two": ({"a": ("b", 1), "b": ("a", 2)}, {1: ["a"], 2: ["b"]}),
        "three": ({"a": ("b", 1), "b": ("c", 2), "c": ("a", 3)}, {1: ["a"], 2: ["a", "b"], 3: ["b", "c"]}),
        "back": ({"a": ("b", 3), "b": ("c", 2), "c": ("a", 1)}, {1: ["c"], 2: ["b"], 3: ["a"]}),
        "alone": ({"a": ("a", 1)}, {1: ["a"]}),
        "at once": ({"a": ("b", 1), "b": ("a", 1)}, {1: ["b"]}),
    }
    for name, (circle, known) in circles.items():
        for number, order in enumerate(itertools.permutations(circle)):
            agent = f"{name} {number}"
            for one in order:
                old, at = circle[one]
                await put(store, newer(one, old, at, agent_id=agent))
            assert sorted(await names(store, agent)) == known[max(known)], agent
            for at, wanted in known.items():
                condition = And(
                    (
                        Condition(accepted, Op.LTE, START + at),
                        Not(Condition(superseded, Op.LTE, START + at)),
                    )
                )
                then = await names(store, agent, filter_=condition, superseded=True)
                assert sorted(then) == wanted, (agent, at)
    await store.put_tombstones([grave("b", "two 0")])
    assert await names(store, "two 0") == ["a"]


async def test_another_agents_memory_is_not_superseded(store):
    await put(store, memory("old", agent_id="b"), newer("new", "old"))
    assert await names(store, "b") == ["old"]


async def test_a_repeated_id_supersedes_what_its_first_content_supersedes(store):
    await put(store, memory("x"), memory("y"))
    await put(store, newer("new", "x"))
    await put(store, newer("new", "y"))
    assert await names(store) == ["new", "y"]


async def test_it_stays_superseded_when_the_newer_memory_is_swept_or_trimmed(store):
    await put(store, memory("old"), newer("brief", "old", expires_at=NOW - 10))
    assert await store.sweep(expired_before=NOW, tombstones_before=0, limit=10) == 1
    assert await names(store) == []
    # Until it is deleted: that is the undoing.
    await store.put_tombstones([grave("brief")])
    assert await names(store) == ["old"]


async def test_superseded_memories_count_among_the_newest_that_stay(store):
    await put(store, memory("older"), memory("old", timestamp=START + 1), newer("new", "old", 2))
    [agent] = await store.agents_above(keep=2)
    assert await store.trim(agent, keep=2, limit=10, now=NOW) == 1
    assert sorted(await all_of(store)) == ["new", "old"]


async def test_an_inserted_memory_brings_its_corrections_unless_they_were_deleted(store):
    by = (Correction("gone", START + 1, "s", K1), Correction("buried", START + 2))
    await store.put_tombstones([grave("buried")])
    await put(store, memory("old", superseded_by=by))
    assert (await all_of(store))["old"].superseded_by == by[:1]
    assert await names(store) == []


async def test_erasing_a_player_removes_it_from_what_others_say_about_it(store):
    named = memory("named", about=(K1, "npc:b", f"pet:player:{K1}", K2), text="who?")
    after = memory("after", about=(K1,), accepted_at=START + 20)
    await put(store, named, after, memory("own", player=K1))
    affected = await store.erase(Erasure("e", "default", SubjectKind.PLAYER, (K1,), START + 10))
    assert {one.agent_id for one in affected} == {"a"}
    found = await all_of(store)
    assert {name: one.about for name, one in found.items()} == {"named": ("npc:b", K2), "after": (K1,)}
    assert found["named"].text == "who?"
    assert await store.count(everything(filter_=Condition(Field(("about",)), Op.EQ, K1))) == 1


async def test_erasing_the_player_of_a_correction_ends_it(store):
    kinds = {
        "stored": newer("stored", "a", player=K1),
        "swept": newer("swept", "b", agent_player=K1, expires_at=NOW - 10),
    }
    await put(store, memory("a"), memory("b"), *kinds.values())
    await store.sweep(expired_before=NOW, tombstones_before=0, limit=10)
    assert await names(store) == ["stored"]
    await store.erase(Erasure("e", "default", SubjectKind.PLAYER, (K1,), START + 10))
    assert sorted(await names(store)) == ["a", "b"]
    assert {one.superseded_by for one in (await all_of(store)).values()} == {()}


async def test_conditions_on_whom_it_is_about_and_on_what_it_rests(store):
    await put(
        store,
        memory("x", about=(K1, "npc:b"), sources=("s1", "s2")),
        memory("y", sources=("s2",)),
        memory("z"),
    )
    about, sources = Field(("about",)), Field(("sources",))
    expected = {
        Condition(about, Op.EQ, K1): ["x"],
        Condition(about, Op.IN, ("npc:b", "q")): ["x"],
        Condition(about, Op.EXISTS, value=True): ["x"],
        Condition(sources, Op.EXISTS, value=False): ["z"],
        Condition(sources, Op.EQ, "s2"): ["x", "y"],
        Not(Condition(sources, Op.EQ, "s1")): ["y", "z"],
        And((Condition(sources, Op.EQ, "s2"), Condition(Field(("tick",)), Op.EXISTS, value=True))): [],
    }
    for condition, wanted in expected.items():
        assert sorted(await names(store, filter_=condition)) == wanted, condition


async def test_conditions_on_the_times_of_acceptance_and_correction_are_exact(store):
    """Before 2004 different times share a tick, by which the engine compares them."""
    first, second, third = (1e9 + step * 2**-23 for step in range(3))
    await put(
        store,
        memory("a", accepted_at=first),
        memory("b", accepted_at=second, supersedes="a"),
        memory("c", accepted_at=third, supersedes="b"),
    )
    accepted, superseded = Field(("accepted_at",)), Field(("superseded_at",))
    for then, known in ((first - 1, []), (first, ["a"]), (second, ["b"]), (third, ["c"])):
        condition = And((Condition(accepted, Op.LTE, then), Not(Condition(superseded, Op.LTE, then))))
        assert await names(store, filter_=condition, superseded=True) == known, then


async def test_a_rewound_correction_does_not_count_until_it_is_back(store):
    """Both of the corrected memory's own server and of another one; also when the correction has been swept since."""
    await put(
        store,
        memory("a"),
        memory("b", server="other"),
        newer("na", "a", server="s"),
        newer("nb", "b", server="s", expires_at=NOW - 10),
    )
    await store.sweep(expired_before=NOW, tombstones_before=0, limit=10)
    assert await names(store) == ["na"]
    agents = await store.set_aside(
        Rewind("r", "default", "s", -math.inf, math.inf), lambda one: one.server == "s"
    )
    assert {one.agent_id for one in agents} == {"a"}
    assert sorted(await names(store)) == ["a", "b"]
    late = newer("late", "b", server="s", rewound=True)
    await put(store, late)
    assert sorted(await names(store)) == ["a", "b"]
    await store.set_aside(Rewind("r", "default", "s", -math.inf, math.inf), lambda _: False)
    assert sorted(await names(store)) == ["late", "na"]


@pytest.mark.parametrize("how", ["erasure", "rewind", "undoing"])
async def test_a_correction_that_arrives_while_its_memory_is_written_again_stays(store, monkeypatch, how):
    """The memory was written back as it had been read before: it stayed shown beside the one that supersedes it."""
    old, gone = memory("old", about=(K1,), server="w"), newer("gone", "old", 1, server="x")
    await put(store, old, gone)
    new = newer("new", "old", 60, server="x")
    rewind = Rewind("r", "default", "w", START - 1, START + 30)
    if how == "undoing":
        await store.set_aside(rewind, rewind.covers)
    name = "overwrite" if how == "erasure" else "upsert"
    write = getattr(store._engine, name)

    async def write_late(*args, **options):
        monkeypatch.setattr(store._engine, name, write)
        await put(store, new)
        await store.put_tombstones([grave("gone")])
        await write(*args, **options)

    monkeypatch.setattr(store._engine, name, write_late)
    if how == "erasure":
        await store.erase(Erasure("e", "default", SubjectKind.PLAYER, (K1,), START + 30))
    elif how == "rewind":
        await store.set_aside(rewind, rewind.covers)
    else:
        await store.set_aside(Rewind("r", "default", "w", START - 1, START + 30, START + 40), lambda _: False)
    [stored] = await store.lookup([old])
    assert stored.rewound == (how == "rewind")
    assert stored.about == (() if how == "erasure" else (K1,))
    assert stored.superseded_by == (new.correction(),)
