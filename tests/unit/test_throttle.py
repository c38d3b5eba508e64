"""Work in the background is done in chunks with pauses; work in the foreground at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stream_workers.indexing.vectors import CHUNK_SIZE, Throttle


async def test_in_the_foreground_all_is_done_in_one_call() -> None:
    chunks: list[int] = []

    async def work(chunk: Sequence[int]) -> None:
        chunks.append(len(chunk))

    await Throttle().in_chunks(range(100), work)
    assert chunks == [100]
    await Throttle().in_chunks([], work)
    assert chunks == [100]


async def test_other_tasks_run_between_the_chunks_until_the_work_comes_to_the_foreground() -> None:
    chunks: list[int] = []
    seen_by_others: list[int] = []

    async def work(chunk: Sequence[int]) -> None:
        chunks.append(len(chunk))
        await asyncio.sleep(0)

    async def others() -> None:
        while True:
            seen_by_others.append(len(chunks))
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    throttle = Throttle(is_foreground=lambda: len(chunks) >= 3)
    await throttle.in_chunks(range(10 * CHUNK_SIZE), work)
    beside.cancel()
    assert chunks == [CHUNK_SIZE] * 3 + [7 * CHUNK_SIZE]
    assert {1, 2} <= set(seen_by_others)


async def test_work_in_the_background_is_done_at_once_while_others_wait_for_its_end() -> None:
    chunks: list[int] = []
    throttle = Throttle(is_foreground=lambda: False)

    async def work(chunk: Sequence[int]) -> None:
        chunks.append(len(chunk))

    with throttle.hurry():
        await throttle.in_chunks(range(3 * CHUNK_SIZE), work)
    await throttle.in_chunks(range(2 * CHUNK_SIZE), work)
    assert chunks == [3 * CHUNK_SIZE, CHUNK_SIZE, CHUNK_SIZE]
