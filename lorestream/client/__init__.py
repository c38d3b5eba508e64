"""Clients for Python programs: MemoryClient for threads, AsyncMemoryClient for event loops, with the same methods.

    with MemoryClient("http://127.0.0.1:8080") as memories:
        memories.add("npc:woodcutter-1", "pine trees stand north of the lake", wait_s=5)
        for memory in memories.search("npc:woodcutter-1", "where are trees").memories:
            print(memory.score, memory.text)

    async with AsyncMemoryClient("http://127.0.0.1:8080") as memories:
        context = await memories.context("npc:woodcutter-1", "somebody asks for wood", token_budget=500)

    calls        every call of the API: its parameters, its request, the decoder of its response
    encoding     arguments as JSON and as parts of a URL
    models       what the calls return, and the exceptions they raise
    endpoint     what both clients share: URLs, retries, translation of errors
    blocking     MemoryClient
    nonblocking  AsyncMemoryClient

429, 503 and broken connections are retried with the same event ids for at most `retry_timeout_s`: an event that is sent
twice becomes one memory. This package imports nothing of the server.
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
    InvalidValue,
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
    "InvalidValue",
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
