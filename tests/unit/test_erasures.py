"""Deletions over HTTP, including their processing by the worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lorestream import events, tokens
from lorestream.errors import Unavailable
from producers import erasures
from tests.http_gateway import HttpGateway, SetClock, open_http_gateway
from tests.parts import Faulty, open_parts, texts

NOWHERE = "00000000-0000-4000-8000-000000000000"
DAY_S = 86_400.0
TWO_KEYS = "k2:new,k1:old"


async def fill(service: HttpGateway) -> list[str]:
    answer = await service.send(
        {"agent_id": "a", "text": "a1", "player": "Bob"},
        {"agent_id": "a", "text": "a2"},
        {"agent_id": "b", "text": "b1", "player": "Bob"},
        {"agent_id": "player:Bob", "text": "bob1"},
        {"agent_id": "s:player:Bob", "text": "bob2"},
        {"agent_id": "player:Eve", "text": "eve1"},
    )
    await service.new_records()
    return answer["ids"]


async def progress(service: HttpGateway, erasure_id: str) -> dict[str, Any]:
    answer = await service.http.get(f"/v1/erasures/{erasure_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("by_post", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "left"),
    [
        ("/v1/memories/{0}?agent_id=a", {"agent_id": "a", "memory_id": "{0}"}, "a2 b1 bob1 bob2 eve1"),
        ("/v1/memories/{0}?agent_id=b", {"agent_id": "b", "memory_id": "{0}"}, "a1 a2 b1 bob1 bob2 eve1"),
        (
            "/v1/memories/{3}?agent_id=player%3ABob",
            {"agent_id": "player:Bob", "memory_id": "{3}"},
            "a1 a2 b1 bob2 eve1",
        ),
        ("/v1/agents/a", {"agent_id": "a"}, "b1 bob1 bob2 eve1"),
        ("/v1/agents/player:Bob", {"agent_id": "player:Bob"}, "a1 a2 b1 bob2 eve1"),
        ("/v1/players/Bob", {"player": "Bob"}, "a2 eve1"),
        ("/v1/players/nobody", {"player": "nobody"}, "a1 a2 b1 bob1 bob2 eve1"),
        (
            f"/v1/memories/{NOWHERE}?agent_id=a",
            {"agent_id": "a", "memory_id": NOWHERE},
            "a1 a2 b1 bob1 bob2 eve1",
        ),
        (
            "/v1/memories/rubbish?agent_id=a",
            {"agent_id": "a", "memory_id": "rubbish"},
            "a1 a2 b1 bob1 bob2 eve1",
        ),
    ],
)
async def test_a_deletion_removes_exactly_what_it_names(
    tmp_path: Path, path: str, body: dict[str, str], left: str, *, by_post: bool
) -> None:
    async with open_http_gateway(tmp_path, player_key=TWO_KEYS) as service:
        ids = await fill(service)
        await service.index()
        for _ in range(2):
            if by_post:
                filled = {name: value.format(*ids) for name, value in body.items()}
                answer = await service.http.post("/v1/erasures", json=filled)
            else:
                answer = await service.http.delete(path.format(*ids))
            assert answer.status_code == 202, answer.text
            assert set(answer.json()) == {"erasure_id", "token"}
            await service.index()
            assert await service.runtime.watermarks.reached(tokens.parse_token(answer.json()["token"]), 0)
            assert (await progress(service, answer.json()["erasure_id"]))["state"] == "done"
            assert await texts(service.runtime) == left.split()
        await service.send({"agent_id": "a", "text": "a new life", "player": "Bob"})
        await service.index()
        assert "a new life" in await texts(service.runtime)


async def test_an_erasure_names_the_pseudonyms_of_all_keys(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path, player_key=TWO_KEYS) as service:
        names = service.runtime.pseudonyms
        await service.http.delete("/v1/agents/player:Bob")
        await service.http.delete("/v1/players/Bob")
        await service.http.delete(f"/v1/memories/{NOWHERE}?agent_id=player:Bob")
        agent, player, *deletes = await service.new_events()
        assert isinstance(agent, events.Erase)
        assert (agent.kind, agent.subjects) == ("agent", names.agents("default", "player:Bob"))
        assert (player.kind, player.subjects) == ("player", names.players("default", "Bob"))
        assert [each.agent_id for each in deletes] == list(agent.subjects)
        assert [each.memory_id for each in deletes] == [NOWHERE, NOWHERE]
        assert len(agent.subjects) == len(player.subjects) == 2


async def test_progress_is_running_then_done_with_the_expiry_of_log_and_dead_letters(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path, clock=SetClock(1000.0)) as service:
        [memory_id, *_] = await fill(service)
        for path in (f"/v1/memories/{memory_id}?agent_id=a", "/v1/agents/a", "/v1/players/Bob"):
            answer = await service.http.delete(path)
            erasure_id = answer.json()["erasure_id"]
            [*_, written] = await service.new_events()
            log_gone_by = written.accepted_at + 30 * DAY_S
            expected = {
                "erasure_id": erasure_id,
                "state": "running",
                "log_gone_by": pytest.approx(log_gone_by, abs=1e-3),
                "dead_letters_gone_by": pytest.approx(log_gone_by + 14 * DAY_S, abs=1e-3),
            }
            assert await progress(service, erasure_id) == expected
            await service.index()
            assert await progress(service, erasure_id) == {**expected, "state": "done"}
            await service.stop_worker()  # else it would be done with the next one before anybody has asked


async def test_the_state_survives_a_restart(tmp_path: Path) -> None:
    keep = {"kind": "edge"}
    async with open_http_gateway(tmp_path, store=keep) as service:
        asked = [
            (await service.http.delete(path)).json()["erasure_id"]
            for path in (f"/v1/memories/{NOWHERE}?agent_id=a", "/v1/agents/a", "/v1/players/Bob")
        ]
    async with open_http_gateway(tmp_path, store=keep) as service:
        assert [(await progress(service, each))["state"] for each in asked] == ["running"] * 3
        await service.index()
        assert [(await progress(service, each))["state"] for each in asked] == ["done"] * 3


async def test_a_finished_erasure_stays_finished_after_a_restart(tmp_path: Path) -> None:
    keep = {"kind": "edge"}
    async with open_http_gateway(tmp_path, store=keep) as service:
        answers = [
            await service.http.delete("/v1/agents/a"),
            await service.http.delete(f"/v1/memories/{NOWHERE}?agent_id=a"),
        ]
        await service.index()
    async with open_http_gateway(tmp_path, store=keep) as service:
        await service.index()  # as at every start: the worker publishes what is committed
        for answer in answers:
            assert (await progress(service, answer.json()["erasure_id"]))["state"] == "done"


@pytest.mark.parametrize("erasure_id", [NOWHERE, "rubbish", "d1.AAAA", "%00", "w1.vpBhSFtd"])
async def test_an_unknown_erasure_is_not_found(tmp_path: Path, erasure_id: str) -> None:
    async with open_http_gateway(tmp_path) as service:
        answer = await service.http.get(f"/v1/erasures/{erasure_id}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_foreign_erasure_is_not_found(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        deletions = service.gateway.erasures
        for receipt in (
            await deletions.delete_memory("other", "a", NOWHERE),
            await deletions.erase_agent("other", "a"),
        ):
            assert await deletions.progress("other", receipt.erasure_id) is not None
            assert (await service.http.get(f"/v1/erasures/{receipt.erasure_id}")).status_code == 404


async def test_an_invalid_memory_id_writes_nothing(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        answer = await service.http.delete("/v1/memories/not%20a%20uuid?agent_id=a")
        assert answer.status_code == 202
        assert (await progress(service, answer.json()["erasure_id"]))["state"] == "done"
        assert await service.new_records() == []


async def test_memory_ids_are_case_insensitive(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        [first, *_] = await fill(service)
        await service.http.delete(f"/v1/memories/{first.upper()}?agent_id=a")
        [delete] = await service.new_events()
        assert delete.memory_id == first


async def test_ids_in_paths_are_percent_encoded(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        for name in ("npc/1", "ä b", "100%", "a?b#c", "%2F"):
            assert (await service.http.delete(f"/v1/agents/{quote(name, safe='')}")).status_code == 202
            [erase] = await service.new_events()
            assert erase.subjects == (name,)


UNKNOWN = [b'{"agent_id": "a", "memoryid": "x"}', b'{"agent_id": "a", "\xff": 1}']
MISSPELT = [
    b"",
    b"[]",
    b"{}",
    b'{"agent_id": ""}',
    b'{"agent_id": 3}',
    b'{"agent_id": null}',
    b'{"player": ""}',
    b'{"memory_id": "x"}',
    b'{"agent_id": "a", "memory_id": null}',
    b'{"agent_id": "a", "player": "Bob"}',
    b'{"player": "Bob", "memory_id": "x"}',
    *UNKNOWN,
    b'{"agent_id": "\xff"}',
    b'{"agent_id": "%s"}' % (b"a" * 257),
]


@pytest.mark.parametrize("route", ["/v1/erasures", "/memory/delete"])
async def test_a_misspelt_deletion_is_refused(tmp_path: Path, route: str) -> None:
    async with open_http_gateway(tmp_path) as service:
        # Unknown fields of the older route are ignored, as those of an event are.
        for body in MISSPELT if route == "/v1/erasures" else [one for one in MISSPELT if one not in UNKNOWN]:
            answer = await service.http.post(route, content=body)
            assert answer.status_code == 400, answer.text
            assert await service.new_records() == []


WRONG_PATHS = [
    f"/v1/memories/{NOWHERE}",
    f"/v1/memories/{NOWHERE}?agent_id=",
    f"/v1/memories/{NOWHERE}?agent=a",
    f"/v1/memories/{NOWHERE}?agent_id=a&player=Bob",
    "/v1/agents/a?memory_id=x",
    "/v1/players/Bob?agent_id=a",
    "/v1/agents/%FF",
    f"/v1/agents/{'a' * 257}",
    f"/v1/players/{'a' * 257}",
]


async def test_a_deletion_by_a_wrong_path_is_refused(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        for path in WRONG_PATHS:
            answer = await service.http.delete(path)
            assert answer.status_code == 400
            assert await service.new_records() == []


async def test_memory_delete_erases_an_agent_or_a_player(tmp_path: Path) -> None:
    async with open_http_gateway(tmp_path) as service:
        await fill(service)
        for body in ({"agent_id": "a"}, {"player": "Bob"}):
            answer = await service.http.post("/memory/delete", json=body)
            assert (answer.status_code, answer.json()) == (202, {"success": True})
        await service.index()
        assert await texts(service.runtime) == ["eve1"]


async def test_a_hanging_ledger_is_answered_with_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasures, "WRITE_TIMEOUT_S", 0.05)

    class Hanging:
        rewinds = webhooks = None

        async def add(self, _erasure: object) -> None:
            await asyncio.Event().wait()

    hanging: Any = Hanging()
    async with open_http_gateway(tmp_path, ledger=hanging) as service:
        answer = await service.http.delete("/v1/agents/a")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


async def test_no_ledger_entry_when_the_log_is_unavailable(tmp_path: Path) -> None:
    def raise_error(*_: object) -> None:
        raise Unavailable("the disk is full")

    async with open_parts(tmp_path / "other") as other:
        log: Any = Faulty(other.log, append=raise_error)
        ledger: Any = Faulty(other.ledger, add=lambda *_: None)
        async with open_http_gateway(tmp_path, log=log, ledger=ledger) as service:
            for path in ("/v1/agents/a", "/v1/players/Bob", f"/v1/memories/{NOWHERE}?agent_id=a"):
                assert (await service.http.delete(path)).status_code == 503
        assert ledger.calls == []
