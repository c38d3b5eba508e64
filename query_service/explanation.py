"""Why a search returns a memory, or does not: its rank, the parts of its score, and the conditions that it fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from lorestream.limits import MAX_K
from lorestream.memories import And, Condition, Field, Op, PageQuery
from query_service.browse import get_memory
from query_service.encoding import found_memory
from query_service.insight_schemas import Explain, ExplainResponse, Reason
from query_service.queries import parse_filters
from query_service.ranking import RERANK_POOL_SIZE, Ranked, Sphere

if TYPE_CHECKING:
    from lorestream.memories import Filter, Memory
    from query_service.queries import SearchQuery
    from query_service.recall import Recall


async def explain(
    recall: Recall, query: SearchQuery, body: Explain, tenant: str, *, fresh: bool
) -> ExplainResponse | None:
    """The place of the memory `body.id` in the search; None where its agents have no such memory."""
    memory = await get_memory(recall, query.agents, body.id)
    if memory is None:
        return None
    # More than k do not change the order of the best k, and without a least score all of them have a rank. The lists
    # that a hybrid search joins would be longer, though, with memories that no such search returns.
    most = MAX_K if query.mode == "hybrid" and query.blend is None else RERANK_POOL_SIZE
    ranked = await recall.ranked(replace(query, k=most, min_score=None))
    best = [one for one in ranked[: query.k] if query.min_score is None or one.score >= query.min_score]
    place = next((place for place, one in enumerate(ranked) if one.memory.id == memory.id), None)
    if place is not None and place < len(best):
        reasons: list[Reason] = []
    elif place is not None:
        reasons = _below(query, ranked[place], place + 1, best)
    else:
        reasons = await _left_out(recall, query, body, tenant, memory)
    one = Ranked(memory, 0.0, {}) if place is None else ranked[place]
    return ExplainResponse(
        memory=found_memory(one, query.agents, explain=True),
        found=place is not None and place < len(best),
        rank=None if place is None else place + 1,
        ranked=len(ranked),
        k=query.k,
        last_score=best[-1].score if best else None,
        reasons=reasons,
        fresh=fresh,
    )


def _below(query: SearchQuery, one: Ranked, rank: int, best: list[Ranked]) -> list[Reason]:
    """Why a ranked memory is not among the best."""
    reasons: list[Reason] = []
    if query.min_score is not None and one.score < query.min_score:
        reasons.append(
            Reason("min_score", "min_score", f"its score {one.score:.4f} is below {query.min_score:g}")
        )
    if rank > query.k:
        last = f"; the last of these has the score {best[-1].score:.4f}" if best else ""
        reasons.append(
            Reason(
                "rank", "k", f"it is number {rank:,} with the score {one.score:.4f}, and k is {query.k}{last}"
            )
        )
    return reasons


async def _left_out(
    recall: Recall, query: SearchQuery, body: Explain, tenant: str, memory: Memory
) -> list[Reason]:
    """Why a memory is not ranked at all."""
    reasons: list[Reason] = []
    if not memory.recall and query.text is not None:
        reasons.append(Reason("record", "query", "it is a record: no search by meaning or words finds it"))
    if query.as_of is not None and memory.accepted_at > query.as_of:
        reasons.append(Reason("as_of", "as_of", "it was accepted after that time"))
    replaced_at = memory.superseded_at
    if replaced_at is not None and not body.superseded and replaced_at <= (query.as_of or math.inf):
        reasons.append(Reason("superseded", "superseded", "another memory supersedes it"))
    conditions = cast("Mapping[str, Any]", body.filters or {})
    for name, value in conditions.items():
        filter_ = parse_filters({name: value}, recall.pseudonyms, tenant)
        if not await _matches(recall, query, filter_, memory):
            reasons.append(Reason("filters", f"filters.{name}", "this condition does not hold for it"))
    if query.sphere is not None and not query.sphere.contains(memory):
        reasons.append(Reason("near", "near", _distance(query.sphere, memory)))
    if not reasons:
        by_words = query.mode == "keyword" and query.text is not None
        message = (
            "it has none of the words of the query"
            if by_words
            else "others are better: it is not among the memories that are ranked"
        )
        reasons.append(Reason("not_ranked", "query" if query.text is not None else "k", message))
    return reasons


async def _matches(recall: Recall, query: SearchQuery, filter_: Filter, memory: Memory) -> bool:
    """Whether the store finds the memory with this filter, among the agent's memories of the same time."""
    same_time = Condition(Field(("timestamp",)), Op.EQ, memory.timestamp)
    scope = replace(query.agents.scope, agents=(memory.agent_id,), records=True, superseded=True)
    page = PageQuery(scope, RERANK_POOL_SIZE, recall.clock.now(), And((same_time, filter_)))
    return any(found.id == memory.id for found in await recall.store.page(page))


def _distance(sphere: Sphere, memory: Memory) -> str:
    away = sphere.distance(memory)
    if away is None:
        return "it has no position on an axis that is compared"
    return f"it is {away:,.1f} nodes away, and the radius is {sphere.radius:g}"
