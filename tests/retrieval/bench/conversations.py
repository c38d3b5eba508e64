"""Reads dialogues in a public form: turns of two speakers over several sessions, and questions with their evidence.

The file is JSON: `[{"turns": [{"id", "session", "date", "speaker", "text"}], "questions": [{"question", "evidence":
[ids of turns], "category"}]}]`. `date` is a time such as "1:56 pm on 8 May, 2023", or in ISO 8601.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.retrieval.bench.corpus import START, Corpus, Question

TURN_S = 20.0
"""The seconds between two turns of a session: the files have one time for a whole session."""
SESSION_S = 7 * 86_400.0
"""The seconds between two sessions of a file without dates."""
_FORMATS = ("%I:%M %p on %d %B, %Y", "%Y/%m/%d (%a) %H:%M", "%Y-%m-%d")


def read(path: Path, *, with_conversation: bool = True, with_speaker: bool = True) -> Corpus:
    """Each dialogue as the memories of one agent, at the times of its sessions.

    `with_conversation`: the session is written as `metadata.conversation`. `with_speaker`: a text begins with the
    speaker's name. Questions whose evidence is not among the turns are left out.
    """
    corpus = Corpus()
    for number, dialogue in enumerate(json.loads(path.read_bytes()), start=1):
        agent = f"npc:dialogue-{number}"
        known: set[str] = set()
        for turn, at in _timed(dialogue["turns"]):
            speaker, text = turn.get("speaker"), str(turn["text"]).strip()
            if not text:
                continue
            event_id = f"{number} {turn['id']}"
            known.add(event_id)
            metadata = {"conversation": f"{number}-{turn['session']}"} if with_conversation else {}
            if speaker:
                metadata["speaker"] = speaker
                text = f"{speaker}: {text}" if with_speaker else text
            corpus.events.append(
                {"id": event_id, "agent_id": agent, "time": at, "text": text, "metadata": metadata}
            )
        for asked in dialogue["questions"]:
            gold = [f"{number} {one}" for one in dict.fromkeys(asked["evidence"])]
            if gold and known.issuperset(gold):
                corpus.questions.append(Question(_kind(asked), agent, asked["question"].strip(), tuple(gold)))
    return corpus


def _kind(asked: Mapping[str, Any]) -> str:
    category = asked.get("category")
    return "dialogue" if category is None else f"dialogue, category {category}"


def _timed(turns: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], float]]:
    session, at = None, START - SESSION_S
    for turn in turns:
        if turn["session"] != session:
            session = turn["session"]
            at = _seconds(turn.get("date"), at + SESSION_S)
        else:
            at += TURN_S
        yield turn, at


def _seconds(date: str | None, otherwise: float) -> float:
    for form in _FORMATS if date else ():
        try:
            return datetime.strptime(date or "", form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    return otherwise
