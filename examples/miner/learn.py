"""Several game servers that teach one miner: they share its Q-table, which lies in Lorestream and nowhere else."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples.miner.cave import DEFAULT_CAVE, ORE, Cave, Step, Values, best, play, targets
from examples.miner.picture import Bucket
from lorestream.client import AsyncMemoryClient, QUpdate

TABLE, POLICY = "cave", "cave"
EXPLORE, ALPHA, GAMMA = 0.8, 0.5, 0.9
"""The share of random actions in the first episode (it falls to 0), the learning rate, the discount."""
WAIT_S = 10.0
"""How long a write waits until reads show it."""


@dataclass(frozen=True)
class Lessons:
    """What is played: `episodes` by each of `servers` game servers. The seed decides all random actions."""

    agent: str = "npc:miner-1"
    servers: int = 4
    episodes: int = 60
    seed: int = 1
    cave: Cave = DEFAULT_CAVE


@dataclass(frozen=True)
class Outcome:
    """What is in Lorestream at the end. `updates`: how many values the servers have sent."""

    updates: int
    buckets: Sequence[Bucket]
    policy: Mapping[str, str]
    last: Sequence[Step]
    """One more episode, with the actions of the stored policy alone."""


async def learn(client: AsyncMemoryClient, lessons: Lessons) -> Outcome:
    """Play all episodes, store the policy and the miner's state, and read back what the servers have achieved."""
    began = time.time()
    await client.put_entity(
        "character",
        lessons.agent,
        {"name": "Miner", "personality": "curious", "goals": ["find the ore", "keep out of the lava"]},
    )
    sent = await asyncio.gather(*(game_server(client, lessons, number) for number in range(lessons.servers)))
    values = await read_values(client, lessons)
    policy = {state: best(values, state) for state in lessons.cave.states() if state in values}
    stored = await client.put_policy(
        lessons.agent, json.dumps(policy).encode(), name=POLICY, format="raw", wait_s=WAIT_S
    )
    taught: dict[str, str] = json.loads((await client.policy(lessons.agent, name=POLICY)).data)
    last = play(
        lessons.cave,
        {state: {action: 1.0} for state, action in taught.items()},
        explore=0.0,
        dice=random.Random(lessons.seed),  # noqa: S311
    )
    beliefs = {"way to the ore": [step.action for step in last], "policy version": stored.version}
    await client.patch_entity("character", lessons.agent, {"beliefs": beliefs}, wait_s=WAIT_S)
    return Outcome(sum(sent), await read_rewards(client, lessons, since=began), taught, last)


async def game_server(client: AsyncMemoryClient, lessons: Lessons, number: int) -> int:
    """One game server: reads the table, plays an episode, sends what it taught; the number of updates sent.

    The others do the same at the same time. No update is lost: the server sends changes ("move this value toward
    that one"), which are applied one after the other, and never a table that would overwrite the others' work.
    """
    dice = random.Random(lessons.seed * 1000 + number)  # noqa: S311
    sent = 0
    for episode in range(lessons.episodes):
        values = await read_values(client, lessons)
        steps = play(lessons.cave, values, explore=EXPLORE * (1 - episode / lessons.episodes), dice=dice)
        updates: list[QUpdate] = [
            {"state": step.state, "action": step.action, "op": "toward", "value": target, "alpha": ALPHA}
            for step, target in targets(steps, values, alpha=ALPHA, gamma=GAMMA)
        ]
        # Waits until they are applied: the next episode begins with them.
        await client.q_update(lessons.agent, updates, table=TABLE, wait_s=WAIT_S)
        sent += len(updates)
        await client.reward(
            lessons.agent,
            sum(step.reward for step in steps),
            components={"steps": len(steps), "ore": float(steps[-1].reward == ORE)},
            event={"tick": episode},
            server=f"cave-{number}",
            wait_s=WAIT_S if episode == lessons.episodes - 1 else None,
        )
    return sent


async def read_values(client: AsyncMemoryClient, lessons: Lessons) -> Values:
    """The whole table: the values by state and action."""
    read = await client.q_values(lessons.agent, lessons.cave.states(), table=TABLE)
    return {
        state: {action: value.q for action, value in actions.items()}
        for state, actions in read.values.items()
    }


async def read_rewards(client: AsyncMemoryClient, lessons: Lessons, *, since: float) -> list[Bucket]:
    """Mean, least and greatest reward of each twentieth of the episodes, over all servers."""
    read = await client.aggregate(
        lessons.agent, "reward", "metadata.value", every_ticks=max(1, lessons.episodes // 20), since=since
    )
    return [Bucket(one.start or 0.0, one.mean or 0.0, one.min or 0.0, one.max or 0.0) for one in read]
