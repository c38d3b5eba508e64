"""Fuzzing a real `lorestream up` over HTTP with requests drawn from its own OpenAPI document: no answer is a fault."""

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

from tests import fuzzing
from tests.conformance import CONFORMANCE
from tests.processes import HASH, running

SECONDS_PER_TURN = 5.0
REQUEST_TIMEOUT_S = 70.0
"""A write may wait 60 s until it is indexed."""


@pytest.mark.soak
@pytest.mark.timeout(fuzzing.SECONDS + 300)
def test_requests_from_the_openapi_document_for_ten_minutes(tmp_path: Path) -> None:
    with running(tmp_path, HASH) as process, httpx2.Client(timeout=REQUEST_TIMEOUT_S) as http:
        api = schemathesis.openapi.from_dict(http.get(f"{process.url}/openapi.json").json())
        operations = [result.ok() for result in api.get_all_operations()]
        kinds: list[st.SearchStrategy[Case]] = [
            operation.as_strategy(generation_mode=mode)
            for operation in operations
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            if mode is GenerationMode.POSITIVE or _takes_something(operation)
        ]

        def check(case: Case) -> None:
            sent = requests.Request(**case.as_transport_kwargs(base_url=process.url)).prepare()
            answer = http.request(
                str(sent.method), str(sent.url), headers=dict(sent.headers), content=sent.body or b""
            )
            case.validate_response(answer, checks=list(CONFORMANCE))

        end, calls = time.monotonic() + fuzzing.SECONDS, 0
        for turn in itertools.count():
            if time.monotonic() >= end:
                break
            until = min(end, time.monotonic() + SECONDS_PER_TURN)
            calls += fuzzing.fuzz(kinds[turn % len(kinds)], check, until=until, first=turn)
        assert calls
        assert http.get(f"{process.url}/ready").status_code == 200
        process.stop()
        assert "Traceback" not in process.output()


def _takes_something(operation: Any) -> bool:
    return bool(operation.path_parameters or operation.query or operation.body)
