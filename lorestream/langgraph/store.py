"""The store: what each operation asks of Lorestream, and the sending by either client."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar, cast

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

from lorestream.client import AsyncMemoryClient, MemoryClient, calls
from lorestream.client.calls import Call
from lorestream.client.models import (
    AgentTotal,
    Erasure,
    Event,
    FoundMemory,
    NotFound,
    Page,
    Receipt,
    Rejected,
    SearchAnswer,
)
from lorestream.errors import Misconfigured, Unavailable
from lorestream.langgraph.items import (
    FOREIGN,
    again,
    agent_of,
    conditions,
    event,
    is_below,
    item,
    matches,
    namespace_of,
    newest_versions,
    of_key,
    order,
    own_part,
)

MOST_HITS = 100
MOST_AGENTS = 1000
AGENTS_A_SEARCH = 64
EVENTS_A_WRITE = 60
"""Of 16 KiB each: they stay below the limit of a body."""
PAGE = 1000

T = TypeVar("T")
Steps: TypeAlias = Generator[Sequence[Call[Any]], list[Any], T]
"""Yields calls that may be made at the same time, is sent their answers (None: not found), returns a result."""


class LorestreamStore(BaseStore):
    """A store over one client, or over both: `memories` for the plain methods, `asynchronous` for those with an a.

    The clients stay the caller's to close. `fields` are embedded where a put names none; "$" is the whole value.
    Raises Misconfigured when a method needs the client that was not given, and whatever the clients raise.
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
        """The results of the operations, in their order. Reads see what was there before the puts."""
        client = self._memories
        if client is None:
            raise Misconfigured("this store has no MemoryClient: use its methods with an a")
        steps = self._steps(list(ops))
        answers: list[Any] | None = None
        while True:
            try:
                wanted = steps.send(cast("list[Any]", answers))
            except StopIteration as end:
                return end.value
            answers = [_send(client, call) for call in wanted]

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """The same for an event loop; what may be sent at the same time is."""
        client = self._asynchronous
        if client is None:
            raise Misconfigured("this store has no AsyncMemoryClient: use its methods without an a")
        steps = self._steps(list(ops))
        answers: list[Any] | None = None
        while True:
            try:
                wanted = steps.send(cast("list[Any]", answers))
            except StopIteration as end:
                return end.value
            answers = await asyncio.gather(*(_asend(client, call) for call in wanted), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer

    # --- operations, whoever sends their calls -----------------------------------------------------------

    def _steps(self, ops: Sequence[Op]) -> Steps[list[Result]]:
        reads = {index: self._read(op) for index, op in enumerate(ops) if not isinstance(op, PutOp)}
        puts = {
            (agent_of(op.namespace), op.key): None if op.value is None else event(op, self._fields)
            for op in ops
            if isinstance(op, PutOp)
        }
        found = yield from _together(list(reads.values()))
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
                raise ValueError(f"not an operation that a store has: {op!r}")

    def _get(self, op: GetOp) -> Steps[Item | None]:
        agent_id = agent_of(op.namespace)
        if op.key.startswith(FOREIGN):
            [memory] = yield [calls.get(op.key.removeprefix(FOREIGN), agent_id)]
            return None if memory is None or own_part(memory) else _plain(item(memory))
        [answer] = yield [calls.search(agent_id, k=1, filters=of_key(op.key))]
        return next((_plain(item(memory)) for memory in answer.memories), None)

    def _search(self, op: SearchOp) -> Steps[list[SearchItem]]:
        wanted = op.offset + op.limit
        if op.limit <= 0:
            return []
        filters = conditions(op.filter, indexed=bool(op.query)) or None
        agents = yield from self._covered(op.namespace_prefix)
        if op.query:
            if wanted > MOST_HITS:
                raise ValueError(f"a search with a query has at most {MOST_HITS} hits, offset included")
            answers: list[SearchAnswer] = yield [
                calls.search(some, op.query, wanted, filters=filters)
                for some in _runs(agents, AGENTS_A_SEARCH)
            ]
            found = [memory for answer in answers for memory in answer.memories]
            found.sort(key=lambda memory: (memory.score or 0.0, order(memory)), reverse=True)
        else:
            pages = yield from _together([_newest(agent_id, wanted, filters) for agent_id in agents])
            found = sorted((memory for page in pages for memory in page), key=order, reverse=True)
        return [item(memory) for memory in newest_versions(found)[op.offset : wanted]]

    def _covered(self, prefix: tuple[str, ...]) -> Steps[list[str]]:
        """The agents that a search covers."""
        itself = [agent_of(prefix)] if prefix else []
        if not self._below:
            if not prefix:
                raise ValueError("a search over every namespace needs a store with below=True")
            return itself
        every = yield from _agents()
        return itself + [agent_id for agent_id in every if is_below(agent_id, ".".join(prefix))]

    def _list(self, op: ListNamespacesOp) -> Steps[list[tuple[str, ...]]]:
        every = yield from _agents()
        found = {
            namespace[: op.max_depth]
            for namespace in map(namespace_of, every)
            if namespace and all(matches(namespace, condition) for condition in op.match_conditions or ())
        }
        return sorted(found)[op.offset : op.offset + op.limit]

    def _put(self, puts: dict[tuple[str, str], Event | None]) -> Steps[None]:
        """Write the new versions, delete those that were there, wait until all that is seen."""
        before = yield from _together([_versions(agent_id, key) for agent_id, key in puts])
        old = dict(zip(puts, before, strict=True))
        events = {
            place: again(new, max(old[place], key=order)) if old[place] else new
            for place, new in puts.items()
            if new is not None
        }
        receipts: list[Receipt] = yield [
            calls.add_batch(some, wait_s=self._wait_s)
            for some in _runs(list(events.values()), EVENTS_A_WRITE)
        ]
        ids = [memory_id for receipt in receipts for memory_id in receipt.ids]
        refused = {place for place, memory_id in zip(events, ids, strict=True) if memory_id is None}
        gone = [
            (agent_id, memory.id) for agent_id, key in puts.keys() - refused for memory in old[agent_id, key]
        ]
        erasures: list[Erasure] = yield [calls.delete(memory_id, agent_id) for agent_id, memory_id in gone]
        tokens = {agent_id: erasure.token for (agent_id, _), erasure in zip(gone, erasures, strict=True)}
        answers: list[SearchAnswer] = yield [
            calls.search(agent_id, k=1, after=token, wait_s=self._wait_s)
            for agent_id, token in tokens.items()
        ]
        for reject in (reject for receipt in receipts for reject in receipt.rejected):
            raise Rejected(reject.message, status=202, code=reject.code, details={"keys": sorted(refused)})
        if not all(receipt.indexed for receipt in receipts) or not all(answer.fresh for answer in answers):
            raise Unavailable(f"what was put is durable, but could not be seen within {self._wait_s:g} s")


def _agents() -> Steps[list[str]]:
    totals: list[AgentTotal]
    [totals] = yield [calls.agents(MOST_AGENTS)]
    if len(totals) == MOST_AGENTS:
        raise ValueError(
            f"there are more namespaces than the {MOST_AGENTS} that can be listed: use below=False, and search each"
        )
    return [total.agent_id for total in totals]


def _newest(agent_id: str, limit: int, filters: dict[str, Any] | None) -> Steps[list[FoundMemory]]:
    found: list[FoundMemory] = []
    cursor: str | None = None
    while len(found) < limit:
        page: Page
        [page] = yield [calls.recent(agent_id, min(limit - len(found), PAGE), cursor=cursor, filters=filters)]
        found += page.memories
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _versions(agent_id: str, key: str) -> Steps[list[FoundMemory]]:
    """The memories that hold an item: one, or more where puts met."""
    if key.startswith(FOREIGN):
        [memory] = yield [calls.get(key.removeprefix(FOREIGN), agent_id)]
        return [memory] if memory is not None and own_part(memory) is None else []
    [answer] = yield [calls.search(agent_id, k=MOST_HITS, filters=of_key(key))]
    return answer.memories


def _together(parts: Sequence[Steps[Any]]) -> Steps[list[Any]]:
    """The results of steps that are taken side by side."""
    results: list[Any] = [None] * len(parts)
    answers: dict[int, list[Any] | None] = dict.fromkeys(range(len(parts)))
    while answers:
        wanted: dict[int, Sequence[Call[Any]]] = {}
        for index, answer in answers.items():
            try:
                wanted[index] = parts[index].send(cast("list[Any]", answer))
            except StopIteration as end:
                results[index] = end.value
        if not wanted:
            break
        got = iter((yield [call for some in wanted.values() for call in some]))
        answers = {index: [next(got) for _ in some] for index, some in wanted.items()}
    return results


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


def _runs(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (things[start : start + size] for start in range(0, len(things), size))
