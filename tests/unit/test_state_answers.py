"""Writes of state with `wait=applied`: what became of them, over the gateway, the worker and the store of one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lorestream.errors import Unavailable
from tests.http_gateway import open_http_gateway
from tests.parts import Faulty
from tests.whole_app import WholeApp, open_app

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeApp]:
    """The whole application, which keeps three versions of a document."""
    async with open_app(tmp_path_factory.mktemp("lorestream"), state={"keep_versions": 3}) as opened:
        yield opened


async def write(app: WholeApp, method: str, path: str, **sent: Any) -> tuple[int, dict[str, Any]]:
    """The status, and the fields of the answer (of an error: its code and `current`) that do not change."""
    params = {"wait": "applied", "timeout_ms": 60_000} | sent.pop("params", {})
    answer = await app.http.request(method, path, params=params, **sent)
    told = answer.json()
    if error := told.get("error"):
        assert error["details"]["token"]
        return answer.status_code, {"code": error["code"], "current": error["details"].get("current")}
    assert told.pop("token")
    told.pop("event_id")
    return answer.status_code, told


def applied(version: int) -> tuple[int, dict[str, Any]]:
    return 200, {"applied": True, "version": version}


def refused(status: int, code: str, current: int) -> tuple[int, dict[str, Any]]:
    return status, {"code": code, "current": current}


async def test_a_document_lives(app: WholeApp) -> None:
    path = "/v1/entities/any/life"
    conflict = refused(409, "version_conflict", 2)
    for method, below, sent, expected in (
        ("PUT", "", {"json": {"data": {"a": 1}, "if_version": 1}}, refused(409, "version_conflict", 0)),
        ("PUT", "", {"json": {"data": {"a": 1}, "if_version": 0}}, applied(1)),
        ("PATCH", "", {"json": {"data": {"b": 2}, "if_version": 1, "event_id": "e1"}}, applied(2)),
        ("PATCH", "", {"json": {"data": {"b": 3}, "event_id": "e1"}}, applied(2)),
        ("PUT", "", {"json": {"data": {}, "if_version": 1.0, "event_id": "e2"}}, conflict),
        ("PUT", "", {"json": {"data": {}, "event_id": "e2"}}, conflict),
        ("DELETE", "", {"params": {"if_version": 1}}, conflict),
        ("POST", "/delete", {"json": {"if_version": 2}}, applied(3)),
        ("DELETE", "", {}, applied(3)),
        ("POST", "", {"json": {"data": {}, "if_version": 0}}, applied(4)),
        ("POST", "/rollback", {"json": {"to": 2, "if_version": 4}}, applied(5)),
        ("POST", "/rollback", {"json": {"to": 1}}, refused(410, "version_gone", 5)),
        ("POST", "/rollback", {"json": {"to": 6}}, refused(404, "not_found", 5)),
        ("POST", "/rollback", {"json": {"to": 3}}, refused(404, "not_found", 5)),
    ):
        assert await write(app, method, path + below, **sent) == expected, (method, below, sent)


async def test_what_is_not_there_can_be_deleted_and_not_rolled_back(app: WholeApp) -> None:
    assert await write(app, "DELETE", "/v1/entities/any/nobody") == applied(0)
    rolled = await write(app, "POST", "/v1/entities/any/nobody/rollback", json={"to": 1})
    assert rolled == refused(404, "not_found", 0)


async def test_patches_cannot_pass_the_limit_of_a_document(app: WholeApp) -> None:
    path = "/v1/entities/any/large"
    for name, expected in (("a", applied(1)), ("b", refused(409, "document_too_large", 1))):
        patch = {"data": {name: "x" * 200_000}}
        assert await write(app, "PATCH", path, json=patch) == expected


async def test_updates_of_a_table_are_applied_or_refused_as_a_whole(app: WholeApp) -> None:
    path = "/v1/q/miner/update"
    update = {"state": "s", "action": "a", "op": "add", "value": 1e308}
    many = [update | {"state": "t", "action": str(number)} for number in range(257)]
    accepted = (200, {"applied": True})
    for updates, event_id, expected in (
        ([update], "e1", accepted),
        ([update, update], "e1", accepted),  # the same id again changes nothing
        ([update], "e2", (409, {"code": "not_finite", "current": None})),
        ([update], "e2", (409, {"code": "not_finite", "current": None})),
        (many, "e3", (409, {"code": "too_many_actions", "current": None})),
        (many[1:], "e4", accepted),
    ):
        body = {"updates": updates, "event_id": event_id}
        assert await write(app, "POST", path, json=body) == expected, event_id


async def test_policies_have_versions_as_documents_have(app: WholeApp) -> None:
    path = "/v1/policies/miner"
    for method, below, sent, expected in (
        ("PUT", "", {"content": b"one", "params": {"if_version": 0, "event_id": "e1"}}, applied(1)),
        ("PUT", "", {"content": b"one", "params": {"event_id": "e1"}}, applied(1)),
        ("PUT", "", {"content": b"two", "params": {"if_version": 0}}, refused(409, "version_conflict", 1)),
        ("PUT", "", {"content": b"two"}, applied(2)),
        ("PUT", "", {"content": b"two", "params": {"name": "other"}}, applied(1)),
        ("POST", "/rollback", {"json": {"to": 1}}, applied(3)),
        ("DELETE", "", {}, applied(4)),
        ("POST", "/rollback", {"json": {"to": 1}}, refused(410, "version_gone", 4)),
        ("POST", "/rollback", {"json": {"to": 2}}, applied(5)),
    ):
        assert await write(app, method, path + below, **sent) == expected, (method, below, sent)


async def test_a_write_that_is_not_applied_in_time_is_durable(tmp_path: Path) -> None:
    """Without a worker, and when the rows cannot be read."""
    async with open_http_gateway(tmp_path) as service:
        receipts = [
            await service.http.put(
                "/v1/entities/any/a", params={"wait": "applied", "timeout_ms": 0}, json={"data": {}}
            )
        ]

        def fail(*_: object) -> None:
            raise Unavailable("away")

        rows: Any = Faulty(service.runtime.rows, rows=fail)
        object.__setattr__(service.gateway.state, "rows", rows)
        await service.index()
        receipts += [
            await service.http.put("/v1/entities/any/a", params={"wait": "applied"}, json={"data": {}})
        ]
        for receipt in receipts:
            assert (receipt.status_code, receipt.json()["applied"]) == (202, False)
            assert "version" not in receipt.json()
        assert rows.calls == ["rows"]
        assert len(await service.new_records()) == 2
