"""`lorestream demo`: writes a day in a simulated village to a server, then asks questions about it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from rich.table import Table
from rich.text import Text

from lorestream.cli import terminal
from lorestream.cli.memories import calls
from lorestream.client import DEFAULT_URL, NotFound
from lorestream.errors import Unavailable
from lorestream.telemetry import printable
from producers.demo import village

if TYPE_CHECKING:
    from lorestream.client import Event, FoundMemory, MemoryClient

SERVER = "village"
BATCH_SIZE = 50
INDEX_TIMEOUT_S = 60.0
TOP_K = 3

_MARKS = {True: Text("found", "green"), False: Text("missed", "red"), None: Text("-", "dim")}


@dataclass(frozen=True, slots=True)
class Played:
    """How many events were written, how many became memories, and how long it took until all could be found."""

    events: int
    accepted: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A question and the memories found. `took_ms` is the whole round trip, `server_ms` the time in the server.

    `found`: whether one of the memories is an expected answer; None if nothing is expected.
    """

    kind: str
    agent_id: str
    query: str
    where: Mapping[str, Any]
    memories: Sequence[FoundMemory]
    found: bool | None
    took_ms: float
    server_ms: float


def play(url: str, query_url: str | None, *, seed: int, questions: int, as_json: bool) -> None:
    """Write the events, ask, print. Raises Unreachable if no server runs, Unavailable if indexing takes too long."""
    with calls.connect(url, query_url) as memories:
        start = start_of_day(memories, seed, time.time())
        played, ids = _play(memories, [cast("Event", event) for event in village.events(seed, start)])
        answers = [_ask(memories, question, ids) for question in village.questions(seed, start)[:questions]]
    if as_json:
        terminal.print_json({"seed": seed, "played": played, "answers": answers})
        return
    terminal.print_renderable(_table(answers))
    found = [answer.found for answer in answers if answer.found is not None]
    terminal.print_line(
        f"{played.accepted:,} of {played.events:,} events became memories in {played.seconds:.1f} s."
        f" The expected answer was among the best {TOP_K} for {sum(found)} of {len(found)} questions."
    )
    if answers:
        own = "" if url == DEFAULT_URL else f" --url {url}"
        terminal.print_line(f'Next: lorestream search {answers[0].agent_id} "{answers[0].query}"{own}')


def start_of_day(memories: MemoryClient, seed: int, now: float) -> float:
    """When the day begins, in Unix seconds like `now`: a day ago, or where an earlier demo has written it, as it is stored.

    Writes the first event of the day: the first content of an id stays, so its stored time is that of the whole day.
    """
    start = float(int(now - village.DAY_S))
    first = village.events(seed, start)[0]
    receipt = memories.add_batch([cast("Event", first)], server=SERVER, wait_s=INDEX_TIMEOUT_S)
    try:
        stored = memories.get(str(receipt.ids[0]), first["agent_id"])
    except NotFound:  # it has expired or was erased since
        return start
    return start + round(stored.timestamp - first["time"])


def _play(memories: MemoryClient, events: Sequence[Event]) -> tuple[Played, dict[str, str]]:
    """Write the events in batches; also returns the memory id of each event id."""
    started, ids = time.perf_counter(), dict[str, str]()
    with terminal.progress_bar() as bar:
        task = bar.add_task("a day in the village", total=len(events))
        for start in range(0, len(events), BATCH_SIZE):
            batch = events[start : start + BATCH_SIZE]
            receipt = memories.add_batch(batch, server=SERVER, wait_s=INDEX_TIMEOUT_S)
            if not receipt.indexed:
                raise Unavailable(
                    f"the memories were not indexed within {INDEX_TIMEOUT_S:.0f} s: check the server with `lorestream doctor`"
                )
            ids |= {
                event["id"]: memory_id
                for event, memory_id in zip(batch, receipt.ids, strict=True)
                if "id" in event and memory_id is not None
            }
            bar.advance(task, len(batch))
    return Played(len(events), len(ids), time.perf_counter() - started), ids


def _ask(memories: MemoryClient, question: village.Question, ids: Mapping[str, str]) -> Answer:
    started = time.perf_counter()
    answer = memories.search(question.agent_id, question.query, TOP_K, **question.where)
    took_ms = (time.perf_counter() - started) * 1000
    gold = {ids.get(event_id) for event_id in question.gold}
    found = any(memory.id in gold for memory in answer.memories) if question.gold else None
    return Answer(
        question.kind.value,
        question.agent_id,
        question.query,
        question.where,
        answer.memories,
        found,
        took_ms,
        answer.took_ms,
    )


def _table(answers: Sequence[Answer]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    table.add_column("question", overflow="fold", ratio=2)
    table.add_column("memories found", overflow="fold", ratio=3)
    table.add_column("", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    for answer in answers:
        asked = Text.assemble((answer.agent_id, "bold"), (f"  {answer.kind}", "dim"), "\n", answer.query)
        if answer.where:
            asked.append(f"\n{json.dumps(answer.where)}", "dim")
        best = [Text.assemble((f"{m.score or 0:.2f}  ", "cyan"), printable(m.text)) for m in answer.memories]
        remembered = Text("\n").join(best) if best else Text("nothing", "dim")
        table.add_row(asked, remembered, _MARKS[answer.found], f"{answer.took_ms:.1f}")
    return table
