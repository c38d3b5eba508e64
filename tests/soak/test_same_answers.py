"""Both shapes give the same answers to the same requests about state, also while processes of one are killed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from deploy.local.cluster import Cluster
from tests.brokers import SHARED_CLUSTER, missing_is_skipped
from tests.processes import HASH, PLAYER_KEY, running
from tests.soak.same_answers import run, sequence
from tests.soak.state import Service


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("crashes", [0, 4])
def test_both_shapes_answer_the_same(tmp_path: Path, crashes: int) -> None:
    steps = sequence(crashes, 100)
    with (
        running(tmp_path / "embedded", HASH | PLAYER_KEY) as process,
        Service([process.url], process.url, process.kill) as service,
    ):
        expected = list(run(service, steps))
    key = tmp_path / "player-key"
    key.write_text(PLAYER_KEY["LORESTREAM_PLAYER_KEY"])
    cluster = Cluster(
        tmp_path / "cluster", settings={**SHARED_CLUSTER, "LORESTREAM_PLAYER_KEY_FILE": str(key)}
    )
    with missing_is_skipped():
        cluster.start()
    turns = itertools.cycle((*cluster.workers, *cluster.gateways))

    def crash() -> None:
        killed = next(turns)
        killed.kill()
        killed.start()

    try:
        with Service([one.url for one in cluster.gateways], cluster.queries[0].url, crash) as service:
            for step, answer, wanted in zip(steps, run(service, steps, crashes), expected, strict=True):
                assert answer == wanted, step
    finally:
        cluster.stop()
