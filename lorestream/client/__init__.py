"""Clients of a running Lorestream for Python programs: one for threads, one for event loops, with the same methods.

    with MemoryClient("http://127.0.0.1:8080") as memories:
        memories.add("npc:woodcutter-1", "pine trees stand north of the lake", wait_s=5)
        for memory in memories.search("npc:woodcutter-1", "where are trees").memories:
            print(memory.score, memory.text)

    async with AsyncMemoryClient("http://127.0.0.1:8080") as memories:
        context = await memories.context("npc:woodcutter-1", "somebody asks for wood", token_budget=500)

The methods, with their parameters, are the functions of `lorestream.client.calls`; what they return and what can go
wrong is in `lorestream.client.models`. 429, 503 and broken connections are tried again, with the same event ids, until
`patience_s` has passed: an event that is sent twice becomes one memory.
"""

from lorestream.client.blocking import MemoryClient
from lorestream.client.endpoint import DEFAULT_URL
from lorestream.client.models import (
    AgentTotal,
    ApiError,
    BadRequest,
    Context,
    Erasure,
    Event,
    Forbidden,
    FoundMemory,
    Near,
    NotFound,
    Page,
    Readiness,
    Receipt,
    Reject,
    Rejected,
    SearchAnswer,
    ServiceUnavailable,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    Weights,
    WrongService,
)
from lorestream.client.nonblocking import AsyncMemoryClient

__all__ = [
    "DEFAULT_URL",
    "AgentTotal",
    "ApiError",
    "AsyncMemoryClient",
    "BadRequest",
    "Context",
    "Erasure",
    "Event",
    "Forbidden",
    "FoundMemory",
    "MemoryClient",
    "Near",
    "NotFound",
    "Page",
    "Readiness",
    "Receipt",
    "Reject",
    "Rejected",
    "SearchAnswer",
    "ServiceUnavailable",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unreachable",
    "Weights",
    "WrongService",
]
