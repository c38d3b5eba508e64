"""The fold of documents: versions, answers, conditions, deletions, rollbacks, erasures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorestream.limits import MAX_DEPTH, MAX_DOCUMENT_BYTES
from lorestream.memories import SubjectKind
from lorestream.state import documents
from lorestream.state.documents import Answer
from lorestream.state.rows import RowGroup, RowKind
from tests.folds import Folds, put, write


async def test_versions_begin_at_one_and_rise_by_one_through_deletion_and_re_creation() -> None:
    folds = Folds()
    events = [
        put({"name": "Ada"}, at=1.0),
        write("patch", {"mood": "glad", "name": None}, at=2.0),
        write("delete", at=3.0),
        put({"name": "Eve"}, at=4.0),
    ]
    await folds(*events)
    assert [folds.answer(event) for event in events] == [
        Answer(applied=True, version=n) for n in (1, 2, 3, 4)
    ]
    assert [(folds.version(n) or Answer(applied=False)).data for n in (1, 2)] == [
        {"name": "Ada"},
        {"mood": "glad"},
    ]  # type: ignore[union-attr]
    third = folds.version(3)
    assert third is not None
    assert third.deleted
    document = folds.document()
    assert document is not None
    assert (document.version, document.data, document.deleted) == (4, {"name": "Eve"}, False)
    assert (document.created_at, document.updated_at) == (4.0, 4.0)


async def test_created_at_is_that_of_the_first_version_and_updated_at_that_of_the_last() -> None:
    folds = Folds()
    await folds(put({}, at=1.0), write("patch", {"a": 1}, at=2.0), put({"b": 1}, at=3.0))
    document = folds.document()
    assert document is not None
    assert (document.created_at, document.updated_at) == (1.0, 3.0)


async def test_a_tick_stays_until_a_write_has_another_and_ends_with_a_deletion() -> None:
    folds, seen = Folds(), list[float | None]()
    for n, event in enumerate(
        [
            put({}, tick=5.0, at=0.0),
            write("patch", {"a": 1}, at=1.0),
            put({}, tick=7.0, at=2.0),
            write("rollback", to=1, at=3.0),
            write("delete", at=4.0),
            put({}, at=5.0),
        ]
    ):
        await folds(event)
        document = folds.document()
        assert document is not None, n
        seen.append(document.tick)
    assert seen == [5.0, 5.0, 7.0, 7.0, 7.0, None]


async def test_a_patch_of_what_is_not_there_makes_a_document_without_nulls() -> None:
    folds = Folds()
    await folds(write("patch", {"a": {"b": None, "c": 1}, "d": None}))
    document = folds.document()
    assert document is not None
    assert document.data == {"a": {"c": 1}}


@pytest.mark.parametrize("there", [False, True], ids=["never there", "deleted already"])
async def test_a_deletion_of_what_is_not_there_makes_no_version(there: bool) -> None:
    folds = Folds()
    if there:
        await folds(put({}, at=1.0), write("delete", at=2.0))
    await folds(event := write("delete", at=3.0))
    assert folds.answer(event) == Answer(applied=True, version=2 if there else 0)
    assert (folds.document() is not None) is there
    assert folds.version(2) is None


@pytest.mark.parametrize(
    ("if_version", "answer"),
    [
        (0, Answer(applied=False, code="version_conflict", current=2)),
        (1, Answer(applied=False, code="version_conflict", current=2)),
        (2, Answer(applied=True, version=3)),
        (3, Answer(applied=False, code="version_conflict", current=2)),
    ],
)
@pytest.mark.parametrize("action", ["put", "patch", "delete", "rollback"])
async def test_a_write_for_another_version_changes_nothing(
    action: str, if_version: int, answer: Answer
) -> None:
    folds = Folds()
    await folds(put({"n": 1}, at=1.0), put({"n": 2}, at=2.0))
    before = folds.document()
    event = write(action, {} if action in {"put", "patch"} else None, if_version=if_version, at=3.0, to=1)
    await folds(event)
    assert folds.answer(event) == answer
    assert (folds.document() == before) is not answer.applied


async def test_a_document_that_is_not_there_or_deleted_has_the_version_0() -> None:
    folds = Folds()
    await folds(
        wrong := put({}, if_version=1, at=1.0),
        right := put({}, if_version=0, at=2.0),
        write("delete", at=3.0),
        again := put({}, if_version=0, at=4.0),
        write("delete", at=5.0),
        by_number := put({}, if_version=4, at=6.0),
    )
    assert folds.answer(wrong) == Answer(applied=False, code="version_conflict", current=0)
    assert folds.answer(right) == Answer(applied=True, version=1)
    assert folds.answer(again) == Answer(applied=True, version=3)
    assert folds.answer(by_number) == Answer(applied=True, version=5)


async def test_the_same_event_id_again_changes_nothing_and_keeps_the_first_answer() -> None:
    folds = Folds()
    await folds(put({"n": 1}, event_id="x", at=1.0), put({"n": 2}, event_id="x", at=2.0))
    await folds(again := put({"n": 3}, event_id="x", at=3.0))
    document = folds.document()
    assert document is not None
    assert document.data == {"n": 1}
    assert folds.answer(again) == Answer(applied=True, version=1)
    # A refused write is answered for good as well.
    refused = put({}, event_id="y", if_version=9, at=4.0)
    await folds(refused, put({}, event_id="y", if_version=1, at=5.0))
    assert folds.answer(refused) == Answer(applied=False, code="version_conflict", current=1)
    # Each document has event ids of its own.
    await folds(put({}, event_id="x", type="other", at=6.0))
    assert folds.document("other") is not None


async def test_an_event_id_is_recognized_for_seven_days() -> None:
    folds, week = Folds(), documents.ANSWER_LIFETIME_S
    await folds(put({"n": 1}, event_id="x", at=1.0), put({"n": 2}, event_id="x", at=week + 0.9))
    assert folds.document().version == 1  # type: ignore[union-attr]
    await folds(put({"n": 3}, event_id="x", at=week + 1.0))
    assert folds.document().version == 2  # type: ignore[union-attr]
    row = folds.row(documents.answer_key("default", "a", "document:character", "x"))
    assert row is not None
    assert row.expires_at == 2 * week + 1.0


async def test_a_rollback_repeats_the_data_of_a_kept_version() -> None:
    folds = Folds(keep_versions=3)
    await folds(*(put({"n": n}, at=float(n)) for n in range(1, 5)))
    answers = {}
    for to in (0, 1, 2, 4, 5):
        await folds(event := write("rollback", to=to, if_version=4, event_id=f"to {to}", at=5.0))
        answers[to] = folds.answer(event)
        if to == 2:
            assert folds.document().data == {"n": 2}  # type: ignore[union-attr]
            break
    assert answers == {
        0: Answer(applied=False, code="not_found", current=4),
        1: Answer(applied=False, code="version_gone", current=4),
        2: Answer(applied=True, version=5),
    }
    await folds(future := write("rollback", to=6, at=6.0), current := write("rollback", to=5, at=7.0))
    assert folds.answer(future) == Answer(applied=False, code="not_found", current=5)
    assert folds.answer(current) == Answer(applied=True, version=6)


async def test_a_rollback_finds_nothing_in_a_deletion_or_where_nothing_is() -> None:
    folds = Folds()
    await folds(nothing := write("rollback", to=1, at=0.5))
    await folds(put({"n": 1}, at=1.0), write("delete", at=2.0))
    await folds(deleted := write("rollback", to=2, at=3.0), back := write("rollback", to=1, at=4.0))
    assert folds.answer(nothing) == Answer(applied=False, code="not_found", current=0)
    assert folds.answer(deleted) == Answer(applied=False, code="not_found", current=2)
    assert folds.answer(back) == Answer(applied=True, version=3)
    assert folds.document().data == {"n": 1}  # type: ignore[union-attr]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("keep", [1, 2, 5])
async def test_the_newest_versions_are_kept(keep: int, at_once: bool) -> None:
    folds = Folds(keep_versions=keep)
    writes = [put({"n": n}, at=float(n)) for n in range(1, 9)]
    if at_once:
        await folds(*writes)
    else:
        for event in writes:
            await folds(event)
    document = folds.document()
    assert document is not None
    assert (document.version, document.oldest) == (8, 9 - keep)
    versions = {key.parts[1] for key in folds.rows.stored if key.kind is RowKind.VERSION}
    assert versions == set(range(9 - keep, 8))


async def test_fewer_kept_versions_remove_all_that_are_too_many() -> None:
    folds = Folds(keep_versions=6)
    await folds(*(put({"n": n}, at=float(n)) for n in range(1, 7)))
    fewer = Folds(keep_versions=2)
    fewer.rows.stored, fewer.next_offset = folds.rows.stored, 6
    await fewer(put({}, at=7.0))
    assert {key.parts[1] for key in fewer.rows.stored if key.kind is RowKind.VERSION} == {6}


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


async def test_data_beyond_the_limits_are_refused_with_an_answer() -> None:
    folds = Folds()
    half = "x" * (MAX_DOCUMENT_BYTES // 2)
    await folds(
        put({"a": half}, at=1.0),
        large := write("patch", {"b": half}, at=2.0),
        deep := write("patch", nested(MAX_DEPTH + 1), at=3.0),
        fits := write("patch", nested(MAX_DEPTH), at=4.0),
        exact := put({"a": "x" * (MAX_DOCUMENT_BYTES - len('{"a":""}'))}, at=5.0),
    )
    assert folds.answer(large) == Answer(applied=False, code="document_too_large", current=1)
    assert folds.answer(deep) == Answer(applied=False, code="document_too_deep", current=1)
    assert folds.answer(fits) == Answer(applied=True, version=2)
    assert folds.answer(exact) == Answer(applied=True, version=3)


async def test_deleted_documents_and_policies_are_not_listed() -> None:
    folds = Folds()
    await folds(
        put({}, at=1.0),
        put({}, agent_id="b", at=1.0),
        write("delete", agent_id="b", at=2.0),
        put({}, type="other", at=1.0),
    )
    group = RowGroup("default", RowKind.DOCUMENT, "character")
    assert await folds.rows.owners(group) == ["a"]


# --- erasures ----------------------------------------------------------------------------------------------


async def test_erased_content_is_not_folded_on_though_it_is_still_stored() -> None:
    folds = Folds()
    await folds(put({"old": 1}, at=1.0))
    before = dict(folds.rows.stored)
    folds.erase("a", at=2.0)
    folds.rows.stored = before  # a worker that was suspended has written it again
    await folds(late := write("patch", {"late": 1}, at=2.0), new := write("patch", {"new": 1}, at=3.0))
    document = folds.document()
    assert document is not None
    assert (document.version, document.data) == (1, {"new": 1})
    assert folds.answer(late) is None
    assert folds.answer(new) == Answer(applied=True, version=1)


async def test_an_erasure_takes_what_has_content_from_before_it_and_leaves_the_rest() -> None:
    folds = Folds()
    await folds(
        put({"old": 1}, at=1.0, type="patched"),
        put({"old": 1}, at=1.1, type="replaced"),
        put({"old": 1}, at=1.2, type="back"),
        put({"new": 1}, at=1.3, type="back"),
        write("patch", {"new": 1}, at=3.0, type="patched"),
        put({"new": 1}, at=3.1, type="replaced"),
        write("rollback", to=1, at=3.2, type="back"),
    )
    folds.erase("a", at=2.0)
    assert folds.document("patched") is None
    assert folds.document("back") is None
    assert folds.document("replaced").data == {"new": 1}  # type: ignore[union-attr]
    assert not any('"old"' in row.body for row in folds.rows.stored.values())


async def test_an_erased_player_loses_the_documents_of_the_agents_named_after_it() -> None:
    folds = Folds()
    named: dict[str, Any] = {"agent_player": "k1:ab"}
    await folds(put({}, at=1.0, **named), put({}, at=1.0, agent_id="b"))
    folds.erase("k1:ab", at=2.0, kind=SubjectKind.PLAYER)
    await folds(put({}, at=1.5, **named))
    assert {key.agent_id for key in folds.rows.stored} == {"b"}


# --- merge patch -------------------------------------------------------------------------------------------

RFC_7396 = [  # the test cases of appendix A whose target and patch are objects
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396)
async def test_a_patch_is_a_json_merge_patch(
    target: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]
) -> None:
    folds = Folds()
    await folds(put(target, at=1.0), write("patch", patch, at=2.0))
    assert folds.document().data == result  # type: ignore[union-attr]


_json = st.recursive(
    st.none() | st.integers(-3, 3), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)


@given(_json, _json)
def test_a_patch_is_idempotent_and_changes_neither_argument(target: Any, patch: Any) -> None:
    shown = repr((target, patch))
    merged = documents.merge_patch(target, patch)
    assert documents.merge_patch(merged, patch) == merged
    assert repr((target, patch)) == shown
