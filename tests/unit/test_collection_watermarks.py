"""The watermarks of the active collection: a caller waits no longer than its timeout, whatever the store does."""

from __future__ import annotations

import asyncio

from lorestream.adapters.in_process.watermarks import LocalWatermarks
from lorestream.collections import watermarks
from lorestream.collections.watermarks import ActiveWatermarks
from lorestream.errors import Misconfigured, Unavailable
from tests.own_time import own_time


class Store:
    """Returns the active groups that the test sets; can fail or hang."""

    def __init__(self) -> None:
        self.names = ["one"]
        self.fails: Exception | None = None
        self.hangs = False
        self.lookups = 0
        self.groups: dict[str, LocalWatermarks] = {}

    async def active(self) -> list[str]:
        self.lookups += 1
        await asyncio.sleep(3600 if self.hangs else 0)
        if self.fails is not None:
            raise self.fails
        return self.names

    async def of_group(self, name: str) -> LocalWatermarks:
        await asyncio.sleep(0)
        assert name not in self.groups, "opened twice"
        marks = self.groups[name] = LocalWatermarks()
        await marks.publish({0: 10})
        return marks

    def marks(self) -> ActiveWatermarks:
        return ActiveWatermarks(self.active, self.of_group)


async def test_callers_share_one_lookup() -> None:
    store = Store()
    marks = store.marks()
    assert await asyncio.gather(*(marks.reached({0: 9}, 1.0) for _ in range(20))) == [True] * 20
    assert store.lookups == 1


async def test_a_hanging_store_costs_no_more_than_the_timeout() -> None:
    store = Store()
    store.hangs = True
    marks = store.marks()
    started = own_time()
    assert not any(await asyncio.gather(*(marks.reached({0: 9}, 0.3) for _ in range(5))))
    assert own_time() - started < 1


async def test_while_the_lookup_fails_the_last_group_is_used(monkeypatch) -> None:
    monkeypatch.setattr(watermarks, "CACHE_TTL_S", 0.0)
    store = Store()
    marks = store.marks()
    assert await marks.reached({0: 9}, 0)
    for fault in (Unavailable("away"), Misconfigured("another key")):
        store.fails = fault
        assert await marks.reached({0: 9}, 0)
        assert not await marks.reached({0: 10}, 0)


async def test_after_a_swap_the_group_of_the_new_collection_is_used(monkeypatch) -> None:
    monkeypatch.setattr(watermarks, "CACHE_TTL_S", 0.0)
    store = Store()
    marks = store.marks()
    store.names = []
    assert not await marks.reached({0: 9}, 0.05)
    for names in (["one"], ["two"], ["one"]):
        store.names = names
        assert await marks.reached({0: 9}, 0.05)
    assert set(store.groups) == {"one", "two"}


async def test_during_a_switch_a_write_must_be_finished_in_both_groups(monkeypatch) -> None:
    monkeypatch.setattr(watermarks, "CACHE_TTL_S", 0.0)
    store = Store()
    store.names = ["one", "two"]
    marks = store.marks()
    assert await marks.reached({0: 9}, 0.05)
    await store.groups["one"].publish({0: 11})
    assert not await marks.reached({0: 10}, 0.05)
    await store.groups["two"].publish({0: 11})
    assert await marks.reached({0: 10}, 0.05)
