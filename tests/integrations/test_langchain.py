"""LangChain: retriever, tools and chat history, without any call of a language model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("langchain_core")
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnablePassthrough
from langchain_core.runnables.history import RunnableWithMessageHistory

from lorestream.client import AsyncMemoryClient, MemoryClient
from lorestream.integrations.langchain import LorestreamChatHistory, LorestreamRetriever, memory_tools


async def test_a_chain_retrieves_the_memories_of_its_agent(
    agent: str, memories: MemoryClient, asynchronous: AsyncMemoryClient
) -> None:
    event = {"type": "debt", "metadata": {"sum": 10}}
    memories.add(agent, "the miner owes me ten lumps of iron", event=event, wait_s=10)
    memories.add("npc:other", "the miner owes nothing", wait_s=10)
    retriever = LorestreamRetriever(agent_id=agent, memories=memories, asynchronous=asynchronous, k=1)
    model = GenericFakeChatModel(messages=iter([AIMessage("ten lumps")]))
    prompt = ChatPromptTemplate.from_template("{context}\n{question}")
    chain = {"context": retriever, "question": RunnablePassthrough()} | prompt | model
    assert chain.invoke("who owes me lumps?").content == "ten lumps"
    (found,) = await retriever.ainvoke("who owes me lumps?")
    assert found.page_content == "the miner owes me ten lumps of iron"
    assert (found.metadata["type"], found.metadata["sum"]) == ("debt", 10)
    assert found.metadata["score"] > 0
    filtered = LorestreamRetriever(agent_id=agent, memories=memories, options={"filters": {"type": "lie"}})
    assert filtered.invoke("who owes me lumps?") == []


def test_a_history_gives_every_message_back_as_it_was(agent: str, memories: MemoryClient) -> None:
    history = LorestreamChatHistory(agent, "tavern", memories)
    said = [
        SystemMessage("You are a smith."),
        HumanMessage("Who owes me lumps? ö", additional_kwargs={"n": 1.0, "empty": {}}),
        AIMessage("", tool_calls=[{"name": "recall", "args": {"query": "lumps"}, "id": "1"}]),
        ToolMessage("the miner " * 2500, tool_call_id="1"),
        AIMessage([{"type": "text", "text": "The miner."}], id="run-1"),
    ]
    history.add_messages(said)
    assert history.messages == said
    assert LorestreamChatHistory(agent, "elsewhere", memories).messages == []
    assert "Who owes me lumps? ö" in [found.text for found in memories.search(agent, "who owes", 5).memories]
    assert "lumps" in memories.context(agent, "who owes me lumps").text
    history.clear()
    assert history.messages == []
    history.add_user_message("again")
    assert [message.content for message in history.messages] == ["again"]


async def test_a_runnable_keeps_its_history(agent: str, asynchronous: AsyncMemoryClient) -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage("Good day."), AIMessage("As I said.")]))
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{said}")])
    runnable = RunnableWithMessageHistory(
        prompt | model,
        lambda session: LorestreamChatHistory(agent, session, asynchronous=asynchronous),
        input_messages_key="said",
        history_messages_key="history",
    )
    config = {"configurable": {"session_id": "tavern"}}
    await runnable.ainvoke({"said": "Hello"}, config)
    await runnable.ainvoke({"said": "Again"}, config)
    kept = await LorestreamChatHistory(agent, "tavern", asynchronous=asynchronous).aget_messages()
    assert [message.content for message in kept] == ["Hello", "Good day.", "Again", "As I said."]
    with pytest.raises(TypeError, match="MemoryClient"):
        LorestreamChatHistory(agent, "tavern", asynchronous=asynchronous).clear()


async def test_the_tools_act_for_one_agent_and_tell_errors_to_the_model(
    agent: str, memories: MemoryClient, asynchronous: AsyncMemoryClient
) -> None:
    tools = {tool.name: tool for tool in memory_tools(agent, memories, asynchronous=asynchronous)}
    assert "agent_id" not in tools["recall"].args
    assert "findable" in tools["remember"].invoke({"text": "the lake is frozen", "importance": 8})
    call = {"name": "recall", "args": {"query": "lake", "k": 1}, "id": "1", "type": "tool_call"}
    answered = await tools["recall"].ainvoke(call)
    assert isinstance(answered, ToolMessage)
    assert "the lake is frozen" in answered.content
    refused = await tools["recall"].ainvoke({**call, "args": {"query": "lake", "k": 500}})
    assert (refused.status, refused.content[:3]) == ("error", "k: ")
    foreign = tools["recall"].invoke({**call, "args": {"query": "lake", "agent_id": "npc:other"}})
    assert foreign.status == "error"


def test_the_example_of_the_documentation_runs(run_example: Callable[[str], str]) -> None:
    assert "the miner owes me ten lumps of iron" in run_example("langchain")
