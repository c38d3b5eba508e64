"""OpenAI Agents SDK: sessions. Needs the extra `openai-agents`: `pip install '.[openai-agents]'`.

session = LorestreamSession("npc:smith", "tavern-1", AsyncMemoryClient("http://127.0.0.1:8080"))
await Runner.run(agent, "Who owes me something?", session=session)

The client is that of the event loop: these frameworks are asynchronous.
"""

from __future__ import annotations

import json
from typing import Any, cast

from agents import TResponseInputItem
from agents.memory.session_settings import SessionSettings, resolve_session_limit

from lorestream.client import AsyncMemoryClient
from lorestream.integrations.conversation import Conversation, Item, named
from lorestream.integrations.steps import arun


class LorestreamSession:
    """A session of the SDK (`agents.memory.Session`): the items of one conversation of an agent.

    They are memories too: searches and contexts of the agent find them. An item is at most about 60 KB as JSON; one above
    14 KB is kept, but not found by searches.
    """

    def __init__(
        self,
        agent_id: str,
        session_id: str,
        memories: AsyncMemoryClient,
        *,
        session_settings: SessionSettings | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = session_settings
        self._conversation = Conversation(agent_id, session_id, "openai_agents")
        self._memories = memories

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The newest `limit` items, or all; oldest first."""
        wanted = resolve_session_limit(limit, self.session_settings)
        return (
            []
            if wanted is not None and wanted <= 0
            else await arun(self._memories, self._conversation.read(wanted))
        )

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items; returns when `get_items` shows them."""
        await arun(
            self._memories, self._conversation.add([_item(cast("dict[str, Any]", item)) for item in items])
        )

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove and return the newest item; None if there is none."""
        return await arun(self._memories, self._conversation.pop())

    async def clear_session(self) -> None:
        """Delete all items for ever."""
        await arun(self._memories, self._conversation.clear())


def _item(item: dict[str, Any]) -> Item:
    content = item.get("content")
    if isinstance(content, list):
        content = " ".join(
            str(part.get("text", "")) for part in cast("list[dict[str, Any]]", content)
        ).strip()
    if not content:
        output = item.get("output")
        shown = (
            output if output is None or isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        )
        content = named(item, name=item.get("name"), arguments=item.get("arguments"), output=shown)
    return Item(str(item.get("role") or item.get("type", "item")), str(content), item)
