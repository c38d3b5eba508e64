"""Fuzzing for a time instead of a number of examples: the long forms, run by `make soak`.

`FUZZ_SECONDS` (600) is the length of each, `FUZZ_SEED` (0) the first of its seeds: a failure names the seed of its batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

T = TypeVar("T")

SECONDS = float(os.environ.get("FUZZ_SECONDS", "600"))
FIRST_SEED = int(os.environ.get("FUZZ_SEED", "0"))
EXAMPLES_PER_BATCH = 100


def fuzz(
    strategy: st.SearchStrategy[T], check: Callable[[T], object], *, until: float, first: int = 0
) -> int:
    """Call `check` with examples until `time.monotonic()` is `until`; the number of calls.

    `first` is added to the seeds. The message of a failed check is given the seed of its batch.
    """
    calls, number = 0, FIRST_SEED + first
    while time.monotonic() < until:

        @seed(number)
        @settings(
            max_examples=EXAMPLES_PER_BATCH,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def batch(example: T) -> None:
            nonlocal calls
            if time.monotonic() < until:
                calls += 1
                check(example)

        try:
            batch()
        except Unsatisfiable:
            pass  # no valid example with this seed: some operations of an OpenAPI document have few invalid requests
        except Exception as error:
            error.add_note(f"FUZZ_SEED={number - first}")
            raise
        number += 1
    return calls
