"""Calls that explain a search, and that tell where memories are, and which are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorestream.client.call import Call, decoder, given, scope
from lorestream.client.encoding import encoded
from lorestream.client.models import Explanation, LikenessMap, Mode, Near, Places, Weights


def explain(
    agent_id: str,
    id: str,  # noqa: A002 (the name in the API)
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
    rerank: bool | None = None,
) -> Call[Explanation]:
    """Why the search with these arguments returns the memory `id` of the agent, or does not.

    The other arguments are those of `search`. Raises NotFound where the agent has no such memory.
    """
    body = given(
        agent_id=agent_id,
        id=id,
        query=query,
        k=k,
        filters=filters,
        near=near,
        mode=mode,
        weights=weights,
        neighbours=neighbours,
        time_words=time_words,
        min_score=min_score,
        rerank=rerank,
    )
    return Call(decoder(Explanation), "POST", "/v1/memories/explain", encoded(body))


def places(
    agent_id: str | Sequence[str] | None = None,
    cell: float | None = None,
    *,
    y_from: float | None = None,
    y_to: float | None = None,
    type: str | None = None,  # noqa: A002 (the name in the API)
    since: float | None = None,
    until: float | None = None,
    filters: Mapping[str, Any] | None = None,
) -> Call[Places]:
    """How many memories of one agent or of several (at most 64) are in each cell of a grid over x and z.

    Without `agent_id`: of the whole tenant, which needs the scope admin where there are keys. `cell`: the length of a
    cell's side in nodes (16). `y_from`, `y_to`: only memories of these heights, in nodes. `since`, `until`: Unix
    seconds. The cells with the most memories come first, at most 10,000 of them; over at most 100,000 memories.
    """
    body = given(
        cell=cell,
        y_from=y_from,
        y_to=y_to,
        type=type,
        since=since,
        until=until,
        filters=filters,
    )
    body |= scope(agent_id)
    return Call(decoder(Places), "POST", "/v1/memories/places", encoded(body))


def likeness(
    agent_id: str | Sequence[str] | None = None,
    limit: int = 1000,
    *,
    type: str | None = None,  # noqa: A002 (the name in the API)
    since: float | None = None,
    until: float | None = None,
    filters: Mapping[str, Any] | None = None,
) -> Call[LikenessMap]:
    """The newest `limit` memories (at most 5,000) of one agent or of several (at most 64), placed by their likeness.

    Without `agent_id`: of the whole tenant, which needs the scope admin where there are keys. `since`, `until`: Unix
    seconds. Memories that lie close together have similar vectors, as far as two dimensions can show that.
    """
    body = given(limit=limit, type=type, since=since, until=until, filters=filters)
    body |= scope(agent_id)
    return Call(decoder(LikenessMap), "POST", "/v1/memories/likeness", encoded(body))
