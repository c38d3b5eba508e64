"""Background memories that answer no question: work and small talk of other days in the village."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from lorestream.memories import Memory
from lorestream.narrate import narrate
from lorestream.ports import Priority
from lorestream.wiring import Runtime
from producers.demo import village

_FIRST_SEED = 1000
_WORK = {"craft", "pickup", "eat", "drop"}
_BATCH_SIZE = 512


async def add_background(runtime: Runtime, count: int, start: float) -> None:
    """Insert `count` memories of the villagers, within the day that begins at `start` (Unix seconds)."""
    events = itertools.islice(_events(start), count)
    vectors: dict[str, Any] = {}  # by text: a day's work has few distinct sentences
    while batch := list(itertools.islice(events, _BATCH_SIZE)):
        memories = [_memory(runtime, event) for event in batch]
        new = sorted({one.text for one in memories} - vectors.keys())
        if new:
            made = await runtime.embedder.embed(new, Priority.INGEST)
            vectors.update(zip(new, made.vectors, strict=True))
        await runtime.store.insert(memories, np.array([vectors[one.text] for one in memories]))


def _events(start: float) -> Iterator[dict[str, Any]]:
    for seed in itertools.count(_FIRST_SEED):
        for event in village.events(seed, start):
            message = event.get("data", {}).get("message")
            if event.get("type") in _WORK or (message and not any(one in message for one in village.WANTED)):
                yield event


def _memory(runtime: Runtime, event: dict[str, Any]) -> Memory:
    player = event.get("player")
    return Memory(
        id=event["id"],
        tenant="default",
        agent_id=event["agent_id"],
        text=narrate(event["type"], event["data"], by_player=player is not None),
        timestamp=event["time"],
        accepted_at=event["time"],
        type=event["type"],
        metadata=event["data"],
        pos=event["pos"],
        tick=event["tick"],
        importance=float(event["importance"]),
        player=None if player is None else runtime.pseudonyms.player("default", player),
    )
