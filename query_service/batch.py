"""The batch route: searches, contexts and reads of documents in one request."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET

from lorestream.errors import InvalidRequest
from lorestream.http.errors import error_response
from lorestream.http.request import ApiRequest, ApiResponse, HttpError, decode, encoded_json_response
from lorestream.turns import Turns
from query_service.batch_schemas import MAX_BATCH_READS, AgentContext, EntityRead, RawBatch
from query_service.encoding import context_response, encode_context, encode_hits, search_response
from query_service.queries import parse_context, parse_search
from query_service.recall import Answer, Read
from query_service.routes import Routes
from query_service.schemas import NoParams, Search
from query_service.state_rest.entity import entity_read, entity_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from lorestream.access.authentication import Principal
    from query_service.recall import Recall


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of read. `parse` raises InvalidRequest and HttpError; `respond(answer, started)` returns JSON."""

    parse: Callable[[Recall, Principal, bytes], Read]
    respond: Callable[[Answer, float], bytes]


def _search(recall: Recall, principal: Principal, raw: bytes) -> Read:
    query = parse_search(decode(raw, Search), principal, recall.pseudonyms)
    return recall.search_read(query, encode_hits, api="search")


def _context(recall: Recall, principal: Principal, raw: bytes) -> Read:
    context = decode(raw, AgentContext)
    query = parse_context(context.agent_id, context, principal, recall.pseudonyms)
    return recall.context_read(query, encode_context)


def _entity(recall: Recall, principal: Principal, raw: bytes) -> Read:
    read = decode(raw, EntityRead)
    return entity_read(recall, principal.tenant, read.type, read.id, read)


_SEARCH = _Kind(_search, search_response)
_CONTEXT = _Kind(_context, context_response)
_ENTITY = _Kind(_entity, lambda answer, _: entity_response(answer))


class BatchRoutes(Routes):
    """The operation over several reads."""

    async def batch(self, request: ApiRequest) -> ApiResponse:
        """Answer or reject each read on its own."""
        request.query_params(NoParams)
        batch, started = await request.json(RawBatch), time.perf_counter()
        searches, contexts, entities = batch.searches or (), batch.contexts or (), batch.entities or ()
        if batch.searches is UNSET and not (contexts or entities):
            raise InvalidRequest("a list of searches is missing", path="searches")
        asked = [
            *((_SEARCH, raw) for raw in searches),
            *((_CONTEXT, raw) for raw in contexts),
            *((_ENTITY, raw) for raw in entities),
        ]
        if len(asked) > MAX_BATCH_READS:
            raise InvalidRequest(f"a batch has at most {MAX_BATCH_READS} reads, this one has {len(asked)}")
        recall = self._recall
        parsed: list[Read | InvalidRequest | HttpError] = []
        turns = Turns()
        for kind, raw in asked:
            try:
                parsed.append(kind.parse(recall, request.principal, bytes(raw)))
            except (InvalidRequest, HttpError) as error:
                parsed.append(error)
            await turns.next()
        reads = [one for one in parsed if isinstance(one, Read)]
        agents = [agent for read in reads for agent in read.scope.agents or ()]
        await self._limits.count_queries(request.principal, agents, len(parsed))
        answered = iter(await recall.answer_all(reads))
        results = (next(answered) if isinstance(one, Read) else one for one in parsed)
        encoded = [
            kind.respond(one, started)
            if isinstance(one, Answer)
            else error_response(one, request.request_id).body
            for (kind, _), one in zip(asked, results, strict=True)
        ]
        after_searches = len(searches)
        after_contexts = after_searches + len(contexts)
        lists = {
            b"results": encoded[:after_searches],
            b"contexts": encoded[after_searches:after_contexts],
            b"entities": encoded[after_contexts:],
        }
        return encoded_json_response(
            b"{%b}"
            % b",".join(
                b'"%b":[%b]' % (name, b",".join(answers))
                for name, answers in lists.items()
                if answers or name == b"results"
            )
        )
