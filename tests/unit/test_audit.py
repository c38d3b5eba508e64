"""The audit log: what was erased or deleted and by which key, without names of players."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from lorestream.access.authentication import ANONYMOUS, ApiKeyAuthenticator, Principal
from lorestream.access.key_file import KeyScope
from lorestream.grpc.server import Handlers
from lorestream.http.application import application
from producers.gateway import operations
from producers.rpc import Writes
from tests.api_keys import ShiftedClock, bearer, key_id
from tests.http_gateway import open_http_gateway

PLAYER = "Wilhelmina"

AuditLines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def audit_lines() -> Iterator[AuditLines]:
    """Returns the audit lines since the last call. They are logged although the tests' log level is warning."""
    with capture_logs() as captured:

        def lines() -> list[dict[str, Any]]:
            assert PLAYER not in json.dumps(captured)
            taken = [line for line in captured if line.pop("logger", None) == "lorestream.audit"]
            assert all(line.pop("log_level") == "info" for line in taken)
            captured.clear()
            return taken

        yield lines


async def test_an_erasure_is_logged_when_requested_and_when_done(
    tmp_path: Path, audit_lines: AuditLines
) -> None:
    path = tmp_path / "keys.json"
    key = bearer(path, KeyScope.ERASE, KeyScope.INGEST, tenant="village")
    async with (
        open_http_gateway(tmp_path / "data") as service,
        ApiKeyAuthenticator.open(path, ShiftedClock()) as authenticator,
    ):
        app = application(
            "gateway",
            operations(service.gateway),
            metrics=service.runtime.metrics,
            authenticator=authenticator,
        )
        transport = httpx2.ASGITransport(app=app)
        headers = {"Authorization": key}
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://lorestream", headers=headers
        ) as http:
            asked = [
                ("player", await http.delete(f"/v1/players/{PLAYER}")),
                ("agent", await http.post("/v1/erasures", json={"agent_id": f"player:{PLAYER}"})),
                ("agent", await http.post("/memory/delete", json={"agent_id": "a"})),
            ]
            assert all(answer.status_code == 202 for _, answer in asked)
            written = audit_lines()
            for line, (kind, answer) in zip(written, asked, strict=True):
                erasure_id = answer.json().get("erasure_id", line["erasure_id"])
                assert line == {
                    "event": "erasure requested",
                    "erasure_id": erasure_id,
                    "kind": kind,
                    "tenant": "village",
                    "by": key_id(key),
                }
            await service.index()
            assert audit_lines() == [
                {
                    "event": "erasure done",
                    "erasure_id": line["erasure_id"],
                    "kind": line["kind"],
                    "tenant": "village",
                }
                for line in written
            ]


async def test_each_deletion_of_a_memory_is_logged(tmp_path: Path, audit_lines: AuditLines) -> None:
    memory_id = "00000000-0000-4000-8000-000000000000"
    async with open_http_gateway(tmp_path) as service:
        answer = await service.http.delete(f"/v1/memories/{memory_id}?agent_id=player:{PLAYER}")
        assert audit_lines() == [
            {
                "event": "memory deleted",
                "erasure_id": answer.json()["erasure_id"],
                "kind": "memory",
                "memory_id": memory_id,
                "tenant": "default",
                "by": "",
            }
        ]


async def test_a_rewind_and_its_undoing_are_logged_without_the_server(
    tmp_path: Path, audit_lines: AuditLines
) -> None:
    async with open_http_gateway(tmp_path) as service:
        answer = await service.http.post("/v1/rewinds", json={"server": PLAYER, "to": 0})
        rewind = {"rewind_id": answer.json()["rewind_id"], "tenant": "default"}
        assert audit_lines() == [{"event": "rewind requested", **rewind, "by": ""}]
        await service.index()
        assert audit_lines() == [{"event": "rewind done", **rewind}]
        await service.http.delete(f"/v1/rewinds/{rewind['rewind_id']}")
        await service.index()
        assert audit_lines() == [
            {"event": "rewind undoing requested", **rewind, "by": ""},
            {"event": "rewind undone", **rewind},
        ]


async def test_erasures_by_grpc_are_logged(tmp_path: Path, audit_lines: AuditLines) -> None:
    async with open_http_gateway(tmp_path) as service:
        handlers = Handlers(delete=Writes(service.gateway).delete)
        assert handlers.delete is not None
        await handlers.delete(Principal("village", ANONYMOUS.scopes, key="k-7"), f"player:{PLAYER}")
        [line] = audit_lines()
        assert (line["event"], line["tenant"], line["by"]) == ("erasure requested", "village", "k-7")


async def test_a_refused_erasure_is_not_logged(tmp_path: Path, audit_lines: AuditLines) -> None:
    async with open_http_gateway(tmp_path) as service:
        assert (
            await service.http.post("/v1/erasures", json={"player": PLAYER, "agent_id": "a"})
        ).status_code == 400
        assert audit_lines() == []
