"""Export and import of memories, over real parts."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorestream import events
from lorestream.access.authentication import ANONYMOUS, Forbidden, Principal
from lorestream.access.key_file import KeyScope
from lorestream.admin import AdminTask, Outcome, Row
from lorestream.admin.export_format import FORMAT, MAX_LINE_BYTES, ExportedMemory, check_header, parse_line
from lorestream.admin.exports import Exporter
from lorestream.admin.imports import Importer
from lorestream.errors import InvalidRequest
from lorestream.memories import Erasure, Memory, SubjectKind
from lorestream.ports import Tombstone
from lorestream.wiring import Runtime
from stream_workers.indexing.indexer import GROUP
from tests.contracts.generated import memories as generated
from tests.parts import indexer_over, open_parts, texts
from tests.parts import put as put_event

NOW = time.time()
HASHED = ["k1:" + digit * 64 for digit in "ab"]
AGENTS = ["npc:smith", 'a"],["b', "木", f"player:{HASHED[0]}", f"guild:player:{HASHED[1]}"]

Rows = list[dict[str, Any]]


async def run(
    task: AdminTask, caller: Principal = ANONYMOUS, **arguments: Any
) -> tuple[Rows, dict[str, Any]]:
    """The rows and the outcome of a task, with arguments as they come over the wire."""
    wanted = msgspec.json.decode(msgspec.json.encode(arguments), type=task.arguments)
    wanted = task.restrict(wanted, caller)
    reports = [report async for report in task.run(wanted)]
    outcome = reports[-1]
    assert isinstance(outcome, Outcome)
    return [report.value for report in reports if isinstance(report, Row)], outcome.value


async def export(runtime: Runtime, **arguments: Any) -> Rows:
    exports = Exporter(lambda: runtime.store, runtime.ledger, runtime.clock, runtime.pseudonyms)
    rows, outcome = await run(exports.tasks()[0], **arguments)
    assert outcome["memories"] + outcome["rows"] == len(rows)
    return rows


def imports(runtime: Runtime) -> Importer:
    return Importer(
        runtime.log,
        runtime.ledger,
        lambda: runtime.store,
        runtime.watermarks,
        lambda: GROUP,
        runtime.clock,
    )


async def import_(runtime: Runtime, rows: Sequence[object], **arguments: Any) -> dict[str, Any]:
    """Import these lines, index them with the real worker, and return the counts that are not 0."""
    put, wait = imports(runtime).tasks()
    lines = [(number, row if isinstance(row, str) else json.dumps(row)) for number, row in enumerate(rows, 2)]
    bad, counts = await run(put, lines=lines, **arguments)
    assert len(bad) == counts["bad"]
    positions = counts.pop("positions")
    assert counts.pop("stalled") is False
    if positions:
        await indexer_over(runtime).run(burst=True)
        _, outcome = await run(wait, positions=positions)
        assert outcome == {"indexed": True, "left": 0}
    return {name: count for name, count in counts.items() if count}


def memory(name: str = "m", agent: str = "npc:smith", **fields: Any) -> Memory:
    named = agent.partition("player:")[2] or None
    given = {"text": f"text of {name}", "timestamp": 1000.0, "accepted_at": 1000.5, "agent_player": named}
    return Memory(**{"id": name, "tenant": "default", "agent_id": agent, **given, **fields})


async def store(runtime: Runtime, *memories: Memory) -> None:
    embedded = await runtime.embedder.embed([one.text for one in memories])
    await runtime.store.insert(memories, np.asarray(embedded.vectors))


@st.composite
def full_memories(draw: st.DrawFn) -> Memory:
    """Memories with any combination of fields."""
    agent = draw(st.sampled_from(AGENTS))
    recall = draw(st.booleans())
    fields = draw(generated) | {
        "recall": recall,
        "player": draw(st.sampled_from([None, *HASHED])),
        "tenant": draw(st.sampled_from(["default", "t-2"])),
        "text": draw(st.text(min_size=int(recall), max_size=20)),
        "accepted_at": draw(st.floats(0, NOW)),
        "expires_at": draw(st.none() | st.floats(NOW + 10**6, 1e12)),
    }
    if agent.startswith("player:"):
        fields["lasting_agent"] = draw(st.sampled_from([None, f"player:{HASHED[1]}"]))
    return memory(draw(st.text(min_size=1, max_size=4)), agent, **fields)


@given(memories=st.lists(full_memories(), min_size=20, max_size=40))
@settings(max_examples=2, suppress_health_check=list(HealthCheck))
async def test_an_export_can_be_imported_and_only_once(
    tmp_path_factory: pytest.TempPathFactory, memories: list[Memory]
) -> None:
    async with open_parts(tmp_path_factory.mktemp("first")) as runtime:
        await store(runtime, *memories)
        rows = await export(runtime)
        assert await import_(runtime, rows) == {"present": len(rows)}
    async with open_parts(tmp_path_factory.mktemp("second")) as runtime:
        assert await import_(runtime, rows) == {"imported": len(rows)}
        assert await export(runtime) == rows
        assert await import_(runtime, rows) == {"present": len(rows)}
        assert await export(runtime) == rows


async def test_a_line_has_all_fields_and_no_vector(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        await store(runtime, memory(metadata={"n": 3}, pos={"x": 1.0}, expires_at=NOW + 10**6, server="s"))
        [row] = await export(runtime)
    assert row == {
        "id": "m",
        "tenant": "default",
        "agent_id": "npc:smith",
        "text": "text of m",
        "timestamp": 1000.0,
        "accepted_at": 1000.5,
        "server": "s",
        "metadata": {"n": 3},
        "importance": 5.0,
        "pos": {"x": 1.0},
        "expires_at": NOW + 10**6,
    }


async def test_export_filters_by_agent_and_tenant(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        bob, _ = runtime.pseudonyms.agent("default", "player:bob")
        others_bob, _ = runtime.pseudonyms.agent("other", "player:bob")
        await store(
            runtime,
            memory("1"),
            memory("2", bob),
            memory("3", tenant="other"),
            memory("4", others_bob, tenant="other"),
            memory("5", "npc:guard"),
        )

        async def ids(**arguments: Any) -> list[str]:
            return sorted(row["id"] for row in await export(runtime, **arguments))

        assert await ids() == ["1", "2", "3", "4", "5"]
        assert await ids(tenant="other") == ["3", "4"]
        assert await ids(agents=["npc:smith"]) == ["1", "3"]
        assert await ids(agents=["player:bob", "npc:guard"]) == ["2", "4", "5"]
        assert await ids(agents=["player:bob"], tenant="other") == ["4"]
        assert await ids(agents=[bob]) == ["2"]
        assert await ids(agents=["nobody"]) == []

        keyless = Exporter(lambda: runtime.store, runtime.ledger, runtime.clock, None).tasks()[0]
        assert len((await run(keyless, agents=[bob]))[0]) == 1
        with pytest.raises(InvalidRequest, match="LORESTREAM_PLAYER_KEY"):
            await run(keyless, agents=["player:bob"])


async def test_a_key_with_admin_exports_and_imports_its_own_tenant_only(tmp_path: Path) -> None:
    """An operator's key does so for all tenants."""
    admin = Principal("beta", frozenset({KeyScope.ADMIN}), "key")
    operator = Principal("beta", frozenset({KeyScope.OPERATOR}), "key")
    async with open_parts(tmp_path) as runtime:
        await store(runtime, memory("1", tenant="alpha"), memory("2", tenant="beta"))
        exporting = Exporter(lambda: runtime.store, runtime.ledger, runtime.clock, None).tasks()[0]
        importing = imports(runtime).tasks()[0]

        async def exported(caller: Principal, **arguments: Any) -> list[str]:
            return [row["tenant"] for row in (await run(exporting, caller, **arguments))[0]]

        assert await exported(admin) == ["beta"]
        assert await exported(admin, tenant="beta") == ["beta"]
        with pytest.raises(Forbidden, match="operator"):
            await exported(admin, tenant="alpha")
        assert sorted(await exported(operator)) == ["alpha", "beta"]
        assert await exported(operator, tenant="alpha") == ["alpha"]

        lines = [
            (number, json.dumps(msgspec.to_builtins(ExportedMemory.from_memory(memory(name, tenant=tenant)))))
            for number, (name, tenant) in enumerate([("1", "alpha"), ("forged", "alpha"), ("own", "beta")], 2)
        ]
        bad, outcome = await run(importing, admin, lines=lines)
        assert [(row["line"], "tenant alpha" in row["reason"]) for row in bad] == [(2, True), (3, True)]
        assert (outcome["imported"], outcome["present"], outcome["bad"]) == (1, 0, 2)
        with pytest.raises(Forbidden, match="operator"):
            await run(importing, admin, lines=lines, tenant="alpha")
        _, outcome = await run(importing, operator, lines=lines)
        assert (outcome["imported"], outcome["present"], outcome["bad"]) == (2, 1, 0)


async def test_expired_deleted_and_erased_memories_are_not_exported(tmp_path: Path) -> None:
    """Erased memories are left out by the ledger, even if a late writer has stored them again."""
    async with open_parts(tmp_path) as runtime:
        await runtime.ledger.add(Erasure("e", "default", SubjectKind.AGENT, ("npc:gone",), 2000.0))
        await store(
            runtime,
            memory("stays"),
            memory("expired", expires_at=NOW - 1),
            memory("erased", "npc:gone"),
            memory("new life", "npc:gone", accepted_at=2001.0),
        )
        await runtime.store.put_tombstones([Tombstone("default", "npc:smith", "deleted", 2000.0)])
        assert sorted(row["id"] for row in await export(runtime)) == ["new life", "stays"]


async def test_an_import_restores_no_deleted_or_erased_memory(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        lasting = memory("m", f"player:{HASHED[0]}", lasting_agent=f"player:{HASHED[1]}")
        await store(
            runtime,
            memory("deleted"),
            lasting,
            memory("of player", player=HASHED[1]),
            memory("of agent", "npc:gone"),
            memory("swept"),
            memory("stays"),
        )
        rows = await export(runtime)
        await runtime.store.put_tombstones(
            [
                Tombstone("default", "npc:smith", "deleted", 2000.0),
                Tombstone("default", f"player:{HASHED[1]}", "m", 2000.0),
            ]
        )
        await runtime.store.put_tombstones([Tombstone("default", "npc:smith", "swept", 1.0)])
        await runtime.store.sweep(expired_before=NOW, tombstones_before=2.0, limit=10)
        for number, (kind, subject) in enumerate(
            [(SubjectKind.AGENT, "npc:gone"), (SubjectKind.PLAYER, HASHED[1])]
        ):
            erasure = Erasure(f"e{number}", "default", kind, (subject,), 2000.0)
            await runtime.ledger.add(erasure)
            await runtime.store.erase(erasure)
        expired = rows[0] | {"id": "too old", "agent_id": "npc:x", "expires_at": NOW - 1}
        expired.pop("agent_player", None)
        expired.pop("lasting_agent", None)
        counts = await import_(runtime, [*rows, expired])
        assert counts == {"imported": 1, "present": 1, "deleted": 2, "erased": 2, "expired": 1}
        assert await texts(runtime) == ["text of stays", "text of swept"]


async def test_imported_memories_do_not_count_in_the_visibility_metric(tmp_path: Path) -> None:
    """The metric is the time from acceptance until a memory can be found; these were accepted long ago."""
    async with open_parts(tmp_path) as runtime:
        assert await import_(runtime, [GOOD]) == {"imported": 1}
        count = partial(runtime.metrics.registry.get_sample_value, "lorestream_event_visible_seconds_count")
        assert count() == 0
        await runtime.log.append([events.encode(put_event("from a gateway"))])
        await indexer_over(runtime).run(burst=True)
        assert count() == 1


GOOD = msgspec.to_builtins(ExportedMemory.from_memory(memory()))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("not json", "malformed"),
        ("[]", "Expected `object`"),
        ("{", "truncated"),
        ('{"id": "\\ud800"}', "surrogate"),
        ({"text": ""}, "text"),
        ({"text": None}, "text"),
        ({"id": ""}, "id"),
        ({"id": "x" * 513}, "id"),
        ({"tenant": "A"}, "tenant"),
        ({"vector": [1.0]}, "vector"),
        ({"accepted_at": 4e9}, "accepted_at"),
        ({"accepted_at": -1}, "accepted_at"),
        ({"importance": 11}, "importance"),
        ({"pos": {"w": 1.0}}, "pos"),
        ({"metadata": {"n": 2**63}}, "64 bits"),
        ({"metadata": json.loads("[" * 40 + "]" * 40)}, "object"),
        ({"metadata": {"n": json.loads("[" * 40 + "]" * 40)}}, "levels"),
        ({"agent_id": "player:bob", "agent_player": "bob"}, "pseudonym"),
        ({"player": "bob"}, "pseudonym"),
        ({"agent_player": HASHED[0]}, "agent_player"),
        ({"agent_id": f"player:{HASHED[0]}"}, "agent_player"),
        ({"lasting_agent": "npc:other"}, "lasting_agent"),
        ({"about": ["bob"]}, "pseudonym"),
        ({"about": ["player:bob"]}, "pseudonym"),
        ({"about": ["guild:player:bob"]}, "pseudonym"),
        ({"about": ["npc:" + "x" * 253]}, "about"),
        ({"about": ["npc:a"] * 65}, "about"),
        ({"agent_id": "x" * 257}, "agent_id"),
        ({"sources": ["zz"]}, "sources"),
        ({"supersedes": "zz"}, "supersedes"),
        ({"supersedes": "F" * 8 + "-0000-0000-0000-" + "0" * 12}, "supersedes"),
        ({"server": "s" * 129}, "server"),
        ({"type": "t" * 65}, "type"),
        ({"type": "lorestream.x"}, "reserved"),
        ({"text": "x" * MAX_LINE_BYTES}, "longer"),
        ('{"timestamp": 1e400}', "timestamp"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_error_of_a_bad_line_names_its_cause(wrong: object, reason: str) -> None:
    text = wrong if isinstance(wrong, str) else json.dumps(GOOD | wrong)  # type: ignore[operator]
    if text == '{"timestamp": 1e400}':
        text = json.dumps(GOOD).replace("1000.0", "1e400")
    with pytest.raises(InvalidRequest, match=reason):
        parse_line(text, NOW)
    assert parse_line(json.dumps(GOOD), NOW) == ExportedMemory.from_memory(memory())


def test_a_line_with_everything_that_the_gate_stores_is_good() -> None:
    """Agents that are named after players have longer ids than callers may give."""
    good = GOOD | {
        "agent_id": f"{'x' * 248}:player:{HASHED[0]}",
        "agent_player": HASHED[0],
        "about": [HASHED[0], f"player:{HASHED[1]}", "npc:smith", "miner:bob"],
        "sources": [str(uuid.UUID(int=1))],
        "supersedes": str(uuid.UUID(int=2)),
    }
    assert json.loads(msgspec.json.encode(parse_line(json.dumps(good), NOW))) == good


async def test_bad_lines_do_not_affect_other_lines(tmp_path: Path) -> None:
    async with open_parts(tmp_path) as runtime:
        counts = await import_(runtime, ["rubbish", GOOD, GOOD | {"importance": 11}, GOOD | {"id": "n"}])
        assert counts == {"imported": 2, "bad": 2}
        rows, _ = await run(imports(runtime).tasks()[0], lines=[[7, "rubbish"]])
        assert rows[0]["line"] == 7
        # A line may be short enough, while its event is too large for the log.
        room = MAX_LINE_BYTES - len(msgspec.json.encode(ExportedMemory.from_memory(memory("huge", text=""))))
        line = msgspec.json.encode(ExportedMemory.from_memory(memory("huge", text="x" * room))).decode()
        assert parse_line(line, NOW).text == "x" * room
        assert await import_(runtime, [line]) == {"bad": 1}


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b'{"format": "other", "version": 1}'])
def test_a_file_that_is_not_an_export(text: bytes) -> None:
    with pytest.raises(InvalidRequest, match=FORMAT):
        check_header(text)


def test_an_unknown_format_version_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="version 3"):
        check_header(b'{"format": "lorestream.memories", "version": 3}')
    check_header(b'{"format": "lorestream.memories", "version": 1, "exported_by": "somebody"}')


async def test_acceptance_times_do_not_go_back_after_an_import(tmp_path: Path) -> None:
    """After an import, the newest record has an old acceptance time; later events must still be the newest."""
    async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
        before = runtime.clock.now()
        await import_(runtime, [GOOD])
    async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
        assert before <= runtime.last_accepted_at <= runtime.clock.now()
        await runtime.log.append([events.NewRecord(b"key", b"unreadable", {})])
    async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
        assert before <= runtime.last_accepted_at


async def test_waiting_ends_if_the_workers_make_no_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorestream.admin.imports.STALL_TIMEOUT_S", 0.0)
    async with open_parts(tmp_path) as runtime:
        put, wait = imports(runtime).tasks()
        _, counts = await run(put, lines=[[2, json.dumps(GOOD)]])
        _, outcome = await run(wait, positions=counts["positions"])
        assert outcome == {"indexed": False, "left": 1}
        _, counts = await run(put, lines=[[3, json.dumps(GOOD | {"id": "n"})]], behind=counts["positions"])
        assert (counts["imported"], counts["stalled"]) == (1, True)
