"""The schedule of a simulated load: determinism, distribution, batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import orjson
import pytest

from lorestream.narrate import narrate
from producers.admission import parse_event
from producers.simulator.plan import MAX_BATCH, Plan, batches, events, server_name
from producers.simulator.report import Latencies

PLAN = Plan(servers=4, agents=50, rate=200, seconds=5, seed=7, resend=0.05)


def _texts(plan: Plan) -> list[str]:
    made = [orjson.loads(one.body) for one in events(plan) if not one.resend]
    return [one.get("text") or narrate(one["type"], one["data"], by_player="player" in one) for one in made]


def test_the_same_seed_gives_the_same_load() -> None:
    assert list(events(PLAN)) == list(events(PLAN))
    assert list(batches(PLAN)) == list(batches(PLAN))


def test_other_parameters_share_no_id_and_another_start_changes_only_times() -> None:
    ids = {orjson.loads(one.body)["id"] for one in events(PLAN)}
    for other in (replace(PLAN, seed=8), replace(PLAN, agents=51), replace(PLAN, zipf=0.5)):
        assert ids.isdisjoint(orjson.loads(one.body)["id"] for one in events(other))
    later = [orjson.loads(one.body) for one in events(replace(PLAN, start=1000.0))]
    for one, moved in zip(map(orjson.loads, (one.body for one in events(PLAN))), later, strict=True):
        assert moved.pop("time") == pytest.approx(one.pop("time") + 1000, abs=0.0011)
        assert moved == one


def test_a_longer_load_begins_like_a_shorter_one() -> None:
    plan = replace(PLAN, resend=0.0)
    shorter = list(events(plan))
    assert list(islice(events(replace(plan, seconds=50)), len(shorter))) == shorter


def test_every_event_is_valid_and_has_a_unique_id() -> None:
    new = [one for one in events(PLAN) if not one.resend]
    assert len(new) == PLAN.events == 1000
    for one in new:
        parse_event(one.body)  # raises for what the gateway would reject
    assert len({orjson.loads(one.body)["id"] for one in new}) == 1000


def test_events_are_ordered_by_time_and_have_the_given_rate() -> None:
    made = list(events(PLAN))
    assert [one.at for one in made] == sorted(one.at for one in made)
    new = [one.at for one in made if not one.resend]
    assert new == pytest.approx([(number + 1) / 200 for number in range(1000)])
    assert [PLAN.due(at) for at in (-1, 0, 0.5, 5, 99)] == [0, 0, 100, 1000, 1000]


def test_a_resend_is_the_same_event_later() -> None:
    made = list(events(PLAN))
    first = {one.body: one for one in made if not one.resend}
    again = [one for one in made if one.resend]
    assert 25 <= len(again) <= 80
    for one in again:
        assert first[one.body].server == one.server
        assert first[one.body].at <= one.at <= PLAN.seconds


def test_sentences_are_mostly_distinct_and_of_many_kinds() -> None:
    plan = Plan(servers=1, agents=10, rate=10_000, seconds=1, seed=1)
    texts = _texts(plan)
    assert len(set(texts)) > 0.95 * len(texts)
    assert len({orjson.loads(one.body)["type"] for one in events(plan)}) >= 8


def test_the_popularity_of_agents_follows_zipf() -> None:
    plan = Plan(servers=1, agents=100, rate=20_000, seconds=1, seed=1)
    counts = Counter(orjson.loads(one.body)["agent_id"] for one in events(plan)).most_common()
    harmonic = sum(1 / rank for rank in range(1, 101))
    assert counts[0][1] == pytest.approx(20_000 / harmonic, rel=0.1)
    assert counts[9][1] == pytest.approx(2_000 / harmonic, rel=0.2)
    even = Counter(orjson.loads(one.body)["agent_id"] for one in events(replace(plan, zipf=0.0)))
    assert max(even.values()) < 2 * min(even.values())


def test_agents_stay_on_their_server_unless_they_move() -> None:
    def homes(plan: Plan) -> Counter[str]:
        return Counter(
            agent for agent, _ in {(orjson.loads(one.body)["agent_id"], one.server) for one in events(plan)}
        )

    assert set(homes(replace(PLAN, moves=0.0)).values()) == {1}
    assert max(homes(replace(PLAN, moves=0.2)).values()) > 1
    restless = Counter(one.server for one in events(replace(PLAN, moves=1.0)))
    assert all(150 < restless[server] < 350 for server in range(PLAN.servers))


def test_batches_have_every_event_once_in_order() -> None:
    plan = replace(PLAN, rate=2000)
    sent = list(batches(plan))
    assert [batch.due for batch in sent] == sorted(batch.due for batch in sent)
    for server in range(plan.servers):
        mine = [one for batch in sent if batch.server == server for one in batch.events]
        assert mine == [one for one in events(plan) if one.server == server]


def test_an_event_waits_at_most_one_flush_and_a_batch_is_bounded() -> None:
    plan = Plan(servers=3, agents=30, rate=3000, seconds=2, seed=1)
    sizes = [len(batch.events) for batch in batches(plan)]
    assert max(sizes) == MAX_BATCH
    for batch in batches(plan):
        assert all(0 <= batch.due - one.at <= plan.flush_s + 1e-9 for one in batch.events)


def test_the_flush_times_of_servers_are_spread() -> None:
    plan = Plan(servers=5, agents=50, rate=100, seconds=4, seed=1)
    phases = {batch.server: round(batch.due % plan.flush_s, 6) % plan.flush_s for batch in batches(plan)}
    assert phases == pytest.approx({server: server * 0.1 for server in range(5)})


def test_servers_have_names() -> None:
    assert [server_name(number) for number in range(2)] == ["server-1", "server-2"]


def test_latencies_are_precise_to_two_percent() -> None:
    latencies = Latencies()
    for number in range(1, 1001):
        latencies.add(number / 1000)
    figures = latencies.milliseconds()
    assert figures["p50"] == pytest.approx(500, rel=0.021)
    assert figures["p99"] == pytest.approx(990, rel=0.021)
    assert figures["max"] == 1000
    assert Latencies().milliseconds() == dict.fromkeys(("p50", "p90", "p99", "p999", "max"), 0)
