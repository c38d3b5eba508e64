"""The fold of Q-tables: operations, limits, the number of states, and attempts that broke off."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from lorestream.state import q_tables
from lorestream.state.documents import Answer
from tests.folds import Folds, q_update


async def test_the_operations_and_the_number_of_updates() -> None:
    folds = Folds()
    await folds(
        q_update(
            ("s", "dig", "add", 2.0), ("s", "dig", "toward", 4.0, 0.5), ("s", "go", "set", -1.0), at=1.0
        ),
        q_update(("s", "dig", "add", 0.5), ("t", "dig", "toward", 8.0, 0.25), at=2.0),
    )
    assert folds.values("s") == {"dig": (3.5, 3), "go": (-1.0, 1)}
    assert folds.values("t") == {"dig": (2.0, 1)}
    assert folds.states() == 2


@pytest.mark.parametrize(("alpha", "q"), [(0.0, 1e308), (0.5, 0.0), (0.75, -5e307), (1.0, -1e308)])
async def test_numbers_whose_distance_no_float_holds_approach_each_other(alpha: float, q: float) -> None:
    folds = Folds()
    await folds(q_update(("s", "dig", "set", 1e308), ("s", "dig", "toward", -1e308, alpha)))
    assert folds.values("s") == {"dig": (q, 2)}


async def test_an_event_id_is_applied_once_in_each_table() -> None:
    folds = Folds()
    for table in ("q", "q", "r"):
        await folds(q_update(("s", "dig", "add", 1.0), event_id="x", table=table))
    assert folds.values("s") == folds.values("s", "r") == {"dig": (1.0, 1)}


@pytest.mark.parametrize(
    ("updates", "code"),
    [
        ([("s", "dig", "add", 1e308), ("s", "dig", "add", 1e308)], "not_finite"),
        (
            [("s", "dig", "add", 1e308), ("s", "dig", "add", 1e308), ("s", "dig", "toward", 1.0, 0.5)],
            "not_finite",
        ),
        ([("s", f"a{n}", "set", 1.0) for n in range(257)], "too_many_actions"),
    ],
)
async def test_all_updates_are_applied_or_none(updates: list[Any], code: str) -> None:
    folds = Folds()
    await folds(event := q_update(("t", "dig", "set", 1.0), *updates))
    assert folds.answer(event) == Answer(applied=False, code=code)
    assert folds.values("s") is None
    assert folds.values("t") is None
    assert folds.states() == 0


async def test_a_full_table_takes_updates_of_its_states_but_no_more_states(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(q_tables, "MAX_STATES", 2)
    folds = Folds()
    await folds(
        q_update(("s", "a", "set", 1.0), ("t", "a", "set", 1.0), at=1.0),
        refused := q_update(("s", "a", "set", 2.0), ("u", "a", "set", 2.0), at=2.0),
        q_update(("t", "a", "set", 3.0), at=3.0),
        q_update(("u", "a", "set", 3.0), at=4.0, table="other"),
    )
    assert folds.answer(refused) == Answer(applied=False, code="too_many_states")
    assert (folds.values("s"), folds.values("t"), folds.states()) == ({"a": (1.0, 1)}, {"a": (3.0, 1 + 1)}, 2)
    assert folds.states("other") == 1


EVENTS = (
    q_update(("s", "a", "add", 1.0), ("t", "a", "add", 1.0), at=1.0),
    q_update(("t", "a", "toward", 5.0, 0.5), ("u", "a", "add", 1e308), at=2.0),
    q_update(("u", "a", "add", 1e308), ("s", "a", "add", 7.0), at=3.0),  # refused: not finite
    q_update(("u", "a", "set", 0.0), ("v", "a", "set", 1.0), at=4.0),
)


async def test_an_attempt_that_wrote_any_part_of_its_rows_is_completed_to_the_same_rows() -> None:
    """Every subset of the rows of a batch may be written, the answers before the others."""
    whole = Folds()
    await whole(*EVENTS)
    answers = {key: row for key, row in whole.rows.stored.items() if key.kind == "answer"}
    others = {key: row for key, row in whole.rows.stored.items() if key not in answers}
    for count in range(len(others) + 1):
        for written in itertools.combinations(others, count):
            for step in (1, 3, 4):  # batches of other sizes than in the first attempt
                folds = Folds()
                folds.rows.stored = answers | {key: others[key] for key in written}
                for first in range(0, len(EVENTS), step):
                    await folds.again(*EVENTS[first : first + step], first=first)
                assert folds.rows.stored == whole.rows.stored, (written, step)


async def test_an_erasure_takes_values_that_old_updates_are_part_of() -> None:
    folds = Folds()
    await folds(
        q_update(("added", "a", "add", 1.0), ("set", "a", "set", 1.0), ("half", "a", "set", 1.0), at=1.0),
        q_update(("half", "b", "set", 1.0), at=1.5),
        q_update(("added", "a", "add", 1.0), ("set", "a", "set", 2.0), ("half", "a", "set", 2.0), at=3.0),
    )
    folds.erase("a", at=2.0)
    assert (folds.values("added"), folds.values("half")) == (None, None)
    assert folds.values("set") == {"a": (2.0, 2)}
