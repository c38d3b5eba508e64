"""CrewAI: the memory of a crew, with a model of CrewAI's interface that answers a fixed text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

pytest.importorskip("crewai")
from crewai import Agent, BaseLLM, Crew, Task

from lorestream.client import MemoryClient
from lorestream.integrations.crewai import LorestreamMemory


class Fixed(BaseLLM):
    """A model that always answers the same, and keeps what it was sent."""

    sent: ClassVar[list[Any]] = []

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> str:
        self.sent.append(messages)
        return "Thought: I know it.\nFinal Answer: The miner owes ten lumps."


def test_records_are_stored_recalled_changed_and_deleted(agent: str, memories: MemoryClient) -> None:
    memory = LorestreamMemory(agent_id=agent, memories=memories)
    debt = memory.remember(
        "the miner owes ten lumps", "/village/smith", ["debt"], {"sum": 10}, importance=0.9
    )
    assert debt is not None
    memory.remember_many(
        ["the lake is frozen", "wolves in the east"], "/village/guard", ["world"], agent_role="guard"
    )
    secret = memory.remember("the mayor is broke", "/village/smith", source="ann", private=True)
    assert secret is not None

    best = memory.recall("who owes lumps", limit=1)[0]
    assert (best.record.id, best.record.content) == (debt.id, "the miner owes ten lumps")
    assert (best.record.categories, best.record.metadata, best.record.importance) == (
        ["debt"],
        {"sum": 10},
        0.9,
    )
    assert {found.record.scope for found in memory.recall("anything", scope="/village/guard")} == {
        "/village/guard"
    }
    assert [found.record.id for found in memory.recall("x", categories=["debt"])] == [debt.id]
    assert [found.record.id for found in memory.recall("", limit=1, categories=["debt"])] == [debt.id]
    assert secret.id not in {found.record.id for found in memory.recall("the mayor is broke")}
    assert secret.id in {found.record.id for found in memory.recall("the mayor is broke", source="ann")}
    assert memory.scope("/village/guard").recall("wolves")[0].record.content == "wolves in the east"

    assert memory.info("/village").record_count == 4
    assert memory.info("/village").child_scopes == ["/village/guard", "/village/smith"]
    assert memory.list_categories() == {"debt": 1, "world": 2}
    existing = memory._storage.get_record(debt.id)
    assert existing is not None
    changed = memory.update(debt.id, content="the miner paid")
    assert [found.content for found in memory.list_records("/village/smith")] == [
        "the mayor is broke",
        "the miner paid",
    ]
    kept = memory._storage.get_record(changed.id)
    assert kept is not None
    assert abs((kept.created_at - existing.created_at).total_seconds()) < 0.001
    assert memory._storage.get_record(debt.id) is None
    assert memory.forget(record_ids=[changed.id]) == 1
    assert memory.forget(scope="/village/guard", metadata_filter={"agent_role": "guard"}) == 2
    memory.reset()
    assert memory.list_records() == []
    assert LorestreamMemory(agent_id=agent, memories=memories, read_only=True).remember("x") is None


def test_a_crew_uses_it(agent: str, memories: MemoryClient) -> None:
    memory = LorestreamMemory(agent_id=agent, memories=memories)
    memory.remember("the miner owes ten lumps of iron")
    model = Fixed(model="fixed")
    smith = Agent(role="smith", goal="collect debts", backstory="an old smith", llm=model)
    task = Task(description="Say who owes lumps of iron.", expected_output="a name", agent=smith)
    answer = Crew(agents=[smith], tasks=[task], memory=memory).kickoff()
    assert "The miner owes ten lumps." in answer.raw
    assert "the miner owes ten lumps of iron" in str(model.sent)
    assert any("The miner owes ten lumps." in record.content for record in memory.list_records())


def test_the_example_of_the_documentation_runs(run_example: Callable[[str], str]) -> None:
    assert "the miner owes ten lumps of iron" in run_example("crewai")
