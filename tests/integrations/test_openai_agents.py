"""OpenAI Agents SDK: a session, with a model of the SDK's interface that repeats what it was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

pytest.importorskip("agents")
from agents import Agent, ModelResponse, Runner, Usage, function_tool
from agents.memory import Session
from agents.memory.session_settings import SessionSettings
from agents.models.interface import Model
from agents.run import RunConfig
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from lorestream.client import AsyncMemoryClient
from lorestream.integrations.openai_agents import LorestreamSession


class Scripted(Model):
    """A model that answers with what it is given, in order, and keeps what it was sent."""

    def __init__(self, *outputs: Any) -> None:
        self.outputs = list(outputs)
        self.sent: list[Any] = []

    async def get_response(self, **given: Any) -> ModelResponse:
        self.sent.append(given["input"])
        return ModelResponse(output=[self.outputs.pop(0)], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


def said(text: str) -> ResponseOutputMessage:
    content = [ResponseOutputText(text=text, type="output_text", annotations=[])]
    return ResponseOutputMessage(
        id="m", content=content, role="assistant", status="completed", type="message"
    )


async def test_a_run_goes_on_where_the_last_one_ended(agent: str, asynchronous: AsyncMemoryClient) -> None:
    @function_tool
    def weather() -> str:
        return "snow"

    call = ResponseFunctionToolCall(
        id="f", call_id="c1", name="weather", arguments="{}", type="function_call", status="completed"
    )
    model = Scripted(said("Good day."), call, said("It snows."))
    smith = Agent(name="smith", model=model, tools=[weather])
    session = LorestreamSession(agent, "tavern", asynchronous)
    assert isinstance(session, Session)
    config = RunConfig(tracing_disabled=True)
    await Runner.run(smith, "Hello", session=session, run_config=config)
    answer = await Runner.run(smith, "How is the weather?", session=session, run_config=config)
    assert answer.final_output == "It snows."
    contents = [item.get("content") for item in model.sent[1]]
    assert (contents[0], contents[-1]) == ("Hello", "How is the weather?")
    kinds = [item.get("type", item.get("role")) for item in await session.get_items()]
    assert kinds == ["user", "message", "user", "function_call", "function_call_output", "message"]
    found = await asynchronous.search(agent, "how is the weather", 6)
    assert "How is the weather?" in [one.text for one in found.memories]


async def test_items_are_limited_popped_and_cleared(agent: str, asynchronous: AsyncMemoryClient) -> None:
    session = LorestreamSession(agent, "tavern", asynchronous)
    items: list[Any] = [{"role": "user", "content": f"word {number}"} for number in range(5)]
    await session.add_items(items)
    assert await session.get_items() == items
    assert await session.get_items(2) == items[3:]
    limited = LorestreamSession(agent, "tavern", asynchronous, session_settings=SessionSettings(limit=1))
    assert await limited.get_items() == items[4:]
    assert await session.pop_item() == items[4]
    assert await session.get_items() == items[:4]
    await session.clear_session()
    assert await session.get_items() == []
    assert await session.pop_item() is None


def test_the_example_of_the_documentation_runs(run_example: Callable[[str], str]) -> None:
    assert "Who owes you something?" in run_example("openai_agents")
