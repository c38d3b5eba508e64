"""Rows of state in every copy of a store: a replay's carry-over, exports and imports, snapshots, compactions."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from lorestream.admin.export_format import ExportedRow, check_header, parse_line
from lorestream.errors import InvalidRequest
from lorestream.events import DocumentWrite, QUpdate, encode
from lorestream.limits import MAX_DOCUMENT_BYTES
from lorestream.memories import Erasure, SubjectKind
from lorestream.settings import load_settings
from lorestream.state import documents, policies, q_tables
from lorestream.state.q_tables import QUpdateItem
from lorestream.state.rows import Row, RowKey
from lorestream.wiring import Runtime, restores
from stream_workers.rebuild.carry_over import CarryOver
from tests.parts import indexer_over, open_parts, put
from tests.unit.test_compaction import erase, holding, lorestream, write
from tests.unit.test_exports import export, import_
from tests.unit.test_replay import SAME, create_target
from tests.unit.test_snapshots import take

HASHED = "k1:" + "a" * 64
OLD = 1000.0
NOW = time.time()


def row(key: RowKey, body: Any, offset: int = 1, **fields: Any) -> Row:
    """A row of the log "log", accepted at OLD."""
    given = {"accepted_at": OLD, "since": OLD, "born": offset, "listed": True} | fields
    return Row(key=key, body=msgspec.json.encode(body).decode(), log="log", offset=offset, **given)


def document(agent: str = "npc:smith", offset: int = 1, type_: str = "character", **fields: Any) -> Row:
    body = documents.Document(offset, OLD, OLD, {"name": f"Ada {offset}"})
    return row(documents.document_key("default", agent, type_), body, offset, **fields)


def version(number: int, **fields: Any) -> Row:
    key = documents.version_key("default", "npc:smith", "character", number)
    return row(key, documents.Document(number, OLD, OLD, {"name": "earlier"}), listed=False, **fields)


def answer(event_id: str, **fields: Any) -> Row:
    key = documents.answer_key("default", "npc:smith", "document:character", event_id)
    return row(key, documents.Answer(applied=True, version=2), listed=False, **fields)


def everything() -> list[Row]:
    """Rows of all kinds. The document is as large as JSON can make it in an export: every character is escaped."""
    quotes = documents.Document(3, OLD, OLD, {"a": '"' * (MAX_DOCUMENT_BYTES // 2 - 8), "b": []}, tick=0.1)
    part = base64.b64encode(os.urandom(policies.PART_BYTES)).decode()
    named = f"player:{HASHED}"
    return [
        document(),
        version(1),
        answer("e1", expires_at=NOW + 10**6),
        row(documents.document_key("t-2", named, "notes"), quotes, agent_player=HASHED),
        row(q_tables.q_state_key("default", "npc:smith", "q", "s1"), {"dig": (0.1, 3)}),
        row(q_tables.q_table_key("default", "npc:smith", "q"), 1, listed=False),
        row(policies.part_key("default", "npc:smith", "main", "u1", 0), part, listed=False),
    ]


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_parts(tmp_path, store={"kind": "edge"}) as parts:
        yield parts


async def copy(runtime: Runtime, **options: Any) -> CarryOver:
    carry_over = CarryOver(runtime, await create_target(runtime), **options)
    async for _ in carry_over.copy():
        pass
    return carry_over


# --- replay -------------------------------------------------------------------------------------------------


async def test_rows_that_the_target_lacks_are_copied(runtime: Runtime) -> None:
    erased, ended = document("gone"), answer("ended", expires_at=NOW - 1)
    rows = [document(), version(1), document("replayed", 5), erased, ended]
    await runtime.store.put_rows(rows)
    target = await create_target(runtime, SAME)
    newer = replace(document("replayed", 2), log="another")
    await target.store.put_rows([newer])
    await runtime.ledger.add(Erasure("x", "default", SubjectKind.AGENT, ("gone",), OLD))
    carry_over = CarryOver(runtime, target)
    for _ in range(2):
        async for _ in carry_over.copy():
            pass
    assert carry_over.copied == 2
    found = await target.store.rows([one.key for one in rows])
    assert found == [rows[0], rows[1], newer, None, None]


async def test_documents_are_copied_where_no_memories_are(runtime: Runtime) -> None:
    """As in a replay since a time."""
    vector = np.eye(1, runtime.embedder.dim, dtype=np.float32)
    await runtime.store.insert([put("an old deed").memory("an old deed")], vector)
    await runtime.store.put_rows([document()])
    assert (await copy(runtime, memories_before=-math.inf)).copied == 1


async def test_what_a_document_replaced_during_the_copy_is_copied_too(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pass copies the document as it is by then; its earlier version has a place that the pass was past."""
    source = runtime.store
    late = [version(1), answer("e2"), document("born later")]
    await source.put_rows([document(offset=2)])
    scan, passes = source.scan, 0

    async def scan_and_change(after: str | None, limit: int) -> Any:
        nonlocal passes
        page = await scan(after, limit)
        passes += 1
        if passes == 1:
            assert page[1] is None
            await source.put_rows(late)
        return page

    monkeypatch.setattr(source, "scan", scan_and_change)
    target = (await copy(runtime)).target.store
    # The document that is new is in the log, behind what the target has read: it is folded there.
    assert await target.rows([one.key for one in late]) == [*late[:2], None]


async def test_a_collection_without_rows_is_read_once(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, calls = runtime.store.scan, 0

    async def counted(after: str | None, limit: int) -> Any:
        nonlocal calls
        calls += 1
        return await scan(after, limit)

    monkeypatch.setattr(runtime.store, "scan", counted)
    await copy(runtime)
    assert calls == 1


async def test_a_compaction_keeps_rows_and_removes_every_byte_of_the_erased(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as (runtime, compaction):
        writes = [
            DocumentWrite("default", agent, "character", "put", f"e{agent}", OLD, data={"word": word})
            for agent, word in (("spy", "under the oak"), ("smith", "nothing to hide"))
        ]
        await write(runtime, *writes)
        await runtime.store.flush()
        assert holding(tmp_path, "under the oak")
        await write(runtime, erase("spy", OLD + 1))
        assert await compaction.is_due()
        await compaction.compact()
        keys = [documents.document_key("default", agent, "character") for agent in ("spy", "smith")]
        spy, smith = await runtime.store.rows(keys)
        assert spy is None
        assert smith is not None
        assert documents.decode(smith).data == {"word": "nothing to hide"}
        assert not holding(tmp_path, "under the oak")


async def test_a_compaction_is_due_when_replaced_rows_exceed_half_of_the_rows(tmp_path: Path) -> None:
    async with lorestream(tmp_path) as (runtime, compaction):
        await runtime.store.put_rows([document(f"a{n}") for n in range(28)])
        await runtime.store.put_rows([document(f"a{n}", 2) for n in range(14)])
        assert not await compaction.is_due()  # 14 of 28
        await runtime.store.put_rows([document("a0", 3)])
        assert await compaction.is_due()


# --- exports ------------------------------------------------------------------------------------------------


def exported(one: Row) -> Row:
    """Without its position in the log."""
    return replace(one, log="", offset=0, born=0)


async def test_rows_are_exported_and_imported_once(tmp_path: Path) -> None:
    rows = everything()
    async with open_parts(tmp_path / "first") as runtime:
        await runtime.store.put_rows([*rows, answer("ended", expires_at=NOW - 1), document("gone")])
        await runtime.ledger.add(Erasure("x", "default", SubjectKind.AGENT, ("gone",), OLD))
        lines = await export(runtime)
        assert len(lines) == len(rows)
        assert len(await export(runtime, tenant="t-2")) == 1
        assert len(await export(runtime, agents=["npc:smith"])) == len(rows) - 1
        assert await import_(runtime, lines) == {"present": len(rows)}
    async with open_parts(tmp_path / "second") as runtime:
        assert await import_(runtime, lines) == {"rows": len(rows)}
        found = await runtime.store.rows([one.key for one in rows])
        assert [one and exported(one) for one in found] == [exported(one) for one in rows]
        assert await export(runtime) == lines
        assert await import_(runtime, lines) == {"present": len(rows)}
        # What is newer is taken, what is older is not.
        [line] = [one for one in lines if one["row"] == "q_table"]
        assert await import_(runtime, [line | {"body": 2, "accepted_at": OLD + 1}]) == {"rows": 1}
        assert await import_(runtime, [line]) == {"present": 1}
        await runtime.ledger.add(Erasure("y", "t-2", SubjectKind.PLAYER, (HASHED,), OLD))
        assert await import_(runtime, [one for one in lines if one["tenant"] == "t-2"]) == {"erased": 1}


GOOD = msgspec.to_builtins(ExportedRow.from_row(document()))
DEEP = json.loads("[" * 40 + "]" * 40)
LARGE = {"version": 1, "created_at": 1.0, "updated_at": 1.0, "data": {"a": "x" * MAX_DOCUMENT_BYTES}}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"row": "unknown"}, "kind: 'unknown'"),
        ({"row": 1}, "row"),
        ({"parts": []}, "parts"),
        ({"parts": ["a", "b"]}, "parts"),
        ({"parts": [1]}, "parts"),
        ({"body": {"name": "Ada"}}, "body"),
        ({"body": None}, "body"),
        ({"body": LARGE}, "body"),
        ({"body": LARGE | {"data": {"a": DEEP}}}, "levels"),
        ({"parts": ["policy:main"]}, "body"),
        ({"row": "q_state", "parts": ["q", "s"], "body": {str(n): [0.5, 1] for n in range(257)}}, "body"),
        ({"row": "policy_part", "parts": ["main", "u", 0], "body": "no base64!"}, "body"),
        ({"tenant": "T"}, "tenant"),
        ({"agent_id": "player:bob", "agent_player": "bob"}, "pseudonym"),
        ({"agent_player": HASHED}, "agent_player"),
        ({"accepted_at": 1e11}, "accepted_at"),
        ({"since": OLD + 1}, "since"),
        ({"since": -1.0}, "since"),
        ({"more": 1}, "more"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_error_of_a_bad_row_names_its_cause(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse_line(json.dumps(GOOD | wrong), NOW)
    line = parse_line(json.dumps(GOOD), NOW)
    assert isinstance(line, ExportedRow)
    assert line.to_row() == exported(document())


def test_exports_without_rows_are_read() -> None:
    for number in (1, 2):
        check_header(b'{"format": "lorestream.memories", "version": %d}' % number)


async def test_a_key_with_admin_imports_rows_of_its_own_tenant_only(runtime: Runtime) -> None:
    lines = [msgspec.to_builtins(ExportedRow.from_row(one)) for one in everything()]
    of_other = [one for one in lines if one["tenant"] == "t-2"]
    assert await import_(runtime, [*of_other, GOOD], tenant="default") == {"bad": 1, "rows": 1}


# --- snapshots ----------------------------------------------------------------------------------------------


async def test_a_snapshot_and_its_restore_keep_rows_and_the_identity_of_the_log(tmp_path: Path) -> None:
    async with open_parts(tmp_path / "data", store={"kind": "edge"}) as runtime:
        put = DocumentWrite("default", "smith", "character", "put", "e1", OLD, data={"n": 1})
        await runtime.log.append([encode(put)])
        await indexer_over(runtime).run(burst=True)
        rows, identity = everything(), runtime.log_identity
        await runtime.store.put_rows(rows)
        key = documents.document_key("default", "smith", "character")
        [folded] = await runtime.store.rows([key])
        assert folded is not None
        assert (folded.log, folded.offset) == (identity, 0)
        snapshot = await take(runtime, tmp_path / "kept")
    target = load_settings(data_dir=tmp_path / "restored", store={"kind": "edge"}, embedder={"kind": "hash"})
    assert [one async for one in restores.restore(target, snapshot, ledger_from=None)]
    async with open_parts(tmp_path / "restored", store={"kind": "edge"}) as runtime:
        assert runtime.log_identity == identity
        assert await runtime.store.rows([key, *(one.key for one in rows)]) == [folded, *rows]
        assert await runtime.rows.rows([key]) == [folded]
        await runtime.log.append([encode(replace_event(put))])
        await indexer_over(runtime).run(burst=True)
        [after] = await runtime.store.rows([key])
        assert after is not None
        assert (documents.decode(after).version, after.offset) == (2, 1)


async def test_writes_beside_a_snapshot_count_once_after_its_restore(tmp_path: Path) -> None:
    """The copied store may be ahead of the copied offset; an addition that it holds must not be applied again."""
    taken = asyncio.Event()

    async def write_until_taken(runtime: Runtime) -> None:
        number = 0
        while not taken.is_set():
            at = OLD + number
            added = QUpdate("default", "smith", "q", f"q{number}", (QUpdateItem("s", "go", "add", 1.0),), at)
            put = DocumentWrite("default", "smith", "notes", "put", f"d{number}", at, data={"n": number})
            await runtime.log.append([encode(added), encode(put)])
            number += 1
            await asyncio.sleep(0.002)

    async with open_parts(tmp_path / "data", store={"kind": "edge"}) as runtime:
        working = asyncio.create_task(indexer_over(runtime, commit_interval_s=0.1).run())
        writing = asyncio.create_task(write_until_taken(runtime))
        try:
            async with asyncio.timeout(60):
                while (await runtime.log.committed("indexer")).get(0, 0) < 10:
                    await asyncio.sleep(0.005)
                snapshot = await take(runtime, tmp_path / "kept")
        finally:
            taken.set()
            await writing
            working.cancel()
            await asyncio.wait({working})
    target = load_settings(data_dir=tmp_path / "restored", store={"kind": "edge"}, embedder={"kind": "hash"})
    assert [one async for one in restores.restore(target, snapshot, ledger_from=None)]
    async with open_parts(tmp_path / "restored", store={"kind": "edge"}) as runtime:
        await indexer_over(runtime).run(burst=True)
        writes = (await runtime.log.end())[0] // 2
        assert writes >= 5
        keys = [
            q_tables.q_state_key("default", "smith", "q", "s"),
            documents.document_key("default", "smith", "notes"),
        ]
        table, notes = await runtime.store.rows(keys)
        assert table is not None
        assert notes is not None
        [value] = q_tables.decode_values(table).values()
        assert value == (writes, writes)
        document = documents.decode(notes)
        assert (document.version, document.data) == (writes, {"n": writes - 1})


def replace_event(write: DocumentWrite) -> DocumentWrite:
    return msgspec.structs.replace(write, event_id="e2", accepted_at=OLD + 1)
