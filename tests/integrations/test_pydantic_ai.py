"""Pydantic AI: the toolset, with Pydantic AI's own models for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from lorestream.client import AsyncMemoryClient
from lorestream.integrations.pydantic_ai import memory_toolset


async def test_an_agent_remembers_recalls_and_corrects_itself(
    agent: str, asynchronous: AsyncMemoryClient
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("remember", {"text": "the miner owes me ten lumps", "importance": 8}),
        ("recall", {"query": "who owes me lumps", "k": 500}),
        ("recall", {"query": "who owes me lumps", "k": 1}),
    ]
    seen: list[Any] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append((messages[-1].parts[-1], info))
        if len(seen) > len(calls):
            return ModelResponse([TextPart("the miner")])
        return ModelResponse([ToolCallPart(*calls[len(seen) - 1])])

    smith = Agent(FunctionModel(model), toolsets=[memory_toolset(agent, asynchronous)])
    assert (await smith.run("who owes you?")).output == "the miner"
    offered = {tool.name: tool.parameters_json_schema for tool in seen[0][1].function_tools}
    assert "agent_id" not in offered["recall"]["properties"]
    assert offered["recall"]["properties"]["k"]["maximum"] == 100
    assert seen[2][0].outcome == "retried"
    assert seen[2][0].content.startswith("k: ")
    assert seen[3][0].content["memories"][0]["text"] == "the miner owes me ten lumps"


async def test_a_tool_can_wait_for_an_approval(agent: str, asynchronous: AsyncMemoryClient) -> None:
    await asynchronous.add(agent, "the lake is frozen", wait_s=10)

    def model(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        return ModelResponse([ToolCallPart("forget", {})])

    toolset = memory_toolset(agent, asynchronous, asks_before=("forget",))
    smith = Agent(FunctionModel(model), toolsets=[toolset], output_type=[str, DeferredToolRequests])
    waiting = (await smith.run("forget all")).output
    assert [call.tool_name for call in waiting.approvals] == ["forget"]
    assert (await asynchronous.recent(agent)).total == 1


def test_the_example_of_the_documentation_runs(run_example: Callable[[str], str]) -> None:
    assert "context" in run_example("pydantic_ai")
