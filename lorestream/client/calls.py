"""The calls of the API: each function builds one request, together with the decoder of its response.

Both clients make a method of each function, with its parameters and documentation. Nothing here sends anything.
Each raises InvalidValue for an argument that JSON cannot represent, such as NaN.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import msgspec

from lorestream.client.encoding import as_texts, encoded, milliseconds, quoted
from lorestream.client.models import (
    Agents,
    AgentTotal,
    Context,
    Document,
    Erasure,
    ErasureState,
    Event,
    FoundMemory,
    Health,
    Mode,
    Near,
    Order,
    Page,
    Readiness,
    Receipt,
    Rejected,
    SearchAnswer,
    Weights,
)

UNAVAILABLE = 503

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One idempotent request: sending it twice has the same effect as sending it once.

    `read` decodes the body of a successful response; `other_success` is a further status that counts as success.
    `wait_s` is how long the server may wait before it answers. `to_writer`: it goes to the gateway, not to
    the query service. `retries`: whether a failure is retried.
    """

    read: Callable[[bytes], T_co]
    method: str
    path: str
    content: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    wait_s: float = 0.0
    to_writer: bool = False
    retries: bool = True
    other_success: int | None = None


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
    batch = add_batch([{**(event or {}), "agent_id": agent_id, "text": text}], server=server, wait_s=wait_s)

    def read(body: bytes) -> Receipt:
        receipt = batch.read(body)
        for reject in receipt.rejected:
            raise Rejected(reject.message, status=202, code=reject.code)
        return receipt

    return replace(batch, read=read)


def add_batch(
    events: Sequence[Event], *, server: str | None = None, wait_s: float | None = None
) -> Call[Receipt]:
    """Remember at most 1,000 events (1 MiB) in one request; `Receipt.rejected` lists those that were refused.

    Events without an id get one here, so that a retry makes no second memory.
    """
    with_ids = [event if event.get("id") else {**event, "id": uuid.uuid4().hex} for event in events]
    waiting = {} if wait_s is None else {"wait": "indexed", "timeout_ms": milliseconds(wait_s)}
    return _write(
        Receipt, "/v1/events", _given(events=with_ids, server=server), params=waiting, wait_s=wait_s or 0.0
    )


def delete(memory_id: str, agent_id: str) -> Call[Erasure]:
    """Delete one memory. Its id stays deleted, even if its event is sent again."""
    return _write(Erasure, "/v1/erasures", {"memory_id": memory_id, "agent_id": agent_id})


def forget(agent_id: str) -> Call[Erasure]:
    """Erase all memories that the agent has so far."""
    return _write(Erasure, "/v1/erasures", {"agent_id": agent_id})


def forget_player(player: str) -> Call[Erasure]:
    """Erase all memories about the player so far, of all agents, and those of the agents named after it."""
    return _write(Erasure, "/v1/erasures", {"player": player})


def erasure_done(erasure: Erasure) -> Call[bool]:
    """Whether the erasure is processed: then no read shows the erased memories. Raises NotFound."""
    state = _decoder(ErasureState)
    path = "/v1/erasures/" + quoted(erasure.erasure_id, "erasure_id")
    return Call(lambda body: state(body).state == "done", "GET", path, to_writer=True)


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
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[SearchAnswer]:
    """The k best memories for the query, of one agent or of several (at most 64).

    `mode`: "hybrid" (the default: by meaning and words), "dense" (by meaning) or "keyword". `weights`: for example
    {"relevance": 1, "recency": 0.3, "normalise": True}. Without a query: the newest memories that pass the filters, or
    the best by the other weights. `rerank` gives the best memories a second look: slower, more exact. `after` is the
    token of a write that the result must include, waited for at most `wait_s` (0.5); `SearchAnswer.fresh` says
    whether it does. `neighbours` (0 to 1): how much the memories before and behind one lift its score.
    `time_words`: True lets "yesterday" or "in May" in the query lift the memories of that time.
    """
    body = _given(
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
        after=after,
        wait_ms=None if wait_s is None else milliseconds(wait_s),
    )
    body["agent_id" if isinstance(agent_id, str) else "agent_ids"] = agent_id
    return Call(_decoder(SearchAnswer), "POST", "/v1/memories/search", encoded(body), wait_s=wait_s or 0.0)


def context(
    agent_id: str,
    query: str | None = None,
    *,
    recent: int | None = None,
    relevant: int | None = None,
    token_budget: int | None = None,
    filters: Mapping[str, Any] | None = None,
    neighbours: float | None = None,
    after: str | None = None,
    wait_s: float | None = None,
) -> Call[Context]:
    """Memories for a prompt, within a token budget: the best for `query`, and the newest.

    At most `relevant` (5) and `recent` (10) of them, and `token_budget` (1,000) tokens in all. Without a query:
    only the newest. What the budget has left is used for the memories next to the best ones, unless `neighbours` is 0.
    `filters`, `neighbours`, `after` and `wait_s` as in `search`.
    """
    body = _given(
        query=query,
        recent=recent,
        relevant=relevant,
        token_budget=token_budget,
        filters=filters,
        neighbours=neighbours,
        after=after,
        wait_ms=None if wait_s is None else milliseconds(wait_s),
    )
    path = f"/v1/agents/{quoted(agent_id)}/context"
    return Call(_decoder(Context), "POST", path, encoded(body), wait_s=wait_s or 0.0)


def get(memory_id: str, agent_id: str) -> Call[FoundMemory]:
    """One memory. Raises NotFound."""
    path = "/v1/memories/" + quoted(memory_id, "memory_id")
    return Call(_decoder(FoundMemory), "GET", path, params=as_texts({"agent_id": agent_id}))


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
) -> Call[Page]:
    """One page of an agent's memories, `limit` (at most 1,000) of them; newest first, or order "oldest".

    `cursor` is the `next_cursor` of the page before. Bounds are inclusive, times are Unix seconds.
    """
    params = _given(
        limit=limit,
        cursor=cursor or None,
        order=order,
        type=type,
        tick_from=tick_from,
        tick_to=tick_to,
        since=since,
        until=until,
        filters=None if filters is None else encoded(filters, "filters").decode(),
    )
    return Call(_decoder(Page), "GET", f"/v1/agents/{quoted(agent_id)}/memories", params=as_texts(params))


def agents(limit: int = 100) -> Call[list[AgentTotal]]:
    """The agents with the most memories, at most 1,000 of them. Needs the scope admin where there are keys."""
    decode = _decoder(Agents)
    return Call(lambda body: decode(body).agents, "GET", "/v1/agents", params={"limit": str(limit)})


# --- the system ------------------------------------------------------------------------------------------


def check() -> Call[Health]:
    """Check that a Lorestream answers at `url`. Raises Unreachable, without retries."""
    return Call(_decoder(Health), "GET", "/health", to_writer=True, retries=False)


def ready() -> Call[Readiness]:
    """Whether the Lorestream at `url` can do its job. Raises Unreachable, without retries."""
    return Call(
        _decoder(Readiness), "GET", "/ready", to_writer=True, retries=False, other_success=UNAVAILABLE
    )


def version() -> Call[str]:
    """The version of the Lorestream at `url`."""
    decode = _decoder(Document)
    return Call(lambda body: decode(body).info.version, "GET", "/openapi.json", to_writer=True)


def _write(
    kind: type[T], path: str, body: object, *, params: Mapping[str, Any] | None = None, wait_s: float = 0.0
) -> Call[T]:
    return Call(
        _decoder(kind),
        "POST",
        path,
        encoded(body),
        params=as_texts(params or {}),
        wait_s=wait_s,
        to_writer=True,
    )


def _decoder(kind: type[T]) -> Callable[[bytes], T]:
    return msgspec.json.Decoder(kind).decode


def _given(**fields: object) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
