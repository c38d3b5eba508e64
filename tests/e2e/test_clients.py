"""Both clients, and LangGraph's store over them, against a real `lorestream up`."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from lorestream.client import AsyncMemoryClient, BadRequest, MemoryClient, NotFound, Rejected
from tests.processes import HASH, running
from tests.scripted_server import BlockingAdapter


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One lorestream for all tests, which use different agents."""
    with running(tmp_path_factory.mktemp("lorestream"), HASH) as process:
        yield process.url


@pytest.fixture(params=[MemoryClient, BlockingAdapter], ids=["threads", "tasks"])
def client(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    with request.param(url) as made:
        yield made


@pytest.fixture
def agent() -> str:
    return f"npc:{uuid.uuid4().hex}"


def test_every_call_of_the_clients(client, agent):
    first = client.add(agent, "pine trees stand north", event={"type": "seen", "importance": 8}, wait_s=10)
    assert first.indexed
    batch = client.add_batch(
        [{"agent_id": agent, "text": f"day {day}", "time": 1000.0 + day} for day in range(3)], wait_s=10
    )
    best = client.search(agent, "pine trees stand north", 2, explain=True, after=batch.token, wait_s=5)
    assert best.fresh
    assert best.memories[0].id == first.ids[0]
    assert best.memories[0].score == pytest.approx(1, abs=1e-3)
    assert client.search(agent, filters={"type": "seen"}).memories[0].text == "pine trees stand north"
    page = client.recent(agent, 2, order="oldest")
    assert ([memory.text for memory in page.memories], page.total) == (["day 0", "day 1"], 4)
    rest = client.recent(agent, 2, order="oldest", cursor=page.next_cursor)
    assert [memory.text for memory in rest.memories] == ["day 2", "pine trees stand north"]
    assert client.get(first.ids[0], agent).importance == 8
    context = client.context(agent, "pine trees stand north", relevant=1, recent=2, token_budget=200)
    assert [memory.id for memory in context.relevant] == [first.ids[0]]
    assert {memory.text for memory in context.recent} <= {"day 1", "day 2"}
    assert "pine trees stand north" in context.text
    assert 0 < context.tokens <= 200
    assert agent in {total.agent_id for total in client.agents(1000)}

    gone = client.delete(first.ids[0], agent)
    assert client.search(agent, after=gone.token, wait_s=5).fresh
    with pytest.raises(NotFound):
        client.get(first.ids[0], agent)
    forgotten = client.forget(agent)
    assert client.search(agent, after=forgotten.token, wait_s=5).memories == []
    deadline = time.monotonic() + 10
    while not client.erasure_done(forgotten):
        assert time.monotonic() < deadline
    assert client.version()
    assert client.ready().ok


def test_a_player_is_erased(client, agent):
    name = uuid.uuid4().hex
    client.add(agent, "somebody came", event={"player": name}, wait_s=10)
    assert client.search(agent, filters={"player": name}).memories
    assert client.search(agent, after=client.forget_player(name).token, wait_s=5).memories == []


def test_invalid_fields_are_named(client, agent):
    with pytest.raises(BadRequest) as caught:
        client.search(agent, "x", filters={"type": {"like": "y"}})
    assert caught.value.code == "invalid_filter"
    assert "type" in caught.value.details["path"]
    assert caught.value.request_id
    with pytest.raises(Rejected):
        client.add(agent, "x" * 20_000)


async def test_many_tasks_write_and_read_what_they_wrote(url, agent):
    async def one(client: AsyncMemoryClient, number: int) -> None:
        receipt = await client.add(agent, f"number {number}")
        answer = await client.search(agent, f"number {number}", 1, after=receipt.token, wait_s=10)
        assert answer.memories[0].id == receipt.ids[0]

    async with AsyncMemoryClient(url, connections=8) as client:
        await asyncio.gather(*(one(client, number) for number in range(50)))
        assert (await client.recent(agent, 1)).total == 50


# --- LangGraph -------------------------------------------------------------------------------------------


@pytest.fixture(params=["batch", "abatch"])
def store(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    """A store whose blocking methods use either client."""
    from lorestream.langgraph import LorestreamStore  # noqa: PLC0415 (an extra)

    if request.param == "batch":
        with MemoryClient(url) as memories:
            yield LorestreamStore(memories)
        return
    with asyncio.Runner() as loop:
        memories = AsyncMemoryClient(url)

        class OverTasks(LorestreamStore):
            def batch(self, ops):
                return loop.run(self.abatch(ops))

        yield OverTasks(asynchronous=memories)
        loop.run(memories.close())


@pytest.fixture
def root() -> str:
    return uuid.uuid4().hex


VALUE = {
    "text": "ein Käfer",
    "number": 3,
    "share": 0.5,
    "whole": 3.0,
    "large": 2**62,
    "yes": True,
    "none": None,
    "list": [1, "a", None, {"b": []}],
    "object": {"empty": {}, "dotted.key": 1, "": 2},
}


def test_get_returns_what_was_put(store, root):
    before = datetime.now(UTC)
    store.put((root, "a"), "key", VALUE)
    item = store.get((root, "a"), "key")
    assert item.value == VALUE
    assert [type(part) for part in item.value.values()] == [type(part) for part in VALUE.values()]
    assert (item.namespace, item.key) == ((root, "a"), "key")
    assert before <= item.created_at <= datetime.now(UTC)
    assert store.get((root, "a"), "other") is None
    assert store.get((root,), "key") is None


def test_put_replace_delete_and_put_again(store, root):
    store.put((root,), "key", {"text": "one"})
    first = store.get((root,), "key")
    store.put((root,), "key", {"text": "two"})
    second = store.get((root,), "key")
    assert second.value == {"text": "two"}
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    assert [item.value for item in store.search((root,))] == [{"text": "two"}]
    store.delete((root,), "key")
    assert store.get((root,), "key") is None
    assert store.search((root,)) == []
    store.delete((root,), "key")
    store.put((root,), "key", {"text": "three"})
    assert store.get((root,), "key").value == {"text": "three"}


def test_a_batch_reads_before_it_writes_and_the_last_put_wins(store, root):
    from langgraph.store.base import GetOp, ListNamespacesOp, PutOp, SearchOp  # noqa: PLC0415 (an extra)

    namespace = (root,)
    store.put(namespace, "a", {"n": 0})
    results = store.batch(
        [
            PutOp(namespace, "a", {"n": 1}),
            GetOp(namespace, "a"),
            PutOp(namespace, "a", {"n": 2}),
            SearchOp(namespace),
            PutOp((root, "b"), "b", {"n": 3}),
            ListNamespacesOp(max_depth=1),
            GetOp(namespace, "none"),
        ]
    )
    assert results[0] is results[2] is results[4] is results[6] is None
    assert results[1].value == {"n": 0}
    assert [item.value for item in results[3]] == [{"n": 0}]
    assert namespace in results[5]
    assert store.get(namespace, "a").value == {"n": 2}
    assert store.get((root, "b"), "b").value == {"n": 3}
    assert store.batch([]) == []


def test_search_ranks_filters_and_covers_namespaces_below(store, root):
    for place, key, value in (
        ((root,), "1", {"text": "pine trees", "kind": "wood", "n": 1}),
        ((root, "x"), "2", {"text": "iron ore", "kind": "stone", "n": 2, "deep": {"er": "a"}}),
        ((root, "x", "y"), "3", {"text": "oak trees", "kind": "wood", "n": 3}),
        ((root + "z",), "4", {"text": "pine trees", "kind": "wood", "n": 4}),
    ):
        store.put(place, key, value, index=["text"])

    def keys(prefix: tuple[str, ...] = (root,), **search: Any) -> list[str]:
        return [item.key for item in store.search(prefix, **search)]

    assert keys() == ["3", "2", "1"]
    assert keys(limit=1, offset=1) == ["2"]
    assert keys((root, "x")) == ["3", "2"]
    assert keys(query="pine trees")[0] == "1"
    assert sorted(keys(query="pine trees", limit=3)) == ["1", "2", "3"]
    assert keys(filter={"kind": "wood"}) == ["3", "1"]
    assert keys(query="pine trees", filter={"kind": "wood"}, limit=1) == ["1"]
    assert keys(filter={"n": {"$gte": 2, "$lt": 3}}) == ["2"]
    assert keys(filter={"n": {"$ne": 2}, "kind": {"$eq": "wood"}}) == ["3", "1"]
    assert keys(filter={"deep": {"er": "a"}}) == ["2"]
    assert keys(("nobody",)) == []
    [best] = store.search((root,), query="pine trees", limit=1)
    assert best.score == pytest.approx(1, abs=1e-3)
    assert store.search((root,), limit=1)[0].score is None


def test_items_that_are_not_indexed_are_found_by_key_only(store, root):
    store.put((root,), "hidden", {"text": "pine trees"}, index=False)
    store.put((root,), "shown", {"text": "pine trees"}, index=["text"])
    assert [item.key for item in store.search((root,), query="pine trees")] == ["shown"]
    assert {item.key for item in store.search((root,))} == {"hidden", "shown"}
    assert store.get((root,), "hidden").value == {"text": "pine trees"}


def test_namespaces_are_listed(store, root):
    for number, labels in enumerate(
        (("a", "b", "c"), ("a", "b", "d", "e"), ("a", "c", "f"), ("b", "a", "f"))
    ):
        store.put((root, *labels), str(number), {"n": number})

    def listed(**options: Any) -> list[tuple[str, ...]]:
        options["prefix"] = (root, *options.get("prefix", ()))
        return [namespace[1:] for namespace in store.list_namespaces(**options)]

    assert listed() == [("a", "b", "c"), ("a", "b", "d", "e"), ("a", "c", "f"), ("b", "a", "f")]
    assert listed(prefix=("a", "b")) == [("a", "b", "c"), ("a", "b", "d", "e")]
    assert listed(prefix=("a", "*", "f")) == [("a", "c", "f")]
    assert listed(suffix=("*", "f")) == [("a", "c", "f"), ("b", "a", "f")]
    assert listed(max_depth=3) == [("a", "b"), ("a", "c"), ("b", "a")]
    assert listed(limit=1, offset=1) == [("a", "b", "d", "e")]


def test_a_ttl_is_kept_in_minutes(store, root, url):
    store.put((root,), "short", {"text": "x"}, ttl=0.02)
    store.put((root,), "long", {"text": "y"})
    with MemoryClient(url) as memories:
        lives = {memory.text: memory.expires_at for memory in memories.recent(root).memories}
    assert None in lives.values()
    deadline = time.monotonic() + 10
    while store.get((root,), "short") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert store.get((root,), "long") is not None


def test_memories_of_a_game_are_found_as_items(store, agent, url):
    with MemoryClient(url) as memories:
        memory_id = memories.add(agent, "a stranger", event={"data": {"n": 1}}, wait_s=10).ids[0]
    [found] = store.search((agent,), query="a stranger", filter={"n": 1})
    assert (found.key, found.value) == (f"lorestream:{memory_id}", {"text": "a stranger", "n": 1})
    assert store.get((agent,), found.key).value == found.value
    store.delete((agent,), found.key)
    assert store.get((agent,), found.key) is None


def test_more_items_than_a_request_holds(store, root):
    from langgraph.store.base import PutOp  # noqa: PLC0415 (an extra)

    store.batch([PutOp((root,), f"{number:03}", {"n": number}) for number in range(150)])
    found = store.search((root,), limit=200)
    assert sorted(item.value["n"] for item in found) == list(range(150))
    store.batch([PutOp((root,), f"{number:03}", None) for number in range(0, 150, 2)])
    assert {item.value["n"] % 2 for item in store.search((root,), limit=200)} == {1}


def test_an_item_that_is_too_large_is_refused_and_the_others_are_kept(store, root):
    from langgraph.store.base import PutOp  # noqa: PLC0415 (an extra)

    store.put((root,), "large", {"text": "small"})
    with pytest.raises(Rejected, match="event_too_large"):
        store.batch([PutOp((root,), "large", {"text": "x" * 20_000}), PutOp((root,), "small", {"text": "x"})])
    assert store.get((root,), "large").value == {"text": "small"}
    assert store.get((root,), "small").value == {"text": "x"}


def test_it_agrees_with_langgraphs_in_memory_store(store, root):
    """Random operations on both stores give the same results, except for the order of equal scores."""
    from langgraph.store.memory import InMemoryStore  # noqa: PLC0415 (an extra)

    chance = random.Random(7)
    reference = InMemoryStore()
    namespaces = [(root, *rest) for rest in ((), ("a",), ("a", "b"), ("b",), ("a*",), ("é:/%",))]
    keys = ["one", "two", "../x", "", "ключ"]
    filters: list[dict[str, Any] | None] = [
        None,
        {"n": 1},
        {"n": {"$gt": 1}},
        {"n": {"$ne": 2}, "o": {"p": "x"}},
    ]

    def both(method: str, *args: Any, **options: Any) -> tuple[Any, Any]:
        return getattr(store, method)(*args, **options), getattr(reference, method)(*args, **options)

    def plain(item: Any) -> Any:
        return item and (item.namespace, item.key, item.value)

    for _ in range(150):
        namespace, key = chance.choice(namespaces), chance.choice(keys)
        match chance.randrange(6):
            case 0 | 1:
                both("put", namespace, key, {"n": chance.randrange(4), "o": {"p": chance.choice("xy")}})
            case 2:
                both("delete", namespace, key)
            case 3:
                mine, theirs = both("get", namespace, key)
                assert plain(mine) == plain(theirs)
            case 4:
                mine, theirs = both("search", namespace, filter=chance.choice(filters), limit=50)
                assert sorted(map(plain, mine), key=repr) == sorted(map(plain, theirs), key=repr)
            case _:
                mine, theirs = both("list_namespaces", prefix=namespace)
                held = {item.namespace for item in reference.search((root,), limit=50)}
                assert mine == [place for place in theirs if place in held]


async def test_concurrent_puts_of_one_key_leave_one_visible(url, root):
    from lorestream.langgraph import LorestreamStore  # noqa: PLC0415 (an extra)

    async with AsyncMemoryClient(url) as memories:
        store = LorestreamStore(asynchronous=memories)
        await asyncio.gather(*(store.aput((root,), "key", {"n": number}) for number in range(10)))
        kept = await store.aget((root,), "key")
        assert [item.value for item in await store.asearch((root,))] == [kept.value]
        await store.aput((root,), "key", {"n": 10})
        assert (await store.aget((root,), "key")).value == {"n": 10}
        assert (await memories.recent(root)).total == 1
