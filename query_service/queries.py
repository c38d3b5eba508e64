"""From what a caller sent to a question that is checked through: whose memories, which, how ranked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from lorestream.access.authentication import Principal
from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidRequest
from lorestream.http.request import HttpError, explain_validation_error
from lorestream.memories import AgentKey, Blend, Filter, Scope
from lorestream.tokens import parse_token
from query_service.filter_parser import parse_filter
from query_service.ranking import Sphere, blend_of
from query_service.schemas import (
    DEFAULT_K,
    DEFAULT_RECENT,
    DEFAULT_RELEVANT,
    DEFAULT_TOKEN_BUDGET,
    Context,
    Get,
    Mode,
    Search,
)

if TYPE_CHECKING:
    from lorestream.identity import Pseudonyms

DEFAULT_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Named:
    """Agents in their stored forms, and how the caller named them: answers speak of them like that."""

    scope: Scope
    names: Mapping[str, str]

    def name(self, agent_id: str) -> str:
        """The caller's name for an agent; the stored one where the caller named none."""
        return self.names.get(agent_id, agent_id)

    @property
    def single(self) -> AgentKey | None:
        """The agent, when it is exactly one in exactly one stored form."""
        agents = self.scope.agents
        return AgentKey(self.scope.tenant, agents[0]) if agents is not None and len(agents) == 1 else None


@dataclass(frozen=True, slots=True)
class Question:
    """A search that can be carried out."""

    agents: Named
    query: str | None
    k: int
    filter: Filter
    mode: Mode = "dense"
    sphere: Sphere | None = None
    blend: Blend | None = None
    min_score: float | None = None
    explain: bool = False
    after: Mapping[int, int] | None = None
    wait_s: float = DEFAULT_WAIT_S
    fingerprint: bytes = b""
    """Equal for questions that have the same answer at the same time."""


@dataclass(frozen=True, slots=True)
class ContextQuestion:
    """What to put into a context: the `k` best of `question` and the `recent` newest, within the budget."""

    question: Question
    recent: int
    token_budget: int


def named(pseudonyms: Pseudonyms, tenant: str, agent_ids: Sequence[str]) -> Named:
    """The scope of agents that the caller named."""
    names: dict[str, str] = {}
    for agent_id in agent_ids:
        for stored in pseudonyms.agents(tenant, agent_id):
            names.setdefault(stored, agent_id)
    return Named(Scope(tenant, tuple(names)), names)


def filter_of(filters: object, pseudonyms: Pseudonyms, tenant: str) -> Filter:
    """The filter that the caller wrote. Raises InvalidFilter."""
    return parse_filter(filters, players=lambda name: pseudonyms.players(tenant, name))


def search_question(search: Search, principal: Principal, pseudonyms: Pseudonyms) -> Question:
    """Check a search. Raises InvalidRequest (400) and HttpError (403)."""
    agents = _agents(search, principal, pseudonyms)
    if search.mode is not None:
        if search.query is None:
            raise InvalidRequest("a mode needs a query", path="mode")
        if search.mode == "keyword" and search.weights is not None:
            raise InvalidRequest("weights need the relevance of mode dense or hybrid", path="weights")
    sphere = None if search.near is None else Sphere.of(search.near)
    if sphere is not None and not sphere.centre:
        raise InvalidRequest("near needs x, y or z", path="near")
    return Question(
        agents=agents,
        query=search.query,
        k=int(search.k or DEFAULT_K),
        filter=filter_of(search.filters, pseudonyms, principal.tenant),
        mode=search.mode or "dense",
        sphere=sphere,
        blend=_blend(search),
        min_score=search.min_score,
        explain=bool(search.explain),
        after=None if search.after is None else parse_token(search.after),
        wait_s=DEFAULT_WAIT_S if search.wait_ms is None else search.wait_ms / 1000,
        fingerprint=_fingerprint(
            "search",
            search.agent_id,
            search.agent_ids,
            search.query,
            int(search.k or DEFAULT_K),
            search.filters,
            search.mode or "dense",
            msgspec.to_builtins(search.near),
            msgspec.to_builtins(search.weights),
            search.min_score,
            bool(search.explain),
        ),
    )


def get_question(get: Get, principal: Principal, pseudonyms: Pseudonyms) -> Question:
    """Check a search in the older form. Raises InvalidRequest."""
    if get.query is not None and get.query_text is not None:
        raise InvalidRequest("query and query_text are two names of one thing", path="query_text")
    query = get.query if get.query is not None else get.query_text
    if query is None:
        raise InvalidRequest("what is asked for is missing", path="query")
    k = int(get.k or DEFAULT_K)
    return Question(
        agents=named(pseudonyms, principal.tenant, [get.agent_id]),
        query=query,
        k=k,
        filter=filter_of(get.filters, pseudonyms, principal.tenant),
        fingerprint=_fingerprint("get", get.agent_id, query, k, get.filters),
    )


def context_question(
    agent_id: str, context: Context, principal: Principal, pseudonyms: Pseudonyms
) -> ContextQuestion:
    """Check what is asked for as a context. Raises InvalidRequest."""
    recent, relevant, budget = (
        int(default if given is None else given)
        for given, default in (
            (context.recent, DEFAULT_RECENT),
            (context.relevant, DEFAULT_RELEVANT),
            (context.token_budget, DEFAULT_TOKEN_BUDGET),
        )
    )
    question = Question(
        agents=named(pseudonyms, principal.tenant, [agent_id]),
        query=context.query,
        k=relevant,
        filter=filter_of(context.filters, pseudonyms, principal.tenant),
        after=None if context.after is None else parse_token(context.after),
        wait_s=DEFAULT_WAIT_S if context.wait_ms is None else context.wait_ms / 1000,
        fingerprint=_fingerprint(
            "context", agent_id, context.query, recent, relevant, budget, context.filters
        ),
    )
    return ContextQuestion(question, recent, budget)


def get_arguments(agent_id: str, query: str, k: int, filters: Mapping[str, Any] | None) -> Get:
    """The older form from plain arguments, as another protocol than HTTP has them. Raises InvalidRequest."""
    values = {"agent_id": agent_id, "query": query, "k": k, "filters": filters}
    try:
        return msgspec.convert(values, Get)
    except msgspec.ValidationError as error:
        message, path = explain_validation_error(error)
        raise InvalidRequest(message, path=path) from error


def _agents(search: Search, principal: Principal, pseudonyms: Pseudonyms) -> Named:
    given = {"agent_id": search.agent_id, "agent_ids": search.agent_ids, "scope": search.scope}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        path = chosen[1] if chosen else "agent_id"
        raise InvalidRequest('exactly one of agent_id, agent_ids and "scope": "tenant" is needed', path=path)
    if search.agent_ids is not None:
        return named(pseudonyms, principal.tenant, search.agent_ids)
    if search.agent_id is not None:
        return named(pseudonyms, principal.tenant, [search.agent_id])
    if KeyScope.ADMIN not in principal.scopes:
        raise HttpError(
            403, "forbidden", "the scope of the whole tenant needs a key with admin", path="scope"
        )
    return Named(Scope(principal.tenant), {})


def _blend(search: Search) -> Blend | None:
    weights = search.weights
    if weights is None:
        return None
    if weights.relevance == 0 and not weights.recency and not weights.importance:
        raise InvalidRequest("at least one weight must be above 0", path="weights")
    return blend_of(weights, with_query=search.query is not None)


def _fingerprint(*parts: object) -> bytes:
    return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
