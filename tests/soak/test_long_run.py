"""The long run (`make soak`), and that its comparison notices each kind of difference."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import missing_is_skipped
from tests.soak import long_run
from tests.soak.load import Sent, agent_of, event, tenant_of
from tests.soak.truth import Found, Log, compare

NUMBERS = range(20)


def memory_id(number: int) -> str:
    return f"id-{number}"


def put(number: int, *, accepted_at: float = 100.0, again: bool = False, **fields: Any) -> dict[str, Any]:
    """A record of the log, as a gateway writes it."""
    tenant, agent = tenant_of(number), agent_of(number)
    text = event(number, again=again)["text"]
    record = {"op": "put", "tenant": tenant, "agent_id": agent, "memory_id": memory_id(number)}
    return record | {"accepted_at": accepted_at, "text": text} | fields


def shown(number: int, **fields: Any) -> Found:
    """What a read of the event's agent shows."""
    memory = {"id": memory_id(number), "text": event(number)["text"], "metadata": {"number": number}}
    return Found(tenant_of(number), agent_of(number), memory | fields)


def outcome(log: list[dict[str, Any]], found: list[Found], sent: Sent | None = None) -> dict[str, int]:
    """How many differences of each kind there are, without the kinds that have none."""
    folded = Log()
    for record in log:
        folded.add(record)
    counts = compare(folded, sent or Sent(), found)
    return {name: counts[name] for name in long_run.WRONG if counts[name]}


def test_a_store_that_holds_what_the_log_says_has_no_differences() -> None:
    erase = {
        "op": "erase",
        "tenant": tenant_of(2),
        "kind": "player",
        "subjects": ["k1:2"],
        "accepted_at": 150.0,
    }
    log = [
        *(put(number) for number in NUMBERS if number != 2),
        put(2, player="k1:2"),
        put(3, again=True),
        {"op": "delete", "tenant": tenant_of(1), "agent_id": agent_of(1), "memory_id": memory_id(1)},
        put(1, again=True),
        erase,
        put(30, expires_at=200.0),
        put(31, expires_at=time.time() + 1),  # may be there or not
    ]
    found = [shown(number) for number in NUMBERS if number not in {1, 2}]
    assert outcome(log, found) == {}
    assert outcome(log, [*found, shown(31)]) == {}
    after_the_erasure = put(2, player="k1:2", accepted_at=151.0)
    assert outcome([*log, after_the_erasure], found) == {}
    assert outcome([*log, after_the_erasure], [*found, shown(2)]) == {}


def test_each_kind_of_difference_is_counted() -> None:
    log = [put(number) for number in NUMBERS]
    found = [shown(number) for number in NUMBERS]
    assert outcome(log, found[1:]) == {"lost": 1}
    assert outcome(log, found, Sent(accepted={"id-99": 99}, deleted={"id-98"})) == {"lost": 2}
    assert outcome(log, [*found, found[0]]) == {"doubled": 1}
    other_id = Found(found[0].tenant, found[0].agent_id, found[0].memory | {"id": "id-other"})
    assert outcome([*log, put(0, memory_id="id-other")], [*found, other_id]) == {"doubled": 1}
    elsewhere = Found("alpha", agent_of(5), found[5].memory)
    assert outcome(log, [*found[:5], elsewhere, *found[6:]]) == {"foreign": 1}
    assert outcome(log[1:], found) == {"foreign": 1}
    assert outcome([*log[1:], put(0, again=True)], found) == {"changed": 1}
    gone = [
        {"op": "delete", "tenant": tenant_of(1), "agent_id": agent_of(1), "memory_id": memory_id(1)},
        {
            "op": "erase",
            "tenant": tenant_of(2),
            "kind": "agent",
            "subjects": [agent_of(2)],
            "accepted_at": 100.0,
        },
    ]
    assert outcome([*log, *gone], found) == {"undead": 2}
    assert outcome([*log[1:], put(0, expires_at=200.0)], found) == {"undead": 1}


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_million_events_with_two_hundred_kills(tmp_path: Path) -> None:
    report = tmp_path / "long_run.json"
    with missing_is_skipped():
        code = long_run.main(["--report", str(report)])
    assert code == 0, json.dumps(json.loads(report.read_text()), indent=2)
