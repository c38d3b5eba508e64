"""A replay in the distributed shape: the verb runs in a process of its own, and the services follow the swap."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from deploy.local.cluster import Cluster
from tests.admin_verbs import finish, run, start
from tests.collection_compare import compared
from tests.live_game import AGENTS, TIMEOUT_S, LiveWrites, RepeatedSearches, event, search_all, send
from tests.staleness_probe import StalenessProbe

pytestmark = pytest.mark.timeout(600)
EVENTS = 1000
LATE_ERASED = AGENTS[2]


def erase(cluster: Cluster, agent: str) -> dict[str, Any]:
    """Erase an agent; returns a query for its memories, which must find nothing from now on."""
    answer = httpx2.delete(f"{cluster.url}/v1/agents/{agent}", timeout=TIMEOUT_S)
    assert answer.status_code == 202, answer.text
    question = {"agent_id": agent, "query": "near the mill", "k": 100}
    after = {"after": answer.json()["token"], "wait_ms": 30_000}
    found = httpx2.post(f"{cluster.url}/v1/memories/search", json=question | after, timeout=TIMEOUT_S).json()
    assert (found["fresh"], found["memories"]) == (True, [])
    return question


def assert_nothing_found(cluster: Cluster, question: dict[str, Any]) -> None:
    found = httpx2.post(f"{cluster.url}/v1/memories/search", json=question, timeout=TIMEOUT_S).json()
    assert found["memories"] == []


def test_a_replay_by_the_verb_is_followed_by_all_services(cluster: Cluster) -> None:
    url = cluster.url
    with httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
        for first in range(0, EVENTS, 500):
            events = [event(number) | {"ttl": 0} for number in range(first, first + 500)]
            send(client, events, wait=first + 500 == EVENTS)
    with LiveWrites(url, at_once=5) as writes, StalenessProbe(url) as fresh:
        replay = start(cluster, "replay", "--to", "other", "--dim", "96")
        early = erase(cluster, AGENTS[1])
        outcome = finish(replay)
        assert (outcome["gate"], outcome["reasons"], outcome["model"]) == ("passed", [], "hash-v1-96")
        late = erase(cluster, LATE_ERASED)
        # With a pause, so that the queries leave CPU to the verbs.
        with RepeatedSearches(url, pause_s=0.2) as searches:
            one = search_all(url)
            swapped = run(cluster, "alias", "swap")
            assert swapped["searched"] == "other"
            first = swapped["before"]
            other = search_all(url)
            for question in (early, late):
                assert_nothing_found(cluster, question)
            assert run(cluster, "alias", "rollback") == {"searched": first, "before": "other"}
            assert search_all(url) == one
        assert one[0][0] != other[0][0]
        assert searches.wrong(one, other) == []
        assert searches.count > 0
        for question in (early, late):
            assert_nothing_found(cluster, question)
    assert (fresh.stale, fresh.errors) == ([], [])
    assert fresh.completed > 0
    assert writes.accepted > 0
    assert asyncio.run(compared(cluster, [first, "other"])) > EVENTS * 0.9
    assert "may still be running" in run(cluster, "drop", "other", "--yes", code=1)
    listed = run(cluster, "alias", "list")["collections"]
    assert [(one["name"], one["searched"]) for one in listed] == [(first, True), ("other", False)]


def test_a_dropped_collection_is_gone_and_the_others_are_kept_up_to_date(cluster: Cluster) -> None:
    with httpx2.Client(base_url=cluster.url, timeout=TIMEOUT_S) as client:
        send(client, [event(number) | {"ttl": 0} for number in range(EVENTS, EVENTS + 48)], wait=True)
        assert run(cluster, "replay", "--to", "spare")["gate"] == "passed"
        assert run(cluster, "drop", "spare", "--yes") == {"dropped": "spare", "dry_run": False}
        send(client, [event(number) | {"ttl": 0} for number in range(EVENTS + 48, EVENTS + 96)], wait=True)
        again = run(cluster, "replay", "--to", "spare", "--dim", "96")
    # Created again with another model, and not mistaken for the dropped one.
    assert (again["gate"], again["model"]) == ("passed", "hash-v1-96")
    assert again["memories"]["new"] == again["memories"]["searched"] >= 96
