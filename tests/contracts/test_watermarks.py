"""What all Watermarks promise, run over each adapter."""

from __future__ import annotations

import asyncio

import pytest

from engram.adapters.local_watermarks import LocalWatermarks
from engram.ports import Watermarks

PATIENCE_S = 30.0


@pytest.fixture(params=[LocalWatermarks], ids=lambda adapter: adapter.__name__)
def watermarks(request: pytest.FixtureRequest) -> Watermarks:
    return request.param()


async def test_an_offset_is_reached_when_a_higher_one_is_published(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 5})
    assert not await watermarks.reached({0: 5}, 0)
    assert await watermarks.reached({0: 4}, 0)

    await watermarks.publish({0: 6})
    assert await watermarks.reached({0: 5}, 0)


async def test_all_partitions_have_to_be_reached(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 6, 1: 3})
    assert await watermarks.reached({0: 5, 1: 2}, 0)
    assert not await watermarks.reached({0: 5, 1: 3}, 0)
    assert await watermarks.reached({1: 2}, 0)


async def test_a_partition_of_which_nothing_is_known_is_not_reached(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 6})
    assert not await watermarks.reached({0: 5, 7: 0}, 0)
    assert not await watermarks.reached({7: 0}, 0.01)


async def test_nothing_to_wait_for_is_reached(watermarks: Watermarks) -> None:
    assert await watermarks.reached({}, 0)


async def test_watermarks_are_never_lowered(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 6, 1: 1})
    await watermarks.publish({0: 2, 1: 9})
    assert await watermarks.reached({0: 5, 1: 8}, 0)


async def test_those_who_wait_are_told_of_the_publication_that_they_wait_for(watermarks: Watermarks) -> None:
    waiting = [asyncio.ensure_future(watermarks.reached({0: offset, 1: 0}, 3600)) for offset in range(20)]
    await asyncio.sleep(0)
    await watermarks.publish({0: 10})
    await watermarks.publish({1: 1})
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*waiting[:10]) == [True] * 10
    assert not any(each.done() for each in waiting[10:])

    await watermarks.publish({0: 20})
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*waiting[10:]) == [True] * 10


async def test_a_wait_that_is_in_vain_ends(watermarks: Watermarks) -> None:
    await watermarks.publish({0: 5})
    assert not await watermarks.reached({0: 5}, 0.01)


async def test_one_who_gives_up_disturbs_nobody(watermarks: Watermarks) -> None:
    leaving, staying = (asyncio.ensure_future(watermarks.reached({0: 0}, 3600)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await watermarks.publish({0: 1})
    async with asyncio.timeout(PATIENCE_S):
        assert await staying
    with pytest.raises(asyncio.CancelledError):
        await leaving
