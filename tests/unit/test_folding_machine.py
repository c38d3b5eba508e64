"""Whatever happens to workers, the rows are those of a plain fold of the log."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.folding_machine import FoldingMachine

FEW = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
MANY = settings(FEW, max_examples=3000, stateful_step_count=60)


def test_the_rows_are_the_fold_of_the_log() -> None:
    run_state_machine_as_test(FoldingMachine, settings=FEW)


@pytest.mark.soak
def test_the_rows_are_the_fold_of_the_log_in_many_runs() -> None:
    run_state_machine_as_test(FoldingMachine, settings=MANY)
