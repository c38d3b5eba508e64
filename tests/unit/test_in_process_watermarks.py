"""What is special to the watermarks of one process."""

from lorestream.adapters.in_process.watermarks import LocalWatermarks


async def test_the_positions_can_be_seen_but_not_changed_from_outside() -> None:
    watermarks = LocalWatermarks()
    assert watermarks.positions() == {}
    published = {0: 5}
    await watermarks.publish(published)
    published[0] = 100
    await watermarks.publish({1: 0, 0: 4})
    assert watermarks.positions() == {0: 5, 1: 0}
    assert not await watermarks.reached({0: 5}, 0)
