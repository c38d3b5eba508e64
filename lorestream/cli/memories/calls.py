"""The verbs `put`, `search`, `recent`, `agents`, `tail` and `erase`, carried out through the HTTP client."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import stamina.instrumentation

from lorestream.cli import terminal
from lorestream.client import ApiError, Event, FoundMemory, MemoryClient
from lorestream.client.environment import api_key

RETRY_BUDGET_S = 10.0
"""How long requests that are answered with 429 or 503 are retried."""
ERASURE_TIMEOUT_S = 10.0


def client(url: str, query_url: str | None = None) -> MemoryClient:
    """A client with the API key from the environment."""
    stamina.instrumentation.set_on_retry_hooks([])  # no log lines of retries between the output
    return MemoryClient(url, query_url=query_url, api_key=api_key(), retry_timeout_s=RETRY_BUDGET_S)


def connect(url: str, query_url: str | None = None) -> MemoryClient:
    """A client of the server at `url`, checked. Raises Unreachable at once if there is none."""
    connected = client(url, query_url)
    connected.check()
    return connected


def put(url: str, agent_id: str, text: str, event: Event, *, wait_s: float, as_json: bool) -> None:
    """Write one memory and print its id; waits up to `wait_s` seconds until it can be found."""
    if text == "-":
        text = terminal.read_stdin().rstrip("\n")
    with connect(url) as memories:
        receipt = memories.add(agent_id, text, event=event, wait_s=wait_s or None)
    _print_receipt(str(receipt.ids[0]), receipt.token, indexed=receipt.indexed, as_json=as_json)


def supersede(
    url: str, agent_id: str, memory_id: str, text: str, event: Event, *, wait_s: float, as_json: bool
) -> None:
    """Replace a memory and print the id of the new one; waits up to `wait_s` seconds until it can be found."""
    if text == "-":
        text = terminal.read_stdin().rstrip("\n")
    with connect(url) as memories:
        new = memories.supersede(memory_id, agent_id, text, event=event, wait_s=wait_s or None)
    _print_receipt(new.id, new.token, indexed=new.indexed, as_json=as_json)


def _print_receipt(memory_id: str, token: str, *, indexed: bool, as_json: bool) -> None:
    if as_json:
        terminal.print_json({"id": memory_id, "indexed": indexed, "token": token})
        return
    terminal.print_line(memory_id)
    if not indexed:
        terminal.print_note("accepted and durable, but not indexed yet: it can be found in a moment")


def search(url: str, agent_id: str, query: str, k: int, options: Mapping[str, Any], *, as_json: bool) -> None:
    """Search and print the best memories. `options`: further arguments of `MemoryClient.search`."""
    with connect(url) as memories:
        answer = memories.search(agent_id, query, k, **options)
    if as_json:
        terminal.print_json(answer)
        return
    rows = [
        (
            "-" if m.score is None else f"{m.score:.3f}",
            terminal.local_time(m.timestamp),
            m.type or "-",
            m.text,
        )
        for m in answer.memories
    ]
    if rows:
        terminal.print_table({"score": "right", "when": "", "type": "", "text": ""}, rows)
    terminal.print_note(
        f"{count(len(rows), 'memory', 'memories')} in {answer.took_ms:.1f} ms, cache {answer.cache}"
    )


def recent(url: str, agent_id: str, limit: int, options: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the newest memories of an agent. `options`: further arguments of `MemoryClient.recent`."""
    with connect(url) as memories:
        page = memories.recent(agent_id, limit, **options)
    if as_json:
        terminal.print_json(page)
        return
    _print_memories(page.memories)
    terminal.print_note(f"{len(page.memories)} of {count(page.total, 'memory', 'memories')}")


def _print_memories(memories: Sequence[FoundMemory]) -> None:
    rows = [(terminal.local_time(m.timestamp), m.type or "-", m.text) for m in memories]
    if rows:
        terminal.print_table({"when": "", "type": "", "text": ""}, rows)


def relations(url: str, agent_id: str, limit: int, *, as_json: bool) -> None:
    """Print with whom an agent has to do."""
    with connect(url) as memories:
        found = memories.relations(agent_id, limit)
    if as_json:
        terminal.print_json({"relations": found})
        return
    rows = [
        (
            f"{one.total:,}",
            terminal.local_time(one.last),
            "-" if one.valence is None else f"{one.valence:g}",
            one.other,
        )
        for one in found
    ]
    if rows:
        terminal.print_table({"memories": "right", "last": "", "valence": "right", "with": ""}, rows)
    terminal.print_note(_largest(len(rows), limit, "relation", "relations"))


def agents(url: str, limit: int, prefix: str, *, as_json: bool) -> None:
    """Print the agents with the most memories, of those whose ids begin with `prefix`."""
    with connect(url) as memories:
        totals = memories.agents(limit, prefix)
    if as_json:
        terminal.print_json({"agents": totals})
        return
    if totals:
        terminal.print_table(
            {"memories": "right", "agent": ""}, [(f"{a.total:,}", a.agent_id) for a in totals]
        )
    terminal.print_note(_largest(len(totals), limit, "agent", "agents"))


def tail(
    url: str,
    stop_after: int | None,
    last_event_id: str | None,
    wanted: Mapping[str, str],
    *,
    as_json: bool,
) -> None:
    """Print memories as they become findable, until Ctrl-C or after `stop_after` of them. `wanted`: what to show."""
    shown = 0
    with connect(url) as memories:
        stream = memories.stream(**wanted, last_event_id=last_event_id)
        try:
            for memory in stream:
                if as_json:
                    terminal.print_json(memory, pretty=False)
                else:
                    _print_tail_line(memory)
                shown += 1
                if shown == stop_after:
                    break
        except KeyboardInterrupt:
            pass
        finally:
            stream.close()
    if stream.lost:
        terminal.print_note(f"the log had already deleted {count(stream.lost, 'record', 'records')}")
    if stream.last_event_id is not None:
        terminal.print_note(f"to go on from here: --after {stream.last_event_id}")


def _print_tail_line(memory: FoundMemory) -> None:
    text = " ".join(memory.text.split())
    moment = terminal.local_time(memory.timestamp)
    terminal.print_line(f"{moment}  {memory.agent_id}  {memory.type or '-'}  {text}")
    sys.stdout.flush()


def erase(
    url: str, *, agent_id: str | None, player: str | None, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Erase an agent with all it has, or what is about a player; waits until no read shows them, up to `ERASURE_TIMEOUT_S`."""
    with connect(url) as memories:
        if agent_id is not None:
            total = _total(memories, agent_id)
            found = count(total, "memory", "memories")
            what = f"{found} of agent {agent_id}, and all records, documents, Q-tables and policies"
        else:
            total = None
            what = (
                f"every memory and record about player {player}, of any agent, and everything of the agents"
                f" named after them, such as player:{player}"
            )
        if dry_run:
            if as_json:
                terminal.print_json(
                    {"dry_run": True, "agent_id": agent_id, "player": player, "memories": total}
                )
            else:
                terminal.print_line(f"would erase {what}; nothing was changed")
            return
        terminal.confirm(f"Erase {what}? This cannot be undone.", yes=yes)
        erasure = memories.forget(agent_id) if agent_id is not None else memories.forget_player(str(player))
        deadline = time.monotonic() + ERASURE_TIMEOUT_S
        while not (done := memories.erasure_done(erasure)) and time.monotonic() < deadline:
            time.sleep(0.05)
    if as_json:
        terminal.print_json({"erasure_id": erasure.erasure_id, "state": "done" if done else "running"})
    else:
        terminal.print_line(f"{'erased' if done else 'accepted, still being erased:'} {what}")


def _total(memories: MemoryClient, agent_id: str) -> int | None:
    """How many memories an agent has; None if the API key may not read them."""
    try:
        return memories.recent(agent_id, 1).total
    except ApiError as error:
        if error.status in {401, 403, 404}:
            return None
        raise


def _largest(number: int, limit: int, one: str, many: str) -> str:
    """The number of the largest ones that were read. As many as the limit may not be all."""
    if number < limit:
        return count(number, one, many)
    return f"the largest {one}" if number == 1 else f"the {number:,} largest {many}"


def count(number: int | None, one: str, many: str) -> str:
    """The number with its noun; "every ..." for None."""
    return f"every {one}" if number is None else f"{number:,} {one if number == 1 else many}"
