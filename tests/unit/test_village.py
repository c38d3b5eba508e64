"""The demo village: deterministic by seed, valid events, questions whose answers exist."""

from __future__ import annotations

from collections import Counter

import pytest

from producers.demo import village
from producers.demo.village import Kind

SEEDS = [1, 2, 99]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_village(seed: int) -> None:
    assert village.events(seed) == village.events(seed)
    assert village.questions(seed) == village.questions(seed)
    assert village.events(seed) != village.events(seed + 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_expected_answer_is_an_event_of_the_agent(seed: int) -> None:
    events = {event["id"]: event for event in village.events(seed)}
    assert len(events) == len(village.events(seed))
    for question in village.questions(seed):
        assert bool(question.gold) is (question.kind is not Kind.NOTHING)
        for event_id in question.gold:
            assert events[event_id]["agent_id"] == question.agent_id


@pytest.mark.parametrize("seed", SEEDS)
def test_no_question_equals_the_text_of_an_event(seed: int) -> None:
    texts = {event.get("text") or event["data"].get("message") for event in village.events(seed)}
    assert not texts & {question.query for question in village.questions(seed)}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_of_several_updates_is_the_answer(seed: int) -> None:
    events = village.events(seed)
    for question in village.questions(seed):
        if question.kind is Kind.UPDATE:
            [gold] = [event for event in events if event["id"] == question.gold[0]]
            words = gold["text"].partition(" cost ")[0]
            same = [
                e
                for e in events
                if e["agent_id"] == question.agent_id and e.get("text", "").startswith(words)
            ]
            assert same[-1] is gold
            assert len(same) == 4


def test_the_day_begins_at_the_given_time() -> None:
    times = [event["time"] for event in village.events(1, start=5000.0)]
    assert times == sorted(times)
    assert 5000 <= times[0] <= times[-1] <= 5000 + village.DAY_S


def test_the_first_questions_cover_all_kinds() -> None:
    assert Counter(question.kind for question in village.questions(1)[:12]) == dict.fromkeys(Kind, 2)
