"""LlamaIndex: the block of its memory, with LlamaIndex's own `Memory` and mock model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("llama_index.core")
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import Memory

from lorestream.client import AsyncMemoryClient
from lorestream.integrations.llama_index import LorestreamMemoryBlock


async def test_what_leaves_the_short_memory_comes_back_when_it_fits(
    agent: str, asynchronous: AsyncMemoryClient
) -> None:
    await asynchronous.add(agent, "the miner owes me ten lumps of iron", wait_s=10)
    block = LorestreamMemoryBlock(agent_id=agent, memories=asynchronous, recent=0)
    memory = Memory.from_defaults(
        session_id="tavern",
        token_limit=200,
        chat_history_token_ratio=0.15,
        token_flush_size=10,
        memory_blocks=[block],
        tokenizer_fn=str.split,
    )
    for number in range(6):
        await memory.aput_messages(
            [ChatMessage(role="user", content=f"day {number}: the baker tells of the frozen lake again")]
        )
    kept = await asynchronous.messages(agent, conversation="tavern", order="oldest")
    assert kept.memories
    assert kept.memories[0].text == "day 0: the baker tells of the frozen lake again"
    await memory.aput(ChatMessage(role="user", content="who owes me lumps of iron?"))
    prompt = "\n".join(str(message.content) for message in await memory.aget())
    assert "the miner owes me ten lumps of iron" in prompt
    assert "memories" not in block.model_dump()


def test_the_example_of_the_documentation_runs(run_example: Callable[[str], str]) -> None:
    assert "the miner owes me ten lumps of iron" in run_example("llama_index")
