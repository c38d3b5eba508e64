"""LlamaIndex: a block of its `Memory`. Needs the extra `llama-index`: `pip install '.[llama-index]'`.

block = LorestreamMemoryBlock(agent_id="npc:smith", memories=AsyncMemoryClient("http://127.0.0.1:8080"))
memory = Memory.from_defaults(session_id="tavern-1", memory_blocks=[block])

The client is that of the event loop: these frameworks are asynchronous.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import BaseMemoryBlock
from pydantic import ConfigDict, Field

from lorestream.client import AsyncMemoryClient
from lorestream.integrations.conversation import Conversation, Item
from lorestream.integrations.steps import arun
from lorestream.limits import MAX_QUERY_CHARS


class LorestreamMemoryBlock(BaseMemoryBlock[str]):
    """Long-term memory of an agent: what fits the last words of the user, and the newest, within `token_budget`.

    Messages that leave the short-term memory are stored as messages of the agent, in the conversation `session_id`.
    `remember_tools`: whether those of tools are stored, too.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str = "lorestream"
    description: str | None = "Long-term memory of the agent: the memories that fit, and the newest."
    priority: int = 1
    agent_id: str
    memories: AsyncMemoryClient = Field(exclude=True)
    token_budget: int = 1000
    relevant: int = 5
    recent: int = 5
    remember_tools: bool = False

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:  # noqa: ANN401
        del block_kwargs
        said = [message.content for message in messages or [] if message.role == MessageRole.USER]
        query = next((text for text in reversed(said) if text), None)
        found = await self.memories.context(
            self.agent_id,
            None if query is None else query[:MAX_QUERY_CHARS],
            relevant=self.relevant,
            recent=self.recent,
            token_budget=self.token_budget,
        )
        return found.text

    async def _aput(self, messages: list[ChatMessage]) -> None:
        sessions: dict[str, list[Item]] = {}
        for message in messages:
            if message.content and (self.remember_tools or message.role != MessageRole.TOOL):
                session = str(message.additional_kwargs.get("session_id", "default"))
                item = Item(message.role.value, message.content, message.model_dump(mode="json"))
                sessions.setdefault(session, []).append(item)
        for session, items in sessions.items():
            conversation = Conversation(self.agent_id, session, "llama_index")
            await arun(self.memories, conversation.add(items))
