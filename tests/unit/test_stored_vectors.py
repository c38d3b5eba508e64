"""Vectors of texts that the collection holds: after a restart, for both embedders, and when the store is not asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorestream import events
from lorestream.adapters.embedders.hash import HashEmbedder
from lorestream.adapters.embedders.http import HttpEmbedder
from stream_workers.indexing.stored_vectors import RARELY, StoredVectors
from stream_workers.indexing.vectors import Throttle
from tests.parts import open_parts, put, running_worker

ROW = np.eye(384, dtype=np.float32)[0]


class Holding:
    """A store that knows some texts and counts what it is asked for."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.asked: list[Sequence[str]] = []

    async def text_vectors(self, texts: Sequence[str]) -> list[tuple[Any, bool] | None]:
        self.asked.append(list(texts))
        return [(ROW, True) if text in self.known else None for text in texts]


def source_of(store: Holding) -> StoredVectors:
    return StoredVectors(store, Throttle())  # type: ignore[arg-type]


async def test_after_a_restart_the_model_does_not_read_again_what_is_stored(tmp_path: Path) -> None:
    """Of three texts two are stored, by another agent; the vectors of all are those of the model."""
    for boot, texts in enumerate((["dug oak", "dug iron"], ["dug oak", "dug gold", "dug iron"])):
        async with open_parts(tmp_path, store={"kind": "edge"}) as runtime:
            at = runtime.clock.now()
            puts = [
                put(text, agent=f"npc:{boot}", event_id=f"{boot}-{number}", at=at)
                for number, text in enumerate(texts)
            ]
            end = await runtime.log.append([events.encode(one) for one in puts])
            async with running_worker(runtime):
                assert await runtime.collections.current.watermarks.reached(end, 60)
            counted = {
                source: runtime.metrics.embed_texts.labels(source)._value.get()
                for source in ("model", "store")
            }
            made = (await runtime.embedder.embed(["dug oak", "dug gold", "dug iron"])).vectors
            kept = await runtime.store.text_vectors(["dug oak", "dug gold", "dug iron"])
    assert counted == {"model": 1, "store": 2}
    assert [one and one[0].tobytes() for one in kept] == [row.tobytes() for row in made]


@pytest.mark.parametrize("kind", ["local", "http"])
async def test_what_the_store_has_is_cached_and_the_model_is_not_asked(kind: str) -> None:
    """Each text is asked for once, as it is stored."""
    counted: list[tuple[str, int]] = []

    def count(source: str, texts: int) -> None:
        counted.append((source, texts))

    embedder = (
        HashEmbedder(384, on_texts=count)
        if kind == "local"
        else HttpEmbedder(url="http://127.0.0.1:9/v1", model="m", dim=384, on_texts=count)
    )
    store = Holding("oak", "mill")
    async with embedder:
        found = await embedder.embed(["oak", "mill", "oak"], stored=source_of(store))
        again = await embedder.embed(["mill", "oak"], stored=source_of(store))
    assert np.array_equal(found.vectors, [ROW] * 3)
    assert np.array_equal(again.vectors, [ROW] * 2)
    assert store.asked == [["oak", "mill"]]
    assert ("store", 2) in counted
    assert "model" not in dict(counted)


async def test_a_mixed_batch_gets_its_vectors_from_both() -> None:
    async with HashEmbedder(384) as embedder:
        found = await embedder.embed(["iron", "oak", "gold"], stored=source_of(Holding("oak")))
        alone = await embedder.embed(["gold", "iron"])
    assert np.array_equal(found.vectors, [alone.vectors[1], ROW, alone.vectors[0]])
    assert list(found.truncated) == [False, True, False]


async def test_a_store_without_the_texts_is_asked_rarely_until_it_has_them() -> None:
    """The first batches show that nothing is found; then one batch in 16 is asked for; when it is found, each again."""
    store = Holding("known")
    source = source_of(store)
    new = [f"new {number}" for number in range(256)]
    await source(new)
    assert len(store.asked) == 1
    for _ in range(2 * RARELY):
        assert await source(["new", "newer"]) == [None, None]
    assert len(store.asked) == 3
    for _ in range(RARELY):
        await source(["known"] * 256)
    assert await source(["known"]) == [(ROW, True)]
    asked = len(store.asked)
    await source(["known"])
    assert len(store.asked) == asked + 1
