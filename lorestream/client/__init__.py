"""Clients for Python programs: MemoryClient for threads, AsyncMemoryClient for event loops, with the same methods.

    with MemoryClient("http://127.0.0.1:8080") as memories:
        memories.add("npc:woodcutter-1", "pine trees stand north of the lake", wait_s=5)
        for memory in memories.search("npc:woodcutter-1", "where are trees").memories:
            print(memory.score, memory.text)

    async with AsyncMemoryClient("http://127.0.0.1:8080") as memories:
        context = await memories.context("npc:woodcutter-1", "somebody asks for wood", token_budget=500)

    calls         the calls of memories and of the service: their parameters, requests, decoders of the responses
    records       those of messages, tool calls, rewards, interactions, states
    corrections   those that replace a memory, and with whom an agent has to do
    documents     those of documents
    learning      those of Q-tables and policies
    insight       those that explain a search, and that tell where memories are
    rewinds       those of rewinds
    webhooks      those of webhooks
    call          what a call consists of
    encoding      arguments as JSON and as parts of a URL
    models        what the calls of memories return
    state_models  what the other calls take and return
    exceptions    what the calls raise
    environment   the address and the key from the environment
    endpoint      what both clients share: URLs, retries, translation of errors
    blocking      MemoryClient
    nonblocking   AsyncMemoryClient
    streams       memories as they become findable

429, 503 and broken connections are retried with the same event ids for at most `retry_timeout_s`: an event that is sent
twice becomes one memory. This package imports nothing of the server.
"""

from lorestream.client.blocking import MemoryClient
from lorestream.client.environment import DEFAULT_URL
from lorestream.client.exceptions import (
    ApiError,
    BadRequest,
    Forbidden,
    InvalidValue,
    NotFound,
    NotLorestream,
    Rejected,
    ServiceUnavailable,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    VersionConflict,
    VersionGone,
    WrongService,
)
from lorestream.client.models import (
    AgentTotal,
    Context,
    Erasure,
    Event,
    Explanation,
    FoundMemory,
    LikenessMap,
    LikenessPoint,
    ListedErasure,
    Near,
    Page,
    Place,
    Places,
    Readiness,
    Reason,
    Receipt,
    Reject,
    Relation,
    Rewind,
    RewindReceipt,
    RewindSize,
    SearchAnswer,
    Summary,
    Superseded,
    Weights,
)
from lorestream.client.nonblocking import AsyncMemoryClient
from lorestream.client.state_models import (
    AgentState,
    AgentStates,
    Bucket,
    Entities,
    Entity,
    EntityVersion,
    Policy,
    PolicyVersion,
    PolicyVersions,
    QUpdate,
    QValue,
    QValues,
    StateReceipt,
    Versions,
    WriteOutcome,
)

__all__ = [
    "DEFAULT_URL",
    "AgentState",
    "AgentStates",
    "AgentTotal",
    "ApiError",
    "AsyncMemoryClient",
    "BadRequest",
    "Bucket",
    "Context",
    "Entities",
    "Entity",
    "EntityVersion",
    "Erasure",
    "Event",
    "Explanation",
    "Forbidden",
    "FoundMemory",
    "InvalidValue",
    "LikenessMap",
    "LikenessPoint",
    "ListedErasure",
    "MemoryClient",
    "Near",
    "NotFound",
    "NotLorestream",
    "Page",
    "Place",
    "Places",
    "Policy",
    "PolicyVersion",
    "PolicyVersions",
    "QUpdate",
    "QValue",
    "QValues",
    "Readiness",
    "Reason",
    "Receipt",
    "Reject",
    "Rejected",
    "Relation",
    "Rewind",
    "RewindReceipt",
    "RewindSize",
    "SearchAnswer",
    "ServiceUnavailable",
    "StateReceipt",
    "Summary",
    "Superseded",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unreachable",
    "VersionConflict",
    "VersionGone",
    "Versions",
    "Weights",
    "WriteOutcome",
    "WrongService",
]
