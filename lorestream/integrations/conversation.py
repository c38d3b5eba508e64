"""A conversation as the frameworks keep it: items in their order, each a message of an agent in Lorestream.

What a framework stores is kept exactly, as JSON text in the metadata of the message; the message's own text is what
searches and contexts find. Messages too long for a memory are stored as records: kept and read, but not found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from lorestream.client import Event, FoundMemory, Page, records
from lorestream.client.call import given
from lorestream.integrations.steps import Steps
from lorestream.integrations.writes import add_all, delete_all
from lorestream.limits import MAX_PAGE_SIZE

MAX_MEMORY_BYTES = 14_000
"""A message up to this size, as JSON, can be found by searches: an event has at most 16 KiB, the envelope included."""


class Item(NamedTuple):
    """One message: its role, what searches find (`text`), and what the framework stores (`payload`)."""

    role: str
    text: str
    payload: Any


class Conversation:
    """The items of one conversation of an agent, under the name of a framework."""

    def __init__(self, agent_id: str, conversation: str, framework: str) -> None:
        self.agent_id = agent_id
        self.conversation = conversation
        self._framework = framework

    def add(self, items: Sequence[Item]) -> Steps[None]:
        """Append the items; returns when reads show them. Raises Rejected, and Unavailable when that takes too long."""
        yield from add_all([self._event(item) for item in items])

    def read(self, limit: int | None = None) -> Steps[list[Any]]:
        """The payloads of the newest `limit` items, or of all; oldest first."""
        return [json.loads(found.metadata[self._framework]) for found in (yield from self._found(limit))]

    def pop(self) -> Steps[Any]:
        """Remove the newest item; its payload, or None."""
        newest = yield from self._found(1)
        yield from delete_all(self.agent_id, [one.id for one in newest])
        return json.loads(newest[0].metadata[self._framework]) if newest else None

    def clear(self) -> Steps[None]:
        """Remove all items; returns when no read shows them."""
        found = yield from self._found(None)
        yield from delete_all(self.agent_id, [one.id for one in found])

    def _event(self, item: Item) -> Event:
        event: dict[str, Any] = {
            "agent_id": self.agent_id,
            "type": "message",
            "text": item.text or f"({item.role})",
            "data": {"role": item.role, "conversation": self.conversation},
            "metadata": {self._framework: json.dumps(item.payload, ensure_ascii=False)},
        }
        if len(json.dumps(event, ensure_ascii=False).encode()) > MAX_MEMORY_BYTES:
            # The payload has the whole text. 16 KiB hold a memory, 64 KiB a record.
            event |= {"recall": False, "text": event["text"][:200]}
        return cast("Event", event)

    def _found(self, limit: int | None) -> Steps[list[FoundMemory]]:
        found: list[FoundMemory] = []
        cursor: str | None = None
        while limit is None or len(found) < limit:
            page: Page = yield records.messages(
                self.agent_id,
                MAX_PAGE_SIZE if limit is None else min(MAX_PAGE_SIZE, 2 * limit),
                conversation=self.conversation,
                cursor=cursor,
            )
            found += [one for one in page.memories if isinstance(one.metadata.get(self._framework), str)]
            cursor = page.next_cursor
            if cursor is None:
                break
        return found[:limit][::-1]


def named(item: object, **fields: object) -> str:
    """What a message without text is found by: the fields that it has, such as the call of a tool."""
    shown = given(**fields)
    return ", ".join(f"{name}: {value}" for name, value in shown.items()) or str(item)[:1000]
