"""LorestreamStore: the calls that each operation of LangGraph's store needs, sent by either client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from lorestream import limits
from lorestream.client import AsyncMemoryClient, MemoryClient, calls
from lorestream.client.call import Call
from lorestream.client.exceptions import NotFound, Rejected
from lorestream.client.models import AgentTotal, Erasure, Event, FoundMemory, Page, Receipt, SearchAnswer
from lorestream.errors import Misconfigured, Unavailable
from lorestream.langgraph.items import (
    MEMORY_KEY_PREFIX,
    event,
    item,
    item_fields,
    replacement_event,
    sort_key,
    to_filters,
)
from lorestream.langgraph.namespaces import Namespace, agent_of, joined, named_below, named_by, namespace_of
from lorestream.langgraph.steps import Steps, chunks, concurrently
from lorestream.langgraph.versions import MAX_HITS, best_items, newest_items, versions

MAX_NAMESPACES = limits.MAX_PAGE_SIZE
EVENTS_PER_WRITE = 60
"""Events have at most 16 KiB each: 60 of them fit into a request body of at most 1 MiB."""

T = TypeVar("T")


class LorestreamStore(BaseStore):
    """A store over one client or two: `memories` for the blocking methods, `asynchronous` for the async ones (abatch ...).

    The caller closes the clients. `fields` are embedded where a put names none; "$" is the whole value. `below`:
    whether a search covers the namespaces below the given one. `wait_s`: how long a put waits until it is visible.
    Raises Misconfigured when a method needs the client that was not given, and the exceptions of the clients.
    """

    supports_ttl = True

    def __init__(
        self,
        memories: MemoryClient | None = None,
        *,
        asynchronous: AsyncMemoryClient | None = None,
        fields: Sequence[str] = ("$",),
        ttl: TTLConfig | None = None,
        below: bool = True,
        wait_s: float = 10.0,
    ) -> None:
        if ttl is not None and ttl.get("refresh_on_read"):
            raise ValueError("reading an item cannot refresh its ttl: set refresh_on_read to False")
        self.ttl_config = ttl
        self._memories = memories
        self._asynchronous = asynchronous
        self._fields = fields
        self._below = below
        self._wait_s = wait_s

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """The results of the operations, in their order. Reads see the state before the puts."""
        client = self._memories
        if client is None:
            raise Misconfigured("this store has no MemoryClient: use its async methods")
        steps = self._steps(list(ops))
        answers: list[Any] | None = None
        while True:
            try:
                wanted = steps.send(cast("list[Any]", answers))
            except StopIteration as end:
                return end.value
            answers = [_send(client, call) for call in wanted]

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As `batch`, for an event loop; independent calls are sent concurrently."""
        client = self._asynchronous
        if client is None:
            raise Misconfigured("this store has no AsyncMemoryClient: use its blocking methods")
        steps = self._steps(list(ops))
        answers: list[Any] | None = None
        while True:
            try:
                wanted = steps.send(cast("list[Any]", answers))
            except StopIteration as end:
                return end.value
            answers = await asyncio.gather(  # noqa: TID251 (all writes end)
                *(_asend(client, call) for call in wanted), return_exceptions=True
            )
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer

    # --- operations as generators of calls ---------------------------------------------------------------

    def _steps(self, ops: Sequence[Op]) -> Steps[list[Result]]:
        reads = {index: self._read(op) for index, op in enumerate(ops) if not isinstance(op, PutOp)}
        puts = {
            (agent_of(op.namespace), op.key): None if op.value is None else event(op, self._fields)
            for op in ops
            if isinstance(op, PutOp)
        }
        found = yield from concurrently(list(reads.values()))
        yield from self._put(puts)
        results: list[Result] = [None] * len(ops)
        for index, result in zip(reads, found, strict=True):
            results[index] = result
        return results

    def _read(self, op: Op) -> Steps[Result]:
        match op:
            case GetOp():
                return self._get(op)
            case SearchOp():
                return self._search(op)
            case ListNamespacesOp():
                return self._list(op)
            case _:
                raise ValueError(f"unknown store operation: {op!r}")

    def _get(self, op: GetOp) -> Steps[Item | None]:
        agent_id = agent_of(op.namespace)
        found = yield from _versions(agent_id, op.key)
        return _plain(item(found[0])) if found else None

    def _search(self, op: SearchOp) -> Steps[list[SearchItem]]:
        wanted = op.offset + op.limit
        if op.limit <= 0:
            return []
        filters = to_filters(op.filter, indexed=bool(op.query))
        agents = yield from self._agents_to_search(op.namespace_prefix)
        if op.query:
            if wanted > MAX_HITS:
                raise ValueError(f"a search with a query has at most {MAX_HITS} hits, offset included")
            items = yield from best_items(agents, op.query, wanted, filters)
        else:
            parts = yield from concurrently([newest_items(agent_id, wanted, filters) for agent_id in agents])
            items = {item_id: memory for part in parts for item_id, memory in part.items()}
        found = sorted(
            items.values(), key=lambda memory: (memory.score or 0.0, sort_key(memory)), reverse=True
        )
        return [item(memory) for memory in found[op.offset : wanted]]

    def _agents_to_search(self, prefix: tuple[str, ...]) -> Steps[list[str]]:
        """The ids of the agents that a search covers."""
        namespace = [agent_of(prefix)] if prefix else []
        if not self._below:
            if not prefix:
                raise ValueError("a search over every namespace needs a store with below=True")
            return namespace
        listed = yield from _namespaces()
        below = [named for one in listed if (named := named_below(one, prefix)) is not None]
        return list(dict.fromkeys([*namespace, *map(joined, below)]))

    def _list(self, op: ListNamespacesOp) -> Steps[list[tuple[str, ...]]]:
        listed = yield from _namespaces()
        named = {name for one in listed if (name := named_by(one, op.match_conditions or ())) is not None}
        unsure = list(named.difference(listed))
        exist = yield from concurrently([_has_memories(joined(one)) for one in unsure])
        named.difference_update(one for one, exists in zip(unsure, exist, strict=True) if not exists)
        return sorted({one[: op.max_depth] for one in named})[op.offset : op.offset + op.limit]

    def _put(self, puts: dict[tuple[str, str], Event | None]) -> Steps[None]:
        """Write the new versions, delete the old ones, and wait until readers see both.

        Raises Rejected, and Unavailable when it is not visible within `wait_s`.
        """
        found = yield from concurrently([_versions(agent_id, key) for agent_id, key in puts])
        old = dict(zip(puts, found, strict=True))
        events = {
            item_id: replacement_event(new, max(old[item_id], key=sort_key)) if old[item_id] else new
            for item_id, new in puts.items()
            if new is not None
        }
        receipts: list[Receipt] = yield [
            calls.add_batch(some, wait_s=self._wait_s)
            for some in chunks(list(events.values()), EVENTS_PER_WRITE)
        ]
        ids = [memory_id for receipt in receipts for memory_id in receipt.ids]
        refused = {item_id for item_id, memory_id in zip(events, ids, strict=True) if memory_id is None}
        outdated = [
            (agent_id, memory.id) for agent_id, key in puts.keys() - refused for memory in old[agent_id, key]
        ]
        erasures: list[Erasure] = yield [
            calls.delete(memory_id, agent_id) for agent_id, memory_id in outdated
        ]
        tokens = {agent_id: erasure.token for (agent_id, _), erasure in zip(outdated, erasures, strict=True)}
        answers: list[SearchAnswer] = yield [
            calls.search(agent_id, k=1, after=token, wait_s=self._wait_s)
            for agent_id, token in tokens.items()
        ]
        for reject in (reject for receipt in receipts for reject in receipt.rejected):
            raise Rejected(reject.message, status=202, code=reject.code, details={"keys": sorted(refused)})
        if not all(receipt.indexed for receipt in receipts) or not all(answer.fresh for answer in answers):
            raise Unavailable(
                f"the put is durable, but was not visible within {self._wait_s:g} s: read again later"
            )


def _namespaces() -> Steps[list[Namespace]]:
    """The namespaces of all agents, as they are listed: players under their pseudonyms."""
    totals: list[AgentTotal]
    [totals] = yield [calls.agents(MAX_NAMESPACES)]
    if len(totals) == MAX_NAMESPACES:
        raise ValueError(
            f"there are more than {MAX_NAMESPACES} namespaces, which cannot be listed: use below=False, and search each"
        )
    return [namespace for total in totals if (namespace := namespace_of(total.agent_id)) is not None]


def _has_memories(agent_id: str) -> Steps[bool]:
    page: Page
    [page] = yield [calls.recent(agent_id, 1)]
    return bool(page.memories)


def _versions(agent_id: str, key: str) -> Steps[list[FoundMemory]]:
    """The memories that hold an item, the newest first; also for the key of a memory without an item."""
    if not key.startswith(MEMORY_KEY_PREFIX):
        return (yield from versions(agent_id, key))
    [memory] = yield [calls.get(key.removeprefix(MEMORY_KEY_PREFIX), agent_id)]
    return [memory] if memory is not None and item_fields(memory) is None else []


def _send(client: MemoryClient, call: Call[T]) -> T | None:
    try:
        return client.send(call)
    except NotFound:
        return None


async def _asend(client: AsyncMemoryClient, call: Call[T]) -> T | None:
    try:
        return await client.send(call)
    except NotFound:
        return None


def _plain(found: SearchItem) -> Item:
    return Item(
        value=found.value,
        key=found.key,
        namespace=found.namespace,
        created_at=found.created_at,
        updated_at=found.updated_at,
    )
