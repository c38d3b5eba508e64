"""Whatever happens to workers, the rows are those of a plain fold of the log."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from lorestream.adapters.qdrant.edge.store import EdgeStore
from lorestream.ports import VectorStore
from tests.folding_machine import FoldingMachine

FEW = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
OF_STORES = settings(FEW, max_examples=2, stateful_step_count=15)
MANY = settings(FEW, max_examples=2000, stateful_step_count=60)
MANY_OF_STORES = settings(MANY, max_examples=300)


def machine(store: str, qdrant: Any) -> type[FoldingMachine]:
    def opened() -> AbstractAsyncContextManager[VectorStore]:
        return qdrant.store() if store == "server" else EdgeStore.open(None, model_id="hash", dim=4)

    class Machine(FoldingMachine):
        open_store = None if store == "dictionary" else staticmethod(opened)

    return Machine


def test_the_rows_are_the_fold_of_the_log() -> None:
    run_state_machine_as_test(FoldingMachine, settings=FEW)


@pytest.mark.parametrize("store", ["edge", "server"])
def test_the_rows_in_a_store_are_the_fold_of_the_log(store: str, qdrant: Any) -> None:
    run_state_machine_as_test(machine(store, qdrant), settings=OF_STORES)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_the_rows_are_the_fold_of_the_log_in_many_runs() -> None:
    run_state_machine_as_test(FoldingMachine, settings=MANY)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("store", ["edge", "server"])
def test_the_rows_in_a_store_are_the_fold_of_the_log_in_many_runs(store: str, qdrant: Any) -> None:
    run_state_machine_as_test(machine(store, qdrant), settings=MANY_OF_STORES)
