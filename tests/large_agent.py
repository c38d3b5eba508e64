"""An agent with 100,000 memories: the largest that the promises about reads are made for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lorestream.memories import Memory
from lorestream.ports import MemoryWriter
from tests.parts import open_parts
from tests.processes import PLAYER_KEY

AGENT = "npc:crowd"
COUNT = 100_000
LONG_NUMBER = 0.1234567890123456789
"""A number that the engine may round, so that memories with it have to be checked against a bound near it."""
_STEP = 500


def _memories(now: float) -> Iterator[Memory]:
    for number in range(COUNT):
        yield Memory(
            id=f"{number:032x}",
            tenant="default",
            agent_id=AGENT,
            text=f"found iron near the lake {number % 977}",
            timestamp=now - 2 * COUNT + number,
            accepted_at=now - 2 * COUNT + number,
            type=f"t{number % 250}",
            metadata={"b": f"word {number % 50}", "n": LONG_NUMBER, "valence": number % 9 / 8},
            about=(f"npc:{number % 300}",),
        )


async def write(store: MemoryWriter, *, now: float) -> None:
    """Write the memories into a store, with random vectors. Takes about 15 s."""
    random, rows = np.random.default_rng(1), _memories(now)
    while step := list(itertools.islice(rows, _STEP)):
        vectors = random.standard_normal((len(step), 384)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        await store.insert(step, vectors)


def fill(data: Path, *, now: float) -> None:
    """Fill a data directory; a Lorestream on it needs the player key of `tests.processes.PLAYER_KEY`."""

    async def run() -> None:
        key = PLAYER_KEY["LORESTREAM_PLAYER_KEY"]
        async with open_parts(data, store={"kind": "edge"}, player_key=key) as parts:
            await write(parts.store, now=now)

    asyncio.run(run())
