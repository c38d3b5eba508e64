"""lorestream.get, recall, context and forget in a real server: exactly one callback each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.luanti.server import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.luanti.gateway import RecordingGateway
    from tests.luanti.server import RealServer

ASK = """
local calls = 0
lorestream.get("npc:a", "trees", 3, {type = "dig"}, function(memories, err)
    calls = calls + 1
    core.after(0.5, function() done({count = #memories, why = err or "", calls = calls}) end)
end)
"""
# The number of steps from each question to its answer. All are asked in one step.
MANY = """
local answers, asked = {}, lorestream.status().step.count
local function count()
    return function(_, err)
        answers[#answers + 1] = err or lorestream.status().step.count - asked
        if #answers == 52 then
            done(answers)
        end
    end
end
for n = 1, 50 do
    lorestream.get("npc:" .. n, "wood", 5, nil, count())
end
lorestream.recall("npc:1", {query = "wood", k = 5}, count())
lorestream.context("npc:1", {query = "wood"}, count())
"""
STATE = """
local mood = lorestream.state("npc:a", "mood")
mood:put({calm = true, fears = {}}, function(first)
    mood:patch({calm = lorestream.null}, function(second)
        mood:get(function(document)
            memory.put("npc:a", "it rains", nil, nil, function(receipt)
                memory.get("npc:a", "rain", 5, nil, function(memories)
                    done({first.version, first.version + second.version, document.data.seen, receipt, #memories})
                end)
            end)
        end)
    end)
end)
"""
WRONG = """
local answers, deep = {}, {}
for _ = 1, 20 do
    deep = {deep}
end
local function hear(_, err)
    answers[#answers + 1] = err
end
lorestream.get(nil, "x", 5, nil, hear)
lorestream.context("npc:a", 5, hear)
lorestream.recall("npc:a", {agent_ids = {}}, hear)
lorestream.recall("npc:a", {query = "x", filters = deep}, hear)
local _, why = lorestream.recall("npc:a", "x")
core.after(0.3, function()
    answers[#answers + 1] = why
    done(answers)
end)
"""


def test_requests_and_answers_follow_the_contract(
    gateway: RecordingGateway, new_server: Callable[..., RealServer]
) -> None:
    """Requests and callback arguments are those of the contract."""
    gateway.memories = [
        {"id": "1", "text": "I dug a tree", "score": 0.8, "metadata": {"node": "default:tree"}}
    ]
    server = new_server(gateway.url, settings={"lorestream.api_key": "k1.secret"}).start()
    answer = server.lua(ASK)
    assert (answer["count"], answer["why"], answer["calls"]) == (1, "", 1)
    assert gateway.asked() == [[{"agent_id": "npc:a", "query": "trees", "k": 3, "filters": {"type": "dig"}}]]
    assert gateway.headers[-1]["Authorization"] == "Bearer k1.secret"
    text = server.lua('lorestream.context("npc: ä/1", "rain", function(c, e) done({c.text, e}) end)')
    assert text == ["it rained"]
    assert gateway.asked("contexts")[-1] == [{"agent_id": "npc: ä/1", "query": "rain"}]
    opts = """{query = "trees", near = {x = 1, radius = 5}, min_score = 0.2, filters = {}, mode = "dense",
        weights = {recency = 1, half_life_s = 60}, agent_ids = {"npc:a", "npc:b"}, after = "token", wait_ms = 10}"""
    server.lua(f'lorestream.recall("npc:a", {opts}, function(m) done(#m) end)')
    assert gateway.asked()[-1] == [
        {
            "agent_ids": ["npc:a", "npc:b"],
            "query": "trees",
            "near": {"x": 1, "radius": 5},
            "min_score": 0.2,
            "mode": "dense",
            "weights": {"recency": 1, "half_life_s": 60},
            "after": "token",
            "wait_ms": 10,
        }
    ]
    _step_is_one_request(gateway, server)
    _wrong_questions_reach_their_callback(server)
    _documents_and_receipts(gateway, server)


def _step_is_one_request(gateway: RecordingGateway, server: RealServer) -> None:
    """What is asked in one step travels in one request, which is answered in one step."""
    batches = len(gateway.asked())
    steps = server.lua(MANY)
    assert len(steps) == 52
    assert len(set(steps)) == 1
    (asked,) = gateway.asked()[batches:]
    assert len(asked) == 50
    assert len(gateway.asked("contexts")[-1]) == 1
    # The answer is kept, until the agent writes.
    again = 'lorestream.get("npc:50", "wood", 5, nil, function(m) done(#m) end)'
    assert server.lua(again) == 1
    assert len(gateway.asked()) == batches + 1
    assert server.lua('lorestream.put("npc:50", "I found wood")' + again) == 1
    assert len(gateway.asked()) == batches + 2


def _wrong_questions_reach_their_callback(server: RealServer) -> None:
    answers = server.lua(WRONG)
    assert answers == [
        "invalid: agent_id must be a string of 1 to 256 characters",
        "invalid: the options must be a table or a text",
        "invalid: agent_ids must be a list of strings",
        "invalid: nested deeper than 8",
        "the callback must be a function",
    ]


def _documents_and_receipts(gateway: RecordingGateway, server: RealServer) -> None:
    """A document is written by POST and read with the questions; a write has a receipt; `memory` has the same functions."""
    answers = server.lua(STATE)
    assert answers == [1, 2, 1, "t", 1]
    path = "/v1/entities/mood/npc%3Aa?wait=applied&timeout_ms=1200"
    (put,) = gateway.bodies(path)
    assert put["data"] == {"calm": True, "fears": {}}
    (patch,) = gateway.bodies(path.replace("?", "/patch?"))
    assert patch["data"] == {"calm": None}
    assert [{"type": "mood", "id": "npc:a"}] in gateway.asked("entities")


def test_put_and_forget_keep_their_order(
    gateway: RecordingGateway, new_server: Callable[..., RealServer]
) -> None:
    """Events put before a forget are sent before it, so that they are erased too."""
    server = new_server(gateway.url).start()
    gateway.down()
    server.lua(
        'lorestream.put("npc:a", "I found \\27(c@#f00)iron", {pos = {x = 1, y = 2, z = 3}, player = "Ann", hot = 1/0}, 60)'
        'lorestream.forget("npc:a") lorestream.emit("rest", "npc:a") return true'
    )
    gateway.up()
    wait_until(lambda: gateway.events("rest"), what="the last event", seconds=30)
    assert [path for path, _ in gateway.requests] == ["/v1/events", "/v1/erasures", "/v1/events"]
    assert gateway.bodies("/v1/erasures") == [{"agent_id": "npc:a"}]
    put = gateway.events()[0]
    assert (put["text"], put["ttl"], put["player"]) == ("I found iron", 60, "Ann")
    assert put["pos"] == {"x": 1, "y": 2, "z": 3}
    assert "metadata" not in put


def test_failures_give_an_empty_table_in_time(
    gateway: RecordingGateway, new_server: Callable[..., RealServer]
) -> None:
    """With a slow, failing, unreachable or overloaded service: exactly one callback with {} and a reason."""
    server = new_server(
        gateway.url, settings={"lorestream.recall_rate": "0.01", "lorestream.recall_burst": "3"}
    ).start()
    gateway.mode = "500"
    assert server.lua(ASK)["why"] == "told_so"
    gateway.mode, gateway.delay = "slow", 4.0
    slow = server.lua(ASK)
    assert (slow["count"], slow["why"], slow["calls"]) == (0, "timeout", 1)
    gateway.down()
    assert server.lua(ASK)["why"] == "unreachable"
    wait_until(lambda: server.lua(ASK)["why"] != "unreachable", what="the end of the pause", seconds=20)
    limited = server.lua(ASK)
    assert (limited["why"], limited["calls"]) == ("rate_limited", 1)
    invalid = server.lua('lorestream.get(nil, "x", 1, nil, function(m, e) done({#m, e}) end)')
    assert invalid == [0, "invalid: agent_id must be a string of 1 to 256 characters"]
