"""The retrieval benchmark itself: its generators, its reader of dialogues, its measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.models import real_model
from tests.retrieval.bench import conversations, report
from tests.retrieval.bench.corpus import Corpus
from tests.retrieval.bench.kinds import HELD_OUT, KINDS, TUNE
from tests.retrieval.bench.measure import measure
from tests.retrieval.bench.methods import METHODS
from tests.retrieval.bench.metrics import Metrics


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_one_corpus_whose_questions_have_their_answer(kind: str) -> None:
    corpus = KINDS[kind](TUNE[0])
    again, other = KINDS[kind](TUNE[0]), KINDS[kind](HELD_OUT[0])
    assert corpus == again
    contents = [[(one.get("text"), one.get("data")) for one in each.events] for each in (corpus, other)]
    assert contents[0] != contents[1]
    events = {event["id"]: event for event in corpus.events}
    assert len(events) == len(corpus.events)
    assert corpus.questions
    for question in corpus.questions:
        assert question.gold
        assert {events[one]["agent_id"] for one in question.gold} == {question.agent_id}
        assert question.query not in {events[one].get("text") for one in question.gold}


def test_dialogues_are_read_with_times_sessions_and_evidence(tmp_path: Path) -> None:
    turns = [
        {"id": "D1:1", "session": 1, "date": "1:56 pm on 8 May, 2023", "speaker": "Ann", "text": "I moved."},
        {"id": "D1:2", "session": 1, "date": "1:56 pm on 8 May, 2023", "speaker": "Bob", "text": "Where to?"},
        {"id": "D2:1", "session": 2, "date": "2023-05-09", "speaker": "Ann", "text": "To the coast."},
    ]
    questions = [
        {"question": "Where does Ann live?", "evidence": ["D2:1", "D1:1"], "category": 2},
        {"question": "Evidence that is missing", "evidence": ["D9:1"], "category": 2},
        {"question": "No evidence", "evidence": [], "category": 5},
    ]
    file = tmp_path / "dialogues.json"
    file.write_text(json.dumps([{"turns": turns, "questions": questions}]))
    corpus = conversations.read(file)
    assert [event["text"] for event in corpus.events] == [
        "Ann: I moved.",
        "Bob: Where to?",
        "Ann: To the coast.",
    ]
    assert [event["time"] for event in corpus.events] == [1_683_554_160.0, 1_683_554_180.0, 1_683_590_400.0]
    assert [event["metadata"]["conversation"] for event in corpus.events] == ["1-1", "1-1", "1-2"]
    assert [(one.kind, one.gold) for one in corpus.questions] == [
        ("dialogue, category 2", ("1 D2:1", "1 D1:1"))
    ]
    bare = conversations.read(file, with_conversation=False, with_speaker=False)
    assert bare.events[0]["text"] == "I moved."
    assert bare.events[0]["metadata"] == {"speaker": "Ann"}


def test_metrics_of_known_answers() -> None:
    found = [f"m{number}" for number in range(1, 11)]
    metrics = Metrics.of([(found, ["m2", "m6"]), (found, ["m1"]), ([], ["m1"])])
    assert metrics.queries == 3
    assert metrics.recall_1 == pytest.approx(1 / 3)
    assert metrics.recall_5 == pytest.approx((0.5 + 1 + 0) / 3)
    assert metrics.recall_10 == pytest.approx(2 / 3)
    assert metrics.mrr == pytest.approx((0.5 + 1 + 0) / 3)
    first = (1 / 1.584962500721156 + 1 / 2.807354922057604) / (1 + 1 / 1.584962500721156)
    assert metrics.ndcg == pytest.approx((first + 1) / 3)


@pytest.mark.model
async def test_both_lists_together_find_more_than_each_alone(tmp_path: Path) -> None:
    real_model()
    whole = KINDS["conversations"](7)
    agent = whole.agents[0]
    dialogue = Corpus(
        [event for event in whole.events if event["agent_id"] == agent],
        [question for question in whole.questions if question.agent_id == agent],
    )
    methods = {name: METHODS[name] for name in ("dense", "keyword", "hybrid", "hybrid, no neighbours")}
    figures = report.with_totals(await measure(dialogue, methods, cache=tmp_path))
    both, fused = figures[report.ALL, "hybrid"], figures[report.ALL, "hybrid, no neighbours"]
    for one in (figures[report.ALL, "dense"], figures[report.ALL, "keyword"]):
        assert fused.recall_10 > one.recall_10
        assert fused.recall_5 > one.recall_5
    # The answers that lack the question's words stand next to a turn that has them.
    assert both.recall_10 > fused.recall_10
