"""GET /v1/stream: memories as they become findable, as server-sent events (WHATWG HTML, 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from lorestream import supervision
from lorestream.access.key_file import KeyScope
from lorestream.access.rate_limits import NO_RATE_LIMITS, RateLimits
from lorestream.errors import InvalidToken
from lorestream.http.operation import EVENTS, EventStream, Operation
from lorestream.http.streaming import LineStream
from lorestream.memories import Scope
from lorestream.push.selection import Selection
from lorestream.push.stream import MemoryStream
from lorestream.tokens import parse_stream_id, stream_id
from query_service import examples
from query_service.encoding import stored_memory
from query_service.queries import ResolvedAgents, resolve_agents
from query_service.response_schemas import StoredMemory
from query_service.routes import Routes
from query_service.schemas import StreamParams

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from lorestream.http.request import ApiRequest
    from lorestream.push.feed import Feed
    from lorestream.push.findable import Item
    from query_service.recall import Recall

KEEP_ALIVE_INTERVAL_S = 15.0
"""A stream without memories sends a comment this often."""
TICK_S = 5.0
"""How often the key of a stream that sends nothing is checked again."""
RETRY_MS = 1000
"""How long a browser's EventSource waits before it connects again."""

_STOPPED = b": the service stops, connect again\n\n"

_encoder = msgspec.json.Encoder()


def operations(
    recall: Callable[[], Recall], feed: Feed, limits: RateLimits = NO_RATE_LIMITS
) -> list[Operation]:
    """The operation. `recall`: returns the Recall over the active collection. `feed`: that of the process."""
    routes = _Routes(recall, limits, feed)
    return [
        Operation(
            "GET",
            "/v1/stream",
            routes.stream,
            "Memories as they become findable, as server-sent events",
            KeyScope.QUERY,
            EventStream(StoredMemory),
            query_params=StreamParams,
            tag="Reads",
            description=(
                "An event `memory` for each, with the memory as its data, and a comment every 15 s. With the `id` of"
                " the last event in the header `Last-Event-ID`, the stream goes on behind it, at any query service and"
                " as far back as the log reaches: no memory is missing or sent twice. Without one it begins now."
                " Without `agent_id` and `player` it is the whole tenant, for which the key needs the scope `admin`."
                " An event `lost` says how many records the log had already deleted. See docs/push.md."
            ),
            example=examples.STREAM,
            read_only=True,
        )
    ]


class _Routes(Routes):
    def __init__(self, recall: Callable[[], Recall], limits: RateLimits, feed: Feed) -> None:
        super().__init__(recall, limits)
        self._feed = feed

    async def stream(self, request: ApiRequest) -> LineStream:
        params = request.query_params(StreamParams)
        if params.agent_id is UNSET and params.player is UNSET:
            request.require(KeyScope.ADMIN)
        pseudonyms, tenant = self._recall.pseudonyms, request.tenant
        agents = ResolvedAgents(Scope(tenant), {})
        if params.agent_id is not UNSET:
            agents = resolve_agents(pseudonyms, tenant, [params.agent_id])
        selection = Selection(
            tenant,
            None if agents.scope.agents is None else frozenset(agents.scope.agents),
            None if params.player is UNSET else frozenset(pseudonyms.players(tenant, params.player)),
            None if params.type is UNSET else frozenset([params.type]),
        )
        positions = _last_event(request)
        await self._limits.count_queries(request.principal, agents.scope.agents)
        # Opened before the response begins: a fault has its status, and whoever sees the status misses nothing.
        events = _events(self._feed, selection, positions, agents)
        response = LineStream(_behind(await anext(events), events), last_line=_STOPPED, media_type=EVENTS)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        return response


def _last_event(request: ApiRequest) -> dict[int, int] | None:
    """The positions in the header Last-Event-ID, None without one. Raises InvalidToken."""
    sent = request.headers.get(b"last-event-id", b"")
    try:
        return parse_stream_id(sent.decode()) if sent else None
    except UnicodeDecodeError as error:
        raise InvalidToken("this is not the id of an event of a stream", path="Last-Event-ID") from error


async def _behind(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


async def _events(
    feed: Feed, selection: Selection, positions: Mapping[int, int] | None, agents: ResolvedAgents
) -> AsyncGenerator[bytes]:
    """The text of the stream, which is open once it has begun. Empty chunks let the application check the key.

    Raises InvalidToken, Overloaded and Unavailable at the begin.
    """
    loop = asyncio.get_running_loop()
    async with MemoryStream.open(feed, selection, positions) as stream:
        lost = 0 if positions is None else await stream.lost()
        head = b": connected\nretry: %d\n%b" % (RETRY_MS, _place(stream))
        yield head + (b'event: lost\ndata: {"records":%d}\n\n' % lost if lost else b"")
        sent_at = loop.time()
        async with contextlib.aclosing(supervision.with_ticks(stream.items(), TICK_S)) as steps:
            async for items in steps:
                chunk = b"".join(_texts(stream, agents, items or ()))
                if not chunk and loop.time() - sent_at > KEEP_ALIVE_INTERVAL_S - TICK_S:
                    stream.skip_unwanted()
                    chunk = b": keep-alive\n\n" + _place(stream)
                if chunk:
                    sent_at = loop.time()
                yield chunk
        yield _STOPPED


def _texts(stream: MemoryStream, agents: ResolvedAgents, items: Sequence[Item]) -> list[bytes]:
    texts: list[bytes] = []
    for item in items:
        stream.take(item)
        if item.memory is not None:
            data = _encoder.encode(stored_memory(item.memory, agents))
            texts.append(b"id: %b\nevent: memory\ndata: %b\n\n" % (_id(stream), data))
    return texts


def _place(stream: MemoryStream) -> bytes:
    """A block without data: no event, but the place from which a client that connects again goes on."""
    return b"id: %b\n\n" % _id(stream)


def _id(stream: MemoryStream) -> bytes:
    return stream_id(stream.positions).encode()
