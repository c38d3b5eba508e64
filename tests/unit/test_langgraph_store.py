"""LangGraph's store over the whole application: versions, player namespaces, stored memories of any shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import pytest
from langgraph.store import base

from lorestream.client import AsyncMemoryClient
from lorestream.langgraph import LorestreamStore, items, versions
from tests.whole_app import WholeApp, open_app

SPACE = ("npc", "smith")
TEXT = "iron ore in the hills"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[WholeApp]:
    async with open_app(tmp_path) as opened:
        yield opened


@pytest.fixture
async def memories(app: WholeApp) -> AsyncIterator[AsyncMemoryClient]:
    async with app.client() as client:
        yield client


@pytest.fixture
def store(memories: AsyncMemoryClient) -> LorestreamStore:
    return LorestreamStore(asynchronous=memories)


async def put_all(store: LorestreamStore, *numbers: int, **value: Any) -> None:
    await store.abatch(
        [base.PutOp(SPACE, f"k{number:02}", {"n": number, "text": TEXT, **value}) for number in numbers]
    )


async def add_versions(memories: AsyncMemoryClient, *numbers: int, **value: Any) -> None:
    """What a concurrent put leaves: a newer version beside the one that is there."""
    added = [
        items.event(base.PutOp(SPACE, f"k{number:02}", {"n": number, "text": TEXT, **value}), ("$",))
        for number in numbers
    ]
    assert (await memories.add_batch(added, wait_s=30)).indexed


# --- versions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [None, TEXT])
async def test_limit_and_offset_count_items_and_not_their_versions(
    store: LorestreamStore, memories: AsyncMemoryClient, query: str | None
) -> None:
    await put_all(store, *range(30), v=1)
    for version in (2, 3):
        await add_versions(memories, 3, 4, 17, v=version)
    pages = [await store.asearch(SPACE, query=query, limit=10, offset=offset) for offset in (0, 10, 20, 30)]
    assert [len(page) for page in pages] == [10, 10, 10, 0]
    found = {item.key: item.value["v"] for page in pages for item in page}
    assert found == {f"k{number:02}": 3 if number in {3, 4, 17} else 1 for number in range(30)}


@pytest.mark.parametrize("query", [None, TEXT])
async def test_a_filter_sees_no_version_that_was_replaced(
    store: LorestreamStore, memories: AsyncMemoryClient, query: str | None
) -> None:
    await put_all(store, *range(6), colour="red")
    await add_versions(memories, 2, colour="blue")
    await add_versions(memories, 3, colour="red", again=True)

    async def found(colour: str, limit: int = 10) -> list[tuple[str, bool]]:
        shown = await store.asearch(SPACE, query=query, filter={"colour": colour}, limit=limit)
        return sorted((item.key, "again" in item.value) for item in shown)

    assert await found("red") == [
        ("k00", False),
        ("k01", False),
        ("k03", True),
        ("k04", False),
        ("k05", False),
    ]
    assert await found("blue") == [("k02", False)]
    assert len(await found("red", limit=5)) == 5


@pytest.mark.parametrize(
    "wanted",
    [{}, {"filter": {"of": "me"}}, {"query": TEXT}, {"query": TEXT, "filter": {"of": "me"}}],
    ids=["all", "filter", "query", "query and filter"],
)
async def test_a_put_between_any_two_requests_of_a_search_hides_no_item(
    app: WholeApp, store: LorestreamStore, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "PAGE_SIZE", 4)
    await put_all(store, *range(10), of="me")

    async def put() -> None:
        await put_all(store, 0, of="me")  # the oldest, which a walk over pages reaches last

    async with _Interrupted(app, put) as interrupted:
        for at in range(20):
            interrupted.sent, interrupted.at = 0, at
            shown = await LorestreamStore(asynchronous=interrupted.client).asearch(SPACE, limit=10, **wanted)
            assert sorted(item.key for item in shown) == [f"k{one:02}" for one in range(10)], at
            if interrupted.sent <= at:
                break
        assert at > 1


class _Interrupted:
    """A client that runs `interrupt` before its request number `at`; `sent` counts them."""

    def __init__(self, app: WholeApp, interrupt: Callable[[], Awaitable[None]]) -> None:
        self.client = app.client()
        self.sent = self.at = 0
        self._send, self._interrupt = self.client.send, interrupt
        self.client.send = self._counted  # type: ignore[method-assign]

    async def _counted(self, call: Any) -> Any:
        if self.sent == self.at:
            await self._interrupt()
        self.sent += 1
        return await self._send(call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.client.close()


async def test_the_same_keys_in_many_namespaces_are_told_apart(
    store: LorestreamStore, memories: AsyncMemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "MAX_HITS", 5)  # the look-ups of versions fill their answers
    spaces = [("town", f"house{number}") for number in range(6)]
    await store.abatch([base.PutOp(space, key, {"v": 1}) for space in spaces for key in ("a", "b")])
    newer = [items.event(base.PutOp(spaces[0], "a", {"v": number}), ("$",)) for number in range(2, 9)]
    assert (await memories.add_batch(newer, wait_s=30)).indexed
    shown = await store.asearch(("town",), filter={"v": {"$gt": 0}}, limit=20)
    assert {(item.namespace, item.key): item.value["v"] for item in shown} == {
        (space, key): 8 if (space, key) == (spaces[0], "a") else 1 for space in spaces for key in ("a", "b")
    }


# --- namespaces of players -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "space"),
    [
        (("player:zed",), ("player:zed", "memories")),
        (("player:zed", "memories"), ("player:zed", "memories", "old")),
        (("game", "inner:player:zed"), ("game", "inner:player:zed", "notes")),
        (("game",), ("game", "player:zed")),
    ],
)
async def test_the_namespace_of_a_player_is_found_from_above_and_erased_with_the_player(
    app: WholeApp, store: LorestreamStore, prefix: tuple[str, ...], space: tuple[str, ...]
) -> None:
    other = tuple(label.replace("zed", "amy") for label in space)
    await store.aput(space, "k", {"text": TEXT, "whose": "zed"})
    await store.aput(other, "k", {"text": TEXT, "whose": "amy"})
    expected = {"zed"} if "zed" in str(prefix) else {"zed", "amy"}
    for query in (None, TEXT):
        shown = await store.asearch(prefix, query=query)
        assert {item.value["whose"] for item in shown} == expected
        if len(expected) == 1:
            assert [item.namespace for item in shown] == [space]
    assert (await store.aget(space, "k")).value["whose"] == "zed"
    assert space in await store.alist_namespaces(prefix=space[:2])
    assert await store.alist_namespaces(suffix=("player:nobody", space[-1])) == []
    assert len(await store.alist_namespaces()) == 2
    assert len(await store.asearch(())) == 2
    listed = (await app.ask("GET", "/v1/agents"))["agents"]
    assert not any("zed" in agent["agent_id"] for agent in listed)
    await app.erase(player="zed")
    assert await store.aget(space, "k") is None
    assert [item.value["whose"] for item in await store.asearch(())] == ["amy"]
    assert await store.alist_namespaces(prefix=space[:2]) == ([] if "zed" in str(space[:2]) else [other])


async def test_a_namespace_names_one_player(store: LorestreamStore) -> None:
    with pytest.raises(base.InvalidNamespaceError, match="one label of a player"):
        await store.aput(("player:zed", "player:amy"), "k", {"a": 1})


# --- stored memories of any shape ------------------------------------------------------------------------


async def test_a_stored_memory_of_any_shape_is_no_error(app: WholeApp, store: LorestreamStore) -> None:
    await store.aput(SPACE, "k", {"text": TEXT})
    no_items = [{"key": ["k"]}, {"key": {"a": 1}}, {"key": 7}, {"key": None}, {"key": "lorestream:x"}]
    no_items += [{"created_at": 1.0}, ["key"], "key", 7]
    odd_times = ["x", True, 1e300, -(2**62)]
    stored = [*no_items, *({"key": f"odd{n}", "created_at": time} for n, time in enumerate(odd_times))]
    ids = await app.write(
        *(
            {"agent_id": "npc.smith", "type": "langgraph", "text": TEXT, "metadata": {"langgraph": fields}}
            for fields in stored
        )
    )
    keys = {"k", *(f"lorestream:{one}" for one in ids[: len(no_items)]), "odd0", "odd1", "odd2", "odd3"}
    assert {item.key for item in await store.asearch(SPACE, limit=100)} == keys
    assert {item.key for item in await store.asearch(SPACE, query=TEXT, limit=100)} == keys
    assert [item.key for item in await store.asearch(SPACE, filter={"text": TEXT})] == ["k"]
    for value in ({"text": TEXT}, {"text": "two"}):
        assert (await store.aget(SPACE, "k")).value == value
        await store.aput(SPACE, "k", {"text": "two"})
    assert {item.key for item in await store.asearch(SPACE, limit=100)} == keys


async def test_records_and_documents_are_no_items_and_stay_when_an_item_is_deleted(
    app: WholeApp, store: LorestreamStore
) -> None:
    await store.aput(SPACE, "k", {"text": TEXT})
    await app.write(
        {"agent_id": "npc.smith", "type": "reward", "data": {"value": 1}},
        {"agent_id": "npc.smith", "type": "tool", "text": TEXT, "data": {"tool": "forge"}},
        {"agent_id": "npc.other", "type": "reward", "data": {"value": 1}},
    )
    document = "/v1/entities/notes/npc.smith"
    await app.ask("PUT", document, params={"wait": "applied"}, json={"data": {"text": TEXT}})
    for query in (None, TEXT):
        assert [item.key for item in await store.asearch(SPACE, query=query)] == ["k"]
    assert await store.asearch(SPACE, filter={"value": 1}) == []
    assert await store.alist_namespaces() == [SPACE]
    await store.adelete(SPACE, "k")
    assert await store.asearch(SPACE) == []
    records = await app.ask("GET", "/v1/agents/npc.smith/memories", params={"type": "reward"})
    assert records["total"] == 1
    assert (await app.ask("GET", document))["version"] == 1
