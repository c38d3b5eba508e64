"""The calls of memories and of the service: each function builds one request, with the decoder of its response.

Both clients make a method of each function, with its parameters and documentation; also of those in `records`, `documents`,
`learning` and `rewinds`. Nothing here sends anything.
Each raises InvalidValue for an argument that JSON cannot represent, such as NaN.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from lorestream.client.call import Call, decoder, given, read_call, scope, single, wait_ms, write_call
from lorestream.client.encoding import encoded, milliseconds, quoted
from lorestream.client.models import (
    Agents,
    AgentTotal,
    Context,
    Document,
    Erasure,
    Erasures,
    ErasureState,
    Event,
    FoundMemory,
    Health,
    ListedErasure,
    Memories,
    Mode,
    Near,
    Order,
    Page,
    Readiness,
    Receipt,
    SearchAnswer,
    Summary,
    Weights,
)

UNAVAILABLE = 503


# --- writes ----------------------------------------------------------------------------------------------


def add(
    agent_id: str,
    text: str,
    *,
    event: Event | None = None,
    server: str | None = None,
    wait_s: float | None = None,
) -> Call[Receipt]:
    """Remember one text; `event` has further fields of the event.

    `wait_s`: wait until it can be found, at most this long; `Receipt.indexed` says whether it can.
    Raises Rejected when it can never become a memory.
    """
    return single(
        add_batch([{**(event or {}), "agent_id": agent_id, "text": text}], server=server, wait_s=wait_s)
    )


def add_batch(
    events: Sequence[Event], *, server: str | None = None, wait_s: float | None = None
) -> Call[Receipt]:
    """Remember at most 1,000 events (1 MiB) in one request; `Receipt.rejected` lists those that were refused.

    Events without an id get one here, so that a retry makes no second memory.
    """
    with_ids = [event if event.get("id") else {**event, "id": uuid.uuid4().hex} for event in events]
    waiting = {} if wait_s is None else {"wait": "indexed", "timeout_ms": milliseconds(wait_s)}
    return write_call(
        Receipt, "/v1/events", given(events=with_ids, server=server), params=waiting, wait_s=wait_s
    )


def delete(memory_id: str, agent_id: str) -> Call[Erasure]:
    """Delete one memory. Its id stays deleted, even if its event is sent again."""
    return write_call(Erasure, "/v1/erasures", {"memory_id": memory_id, "agent_id": agent_id})


def forget(agent_id: str) -> Call[Erasure]:
    """Erase all memories that the agent has so far."""
    return write_call(Erasure, "/v1/erasures", {"agent_id": agent_id})


def forget_player(player: str) -> Call[Erasure]:
    """Erase all memories about the player so far, of all agents, and those of the agents named after it."""
    return write_call(Erasure, "/v1/erasures", {"player": player})


def erasure_done(erasure: Erasure) -> Call[bool]:
    """Whether the erasure is processed: then no read shows the erased memories. Raises NotFound."""
    state = decoder(ErasureState)
    path = "/v1/erasures/" + quoted(erasure.erasure_id, "erasure_id")
    return Call(lambda reply: state(reply).state == "done", "GET", path, to_writer=True)


def erasures(limit: int = 100) -> Call[list[ListedErasure]]:
    """The newest erasures of agents and players, at most 1,000; deletions of single memories are not among them."""
    listed = decoder(Erasures)
    params = {"limit": str(limit)}
    return Call(lambda reply: listed(reply).erasures, "GET", "/v1/erasures", params=params, to_writer=True)


# --- reads -----------------------------------------------------------------------------------------------


def search(
    agent_id: str | Sequence[str],
    query: str | None = None,
    k: int = 5,
    *,
    filters: Mapping[str, Any] | None = None,
    near: Near | None = None,
    mode: Mode | None = None,
    weights: Weights | None = None,
    neighbours: float | None = None,
    time_words: bool | None = None,
    min_score: float | None = None,
    explain: bool | None = None,
    rerank: bool | None = None,
    as_of: float | None = None,
    superseded: bool | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[SearchAnswer]:
    """The k best memories for the query, of one agent or of several (at most 64).

    `mode`: "hybrid" (the default: by meaning and words), "dense" (by meaning) or "keyword". `weights`: for example
    {"relevance": 1, "recency": 0.3, "normalise": True}. Without a query: the newest memories that pass the filters, or
    the best by the other weights. `rerank` gives the best memories a second look: slower, more exact. `after` is the
    token of a write that the result must include, waited for at most `wait_s` (0.5); `SearchAnswer.fresh` says
    whether it does. `neighbours` (0 to 1): how much the memories before and behind one lift its score.
    `time_words`: True lets "yesterday" or "in May" in the query lift the memories of that time. `as_of`: what was known at
    this time (Unix seconds). `superseded`: True also shows memories that others replace.
    """
    body = given(
        query=query,
        k=k,
        filters=filters,
        near=near,
        mode=mode,
        weights=weights,
        neighbours=neighbours,
        time_words=time_words,
        min_score=min_score,
        explain=explain,
        rerank=rerank,
        as_of=as_of,
        superseded=superseded,
        after=after,
        wait_ms=wait_ms(wait_s),
    )
    body |= scope(agent_id)
    return Call(decoder(SearchAnswer), "POST", "/v1/memories/search", encoded(body), wait_s=wait_s or 0.0)


def context(
    agent_id: str,
    query: str | None = None,
    *,
    recent: int | None = None,
    relevant: int | None = None,
    token_budget: int | None = None,
    filters: Mapping[str, Any] | None = None,
    neighbours: float | None = None,
    include_state: bool | None = None,
    as_of: float | None = None,
    superseded: bool | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[Context]:
    """Memories for a prompt, within a token budget: the best for `query`, and the newest.

    At most `relevant` (5) and `recent` (10) of them, and `token_budget` (1,000) tokens in all. Without a query:
    only the newest. What the budget has left is used for the memories next to the best ones, unless `neighbours` is 0.
    `filters`, `neighbours`, `as_of`, `superseded`, `after` and `wait_s` as in `search`. `Context.state` is the agent's document of the type
    `character`; with `include_state` it also stands first in the text, and counts.
    """
    body = given(
        include_state=include_state,
        query=query,
        recent=recent,
        relevant=relevant,
        token_budget=token_budget,
        filters=filters,
        neighbours=neighbours,
        as_of=as_of,
        superseded=superseded,
        after=after,
        wait_ms=wait_ms(wait_s),
    )
    path = f"/v1/agents/{quoted(agent_id)}/context"
    return Call(decoder(Context), "POST", path, encoded(body), wait_s=wait_s or 0.0)


def get(memory_id: str, agent_id: str) -> Call[FoundMemory]:
    """One memory. Raises NotFound."""
    path = "/v1/memories/" + quoted(memory_id, "memory_id")
    return read_call(FoundMemory, path, params={"agent_id": agent_id})


def get_many(agent_id: str, ids: Sequence[str], *, vectors: bool = False) -> Call[list[FoundMemory]]:
    """The memories and records with these ids (at most 256), in this order; unknown ones are left out.

    `vectors`: also read what they are searched by, as `FoundMemory.vector`.
    """
    body = encoded({"agent_id": agent_id, "ids": list(ids), "vectors": vectors})
    decode = decoder(Memories)
    return Call(lambda reply: decode(reply).memories, "POST", "/v1/memories/get", body)


def recent(
    agent_id: str,
    limit: int = 20,
    *,
    cursor: str | None = None,
    order: Order | None = None,
    type: str | None = None,  # noqa: A002 (the parameter's name in the contract)
    tick_from: float | None = None,
    tick_to: float | None = None,
    since: float | None = None,
    until: float | None = None,
    filters: Mapping[str, Any] | None = None,
    conversation: str | int | None = None,
    as_of: float | None = None,
    superseded: bool | None = None,
) -> Call[Page]:
    """One page of an agent's memories, `limit` (at most 1,000) of them; newest first, or order "oldest".

    `cursor` is the `next_cursor` of the page before. Bounds are inclusive, times are Unix seconds. Records are in it
    only if their `type` is named. `conversation`: only messages of this one. `as_of` and `superseded` as in `search`.
    """
    params = given(
        limit=limit,
        cursor=cursor or None,
        order=order,
        type=type,
        tick_from=tick_from,
        tick_to=tick_to,
        since=since,
        until=until,
        filters=None if filters is None else encoded(filters, "filters").decode(),
        conversation=conversation,
        as_of=as_of,
        superseded=None if superseded is None else str(superseded).lower(),
    )
    return read_call(Page, f"/v1/agents/{quoted(agent_id)}/memories", params=params)


def summary(agent_id: str) -> Call[Summary]:
    """How many memories an agent has, in all and by type, and the times of the first and the last."""
    return read_call(Summary, f"/v1/agents/{quoted(agent_id)}/summary")


def agents(limit: int = 100, prefix: str = "") -> Call[list[AgentTotal]]:
    """The agents with the most memories, at most 1,000 of them. Needs the scope admin where there are keys.

    `prefix`: only those whose ids begin so.
    """
    decode = decoder(Agents)
    params = {"limit": str(limit), **({"prefix": prefix} if prefix else {})}
    return Call(lambda reply: decode(reply).agents, "GET", "/v1/agents", params=params)


# --- the system ------------------------------------------------------------------------------------------


def check() -> Call[Health]:
    """Check that a Lorestream answers at `url`. Raises Unreachable, without retries."""
    return Call(decoder(Health), "GET", "/health", to_writer=True, retries=False)


def ready() -> Call[Readiness]:
    """Whether the Lorestream at `url` can do its job. Raises Unreachable, without retries."""
    return Call(decoder(Readiness), "GET", "/ready", to_writer=True, retries=False, other_success=UNAVAILABLE)


def version() -> Call[str]:
    """The version of the Lorestream at `url`."""
    decode = decoder(Document)
    return Call(lambda reply: decode(reply).info.version, "GET", "/openapi.json", to_writer=True)
