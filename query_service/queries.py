"""From a decoded request to a checked query: whose memories, which of them, how they are ranked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import msgspec
import orjson
from msgspec import UNSET, UnsetType

from lorestream import limits
from lorestream.access.authentication import Principal
from lorestream.access.key_file import KeyScope
from lorestream.errors import InvalidRequest
from lorestream.http.request import HttpError, decode, explain_validation_error
from lorestream.memories import EVERYTHING, AgentKey, And, Blend, Condition, Field, Filter, Not, Op, Scope
from lorestream.tokens import parse_token
from query_service.filter_parser import StoredForms, parse_filter
from query_service.ranking import Sphere, parse_weights
from query_service.records import with_records
from query_service.schemas import (
    DEFAULT_K,
    DEFAULT_MODE,
    DEFAULT_RECENT,
    DEFAULT_RELEVANT,
    DEFAULT_TOKEN_BUDGET,
    Context,
    Get,
    Mode,
    Near,
    RecentParams,
    Search,
    Weights,
)

if TYPE_CHECKING:
    from lorestream.identity import Pseudonyms

DEFAULT_WAIT_S = 0.5


class _Scoped(Protocol):
    """A request about one agent, several, or the whole tenant."""

    @property
    def agent_id(self) -> str | None: ...
    @property
    def agent_ids(self) -> Sequence[str] | None: ...
    @property
    def scope(self) -> str | None: ...


_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ResolvedAgents:
    """The scope of a read in stored agent ids. `names`: stored id -> the id in the request, for the answer."""

    scope: Scope
    names: Mapping[str, str]

    def name(self, agent_id: str) -> str:
        """The agent's id as the caller wrote it; the stored id if the request did not name the agent."""
        return self.names.get(agent_id, agent_id)

    @property
    def single(self) -> tuple[AgentKey, ...]:
        """The stored forms of the agent if the request names exactly one, else nothing. Only such queries are cached."""
        one = len(set(self.names.values())) == 1
        return tuple(AgentKey(self.scope.tenant, stored) for stored in self.names) if one else ()


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A checked search. Without `text` it selects by filter, place and time alone."""

    agents: ResolvedAgents
    text: str | None
    k: int
    filter: Filter
    mode: Mode = DEFAULT_MODE
    sphere: Sphere | None = None
    blend: Blend | None = None
    neighbours: float | None = None
    """How much the memories before and behind lift a score, in 0 to 1; None: by the service's setting."""
    time_words: bool = False
    """Time words of the text ("yesterday") lift the memories of that time."""
    normalise: bool = False
    """With `blend`: relevance is normalised over the memories that it ranks."""
    min_score: float | None = None
    rerank: bool = False
    explain: bool = False
    after: Mapping[int, int] | None = None
    """The write to wait for: partition -> offset."""
    wait_s: float = DEFAULT_WAIT_S
    as_of: float | None = None
    """Answer as at this time (Unix seconds); `filter` has its conditions."""
    fingerprint: bytes = b""
    """Equal for queries that have the same answer at the same time; a part of the cache key."""

    @property
    def scope(self) -> Scope:
        """Whose memories it covers: without a text also records, where the filter names their type."""
        scope = self.agents.scope
        return with_records(scope, self.filter) if self.text is None else scope


@dataclass(frozen=True, slots=True)
class ContextQuery:
    """A checked context request: the `k` best of `search` and the `recent` newest, within `token_budget`.

    `with_neighbours`: what stands next to the best ones is added where the budget allows it.
    """

    search: SearchQuery
    recent: int
    token_budget: int
    owner: StateOwner
    """Whose character is part of the answer."""
    with_neighbours: bool = True
    with_state: bool = False
    """The character stands first in the text."""


def resolve_agents(pseudonyms: Pseudonyms, tenant: str, agent_ids: Sequence[str]) -> ResolvedAgents:
    """The stored ids of agents, see `Pseudonyms.agents`: one or more for each.

    Raises InvalidRequest for an id that is too long.
    """
    names: dict[str, str] = {}
    for agent_id in agent_ids:
        limits.check_agent_id(agent_id)
        for stored in pseudonyms.agents(tenant, agent_id):
            names.setdefault(stored, agent_id)
    return ResolvedAgents(Scope(tenant, tuple(names)), names)


@dataclass(frozen=True, slots=True)
class StateOwner:
    """The agent of documents, Q-tables and policies: its lasting stored form, and its id in the request."""

    key: AgentKey
    name: str


def resolve_owner(pseudonyms: Pseudonyms, tenant: str, agent_id: str, path: str = "id") -> StateOwner:
    """The owner of state that a request names in its field `path`. Raises InvalidRequest for an id that is too long."""
    limits.check_agent_id(agent_id, path)
    return StateOwner(AgentKey(tenant, pseudonyms.lasting_agent(tenant, agent_id)), agent_id)


def parse_filters(filters: object, pseudonyms: Pseudonyms, tenant: str) -> Filter:
    """The `filters` of a request; null and [] mean none. Raises InvalidFilter."""
    forms: dict[str, StoredForms] = {
        "player": lambda name: pseudonyms.players(tenant, name),
        "about": lambda entry: pseudonyms.abouts(tenant, entry),
        "sources": lambda id_: (limits.canonical_memory_id(id_) or id_,),
    }
    return parse_filter(filters or None, stored_forms=forms)


def known_at(as_of: float | None, filter_: Filter, *, superseded: bool) -> Filter:
    """The filter of what matches another one and was known at a time: accepted and, unless `superseded`, not superseded.

    None: the filter itself. What had expired by then is left out by the time of the query.
    """
    if as_of is None:
        return filter_
    then: list[Filter] = [Condition(Field(("accepted_at",)), Op.LTE, as_of)]
    if not superseded:
        then.append(Not(Condition(Field(("superseded_at",)), Op.LTE, as_of)))
    return And((*then, filter_))


def with_superseded(agents: ResolvedAgents, as_of: float | None, *, superseded: bool) -> ResolvedAgents:
    """The agents, with their superseded memories if these are asked for, or if a filter decides (see `known_at`)."""
    scope = replace(agents.scope, superseded=superseded or as_of is not None)
    return replace(agents, scope=scope)


def parse_search(search: Search, principal: Principal, pseudonyms: Pseudonyms) -> SearchQuery:
    """Check a search. Raises InvalidRequest (400) and HttpError (403)."""
    agents = with_superseded(
        parse_scope(search, principal, pseudonyms), search.as_of, superseded=bool(search.superseded)
    )
    if search.mode is not None:
        if search.query is None:
            raise InvalidRequest("a mode needs a query", path="mode")
        if search.mode == "keyword" and search.weights:
            raise InvalidRequest("weights need the relevance of mode dense or hybrid", path="weights")
    if search.rerank and search.query is None:
        raise InvalidRequest("rerank needs a query", path="rerank")
    sphere = Sphere.from_near(search.near) if isinstance(search.near, Near) else None
    if sphere is not None and not sphere.centre:
        raise InvalidRequest("near needs x, y or z", path="near")
    k = int(search.k or DEFAULT_K)
    return SearchQuery(
        agents=agents,
        text=search.query,
        k=k,
        filter=known_at(
            search.as_of,
            parse_filters(search.filters, pseudonyms, principal.tenant),
            superseded=bool(search.superseded),
        ),
        as_of=search.as_of,
        mode=search.mode or DEFAULT_MODE,
        sphere=sphere,
        blend=_parse_blend(search),
        neighbours=search.neighbours,
        time_words=bool(search.time_words),
        normalise=isinstance(search.weights, Weights) and bool(search.weights.normalise),
        min_score=search.min_score,
        rerank=bool(search.rerank),
        explain=bool(search.explain),
        after=None if search.after is None else parse_token(search.after),
        wait_s=DEFAULT_WAIT_S if search.wait_ms is None else search.wait_ms / 1000,
        fingerprint=fingerprint_of(
            "search",
            search.agent_id,
            search.agent_ids,
            search.query,
            k,
            search.filters,
            search.mode or DEFAULT_MODE,
            msgspec.to_builtins(search.near),
            msgspec.to_builtins(search.weights),
            search.neighbours,
            bool(search.time_words),
            search.min_score,
            bool(search.rerank),
            bool(search.explain),
            search.as_of,
            bool(search.superseded),
        ),
    )


def parse_get(get: Get, principal: Principal, pseudonyms: Pseudonyms) -> SearchQuery:
    """Check a search in the older form. Raises InvalidRequest."""
    if get.query is not None and get.query_text is not None:
        raise InvalidRequest("query and query_text mean the same: give one of them", path="query_text")
    text = get.query if get.query is not None else get.query_text
    if text is None:
        raise InvalidRequest("query is missing", path="query")
    k = int(get.k or DEFAULT_K)
    return SearchQuery(
        agents=resolve_agents(pseudonyms, principal.tenant, [get.agent_id]),
        text=text,
        k=k,
        filter=parse_filters(get.filters, pseudonyms, principal.tenant),
        fingerprint=fingerprint_of("get", get.agent_id, text, k, get.filters),
    )


def parse_context(
    agent_id: str, context: Context, principal: Principal, pseudonyms: Pseudonyms
) -> ContextQuery:
    """Check a context request. Raises InvalidRequest."""
    recent, relevant, budget = (
        int(default if given is None else given)
        for given, default in (
            (context.recent, DEFAULT_RECENT),
            (context.relevant, DEFAULT_RELEVANT),
            (context.token_budget, DEFAULT_TOKEN_BUDGET),
        )
    )
    search = SearchQuery(
        agents=with_superseded(
            resolve_agents(pseudonyms, principal.tenant, [agent_id]),
            context.as_of,
            superseded=bool(context.superseded),
        ),
        text=context.query,
        k=relevant,
        filter=known_at(
            context.as_of,
            parse_filters(context.filters, pseudonyms, principal.tenant),
            superseded=bool(context.superseded),
        ),
        as_of=context.as_of,
        after=None if context.after is None else parse_token(context.after),
        wait_s=DEFAULT_WAIT_S if context.wait_ms is None else context.wait_ms / 1000,
        fingerprint=fingerprint_of(
            "context",
            agent_id,
            context.query,
            recent,
            relevant,
            budget,
            context.filters,
            context.neighbours,
            bool(context.include_state),
            context.as_of,
            bool(context.superseded),
        ),
        neighbours=context.neighbours,
    )
    return ContextQuery(
        search,
        recent,
        budget,
        resolve_owner(pseudonyms, principal.tenant, agent_id, "agent_id"),
        with_neighbours=context.neighbours != 0,
        with_state=bool(context.include_state),
    )


def get_request(agent_id: str, query: str, k: int, filters: Mapping[str, Any] | None) -> Get:
    """A search in the older form from plain arguments, checked as the HTTP body is. Raises InvalidRequest."""
    values = {"agent_id": agent_id, "query": query, "k": k, "filters": filters}
    try:
        return msgspec.convert(values, Get)
    except msgspec.ValidationError as error:
        message, path = explain_validation_error(error)
        raise InvalidRequest(message, path=path) from error


def parse_recent_filter(params: RecentParams, pseudonyms: Pseudonyms, tenant: str) -> Filter:
    """The filter of a page of memories, from its query parameters. Raises InvalidRequest and InvalidFilter."""
    more: Filter = EVERYTHING
    if params.filters is not UNSET:
        more = parse_filters(_decode_filters(params.filters), pseudonyms, tenant)
    bounded = bounded_filter(
        type_=_given(params.type),
        conversation=_given(params.conversation),
        tick_from=_given(params.tick_from),
        tick_to=_given(params.tick_to),
        since=_given(params.since),
        until=_given(params.until),
        more=more,
    )
    return known_at(_given(params.as_of), bounded, superseded=params.superseded)


def bounded_filter(
    *,
    type_: str | None,
    since: float | None,
    until: float | None,
    more: Filter,
    conversation: str | None = None,
    tick_from: float | None = None,
    tick_to: float | None = None,
) -> Filter:
    """The filter of what is of a type and a conversation and within bounds, as far as they are given, and matches `more`.

    The bounds are finite. `conversation` is also that number where it is written as one.
    """
    parts: list[Filter] = []
    if type_ is not None:
        parts.append(Condition(Field(("type",)), Op.EQ, type_))
    if conversation is not None:
        named: tuple[str | int, ...] = (conversation,)
        if _INTEGER.fullmatch(conversation) and int(conversation) in limits.INT64:
            named = (conversation, int(conversation))
        parts.append(Condition(Field(("metadata", "conversation")), Op.IN, named))
    bounds = (
        ("tick", Op.GTE, tick_from),
        ("tick", Op.LTE, tick_to),
        ("timestamp", Op.GTE, since),
        ("timestamp", Op.LTE, until),
    )
    parts.extend(Condition(Field((name,)), op, bound) for name, op, bound in bounds if bound is not None)
    return And((*parts, more)) if more != EVERYTHING else And(tuple(parts))


def _given(value: T | UnsetType) -> T | None:
    return None if isinstance(value, UnsetType) else value


def _decode_filters(text: str) -> object:
    try:
        value = decode(text.encode(), object)
    except (InvalidRequest, HttpError):
        value = text
    if not isinstance(value, dict) and value not in (None, []):
        raise InvalidRequest("filters is a JSON object, percent-encoded", path="filters")
    return cast("object", value)


def parse_scope(search: _Scoped, principal: Principal, pseudonyms: Pseudonyms) -> ResolvedAgents:
    """Whose memories a request is about. Raises InvalidRequest (400) and HttpError (403)."""
    given = {"agent_id": search.agent_id, "agent_ids": search.agent_ids, "scope": search.scope}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        path = chosen[1] if chosen else "agent_id"
        raise InvalidRequest('exactly one of agent_id, agent_ids and "scope": "tenant" is needed', path=path)
    if search.agent_ids is not None:
        return resolve_agents(pseudonyms, principal.tenant, search.agent_ids)
    if search.agent_id is not None:
        return resolve_agents(pseudonyms, principal.tenant, [search.agent_id])
    if KeyScope.ADMIN not in principal.scopes:
        raise HttpError(
            403, "forbidden", "the scope of the whole tenant needs a key with admin", path="scope"
        )
    return ResolvedAgents(Scope(principal.tenant), {})


def _parse_blend(search: Search) -> Blend | None:
    weights = search.weights
    if not isinstance(weights, Weights):
        return None
    if weights.relevance == 0 and not weights.recency and not weights.importance:
        raise InvalidRequest("at least one weight must be above 0", path="weights")
    return parse_weights(weights, with_query=search.query is not None)


def fingerprint_of(*parts: object) -> bytes:
    """A key for the answer cache: equal for equal parts, which are JSON values."""
    return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
