"""`lorestream state`, `records` and `summary` against a scripted server: what is sent, what is printed, exit codes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import command_line
from tests.processes import clean_environment
from tests.scripted_server import refused, scripted_server

HEALTH = (200, {"status": "ok"})
ENTITY = {
    "type": "character",
    "id": "npc:smith",
    "version": 7,
    "data": {"name": "Ada", "goals": {"iron": 10}},
    "tick": 12.0,
    "created_at": 1760000000.0,
    "updated_at": 1760000000.0,
    "fresh": True,
}
APPLIED = {"event_id": "e1", "token": "t", "applied": True, "version": 8}
RECORD = {"id": "m1", "agent_id": "npc:smith", "timestamp": 1760000000.0, "tick": 3.0}
REWARD = RECORD | {"text": "", "type": "reward", "metadata": {"value": 1.5}}
MESSAGE = RECORD | {"text": "good morning", "type": "message", "metadata": {"name": "Ada"}}


def _run(
    answer: tuple[int, Any], *arguments: str, code: int = 0, stdin: bytes = b""
) -> tuple[str, str, dict[str, Any]]:
    """The output, the notes, and the request of a verb."""
    with scripted_server(HEALTH, answer) as server:
        environment = clean_environment(LORESTREAM_URL=server.url, COLUMNS="200")
        said = command_line.lorestream(*arguments, environment=environment, code=code, stdin=stdin)
    return said.stdout.decode(), said.stderr.decode(), server.requests[-1]


def test_get_prints_the_fields_or_json():
    output, note, request = _run((200, ENTITY), "state", "get", "character", "npc:smith", "--version", "7")
    assert request["path"] == "/v1/entities/character/npc%3Asmith?version=7"
    assert [line.rstrip().split(maxsplit=1) for line in output.splitlines()[1:]] == [
        ["name", "Ada"],
        ["goals", '{"iron": 10}'],
    ]
    assert "version 7" in note
    assert "tick 12" in note
    output, _, _ = _run((200, ENTITY), "state", "get", "character", "npc:smith", "--json")
    assert json.loads(output) == ENTITY


def test_put_and_patch_print_the_new_version():
    output, _, request = _run(
        (200, APPLIED),
        "state",
        "put",
        "character",
        "npc:smith",
        '{"a": 1}',
        "--if-version",
        "7",
        "--id",
        "e1",
    )
    assert output == "8\n"
    assert request["method"] == "PUT"
    assert request["path"].endswith("?wait=applied&timeout_ms=5000")
    assert request["body"] == {"data": {"a": 1}, "if_version": 7, "event_id": "e1"}
    output, _, request = _run(
        (200, APPLIED),
        "state",
        "patch",
        "character",
        "npc:smith",
        "-",
        "--tick",
        "9",
        "--json",
        stdin=b'{"a": null}',
    )
    assert json.loads(output) == APPLIED
    assert (request["method"], request["body"]["data"], request["body"]["tick"]) == (
        "PATCH",
        {"a": None},
        9.0,
    )


def test_without_a_wait_the_write_is_only_accepted():
    accepted = {"event_id": "e1", "token": "t"}
    output, note, request = _run(
        (202, accepted), "state", "put", "character", "npc:smith", "{}", "--wait", "0"
    )
    assert output == ""
    assert "e1" in note
    assert "wait" not in request["path"]


def test_a_conflict_ends_with_1_and_says_so():
    conflict = (409, refused("version_conflict", details={"current": 9}))
    output, note, _ = _run(
        conflict, "state", "rollback", "character", "npc:smith", "3", "--if-version", "7", code=1
    )
    assert output == ""
    assert "version_conflict" in note


def test_rollback_names_the_version():
    output, _, request = _run((200, APPLIED), "state", "rollback", "character", "npc:smith", "3")
    assert output == "8\n"
    assert request["body"]["to"] == 3


def test_versions_are_a_table():
    deletion = ENTITY | {"version": 8, "data": None, "deleted": True}
    page = {"versions": [deletion, ENTITY | {"deleted": False}], "next_cursor": "c"}
    output, note, _ = _run((200, page), "state", "versions", "character", "npc:smith", "-n", "2")
    rows = [line.split() for line in output.splitlines()[1:]]
    assert [(row[0], row[-1]) for row in rows] == [("8", "deleted"), ("7", "10}}")]
    assert "-n" in note


def test_versions_are_read_on_where_a_page_ends_early():
    """A page also ends at a number of bytes."""
    pages = [
        (200, {"versions": [ENTITY | {"version": version}], "next_cursor": cursor})
        for version, cursor in ((9, "c8"), (8, "c7"), (7, None))
    ]
    with scripted_server(HEALTH, *pages) as server:
        environment = clean_environment(LORESTREAM_URL=server.url, COLUMNS="200")
        arguments = ("state", "versions", "character", "npc:smith", "-n", "5")
        said = command_line.lorestream(*arguments, environment=environment)
    assert [line.split()[0] for line in said.stdout.decode().splitlines()[1:]] == ["9", "8", "7"]
    assert b"-n" not in said.stderr
    asked = [request["path"].partition("?")[2] for request in server.requests[-3:]]
    assert asked == ["limit=5", "limit=4&cursor=c8", "limit=3&cursor=c7"]


@pytest.mark.parametrize(("record", "words"), [(REWARD, '{"value": 1.5}'), (MESSAGE, "good morning")])
def test_records_are_a_table(record: dict[str, Any], words: str):
    page = {"memories": [record], "total": 40, "next_cursor": "c"}
    output, note, request = _run((200, page), "records", "npc:smith", record["type"], "-n", "1", "--oldest")
    assert request["path"] == f"/v1/agents/npc%3Asmith/memories?limit=1&order=oldest&type={record['type']}"
    assert words in output
    assert "1 of 40" in note


def test_the_summary_has_the_largest_type_first():
    found = {"agent_id": "npc:smith", "total": 6, "by_type": {"": 1, "dig": 5}, "first": 1.0, "last": 2.0}
    output, note, _ = _run((200, found), "summary", "npc:smith")
    assert [line.split() for line in output.splitlines()[1:]] == [["5", "dig"], ["1", "-"]]
    assert "6 in all" in note
    output, _, _ = _run((200, found), "summary", "npc:smith", "--json")
    assert json.loads(output) == found
