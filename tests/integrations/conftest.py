"""The tests of the integrations: each with the real framework, against a running lorestream.

`make integrations` starts the lorestream and the environments with the frameworks; see `tests.integrations`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from lorestream.client import AsyncMemoryClient, MemoryClient

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
URL = os.environ.get("LORESTREAM_INTEGRATIONS_URL", "")
collect_ignore_glob = [] if URL else ["test_*.py"]


@pytest.fixture
def url() -> str:
    """The address of the running lorestream."""
    return URL


@pytest.fixture
def agent() -> str:
    """An agent that no other test uses."""
    return f"npc:{uuid.uuid4().hex}"


@pytest.fixture
def memories(url: str) -> Iterator[MemoryClient]:
    """The blocking client."""
    with MemoryClient(url) as client:
        yield client


@pytest.fixture
async def asynchronous(url: str) -> AsyncIterator[AsyncMemoryClient]:
    """The client of the event loop."""
    async with AsyncMemoryClient(url) as client:
        yield client


@pytest.fixture
def run_example(url: str) -> Callable[[str], str]:
    """Runs the example of a framework in docs/integrations.md, with the address replaced; returns what it prints."""

    def run(name: str) -> str:
        block = re.search(rf"<!-- runnable: {name} -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        assert block is not None
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block[1].replace("http://127.0.0.1:8080", url), name, "exec"), {})
        return printed.getvalue()

    return run
