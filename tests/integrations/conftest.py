"""The tests of the integrations: each with the real framework, against a running lorestream.

`make integrations` starts the lorestream and the environments with the frameworks; see `tests.integrations`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from lorestream.client import AsyncMemoryClient, MemoryClient

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
