"""Contract of the ports RowReader and RowWriter, and what the other ports of a store do with rows."""

import base64
import os
from dataclasses import replace

import pytest

from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.errors import InvalidEvent
from lorestream.memories import AgentKey, Erasure, Scope, SubjectKind
from lorestream.ports import Tombstone
from lorestream.state.documents import answer_key, document_key, version_key
from lorestream.state.policies import PART_BYTES, part_key
from lorestream.state.q_tables import q_state_key
from lorestream.state.rows import Row, RowGroup, RowKind
from tests.contracts.stored import NOW, START, memory, names, nearest, put
from tests.contracts.test_store_scan import scan_all
from tests.rows_in_memory import MemoryRows

GROUP = RowGroup("default", RowKind.DOCUMENT, "character")


def row(name="a", offset=1, *, key=None, log="log", body="{}", listed=True, **fields):
    """The row of a document of the agent `name`; its times are START."""
    fields = {"accepted_at": START, "since": START, "born": offset, **fields}
    key = key or document_key("default", name, "character")
    return Row(key=key, body=body, log=log, offset=offset, listed=listed, **fields)


def part(number):
    """A part of a policy, as large as they are."""
    content = base64.b64encode(os.urandom(PART_BYTES)).decode()
    key = part_key("default", "a", "main", "upload", number)
    return row(key=key, body=f'"{content}"', listed=False, expires_at=NOW - 1)


async def stored(rows, *keys):
    return [None if one is None else (one.log, one.offset, one.body) for one in await rows.rows(keys)]


@pytest.fixture(params=["edge", "server", "dictionary"])
def writer(request):
    """Every RowWriter, the one that the tests of folding use included."""
    if request.param == "dictionary":
        return MemoryRows()
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
async def edge_store():
    async with EdgeStore.open(None, model_id="hash", dim=4) as opened:
        yield opened


@pytest.fixture
async def server_store(qdrant):
    async with qdrant.store(dim=4) as opened:
        yield opened


# --- keys and values ----------------------------------------------------------------------------------------


async def test_a_row_comes_back_as_it_was_written(store):
    whole = Row(
        key=version_key("t", 'player:k1:"ä\x00', "policy:main", 7),
        body='{"a": [1e400, 12345678901234567890, "ä\\u0000"], "b": 0.1}',
        accepted_at=START + 0.1,
        since=START - 1e-6,
        log="a/b",
        offset=2**52,
        born=3,
        agent_player="k1:ä",
        expires_at=START + 0.3,
        listed=True,
    )
    plain = row()
    await store.put_rows([whole, plain])
    missing = document_key("default", "a", "other")
    assert await store.rows([plain.key, missing, whole.key, plain.key]) == [plain, None, whole, plain]
    assert await store.rows([]) == []


async def test_keys_with_equal_texts_are_different_rows(store):
    keys = [
        document_key("default", "a", "x"),
        document_key("other", "a", "x"),
        answer_key("default", "a", "x", "1"),
        version_key("default", "a", "x", 1),
        q_state_key("default", "a", "x", "1"),
        part_key("default", "a", "x", "1", 1),
    ]
    rows = [row(key=key, body=str(n)) for n, key in enumerate(keys)]
    await store.put_rows(rows)
    await put(store, memory("document"), memory("x"))
    assert await store.rows(keys) == rows


async def test_a_body_that_is_no_text_is_refused(store):
    with pytest.raises(InvalidEvent, match="cannot be stored"):
        await store.put_rows([row(body='"\ud800"')])
    assert await store.rows([row().key]) == [None]


# --- guards -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "offset", "body"),
    [("log", 4, "old"), ("log", 5, "old"), ("log", 6, "new"), ("another", 1, "new")],
)
async def test_a_row_is_replaced_only_by_one_with_a_later_event(writer, log, offset, body):
    await writer.put_rows([row(offset=5, body="old")])
    await writer.put_rows([row(log=log, offset=offset, body="new")])
    [found] = await writer.rows([row().key])
    assert found.body == body


async def test_each_row_of_a_write_has_its_own_guard(writer):
    """Offsets that overlap, of two logs: the stored row of one is newer than the new row of another."""
    before = [row("a", 10), row("b", 2), row("c", 7), row("d", 7, log="another"), row("f", 2**40)]
    await writer.put_rows([replace(one, body="old") for one in before])
    after = [row("a", 9), row("b", 3), row("c", 8), row("d", 1), row("e", 1), row("f", 2**40 + 1)]
    await writer.put_rows([replace(one, body="new") for one in after])
    found = await writer.rows([one.key for one in after])
    assert [one.body for one in found] == ["old", "new", "new", "new", "new", "new"]
    assert [one.offset for one in found] == [10, 3, 8, 1, 1, 2**40 + 1]


async def test_a_write_between_reading_and_writing_is_seen_by_the_guard(writer):
    """A suspended worker folded a part of the same batch: what has more events stays, what has fewer goes."""
    keys = [row(name).key for name in "ab"]
    assert await writer.rows(keys) == [None, None]
    await writer.put_rows([row("a", 150, body="zombie"), row("b", 150, body="zombie")])
    await writer.put_rows([row("a", 200, body="mine"), row("b", 120, body="mine")])
    assert await stored(writer, *keys) == [("log", 200, "mine"), ("log", 150, "zombie")]


async def test_many_rows_in_one_write(writer):
    rows = [row(f"a{n}", n, body=str(n)) for n in range(200)]
    await writer.put_rows(rows)
    await writer.put_rows([replace(one, offset=one.offset + n % 3 - 1) for n, one in enumerate(rows)])
    found = await writer.rows([one.key for one in rows])
    assert [one.offset for one in found] == [n + (n % 3 == 2) for n in range(200)]


async def test_inserted_rows_never_replace_others(writer):
    await writer.put_rows([row("a", 5, body="old")])
    await writer.insert_rows([row("a", 9, body="new"), row("b", 1, log="another", body="new")])
    assert await stored(writer, row("a").key, row("b").key) == [("log", 5, "old"), ("another", 1, "new")]


async def test_rows_with_a_later_event_are_not_removed(writer):
    rows = [row("a", 5), row("b", 6), row("c", 7), row("d", 100, log="another"), row("e", 1)]
    await writer.put_rows(rows)
    await writer.delete_rows([one.key for one in rows[:4]] + [row("none").key], log="log", offset=6)
    found = await writer.rows([one.key for one in rows])
    assert found == [None, None, rows[2], None, rows[4]]
    await writer.delete_rows([], log="log", offset=6)


# --- listing ------------------------------------------------------------------------------------------------


async def page_through(store, group, agent, limit):
    found, after = [], None
    while True:
        page, after = await store.row_page(group, agent, after=after, limit=limit)
        assert len(page) <= limit
        found += page
        if after is None:
            return found


async def test_pages_of_the_listed_rows_of_a_group(writer):
    states = [row(key=q_state_key("default", "a", "q", f"s{n}"), offset=n) for n in range(130)]
    others = [
        row(key=q_state_key("default", "b", "q", "s0")),
        row(key=q_state_key("default", "a", "q2", "s0")),
        row(key=q_state_key("other", "a", "q", "s0")),
        row(key=q_state_key("default", "a", "q", "hidden"), listed=False),
        row(key=document_key("default", "a", "q")),
    ]
    await writer.put_rows([*states, *others])
    group = RowGroup("default", RowKind.Q_STATE, "q")
    for limit in (1000, 64, 7):
        found = await page_through(writer, group, "a", limit)
        assert sorted(one.offset for one in found) == list(range(130))
    assert await writer.row_page(group, "nobody", after=None, limit=10) == ([], None)


async def test_a_page_is_stable_under_writes(store):
    """What exists throughout comes exactly once."""
    group = RowGroup("default", RowKind.Q_STATE, "q")
    lasting = {f"s{n}" for n in range(40)}
    await store.put_rows([row(key=q_state_key("default", "a", "q", name)) for name in sorted(lasting)])
    seen, after, number = [], None, 0
    while True:
        page, after = await store.row_page(group, "a", after=after, limit=7)
        seen += [one.key.parts[1] for one in page]
        if after is None:
            break
        number += 1
        new = [row(key=q_state_key("default", "a", "q", f"new{number}.{n}")) for n in range(5)]
        changed = [row(key=q_state_key("default", "a", "q", name), offset=1 + number) for name in lasting]
        await store.put_rows([*new, *changed])
        await store.delete_rows([new[0].key], log="log", offset=1)
    assert len(seen) == len(set(seen))
    assert lasting <= set(seen)


async def test_owners_of_a_group(writer):
    rows = [row(f"a{n}") for n in range(5)]
    others = [
        row(key=document_key("other", "a9", "character")),
        row(key=document_key("default", "a8", "encoder")),
        row("a7", listed=False),
        row("a6"),
    ]
    await writer.put_rows([*rows, *others, row(key=version_key("default", "a5", "character", 1))])
    await writer.delete_rows([row("a6").key], log="log", offset=1)
    assert sorted(await writer.owners(GROUP)) == [f"a{n}" for n in range(5)]
    await writer.put_rows([row("a0", 2, listed=False)])
    assert sorted(await writer.owners(GROUP)) == [f"a{n}" for n in range(1, 5)]
    assert await writer.owners(RowGroup("default", RowKind.Q_TABLE, "character")) == []


# --- rows beside memories -----------------------------------------------------------------------------------


async def test_no_read_of_memories_finds_a_row(store):
    await store.put_rows([row(), row(key=q_state_key("default", "a", "q", "s"), expires_at=NOW - 1)])
    assert await names(store) == []
    await put(store, memory("m", metadata={"n": 1}), memory("r", recall=False, type="tool"))
    assert await store.search(nearest(10)) != []
    for agents in (("a",), None):
        assert await store.agents(Scope("default", agents), limit=10, now=NOW) == [("a", 1)]
        assert await store.count_by_type(Scope("default", agents), limit=10, now=NOW) == []
    assert await store.size(now=NOW) == 2
    assert await store.agents_above(keep=0) == [AgentKey("default", "a")]
    await store.put_rows([row(f"b{n}") for n in range(3)])
    assert await store.agents_above(keep=0) == [AgentKey("default", "a")]
    assert await store.trim(AgentKey("default", "a"), keep=0, limit=10, now=NOW) == 1
    assert await store.rows([row().key]) == [row()]


async def test_a_scan_returns_rows_with_memories_and_tombstones(store):
    rows = [row(f"a{n}", offset=n, body=f'"{n}"') for n in range(150)] + [row(expires_at=START)]
    await store.put_rows(rows)
    await put(store, memory("m"), memory("r", recall=False))
    found = await scan_all(store, 7)
    assert sorted((one for one in found if isinstance(one, Row)), key=lambda one: one.key.agent_id) == sorted(
        rows, key=lambda one: one.key.agent_id
    )
    assert len(found) == len(rows) + 2


async def test_the_space_of_rows_is_that_of_so_many_memories(store):
    assert await store.row_space(10) == 0
    await put(store, memory("m"), memory("r", recall=False))
    await store.put_rows([row("a"), row("b"), row("c", body=f'"{"x" * 40_960}"')])
    assert await store.row_space(1000) == 13
    assert 3 <= await store.row_space(3) <= 13


async def test_an_erasure_removes_rows_whose_oldest_content_it_covers(store):
    old, mixed = row("a"), row("a", key=q_state_key("default", "a", "q", "s"), accepted_at=START + 9)
    new = row("a", key=document_key("default", "a", "new"), since=START + 5, accepted_at=START + 5)
    rows = [old, mixed, new, row("b"), row(key=document_key("other", "a", "character"))]
    await store.put_rows(rows)
    await put(store, memory("m"), memory("r", recall=False))
    erasure = Erasure("e1", "default", SubjectKind.AGENT, ("a",), START + 1)
    assert await store.erase(erasure) == {AgentKey("default", "a")}
    assert await store.rows([one.key for one in rows]) == [None, None, *rows[2:]]
    assert await store.size(now=NOW) == 0
    assert await store.erase(erasure) == set()


async def test_an_erasure_of_a_player_removes_the_rows_of_its_agents(store):
    rows = [
        row("player:k1:x", agent_player="k1:x"),
        row("player:k1:y", agent_player="k1:y"),
        row(key=document_key("other", "player:k1:x", "character"), agent_player="k1:x"),
        row("smith"),
    ]
    await store.put_rows(rows)
    await put(store, memory("m", agent_id="smith", player="k1:x"))
    erasure = Erasure("e1", "default", SubjectKind.PLAYER, ("k1:x", "k2:x"), START)
    assert await store.erase(erasure) == {AgentKey("default", "player:k1:x"), AgentKey("default", "smith")}
    assert await store.rows([one.key for one in rows]) == [None, *rows[1:]]


async def test_a_sweep_removes_expired_rows_unless_they_are_kept(store):
    rows = [row(f"a{n}", expires_at=START + n) for n in range(4)] + [row("lasting")]
    await store.put_rows(rows)
    await store.keep_rows([rows[1].key, row("none").key])
    await store.keep_rows([])
    assert await store.rows([rows[1].key]) == [replace(rows[1], expires_at=None)]
    limits = {"expired_before": START + 2, "tombstones_before": 0.0}
    assert await store.sweep(**limits, limit=1) == 1
    assert await store.sweep(**limits, limit=10) == 1
    assert [one is not None for one in await store.rows([one.key for one in rows])] == [
        *(False, True, False, True),
        True,
    ]


async def test_a_sweep_and_a_trim_leave_what_changed_after_they_looked(store, monkeypatch):
    """They removed by id whatever was there by then: a row that no longer expires, a tombstone."""
    kept, expired = row("kept", expires_at=START), row("expired", expires_at=START)
    await store.put_rows([kept, expired])
    await put(store, *(memory(f"m{n}", timestamp=START + n) for n in range(3)))
    grave = Tombstone("default", "a", "m0", START)
    delete = store._engine.delete

    async def delete_after_changes(*args, **options):
        await store.keep_rows([kept.key])
        await store.put_tombstones([grave])
        await delete(*args, **options)

    monkeypatch.setattr(store._engine, "delete", delete_after_changes)
    await store.sweep(expired_before=NOW, tombstones_before=0.0, limit=10)
    assert await store.rows([kept.key, expired.key]) == [replace(kept, expires_at=None), None]
    await put(store, memory("m00", timestamp=START))
    grave = Tombstone("default", "a", "m00", START)
    await store.trim(AgentKey("default", "a"), keep=1, limit=10, now=NOW)
    assert await names(store) == ["m2"]
    assert await store.lookup([memory("m00")]) == [grave]


# --- large bodies -------------------------------------------------------------------------------------------


async def test_large_bodies_are_written_and_read_in_steps(store, monkeypatch):
    """The parts of two policies: no call of the engine has more than a bounded number of bytes."""
    parts = [part(number) for number in range(20)]
    calls = []
    engine = store._engine
    upsert, retrieve = engine.upsert, engine.retrieve

    async def counted_upsert(points, **options):
        calls.append(len(points))
        await upsert(points, **options)

    async def counted_retrieve(ids, keys, **options):
        calls.append(len(ids))
        return await retrieve(ids, keys, **options)

    monkeypatch.setattr(engine, "upsert", counted_upsert)
    monkeypatch.setattr(engine, "retrieve", counted_retrieve)
    await store.put_rows(parts)
    assert max(calls) <= 7
    assert sum(calls) == 20
    assert await store.rows([one.key for one in parts]) == parts
    assert sum(isinstance(one, Row) for one in await scan_all(store)) == 20
    await store.keep_rows([one.key for one in parts])
    assert await store.sweep(expired_before=NOW, tombstones_before=0.0, limit=100) == 0
    await store.delete_rows([one.key for one in parts], log="log", offset=1)
    assert await scan_all(store) == []


# --- the embedded store -------------------------------------------------------------------------------------


async def test_rows_survive_a_restart(tmp_path):
    rows = [row("a", expires_at=NOW), row(key=q_state_key("default", "a", "q", "s"))]
    async with EdgeStore.open(tmp_path, model_id="hash", dim=4) as store:
        await store.put_rows(rows)
        await store.keep_rows([rows[0].key])
        await store.flush()
    async with EdgeStore.open(tmp_path, model_id="hash", dim=4) as store:
        assert await store.rows([one.key for one in rows]) == [replace(rows[0], expires_at=None), rows[1]]
        assert await store.owners(GROUP) == ["a"]
        await store.put_rows([row("a", 0)])
        assert [one.offset for one in await store.rows([rows[0].key])] == [1]


async def test_replaced_rows_count_as_space_that_a_compaction_frees(edge_store):
    async def removed():
        return (await edge_store.reclaimable()).points

    await edge_store.put_rows([row("a", 1), row("b", 5)])
    assert await removed() == 0
    await edge_store.put_rows([row("a", 2), row("b", 4)])
    assert await removed() == 1  # b stays
    await edge_store.delete_rows([row("a").key, row("b").key], log="log", offset=2)
    assert await removed() == 2
    await edge_store.put_rows([part(0)])
    await edge_store.keep_rows([part(0).key])
    assert await removed() > 50  # as much as so many memories
