"""Reads that see of each item the newest version only, whatever is being written meanwhile.

A put adds a version before it deletes the others, so at any time an item has one or more. A search may find several of
them, or only one that has been replaced and that matches a filter which the newest does not match. So versions are
told apart before anything is counted: the items that a search has found are looked up by key, and those that have
changed are searched for again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from lorestream import limits
from lorestream.client import calls
from lorestream.client.models import FoundMemory, Mode, Page, SearchAnswer
from lorestream.langgraph.items import ItemId, item_fields, key_of, keys_filter, newest_versions, sort_key
from lorestream.langgraph.steps import Steps, chunks, concurrently

MAX_HITS = limits.MAX_K
ITEMS_PER_LOOKUP = 32
"""Keys may have 16 KiB: 32 of them fit into a request body of at most 1 MiB."""
PAGE_SIZE = limits.MAX_PAGE_SIZE
MAX_WALKS = 3

Filters: TypeAlias = Mapping[str, Any]
Items: TypeAlias = dict[ItemId, FoundMemory]


def versions(agent_id: str, key: str) -> Steps[list[FoundMemory]]:
    """The memories that hold an item, the newest first: one, or several after concurrent puts."""
    [answer] = yield [calls.search(agent_id, k=MAX_HITS, filters=keys_filter([key]))]
    return [memory for memory in answer.memories if item_fields(memory)]


def newest_items(agent_id: str, wanted: int, filters: Filters) -> Steps[Items]:
    """At least `wanted` items of an agent that match, the newest ones, or all of them."""
    found: Items = {}
    for _ in range(MAX_WALKS):
        walked = total = 0
        cursor: str | None = None
        while True:
            page: Page
            [page] = yield [
                calls.recent(agent_id, min(wanted, PAGE_SIZE), cursor=cursor, filters=filters or None)
            ]
            total = total if cursor else page.total
            walked += len(page.memories)
            items = newest_versions(page.memories)
            if filters:
                items = yield from _current(items, None, filters)
            found = newest_versions([*found.values(), *items.values()])
            cursor = page.next_cursor
            if cursor is None or len(found) >= wanted:
                break
        if len(found) >= wanted or walked >= total:
            break
        # Memories were deleted before the walk reached them. What replaced them is newer than its beginning.
    return found


def _mode(query: str | None) -> Mode | None:
    """The mode of a search: cosines are the only scores that can be compared between several searches."""
    return None if query is None else "dense"


def best_items(agents: Sequence[str], query: str, wanted: int, filters: Filters) -> Steps[Items]:
    """The `wanted` items of the agents that match and are the most similar to the query, and perhaps more."""
    found: Items = {}
    mode = _mode(query)
    keys: defaultdict[str, set[str]] = defaultdict(set)  # agent -> keys of items with several versions
    while True:
        plain = [agent_id for agent_id in agents if not keys[agent_id]]
        answers: list[SearchAnswer] = yield [
            *(
                calls.search(some, query, wanted, filters=filters or None, mode=mode)
                for some in chunks(plain, limits.MAX_AGENTS)
            ),
            *(
                calls.search(
                    agent_id, query, wanted, filters={**filters, "NOT": keys_filter(without)}, mode=mode
                )
                for agent_id, without in keys.items()
                if without
            ),
        ]
        memories = [memory for answer in answers for memory in answer.memories]
        hits = newest_versions(memories)
        current = yield from _current(hits, query, filters)
        times = Counter((memory.agent_id, key_of(memory)) for memory in memories)
        found |= current
        changed = [
            (agent_id, key)
            for (agent_id, key), hit in hits.items()
            if key not in keys[agent_id]
            and (
                times[agent_id, key] > 1
                or (agent_id, key) not in current
                or current[agent_id, key].id != hit.id
            )
        ]
        if not changed:
            return found
        for agent_id, key in changed:
            keys[agent_id].add(key)


def _current(items: Items, query: str | None, filters: Filters) -> Steps[Items]:
    """The items in their newest versions, without those whose newest version does not match, or that are deleted."""
    stored = [item_id for item_id, memory in items.items() if item_fields(memory)]
    newest = yield from _look_up(stored, None, {}, {})
    changed = {item_id: memory for item_id, memory in newest.items() if memory.id != items[item_id].id}
    matching = yield from _look_up(list(changed), query, filters, changed)
    deleted = set(stored) - newest.keys()
    unchanged = {
        item_id: memory
        for item_id, memory in items.items()
        if item_id not in changed and item_id not in deleted
    }
    return unchanged | {
        item_id: memory
        for item_id, memory in matching.items()
        if sort_key(memory) >= sort_key(changed[item_id])
    }


def _look_up(item_ids: Sequence[ItemId], query: str | None, filters: Filters, least: Items) -> Steps[Items]:
    """The newest matching version of each item that has one. `least`: versions of which a newer or the same is needed."""
    parts = yield from concurrently(
        [_look_up_some(some, query, filters, least) for some in chunks(item_ids, ITEMS_PER_LOOKUP)]
    )
    return {item_id: memory for part in parts for item_id, memory in part.items()}


def _look_up_some(
    item_ids: Sequence[ItemId], query: str | None, filters: Filters, least: Items
) -> Steps[Items]:
    agents = list(dict.fromkeys(agent_id for agent_id, _ in item_ids))
    keys = dict.fromkeys(key for _, key in item_ids)
    answer: SearchAnswer
    [answer] = yield [
        calls.search(agents, query, MAX_HITS, filters={**filters, **keys_filter(keys)}, mode=_mode(query))
    ]
    newest = newest_versions(answer.memories)
    found = {item_id: newest[item_id] for item_id in item_ids if item_id in newest}
    missing = [
        item_id
        for item_id in item_ids
        if item_id not in found or (item_id in least and sort_key(found[item_id]) < sort_key(least[item_id]))
    ]
    if missing and len(item_ids) > 1 and len(answer.memories) == MAX_HITS:
        # Other versions, or other agents' items with the same keys, have filled the answer.
        parts = yield from concurrently(
            [_look_up_some(half, query, filters, least) for half in chunks(missing, (len(missing) + 1) // 2)]
        )
        found |= {item_id: memory for part in parts for item_id, memory in part.items()}
    return found
