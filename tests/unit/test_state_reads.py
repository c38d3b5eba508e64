"""The routes that read documents, Q-tables and policies, in the application of `lorestream up`."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import pytest_asyncio

from lorestream.memories import AgentKey, Erasure, SubjectKind
from lorestream.state import policies
from lorestream.state.documents import decode, document_key
from query_service.state import policies as query_policies
from query_service.state.documents import CURRENT
from query_service.state.rows import VisibleRows
from tests.whole_app import WholeApp, open_app

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEPT = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeApp]:
    data = tmp_path_factory.mktemp("lorestream")
    async with open_app(data, state={"keep_versions": KEPT}, player_key="k2:new,k1:old") as opened:
        yield opened


def document(agent: str, type_: str = "character") -> str:
    return f"/v1/entities/{type_}/{quote(agent, safe='')}"


async def write(app: WholeApp, method: str, path: str, **sent: Any) -> dict[str, Any]:
    """A write that is applied; its answer."""
    answer = await app.ask(method, path, params={"wait": "applied", **sent.pop("params", {})}, **sent)
    assert answer["applied"]
    return answer


async def refused(app: WholeApp, path: str, **params: Any) -> tuple[int, str]:
    answer = await app.http.get(path, params=params)
    return answer.status_code, answer.json()["error"]["code"]


async def erased_but_not_applied(app: WholeApp, agent: str) -> None:
    """An erasure of everything up to now that the ledger has, and that no worker has applied."""
    await app.runtime.ledger.add(
        Erasure(f"of {agent}", "default", SubjectKind.AGENT, (agent,), app.runtime.clock.now() + 60)
    )


# --- documents -------------------------------------------------------------------------------------------


async def test_a_batch_reads_documents_contexts_and_memories_each_on_its_own(app: WholeApp) -> None:
    agent = "npc:all"
    await write(app, "PUT", document(agent), json={"data": {"name": "Ada"}})
    await write(app, "PUT", document(agent), json={"data": {"name": "Eva"}})
    event = {"agent_id": agent, "text": "it rained on the barn"}
    await app.ask("POST", "/v1/events?wait=indexed", json={"server": "s", "events": [event]})
    context = {"query": "rain", "include_state": True}
    batch = {
        "searches": [{"agent_id": agent, "query": "rain"}],
        "contexts": [{"agent_id": agent, **context}, {"agent_id": agent, "recent": -1}],
        "entities": [
            {"type": "character", "id": agent},
            {"type": "character", "id": agent, "version": 1.0},
            {"type": "mood", "id": agent},
            {"type": "character", "id": agent, "version": 1, "at": 5.0},
            {"type": "character", "id": agent, "after": "no token"},
        ],
    }
    answer = await app.ask("POST", "/v1/memories/search/batch", json=batch)
    assert [one["text"] for one in answer["results"][0]["memories"]] == [event["text"]]
    alone = await app.ask("POST", f"/v1/agents/{quote(agent)}/context", json=context)
    assert (answer["contexts"][0]["cache"], alone["cache"]) == ("miss", "hit")
    assert answer["contexts"][0] | {"cache": "", "took_ms": 0} == alone | {"cache": "", "took_ms": 0}
    assert answer["contexts"][1]["error"]["details"]["path"] == "recent"
    assert answer["entities"][0] == await app.ask("GET", document(agent))
    assert answer["entities"][1]["data"] == {"name": "Ada"}
    codes = [one["error"]["code"] for one in answer["entities"][2:]]
    assert codes == ["not_found", "invalid_request", "invalid_token"]
    many = {"searches": batch["searches"] * 32, "contexts": batch["contexts"] * 16, "entities": [{}]}
    refusal = await app.http.post("/v1/memories/search/batch", json=many)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "invalid_request")
    for empty in ({"searches": []}, {"searches": None, "contexts": None, "entities": None}):
        assert (await app.ask("POST", "/v1/memories/search/batch", json=empty)) == {"results": []}


async def test_a_document_is_read_as_it_is_as_it_was_and_by_version(app: WholeApp) -> None:
    path, seen = document("npc:smith"), []
    for n in range(1, 5):
        await write(app, "PUT", path, json={"data": {"n": n}, "tick": n})
        seen.append(await app.ask("GET", path))
    now = seen[-1]
    assert now == {
        "type": "character",
        "id": "npc:smith",
        "version": 4,
        "data": {"n": 4},
        "tick": 4.0,
        "created_at": now["created_at"],
        "updated_at": now["updated_at"],
        "fresh": True,
    }
    assert [one["version"] for one in seen] == [1, 2, 3, 4]
    assert {one["created_at"] for one in seen} == {seen[0]["updated_at"]}
    for version in (2, 3, 4):
        assert await app.ask("GET", path, params={"version": version}) == seen[version - 1]
        at = seen[version - 1]["updated_at"]
        assert await app.ask("GET", path, params={"at": at}) == seen[version - 1]
    assert await refused(app, path, version=1) == (410, "version_gone")
    assert await refused(app, path, at=seen[0]["updated_at"]) == (410, "version_gone")
    assert await refused(app, path, version=5) == (404, "not_found")
    assert await refused(app, path, version=10**30) == (404, "not_found")
    assert await refused(app, document("npc:smith", "other")) == (404, "not_found")
    assert await refused(app, document("npc:other")) == (404, "not_found")


async def test_a_deleted_document_is_absent_and_its_older_versions_stay(app: WholeApp) -> None:
    path = document("npc:baker")
    await write(app, "PUT", path, json={"data": {"n": 1}})
    first = await app.ask("GET", path)
    assert await refused(app, path, at=first["created_at"] - 1) == (404, "not_found")
    await write(app, "DELETE", path)
    assert await refused(app, path) == (404, "not_found")
    assert await refused(app, path, version=2) == (404, "not_found")
    assert await app.ask("GET", path, params={"version": 1}) == first
    assert (await app.ask("GET", "/v1/entities/character", params={"prefix": "npc:baker"}))["entities"] == []
    await write(app, "PUT", path, json={"data": {"n": 3}})
    assert (await app.ask("GET", path))["version"] == 3
    versions = (await app.ask("GET", f"{path}/versions"))["versions"]
    assert [(one["version"], one["deleted"], one["data"]) for one in versions] == [
        (3, False, {"n": 3}),
        (2, True, None),
        (1, False, {"n": 1}),
    ]


async def test_versions_are_listed_page_by_page_the_newest_first(app: WholeApp) -> None:
    path = document("npc:miner")
    for n in range(1, 6):
        await write(app, "PUT", path, json={"data": {"n": n}})
    page = await app.ask("GET", f"{path}/versions", params={"limit": 2})
    assert [one["version"] for one in page["versions"]] == [5, 4]
    await write(app, "PUT", path, json={"data": {"n": 6}})
    page = await app.ask("GET", f"{path}/versions", params={"limit": 2, "cursor": page["next_cursor"]})
    assert ([one["version"] for one in page["versions"]], page["next_cursor"]) == ([], None)  # 3 was removed
    page = await app.ask("GET", f"{path}/versions", params={"limit": 3})
    assert ([one["version"] for one in page["versions"]], page["next_cursor"]) == ([6, 5, 4], None)
    assert await refused(app, f"{document('npc:nobody')}/versions") == (404, "not_found")


async def test_what_became_of_a_write(app: WholeApp) -> None:
    path = document("npc:carter")
    await write(app, "PUT", path, json={"data": {}, "event_id": "a/1"})
    lost = await app.http.put(path, json={"data": {}, "event_id": "b", "if_version": 7})
    params = {"after": lost.json()["token"], "wait_ms": 10_000}
    assert await app.ask("GET", f"{path}/writes/b", params=params) == {
        "applied": False,
        "code": "version_conflict",
        "current": 1,
    }
    assert await app.ask("GET", f"{path}/writes/a%2F1") == {"applied": True, "version": 1}
    unknown = await app.http.get(f"{path}/writes/c")
    assert (unknown.status_code, unknown.json()["error"]["details"]) == (404, {"fresh": True})


async def test_documents_of_a_type_are_listed_by_id(app: WholeApp) -> None:
    agents = [f"npc:{n:02}" for n in range(7)]
    for agent in [*agents, "zoo", "player:ann"]:
        await write(app, "PUT", document(agent, "card"), json={"data": {"of": agent}})
    found: list[str] = []
    params: dict[str, Any] = {"prefix": "npc:", "limit": 3}
    while True:
        page = await app.ask("GET", "/v1/entities/card", params=params)
        assert len(page["entities"]) <= 3
        found += [one["data"]["of"] for one in page["entities"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert found == agents
    everything = await app.ask("GET", "/v1/entities/card")
    ids = [one["id"] for one in everything["entities"]]
    assert ids == sorted(ids)
    assert len(ids) == 9
    # A player's name is shown as it is stored, and that form is accepted: it is the one with the oldest key.
    [stored] = [one for one in ids if one.startswith("player:")]
    assert stored.startswith("player:k1:")
    by_name = await app.ask("GET", document("player:ann", "card"))
    assert by_name["id"] == "player:ann"
    assert await app.ask("GET", document(stored, "card")) == {**by_name, "id": stored}
    assert await refused(app, "/v1/entities/other", cursor=params["cursor"]) == (400, "invalid_cursor")


async def test_pages_of_large_documents_end_early_and_lose_none(app: WholeApp) -> None:
    large = "x" * 250_000
    for n in range(18):
        await write(app, "PUT", document(f"big:{n:02}", "large"), json={"data": {"n": n, "text": large}})
    first = await app.ask("GET", "/v1/entities/large")
    assert [one["data"]["n"] for one in first["entities"]] == list(range(17))
    rest = await app.ask("GET", "/v1/entities/large", params={"cursor": first["next_cursor"]})
    assert ([one["data"]["n"] for one in rest["entities"]], rest["next_cursor"]) == ([17], None)


async def test_a_document_comes_from_the_cache_until_it_changes(app: WholeApp) -> None:
    path = document("npc:cook")
    await write(app, "PUT", path, json={"data": {"n": 1}})
    hits = app.runtime.metrics.cache_requests.labels("hit")
    for n in (2, 3, 4):
        first, before = await app.ask("GET", path), hits._value.get()
        assert await app.ask("GET", path) == first
        assert hits._value.get() == before + 1
        await write(app, "PATCH", path, json={"data": {"n": n}})
        assert (await app.ask("GET", path))["data"] == {"n": n}


async def test_the_character_is_part_of_the_context(app: WholeApp) -> None:
    agent, path = "npc:hilda", "/v1/agents/npc:hilda/context"
    await app.write({"agent_id": agent, "text": "iron lies in the cave"})
    without = await app.ask("POST", path, json={"query": "iron", "include_state": True})
    assert without["state"] is None
    assert without["text"].endswith("iron lies in the cave")
    data = {
        "mood": {"joy": 0.5, "calm": True},
        "goals": ["find iron", "sleep\nwell"],
        "name": "Hilda",
        "spouse": None,
    }
    await write(app, "PUT", document(agent), json={"data": data, "tick": 5})
    answer = await app.ask("POST", path, json={"query": "iron"})
    shown = await app.ask("GET", document(agent))
    assert answer["state"] == {name: value for name, value in shown.items() if name != "fresh"}
    assert (answer["text"], answer["tokens"]) == (without["text"], without["tokens"])
    answer = await app.ask("POST", path, json={"query": "iron", "include_state": True})
    assert answer["text"].splitlines()[:-1] == [
        "Name: Hilda",
        "Goals: find iron; sleep well",
        "Mood: joy 0.5, calm yes",
    ]
    assert answer["text"].endswith(without["text"])
    assert answer["tokens"] > without["tokens"]
    small = await app.ask("POST", path, json={"query": "iron", "include_state": True, "token_budget": 5})
    assert small["text"] == "Name: Hilda"
    assert small["tokens"] <= 5
    await write(app, "DELETE", document(agent))
    assert (await app.ask("POST", path, json={"query": "iron"}))["state"] is None


# --- Q-tables --------------------------------------------------------------------------------------------


async def test_values_of_states_and_pages_of_a_table(app: WholeApp) -> None:
    updates = [{"state": f"s{n}", "action": "dig", "op": "set", "value": n / 2} for n in range(150)]
    updates += [{"state": "s1", "action": "w", "op": "add", "value": 1}] * 2
    written = await app.ask("POST", "/v1/q/npc:digger/update", json={"updates": updates, "event_id": "u"})
    waiting = {"after": written["token"], "wait_ms": 10_000}
    body = {"states": ["s1", "unknown", "s1", "s2"], **waiting}
    s1 = {"dig": {"q": 0.5, "n": 1}, "w": {"q": 2.0, "n": 2}}
    assert await app.ask("POST", "/v1/q/npc:digger/values", json=body) == {
        "values": {"s1": s1, "s2": {"dig": {"q": 1.0, "n": 1}}},
        "fresh": True,
    }
    assert await app.ask("GET", "/v1/q/npc:digger/writes/u") == {"applied": True}
    found: dict[str, Any] = {}
    params: dict[str, Any] = {"limit": 100}
    for _ in range(2):
        page = await app.ask("GET", "/v1/q/npc:digger", params=params)
        assert not found.keys() & page["values"].keys()
        found |= page["values"]
        params["cursor"] = page["next_cursor"]
    assert page["next_cursor"] is None
    assert found["s1"] == s1
    assert found.keys() == {f"s{n}" for n in range(150)}
    for path in ("/v1/q/npc:other", "/v1/q/npc:digger?table=other"):
        assert await app.ask("GET", path) == {"values": {}, "next_cursor": None, "fresh": True}


# --- policies --------------------------------------------------------------------------------------------


async def test_a_policy_is_read_whole_with_its_etag_and_versions(app: WholeApp) -> None:
    path, first, second = "/v1/policies/npc:driver", b"\x00\xff" * 300_000, b"second"
    params = {"format": "raw"}
    for content in (first, second):
        await write(app, "PUT", path, content=content, params=params)
    answer = await app.http.get(path, params={"version": 1})
    digest = hashlib.sha256(first).hexdigest()
    assert answer.content == first
    wanted = {
        "content-type": "application/octet-stream",
        "content-length": "600000",
        "etag": f'"{digest}"',
        "x-lorestream-version": "1",
        "x-lorestream-format": "raw",
        "x-lorestream-fresh": "true",
    }
    assert wanted.items() <= dict(answer.headers).items()
    assert (await app.http.get(path)).content == second
    for tag, status in ((f'"{digest}"', 304), (f'"x", W/"{digest}"', 304), ("*", 304), ('"x"', 200)):
        known = await app.http.get(path, params={"version": 1}, headers={"If-None-Match": tag})
        assert (known.status_code, len(known.content)) == (status, 0 if status == 304 else len(first))
    await write(app, "POST", f"{path}/rollback", json={"to": 1, "event_id": "back"})
    answer = await app.http.get(path)
    assert (answer.content, answer.headers["x-lorestream-version"]) == (first, "3")
    assert await app.ask("GET", f"{path}/writes/back") == {"applied": True, "version": 3}
    listed = (await app.ask("GET", f"{path}/versions"))["versions"]
    assert [(one["version"], one["size"], one["format"]) for one in listed] == [
        (3, 600_000, "raw"),
        (2, 6, "raw"),
        (1, 600_000, "raw"),
    ]
    assert {listed[0]["sha256"], listed[2]["sha256"]} == {digest}
    await write(app, "DELETE", path)
    assert await refused(app, path) == (404, "not_found")
    assert await refused(app, path, name="other") == (404, "not_found")
    assert await refused(app, "/v1/entities/policy:main/npc:driver") == (400, "invalid_request")


async def test_memory_is_taken_for_the_version_that_is_read(app: WholeApp) -> None:
    """Here the version that was found is replaced before its parts are read."""
    path, agent = "/v1/policies/npc:racer", AgentKey("default", "npc:racer")
    rows = VisibleRows(app.runtime.store, app.runtime.ledger)
    await write(app, "PUT", path, content=b"first", params={"format": "raw"})
    first = await query_policies.find(rows, agent, "main")
    for _ in range(KEPT):
        await write(app, "PUT", path, content=b"the last one", params={"format": "raw"})
    taken: list[int] = []
    read = await query_policies.read(rows, agent, "main", CURRENT, first, take=taken.append)
    assert (read[1], taken) == ([b"the last one"], [5, 12])


async def test_a_policy_whose_parts_are_missing_is_not_shown_in_part(app: WholeApp) -> None:
    path = "/v1/policies/npc:pilot"
    await write(app, "PUT", path, content=b"x" * 600_000, params={"format": "raw"})
    store = app.runtime.store
    [row] = await store.rows([document_key("default", "npc:pilot", policies.policy_type("main"))])
    manifest = policies.manifest_of(decode(row))
    parts = policies.part_keys("default", "npc:pilot", "main", manifest)
    [last] = await store.rows(parts[-1:])
    await store.delete_rows(parts[-1:], log=last.log, offset=last.offset)
    assert await refused(app, path) == (410, "version_gone")


# --- erasures and bad requests ---------------------------------------------------------------------------


async def test_nothing_is_shown_that_a_known_erasure_covers(app: WholeApp) -> None:
    agent = "npc:ghost"
    path = document(agent, "haunt")
    for n in (1, 2):
        await write(app, "PUT", path, json={"data": {"n": n}, "event_id": f"{n}"})
    await write(app, "PUT", document(agent), json={"data": {"name": "Ghost"}})
    await write(app, "PUT", f"/v1/policies/{agent}", content=b"x", params={"format": "raw"})
    q = f"/v1/q/{agent}"
    update = {"state": "s", "action": "a", "op": "set", "value": 1}
    await write(app, "POST", f"{q}/update", json={"updates": [update]})
    await erased_but_not_applied(app, agent)
    for gone in (path, f"{path}/versions", f"{path}/writes/1", f"/v1/policies/{agent}"):
        assert await refused(app, gone) == (404, "not_found")
    assert (await app.ask("GET", "/v1/entities/haunt"))["entities"] == []
    assert (await app.ask("GET", q))["values"] == {}
    assert (await app.ask("POST", f"{q}/values", json={"states": ["s"]}))["values"] == {}
    assert (await app.ask("POST", f"/v1/agents/{agent}/context", json={}))["state"] is None


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/entities/Bad/a", "type"),
        ("/v1/entities/bad%0A/a", "type"),
        (f"/v1/entities/t/{'x' * 257}", "id"),
        ("/v1/entities/t/a?version=0", "version"),
        ("/v1/entities/t/a?version=x", "version"),
        ("/v1/entities/t/a?at=nan", "at"),
        ("/v1/entities/t/a?at=1&version=1", "at"),
        ("/v1/entities/t/a?wait_ms=-1", "wait_ms"),
        ("/v1/entities/t/a?after=w1.x", "after"),
        ("/v1/entities/t/a?since=1", "since"),
        ("/v1/entities/t/a/versions?limit=0", "limit"),
        ("/v1/entities/t/a/versions?cursor=c", "cursor"),
        (f"/v1/entities/t/a/writes/{'x' * 257}", "event_id"),
        ("/v1/entities/t?limit=1001", "limit"),
        ("/v1/entities/T", "type"),
        ("/v1/q/a?table=", "table"),
        ("/v1/q/a?cursor=c", "cursor"),
        ("/v1/policies/a?name=", "name"),
        ("/v1/policies/a?version=1.5", "version"),
    ],
)
async def test_a_bad_request_names_the_field(app: WholeApp, path: str, field: str) -> None:
    answer = await app.http.get(path)
    assert (answer.status_code, answer.json()["error"]["details"]["path"]) == (400, field), answer.text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"states": []}, "states"),
        ({"states": ["s"] * 1001}, "states"),
        ({"states": [""]}, "states[0]"),
        ({"states": ["s"], "table": ""}, "table"),
        ({"states": ["s"], "after": "x"}, "after"),
        ({"states": ["s"], "tabel": "q"}, "tabel"),
    ],
)
async def test_a_bad_body_names_the_field(app: WholeApp, body: dict[str, Any], field: str | None) -> None:
    answer: httpx2.Response = await app.http.post("/v1/q/a/values", json=body)
    assert answer.status_code == 400, answer.text
    if field is not None:
        assert answer.json()["error"]["details"]["path"] == field
