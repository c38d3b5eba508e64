"""Killed servers, and gateways that are down, slow or failing: no event is lost or duplicated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.luanti.server import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.luanti.gateway import RecordingGateway
    from tests.luanti.server import RealServer

EMIT = 'for i = %d, %d do assert(lorestream.emit("trade", "npc:trader", {n = i})) end; return lorestream.status().captured'


def numbers(gateway: RecordingGateway) -> list[int]:
    """The numbers of the events, each id once, in order of arrival."""
    return [int(event["data"]["n"]) for event in gateway.events("trade")]


def emit(server: RealServer, first: int, last: int) -> None:
    """Emit numbered events in the server."""
    server.lua(EMIT % (first, last))


def idle(server: RealServer) -> bool:
    """Whether the spool is empty."""
    return server.lua("return lorestream.status().spooled") == 0


def test_gateway_down_for_a_while(gateway: RecordingGateway, new_server: Callable[..., RealServer]) -> None:
    """Events captured during an outage arrive after it, in order."""
    server = new_server(gateway.url).start()
    emit(server, 1, 10)
    wait_until(lambda: idle(server), what="the first flush")
    gateway.down()
    emit(server, 11, 700)
    wait_until(lambda: server.lua("return lorestream.status().failures") >= 2, what="failures")
    assert server.lua("return lorestream.status().spooled") == 690
    gateway.up()
    wait_until(lambda: idle(server), what="the backlog", seconds=30)
    assert numbers(gateway) == list(range(1, 701))
    assert all(len(body["events"]) <= 200 for body in gateway.bodies("/v1/events"))
    assert server.stop() == 0
    assert list((server.world / "lorestream_spool").iterdir()) == []


@pytest.mark.parametrize("mode", ["500", "429", "401", "lost"])
def test_answers_that_keep_events(
    gateway: RecordingGateway, new_server: Callable[..., RealServer], mode: str
) -> None:
    """After errors, overload, a wrong key, or a lost answer, events are kept and sent again with the same ids."""
    server = new_server(gateway.url).start()
    gateway.mode = mode
    emit(server, 1, 50)
    wait_until(lambda: server.lua("return lorestream.status().failures") >= 2, what="failures")
    assert server.lua("return lorestream.status().spooled") == 50
    gateway.mode = "ok"
    wait_until(lambda: idle(server), what="the flush", seconds=30)
    assert numbers(gateway) == list(range(1, 51))
    if mode == "401":
        assert "set lorestream.api_key = " in server.log_text()
    if mode == "lost":
        assert len(gateway.raw_events()) > 50


def test_slow_gateway(gateway: RecordingGateway, new_server: Callable[..., RealServer]) -> None:
    """Only one request in flight; at a shutdown, events without an answer are left for the next start."""
    gateway.mode, gateway.delay = "slow", 3.0
    server = new_server(gateway.url).start()
    emit(server, 1, 300)
    wait_until(lambda: gateway.in_flight, what="a request")
    emit(server, 301, 320)
    assert server.stop() == 0
    spooled = [int(event["data"]["n"]) for event in server.spooled()]
    assert spooled == list(range(1, 321))
    gateway.mode = "ok"
    server.start()
    wait_until(lambda: idle(server), what="the replay", seconds=30)
    assert sorted(numbers(gateway)) == list(range(1, 321))
    assert gateway.most_in_flight <= 2  # the one that the shutdown cut off may still be counted


def test_killed_server(gateway: RecordingGateway, new_server: Callable[..., RealServer]) -> None:
    """After SIGKILL, with the gateway up or down, the next start sends the remaining events."""
    server = new_server(gateway.url).start()
    first = 1
    for round_number in range(3):
        if round_number == 1:
            gateway.down()
        emit(server, first, first + 249)
        first += 250
        if round_number == 2:
            wait_until(lambda: numbers(gateway)[-1:] and max(numbers(gateway)) > 400, what="a part of it")
        server.kill()
        if round_number == 1:
            assert [int(event["data"]["n"]) for event in server.spooled()][-1] == 500
            gateway.up()
        server.start()
    wait_until(lambda: idle(server), what="the replay", seconds=30)
    assert sorted(numbers(gateway)) == list(range(1, 751))
    assert len({event["id"] for event in gateway.events()}) == 750


def test_final_flush(gateway: RecordingGateway, new_server: Callable[..., RealServer]) -> None:
    """A shutdown before the flush interval sends all events and leaves no file."""
    server = new_server(gateway.url, settings={"lorestream.flush_interval": "60"}).start()
    emit(server, 1, 20)
    assert server.stop() == 0
    assert numbers(gateway) == list(range(1, 21))
    assert list((server.world / "lorestream_spool").iterdir()) == []


def test_rejected_events_do_not_affect_others(
    gateway: RecordingGateway, new_server: Callable[..., RealServer]
) -> None:
    """A rejected event is dropped and logged once; a text that is too long is cut, and nothing that is no event counts."""
    gateway.mode = "reject"
    server = new_server(gateway.url).start()
    server.lua('for _ = 1, 3 do lorestream.emit("bad", "npc:x", {n = 1}) end; return true')
    emit(server, 1, 5)
    server.lua('for _ = 1, 3 do lorestream.put("player:", "nobody") end; return true')
    server.lua('return lorestream.put("npc:x", "a\\0b " .. ("ä"):rep(20000), nil, 0.5)')
    wait_until(lambda: idle(server), what="the flush")
    status = server.lua("return lorestream.status()")
    assert (status["rejected"], status["refused"], status["lost"]) == (3, 3, 3)
    assert status["captured"] == 3 + 5 + 1
    (long,) = (event for event in gateway.events() if "text" in event)
    assert long["text"][:5] == "ab ää"
    assert len(long["text"].encode()) > 16_000
    assert long["metadata"] == {"truncated": True}
    assert long["ttl"] == 1
    assert server.log_text().count("without a name") == 1
    assert server.log_text().count("it is bad") == 1
    assert numbers(gateway) == [1, 2, 3, 4, 5]


def test_losses_are_counted_and_named_over_a_kill(
    gateway: RecordingGateway, new_server: Callable[..., RealServer]
) -> None:
    """A full spool drops digs before trades. A broken line and an event that makes its batch invalid cost no other.

    After a kill the counts are the same, and the file in the world's folder names the reason and the ids of each loss.
    """
    gateway.down()
    server = new_server(gateway.url, settings={"lorestream.spool_limit": "1000"}).start()
    server.lua(
        'for i = 1, 800 do lorestream.emit("dig", "npc:d", {n = i}); lorestream.emit("trade", "npc:t", {n = i}) end return 1'
    )
    wait_until(lambda: server.lua("return lorestream.status().spooled") <= 1000, what="room")
    dropped = server.lua("return lorestream.status().dropped")
    assert dropped == 600
    server.kill()
    (server.world / "lorestream_spool" / "000000000001-aa-00000001.ndjson").write_text(
        '{"id":"aa:1","agent_id":"npc:o","type":"poisoned"},\n'
        '{"id":"aa:2","agent_id":"npc:o","type":},\n'
        '{"id":"aa:3","agent_id":"npc:o","type":"old"},\n'
    )
    gateway.poison = b'"poisoned"'
    server.start()
    dropped += 2  # the two whole lines had no room
    assert server.lua("return lorestream.status().dropped") == dropped
    gateway.up()
    wait_until(lambda: idle(server) and gateway.events("spool_dropped"), what="the report", seconds=30)
    assert numbers(gateway) == list(range(1, 801))
    assert len(gateway.events("old")) == 1
    assert len(digs := gateway.events("dig")) == 800 - dropped
    (report,) = gateway.events("spool_dropped")
    assert report["data"] == {"count": dropped, "types": {"dig": dropped}}
    assert report["agent_id"] == "server:test-1"
    status = server.lua("return lorestream.status()")
    assert (status["lost"], status["rejected"], status["errors"]) == (dropped + 2, 1, 0)
    lost: dict[str, set[str]] = {}
    for line in (server.world / "lorestream_lost.ndjson").read_text().splitlines():
        entry = json.loads(line)
        for boot, ranges in (entry.get("ids") or {}).items():
            for first, _, last in (part.partition("-") for part in ranges.split(",")):
                numbered = range(int(first), int(last or first) + 1)
                lost.setdefault(entry["why"][:12], set()).update(f"{boot}:{number}" for number in numbered)
    assert lost["refused by t"] == {"aa:1"}
    assert lost["unreadable i"] == {"aa:2"}
    assert len(lost["dropped beca"]) == dropped
    assert not lost["dropped beca"] & {event["id"] for event in digs}


def test_without_http(gateway: RecordingGateway, new_server: Callable[..., RealServer]) -> None:
    """Without HTTP permission, the server runs, names the missing line, and keeps the events."""
    server = new_server(gateway.url, http=False, game="devtest").start()
    assert "secure.http_mods = lorestream" in server.log_text()
    emit(server, 1, 30)
    answer = server.lua(
        'lorestream.get("npc:x", "what", 5, nil, function(m, e) done({count = #m, why = e}) end)'
    )
    assert answer == {"count": 0, "why": "no_http"}
    assert server.stop() == 0
    assert len(server.spooled()) == 30
    server.configure({"secure.http_mods": "lorestream"})
    server.start()
    wait_until(lambda: idle(server), what="the replay")
    assert numbers(gateway) == list(range(1, 31))
