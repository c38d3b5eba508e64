"""Pydantic AI: the tools as a toolset. Needs the extra `pydantic-ai`: `pip install '.[pydantic-ai]'`.

toolset = memory_toolset("npc:smith", AsyncMemoryClient("http://127.0.0.1:8080"))
agent = Agent("openai:gpt-5", toolsets=[toolset])

The client is that of the event loop: these frameworks are asynchronous.
"""

from __future__ import annotations

from typing import Any

from pydantic_ai import FunctionToolset, ModelRetry, Tool

from lorestream.client import AsyncMemoryClient
from lorestream.errors import LorestreamError
from lorestream.integrations import toolset
from lorestream.integrations.steps import arun
from lorestream.integrations.toolset import tools_for
from lorestream.integrations.toolset.advice import explain


def memory_toolset(
    agent_id: str, memories: AsyncMemoryClient, *, asks_before: tuple[str, ...] = ()
) -> FunctionToolset[Any]:
    """Tools with which a model recalls, remembers and forgets as this agent; they reach no other agent.

    An error is told to the model, which can correct its arguments. `asks_before`: names of tools that need an approval
    before they run, such as ("forget",).
    """
    tools = [_tool(tool, memories) for tool in tools_for(agent_id)]
    for tool in tools:
        tool.requires_approval = tool.name in asks_before
    return FunctionToolset(tools)


def _tool(tool: toolset.Tool, memories: AsyncMemoryClient) -> Tool[Any]:
    async def call(**arguments: Any) -> dict[str, Any]:  # noqa: ANN401 (of the tool's schema)
        try:
            return await arun(memories, tool.call(arguments))
        except LorestreamError as error:
            raise ModelRetry(explain(error)) from error

    return Tool.from_schema(call, tool.name, tool.description, tool.input_schema)
