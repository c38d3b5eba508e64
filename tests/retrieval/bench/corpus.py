"""What a benchmark consists of: events to be remembered, and questions with the ids of the events that answer them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

START = 1_750_000_000.0
"""Unix seconds: the time at which the generated worlds begin."""
HOUR_S = 3600.0
DAY_S = 86_400.0

Event = dict[str, Any]
"""An event in the form of POST /v1/events, with an `id` and a `time`."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to an agent.

    `kind`: the row of the table that it belongs to. `gold`: ids of the events that answer it, at least one.
    `where`: further arguments of the search that belong to the question, such as filters.
    """

    kind: str
    agent_id: str
    query: str
    gold: tuple[str, ...]
    where: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Corpus:
    """Events and the questions about them. The ids of the events are unique."""

    events: list[Event] = field(default_factory=list[Event])
    questions: list[Question] = field(default_factory=list[Question])

    @property
    def agents(self) -> list[str]:
        """The agents that have memories, in order of their first one."""
        return list(dict.fromkeys(event["agent_id"] for event in self.events))

    @property
    def end(self) -> float:
        """Unix seconds: the time of the newest event."""
        return max(event["time"] for event in self.events)


def merged(corpora: Iterable[Corpus]) -> Corpus:
    """One corpus of all events and questions."""
    whole = Corpus()
    for one in corpora:
        whole.events.extend(one.events)
        whole.questions.extend(one.questions)
    return whole


class Writer:
    """Builds the corpus of one kind: numbers the events, and lets time pass from one to the next."""

    def __init__(self, kind: str, seed: int) -> None:
        self.kind = kind
        self.seed = seed
        self.random = random.Random(f"{kind} {seed}")
        self.corpus = Corpus()
        self.now = START

    def wait(self, least_s: float, most_s: float) -> None:
        """Let a random time pass."""
        self.now += self.random.uniform(least_s, most_s)

    def event(self, agent: str, text: str | None = None, **fields: Any) -> str:
        """Add an event at the present time; return its id. Fields that are None are left out."""
        event_id = f"{self.kind}-{self.seed}-{len(self.corpus.events)}"
        known = {"id": event_id, "agent_id": agent, "time": round(self.now, 3), "text": text} | fields
        self.corpus.events.append({name: value for name, value in known.items() if value is not None})
        return event_id

    def ask(self, agent: str, query: str, *gold: str, kind: str | None = None, **where: Any) -> None:
        """Add a question; `kind` where one module has several rows of the table."""
        self.corpus.questions.append(Question(kind or self.kind, agent, query, gold, where))

    def pick(self, options: Iterable[Any]) -> Any:
        """One of the options."""
        return self.random.choice(list(options))

    def some(self, options: Iterable[Any], count: int) -> list[Any]:
        """Several different options."""
        return self.random.sample(list(options), count)

    def say(self, templates: Iterable[str], **values: Any) -> str:
        """One of the templates, filled in. The first letter is a capital one."""
        text = self.pick(templates).format(**values)
        return text[0].upper() + text[1:]
