"""The plan of a workload carries the workload in a simulation, and half of its workers do not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from lorestream.cli.app import app
from lorestream.planning.costs import measured_costs
from lorestream.planning.partitions import agent_shares, partition_shares
from lorestream.planning.sizing import Plan, Workload, plan
from tests.load import costs as fitting
from tests.load.embedding import figures_of

COSTS = measured_costs()
NETWORK = Workload(agents=20_000, events_per_s=50_000, searches_per_s=5000, servers=200)


def worst_backlog_s(workload: Workload, found: Plan, workers: int, *, seconds: int = 120) -> float:
    """How many seconds behind the busiest worker is at the end. Events arrive at random (Poisson)."""
    rng = np.random.default_rng(7)
    shares = agent_shares(workload.agents, workload.skew, workload.agent_events_per_s / workload.events_per_s)
    rates = partition_shares(shares, found.partitions, seed=99) * workload.events_per_s
    worker = np.arange(found.partitions) % workers
    each_s = (COSTS.worker_event_ms.value + (1 - workload.repeated) * COSTS.model_text_ms.value) / 1000
    backlog = np.zeros(workers)
    for _ in range(seconds):
        arrived = np.bincount(worker, weights=rng.poisson(rates), minlength=workers)
        backlog = np.maximum(0.0, backlog + arrived * each_s - 1.0)
    return float(backlog.max())


@pytest.mark.parametrize(
    "workload",
    [
        NETWORK,
        replace(NETWORK, skew=0),
        replace(NETWORK, repeated=0.9),
        Workload(agents=300, events_per_s=900, searches_per_s=10),
        Workload(agents=200_000, events_per_s=200_000, searches_per_s=20_000, servers=2000),
    ],
)
def test_the_workers_of_a_plan_have_no_backlog_and_half_of_them_have(workload: Workload) -> None:
    found = plan(workload, COSTS)
    workers = next(part.count for part in found.parts if part.name == "worker")
    assert worst_backlog_s(workload, found, workers) < 5
    assert worst_backlog_s(workload, found, workers // 2) > 5
    assert found.partitions >= workers


def test_more_work_needs_more_and_repeated_texts_less() -> None:
    base = {part.name: part for part in plan(NETWORK, COSTS).parts}
    twice = {
        part.name: part
        for part in plan(replace(NETWORK, events_per_s=100_000, searches_per_s=10_000), COSTS).parts
    }
    assert all(twice[name].cores >= part.cores for name, part in base.items())
    repeated = {part.name: part for part in plan(replace(NETWORK, repeated=0.9), COSTS).parts}
    assert repeated["worker"].cores < base["worker"].cores / 3
    assert repeated["Qdrant"] == base["Qdrant"]


def test_an_agent_that_is_too_busy_for_one_worker_does_not_fit() -> None:
    found = plan(Workload(agents=1, events_per_s=2000, searches_per_s=1), COSTS)
    assert not found.fits
    assert "busiest agent" in found.limits[0].name


def test_no_agent_has_more_than_the_most() -> None:
    shares = agent_shares(1000, 1.5, most=0.01)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] <= 0.0101
    assert agent_shares(10, 1.0, most=0.01).tolist() == [0.1] * 10


def test_the_command_prints_a_table_or_json() -> None:
    arguments = ["plan", "--servers", "200", "--agents", "20000", "--rate", "50000", "--queries", "5000"]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert shown.exit_code == 0
    assert "worker" in shown.output
    assert "First to give out" in shown.output
    printed = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert printed["fits"] is True
    assert {part["name"] for part in printed["parts"]} == {part.name for part in plan(NETWORK, COSTS).parts}
    busy = CliRunner().invoke(app, ["plan", "--agents", "1", "--rate", "5000", "--queries", "1"])
    assert busy.exit_code == 1
    assert (
        CliRunner().invoke(app, ["plan", "--agents", "1", "--rate", "nan", "--queries", "1"]).exit_code == 2
    )


def test_the_page_has_the_tables_of_the_costs() -> None:
    text = fitting.PAGE.read_text()
    assert fitting.page(text, COSTS) == text, "run python -m tests.load.costs"


def test_costs_follow_from_the_bench() -> None:
    seconds = {"openvino": [1.25], "reference": [5.0], "openvino_query": [0.1], "reference_query": [0.4]}
    figures = {
        "embedding": figures_of(seconds, "cpu", texts=500, queries=10),
        "distributed": {"gateway": {"events_per_cpu_s": 10_000}, "worker_cpu_over_bare_embedder": 0.8},
        "reads": {
            "look_ups_per_cpu_s": {"lorestream": 5000},
            "one_by_one": {"hybrid": {"cpu_ms": 12.5}},
        },
        "store": {"disk_bytes_per_memory_beside_text": 3000.0},
    }
    assert fitting.fitted(figures) == pytest.approx(
        {
            "model_text_ms": 2.5,
            "gateway_event_ms": 0.1,
            "worker_event_ms": 0.625,
            "query_search_ms": 12.5,
            "query_cached_ms": 0.2,
            "memory_disk_bytes": 3000.0,
        }
    )
