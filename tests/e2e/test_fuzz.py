"""Fuzzing a real `lorestream up` over HTTP with requests drawn from its own OpenAPI document: no answer is a fault.

Half of the reads are of an agent with 100,000 memories, and no request holds the event loop.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from tests import fuzzing, large_agent
from tests.conformance import CONFORMANCE
from tests.loop_watchdog import running_watched
from tests.processes import HASH, PLAYER_KEY

SECONDS_PER_TURN = 5.0
READS = {"/v1/memories/search", "/memory/get"}
REQUEST_TIMEOUT_S = 70.0
"""A write may wait 60 s until it is indexed."""


@pytest.mark.soak
@pytest.mark.timeout(fuzzing.SECONDS + 300)
def test_requests_from_the_openapi_document_for_ten_minutes(tmp_path: Path) -> None:
    large_agent.fill(tmp_path, now=time.time())
    environment = {**HASH, **PLAYER_KEY}
    with running_watched(tmp_path, environment) as process, httpx2.Client(timeout=REQUEST_TIMEOUT_S) as http:
        api = schemathesis.openapi.from_dict(http.get(f"{process.url}/openapi.json").json())
        operations = [result.ok() for result in api.get_all_operations()]
        kinds: list[st.SearchStrategy[Case]] = [
            operation.as_strategy(generation_mode=mode)
            for operation in operations
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            if mode is GenerationMode.POSITIVE or _takes_something(operation)
        ]
        numbers = itertools.count()

        def send(case: Case) -> None:
            sent = requests.Request(**case.as_transport_kwargs(base_url=process.url)).prepare()
            answer = http.request(
                str(sent.method), str(sent.url), headers=dict(sent.headers), content=sent.body or b""
            )
            case.validate_response(answer, checks=list(CONFORMANCE))

        def check(case: Case) -> None:
            if next(numbers) % 2:
                _read_the_large_agent(case)
            process.check_holds(lambda: send(case))

        end, calls = time.monotonic() + fuzzing.SECONDS, 0
        for turn in itertools.count():
            if time.monotonic() >= end:
                break
            until = min(end, time.monotonic() + SECONDS_PER_TURN)
            calls += fuzzing.fuzz(kinds[turn % len(kinds)], check, until=until, first=turn)
        assert calls
        assert http.get(f"{process.url}/ready").status_code == 200
        process.stop()
        process.assert_no_traceback()


def _takes_something(operation: Any) -> bool:
    return bool(operation.path_parameters or operation.query or operation.body)


def _read_the_large_agent(case: Case) -> None:
    """Let a read be of the large agent, if it is of a single one."""
    if "agent_id" in case.path_parameters:
        case.path_parameters["agent_id"] = large_agent.AGENT
    body = case.body
    if case.path in READS and isinstance(body, dict) and isinstance(body.get("agent_id"), str):
        body["agent_id"] = large_agent.AGENT
