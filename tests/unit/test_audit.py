"""The audit log: what was erased or deleted, by whose key, and no name of anybody."""

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

Told = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def told() -> Iterator[Told]:
    """The audit's lines since it was called last. The suite's own log shows nothing below a warning."""
    with capture_logs() as captured:

        def lines() -> list[dict[str, Any]]:
            assert PLAYER not in json.dumps(captured)
            taken = [line for line in captured if line.pop("logger", None) == "lorestream.audit"]
            assert all(line.pop("log_level") == "info" for line in taken)
            captured.clear()
            return taken

        yield lines


async def test_what_is_erased_is_asked_for_and_done(tmp_path: Path, told: Told) -> None:
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
            written = told()
            for line, (kind, answer) in zip(written, asked, strict=True):
                erasure_id = answer.json().get("erasure_id", line["erasure_id"])
                assert line == {
                    "event": "erasure asked for",
                    "erasure_id": erasure_id,
                    "kind": kind,
                    "tenant": "village",
                    "by": key_id(key),
                }
            await service.index()
            assert told() == [
                {
                    "event": "erasure done",
                    "erasure_id": line["erasure_id"],
                    "kind": line["kind"],
                    "tenant": "village",
                }
                for line in written
            ]


async def test_each_deletion_of_a_memory(tmp_path: Path, told: Told) -> None:
    memory_id = "00000000-0000-4000-8000-000000000000"
    async with open_http_gateway(tmp_path) as service:
        answer = await service.http.delete(f"/v1/memories/{memory_id}?agent_id=player:{PLAYER}")
        assert told() == [
            {
                "event": "memory deleted",
                "erasure_id": answer.json()["erasure_id"],
                "kind": "memory",
                "memory_id": memory_id,
                "tenant": "default",
                "by": "",
            }
        ]


async def test_grpc_is_written_down_too(tmp_path: Path, told: Told) -> None:
    async with open_http_gateway(tmp_path) as service:
        handlers = Handlers(delete=Writes(service.gateway).delete)
        assert handlers.delete is not None
        await handlers.delete(Principal("village", ANONYMOUS.scopes, key="k-7"), f"player:{PLAYER}")
        [line] = told()
        assert (line["event"], line["tenant"], line["by"]) == ("erasure asked for", "village", "k-7")


async def test_what_the_log_refuses_was_not_asked_for(tmp_path: Path, told: Told) -> None:
    async with open_http_gateway(tmp_path) as service:
        assert (
            await service.http.post("/v1/erasures", json={"player": PLAYER, "agent_id": "a"})
        ).status_code == 400
        assert told() == []
