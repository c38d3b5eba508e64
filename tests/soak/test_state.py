"""State under kills and contention: exact sums, one winner of each version, whole policies. Small and long forms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from deploy.local.cluster import Cluster
from tests.brokers import SHARED_CLUSTER, missing_is_skipped
from tests.processes import HASH, running
from tests.soak.state import Adds, Service, load, one_writer_wins_each_round, policies_are_whole

MIB = 2**20


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """All in one process: a kill ends the gateway and the worker."""
    with running(tmp_path_factory.mktemp("state") / "data", HASH) as process:

        def crash() -> None:
            process.kill()
            process.start()

        with Service([process.url], process.url, crash) as service:
            yield service


@pytest.fixture(scope="module")
def distributed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Kills end the gateways and the workers in turn."""
    cluster = Cluster(tmp_path_factory.mktemp("state"), settings=SHARED_CLUSTER)
    with missing_is_skipped():
        cluster.start()
    turns = itertools.cycle((*cluster.workers, *cluster.gateways))

    def crash() -> None:
        service = next(turns)
        service.kill()
        service.start()

    try:
        with Service([each.url for each in cluster.gateways], cluster.queries[0].url, crash) as service:
            yield service
    finally:
        cluster.stop()


def test_every_sum_is_exact_after_kills(embedded: Service) -> None:
    Adds(5000, kills=2).check(embedded)
    assert embedded.crashes == 2


def test_one_of_sixteen_writers_wins_each_version(embedded: Service) -> None:
    one_writer_wins_each_round(embedded, rounds=3)


def test_a_policy_is_whole_while_it_is_rolled_back(embedded: Service) -> None:
    policies_are_whole(embedded, size=MIB + 1, rollbacks=4, readers=2)


@pytest.mark.soak
@pytest.mark.parametrize("shape", ["embedded", "distributed"])
class TestLong:
    """The long forms, in both shapes."""

    def test_every_sum_is_exact_after_kills(self, shape: str, request: pytest.FixtureRequest) -> None:
        Adds(100_000, kills=12).check(request.getfixturevalue(shape))

    def test_one_of_sixteen_writers_wins_each_version(
        self, shape: str, request: pytest.FixtureRequest
    ) -> None:
        one_writer_wins_each_round(request.getfixturevalue(shape), rounds=100, kills=4)

    def test_a_policy_is_whole_while_it_is_rolled_back(
        self, shape: str, request: pytest.FixtureRequest
    ) -> None:
        service = request.getfixturevalue(shape)
        with load(service):
            policies_are_whole(service, size=10 * MIB, rollbacks=24, readers=4, kills=4)
