"""The fold of policies: parts, manifests, and which parts are kept. Rows of an import."""

from __future__ import annotations

from typing import Any

import pytest

from lorestream.events import ImportedRow
from lorestream.state import documents, policies
from lorestream.state.documents import Answer
from lorestream.state.rows import RowKind
from tests.folds import LOG, Folds, manifest, part, put, write

TYPE = policies.policy_type("main")


def parts(folds: Folds) -> dict[tuple[Any, ...], float | None]:
    """Upload and index of the stored parts, with the time when they expire."""
    return {
        key.parts[1:]: row.expires_at
        for key, row in folds.rows.stored.items()
        if key.kind is RowKind.POLICY_PART
    }


async def upload(folds: Folds, name: str, *, at: float, **fields: Any) -> Answer | None:
    event = manifest(name, 2, at=at, **fields)
    await folds(part(name, 0, at=at - 0.2), part(name, 1, at=at - 0.1))
    await folds(event)
    return folds.answer(event)


async def test_parts_expire_until_a_manifest_names_them() -> None:
    folds = Folds()
    await folds(part("u", 0, at=1.0), part("u", 1, at=2.0))
    assert parts(folds) == {
        ("u", 0): 1.0 + policies.PART_LIFETIME_S,
        ("u", 1): 2.0 + policies.PART_LIFETIME_S,
    }
    await folds(event := manifest("u", 2, at=3.0))
    assert folds.answer(event) == Answer(applied=True, version=1)
    assert parts(folds) == {("u", 0): None, ("u", 1): None}
    row = folds.row(policies.part_key("default", "a", "main", "u", 0))
    assert row is not None
    assert row.body == '"Ynl0ZXM="'


async def test_parts_and_manifest_may_come_in_one_batch() -> None:
    folds = Folds()
    await folds(
        part("u", 0, at=1.0), part("u", 1, at=2.0), manifest("u", 2, at=3.0), part("u", 0, b"no", at=4.0)
    )
    assert parts(folds) == {("u", 0): None, ("u", 1): None}
    row = folds.row(policies.part_key("default", "a", "main", "u", 0))
    assert row is not None
    assert row.body == '"Ynl0ZXM="'  # that of a named part stays


async def test_an_upload_that_is_begun_again_replaces_its_parts() -> None:
    folds = Folds()
    await folds(part("u", 0, b"first", at=1.0), part("u", 0, b"second", at=2.0), manifest("u", 1, at=3.0))
    row = folds.row(policies.part_key("default", "a", "main", "u", 0))
    assert row is not None
    assert row.body == '"c2Vjb25k"'


async def test_the_parts_of_a_version_are_removed_with_the_last_version_that_names_them() -> None:
    folds = Folds(keep_versions=2)
    await upload(folds, "u1", at=1.0)
    await upload(folds, "u2", at=2.0)
    assert set(parts(folds)) == {(u, n) for u in ("u1", "u2") for n in (0, 1)}
    await folds(write("rollback", to=1, type=TYPE, at=3.0))  # version 1 goes, its parts stay
    assert set(parts(folds)) == {(u, n) for u in ("u1", "u2") for n in (0, 1)}
    await upload(folds, "u3", at=4.0)
    assert set(parts(folds)) == {(u, n) for u in ("u1", "u3") for n in (0, 1)}
    await folds(write("delete", type=TYPE, at=5.0))
    assert set(parts(folds)) == {("u3", 0), ("u3", 1)}
    await folds(write("rollback", to=4, type=TYPE, at=6.0))
    await folds(write("delete", type=TYPE, at=7.0), put({}, type="character", at=7.0))
    assert set(parts(folds)) == {("u3", 0), ("u3", 1)}


async def test_a_refused_manifest_takes_its_parts_with_it() -> None:
    folds = Folds()
    await upload(folds, "u1", at=1.0)
    assert await upload(folds, "u2", at=2.0, if_version=0) == Answer(
        applied=False, code="version_conflict", current=1
    )
    assert set(parts(folds)) == {("u1", 0), ("u1", 1)}
    # A retry of an upload that was applied is recognized; its parts stay.
    assert await upload(folds, "u1", at=3.0, event_id="e1.0") == Answer(applied=True, version=1)
    assert parts(folds) == {("u1", 0): None, ("u1", 1): None}


async def test_a_manifest_whose_parts_are_not_all_there_makes_no_version() -> None:
    folds = Folds()
    await folds(part("u", 0, at=1.0))
    folds.erase("a", at=2.0)
    await folds(part("u", 1, at=3.0), event := manifest("u", 2, at=4.0))
    assert folds.answer(event) == Answer(applied=False, code="upload_incomplete", current=0)
    assert parts(folds) == {}


async def test_parts_that_are_folded_late_stay_for_a_day_and_count_by_their_time_of_acceptance() -> None:
    folds, day = Folds(), policies.PART_LIFETIME_S
    folds.time = 9 * day
    await folds(part("u", 0, at=1.0), part("v", 0, at=1.0))
    folds.rows.sweep(folds.time + 1.0)
    await folds(in_time := manifest("u", 1, at=day), late := manifest("v", 1, at=day + 1.0))
    assert folds.answer(in_time) == Answer(applied=True, version=1)
    assert folds.answer(late) == Answer(applied=False, code="upload_incomplete", current=1)


async def test_an_erasure_between_part_and_manifest_takes_the_version() -> None:
    folds = Folds()
    await upload(folds, "u", at=3.0)
    folds.erase("a", at=2.85)
    assert folds.document(TYPE) is None
    assert set(parts(folds)) == {("u", 1)}


@pytest.mark.parametrize(
    "data", [{}, None, {"format": "raw", "size": 1, "sha256": "", "upload": "u", "parts": 65}]
)
async def test_a_manifest_that_is_none_cannot_be_folded(data: dict[str, Any] | None) -> None:
    folds = Folds()
    folded = await folds(write("put", data, type=TYPE), put({}))
    [dead_letter] = folded.dead_letters
    assert (dead_letter.record.offset, dead_letter.reason) == (0, "unfoldable")
    assert folds.document() is not None


# --- rows of an import -------------------------------------------------------------------------------------


def imported(**fields: Any) -> ImportedRow:
    defaults: dict[str, Any] = {
        "tenant": "default",
        "agent_id": "a",
        "kind": "document",
        "parts": ("character",),
        "body": '{"version":7,"created_at":1,"updated_at":50,"data":{"from":"export"}}',
        "since": 50.0,
        "accepted_at": 50.0,
        "listed": True,
    }
    return ImportedRow(**(defaults | fields))


@pytest.mark.parametrize(("there", "version"), [(None, 7), (49.0, 7), (50.0, 1), (51.0, 1)])
async def test_an_imported_row_takes_the_place_of_an_older_one(there: float | None, version: int) -> None:
    folds = Folds()
    if there is not None:
        await folds(put({"here": 1}, at=there))
    await folds(imported())
    document = folds.document()
    assert document is not None
    assert document.version == version
    await folds(event := write("patch", {"more": 1}, at=60.0))
    assert folds.answer(event) == Answer(applied=True, version=version + 1)


async def test_an_imported_row_that_an_erasure_covers_is_left_out() -> None:
    folds = Folds()
    folds.erase("a", at=50.0)
    await folds(imported())
    assert folds.document() is None


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "dream"},
        {"parts": ("character", 1)},
        {"kind": "version"},
        {"kind": "version", "parts": ("character", "1")},
        {"body": "{"},
        {"body": "[" * 10_000},
        {"body": '{"version":"x"}'},
        {"kind": "q_state", "parts": ("q", "s"), "body": '{"dig":[1]}'},
        {"kind": "q_table", "parts": ("q",), "body": '"many"'},
        {"kind": "answer", "parts": ("q:q", "e"), "body": "{}"},
        {"kind": "policy_part", "parts": ("main", "u", 0), "body": '"not base64!"'},
    ],
)
async def test_a_row_that_could_not_be_read_is_not_imported(fields: dict[str, Any]) -> None:
    folds = Folds()
    folded = await folds(imported(**fields), put({}, type="other"))
    assert [dead_letter.record.offset for dead_letter in folded.dead_letters] == [0]
    assert len(folds.rows.stored) == 2


# --- another log, another collection -----------------------------------------------------------------------


async def test_rows_of_another_log_are_folded_on_whatever_their_offset_is() -> None:
    old = Folds(log="old")
    old.next_offset = 500
    await old(put({"old": 1}, at=1.0))
    new = Folds()
    new.rows.stored = old.rows.stored
    await new(write("patch", {"new": 1}, at=2.0))
    row = new.row(documents.document_key("default", "a", "character"))
    assert row is not None
    assert documents.decode(row).data == {"old": 1, "new": 1}
    assert (row.log, row.offset, row.born) == (LOG, 0, -1)
