"""LocalWatermarks beyond the contract suite."""

from lorestream.adapters.in_process.watermarks import LocalWatermarks


async def test_positions_returns_a_copy_of_the_watermarks() -> None:
    watermarks = LocalWatermarks()
    assert await watermarks.finished() == {}
    published = {0: 5}
    await watermarks.publish(published)
    published[0] = 100
    await watermarks.publish({1: 0, 0: 4})
    assert await watermarks.finished() == {0: 5, 1: 0}
    assert not await watermarks.reached({0: 5}, 0)
