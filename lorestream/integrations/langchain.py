"""LangChain: a retriever, the tools, and chat histories. Needs the extra `langchain`: `pip install '.[langchain]'`.

    memories = MemoryClient("http://127.0.0.1:8080")
    retriever = LorestreamRetriever(agent_id="npc:smith", memories=memories)
    tools = memory_tools("npc:smith", memories)
    history = LorestreamChatHistory("npc:smith", "tavern-1", memories)

Each takes a MemoryClient for its blocking methods, an AsyncMemoryClient (`asynchronous`) for the others, or both. Without
an AsyncMemoryClient, LangChain runs the blocking ones in threads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import ConfigDict, Field

from lorestream.client import AsyncMemoryClient, FoundMemory, MemoryClient
from lorestream.errors import LorestreamError
from lorestream.integrations.conversation import Conversation, Item, named
from lorestream.integrations.steps import Steps, arun, run
from lorestream.integrations.toolset import Tool, tools_for
from lorestream.integrations.toolset.advice import explain

T = TypeVar("T")

_NEEDS_BLOCKING = "give a MemoryClient as `memories` for blocking calls, or use the asynchronous methods"


class LorestreamRetriever(BaseRetriever):
    """The memories of an agent that fit a query, as documents. `options`: further arguments of `MemoryClient.search`.

    The metadata of a document is the memory's metadata, and its `agent_id`, `type`, `timestamp`, `importance`, `score`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    agent_id: str
    memories: MemoryClient | None = None
    asynchronous: AsyncMemoryClient | None = None
    k: int = 5
    options: Mapping[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        del run_manager
        if self.memories is None:
            raise TypeError(_NEEDS_BLOCKING)
        answer = self.memories.search(self.agent_id, query, self.k, **self.options)
        return [_document(found) for found in answer.memories]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        if self.asynchronous is None:
            return await super()._aget_relevant_documents(query, run_manager=run_manager)
        answer = await self.asynchronous.search(self.agent_id, query, self.k, **self.options)
        return [_document(found) for found in answer.memories]


def memory_tools(
    agent_id: str, memories: MemoryClient | None = None, *, asynchronous: AsyncMemoryClient | None = None
) -> list[BaseTool]:
    """Tools with which a model recalls, remembers and forgets as this agent; they reach no other agent.

    An error is told to the model, with what to do about it.
    """
    return [_tool(tool, memories, asynchronous) for tool in tools_for(agent_id)]


class LorestreamChatHistory(BaseChatMessageHistory):
    """The messages of one conversation of an agent. They are memories too: searches and contexts find them.

    A message is at most about 60 KB as JSON; one above 14 KB is kept, but not found by searches.
    """

    def __init__(
        self,
        agent_id: str,
        conversation: str,
        memories: MemoryClient | None = None,
        *,
        asynchronous: AsyncMemoryClient | None = None,
    ) -> None:
        self._conversation = Conversation(agent_id, conversation, "langchain")
        self._memories = memories
        self._asynchronous = asynchronous

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """All messages, oldest first."""
        return _restored(self._run(self._conversation.read()))

    async def aget_messages(self) -> list[BaseMessage]:
        """All messages, oldest first."""
        if self._asynchronous is None:
            return await super().aget_messages()
        return _restored(await arun(self._asynchronous, self._conversation.read()))

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages; returns when `messages` shows them."""
        self._run(self._conversation.add([_item(message) for message in messages]))

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages; returns when `aget_messages` shows them."""
        if self._asynchronous is None:
            await super().aadd_messages(messages)
        else:
            await arun(self._asynchronous, self._conversation.add([_item(message) for message in messages]))

    def clear(self) -> None:
        """Delete all messages of the conversation for ever."""
        self._run(self._conversation.clear())

    async def aclear(self) -> None:
        """Delete all messages of the conversation for ever."""
        if self._asynchronous is None:
            await super().aclear()
        else:
            await arun(self._asynchronous, self._conversation.clear())

    def _run(self, steps: Steps[T]) -> T:
        if self._memories is None:
            raise TypeError(_NEEDS_BLOCKING)
        return run(self._memories, steps)


def _document(found: FoundMemory) -> Document:
    fields = {
        "agent_id": found.agent_id,
        "type": found.type,
        "timestamp": found.timestamp,
        "importance": found.importance,
        "score": found.score,
    }
    return Document(page_content=found.text, id=found.id, metadata={**found.metadata, **fields})


def _tool(tool: Tool, memories: MemoryClient | None, asynchronous: AsyncMemoryClient | None) -> BaseTool:
    def call(**arguments: Any) -> str:  # noqa: ANN401 (of the tool's schema)
        if memories is None:
            raise TypeError(_NEEDS_BLOCKING)
        try:
            return json.dumps(run(memories, tool.call(arguments)), ensure_ascii=False)
        except LorestreamError as error:
            raise ToolException(explain(error)) from error

    async def acall(**arguments: Any) -> str:  # noqa: ANN401 (of the tool's schema)
        assert asynchronous is not None
        try:
            return json.dumps(await arun(asynchronous, tool.call(arguments)), ensure_ascii=False)
        except LorestreamError as error:
            raise ToolException(explain(error)) from error

    return StructuredTool.from_function(
        func=call,
        coroutine=None if asynchronous is None else acall,
        name=tool.name,
        description=tool.description,
        args_schema=tool.input_schema,
        infer_schema=False,
        handle_tool_error=True,
    )


def _item(message: BaseMessage) -> Item:
    calls = [f"{call['name']}({json.dumps(call['args'])})" for call in getattr(message, "tool_calls", [])]
    return Item(
        message.type,
        str(message.text) or named(message, calls="; ".join(calls) or None),
        message_to_dict(message),
    )


def _restored(payloads: list[Any]) -> list[BaseMessage]:
    return messages_from_dict(payloads)
