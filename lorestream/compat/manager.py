"""DistributedMemoryManager: entities, conversation history and tool usage of a namespace."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from lorestream.client import AsyncMemoryClient, NotFound
from lorestream.compat.waiting import WAIT_S
from lorestream.errors import LorestreamError, Unavailable

_logger = logging.getLogger(__name__)


class DistributedMemoryManager:
    """Entities are documents of the agents `NAMESPACE:ID`; history and tool usage belong to the agent `NAMESPACE`.

    `memory_type` and `config` chose a backend and its address. Here both are the server's: they are accepted, and not used. What
    the server refuses raises the client's exceptions: an entity type may have lower-case letters, digits, `_`, `.`
    and `-`, and its data, like the history, may have 256 KiB of JSON.

    For a Q-table use `AsyncMemoryClient.q_update`, for policy parameters `put_policy`, for rewards `reward` and `rewards`:
    entities that several programs read and write back would lose updates.
    """

    def __init__(
        self,
        memory_type: str = "redis",
        config: Mapping[str, Any] | None = None,
        namespace: str = "datamcp",
        *,
        client: AsyncMemoryClient | None = None,
    ) -> None:
        del config
        self.memory_type = memory_type
        self.namespace = namespace
        self._client = client or AsyncMemoryClient()
        self._metrics = {"reads": 0, "writes": 0, "cache_hits": 0, "cache_misses": 0, "errors": 0}
        _logger.info("The memories of %s are in Lorestream at %s", namespace, self._client.url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    @property
    def backend(self) -> Self:
        """The manager itself: there is one backend."""
        return self

    async def save_entity(
        self,
        entity_type: str,
        entity_id: str,
        entity_data: Mapping[str, Any],
        cache: bool = True,  # noqa: FBT002 (as in the document)
    ) -> None:
        """Create or replace an entity. `cache` has no effect: the server's answers are never older than a finished write."""
        del cache
        async with self._counted("writes"):
            await self._client.put_entity(entity_type, self._agent(entity_id), entity_data, wait_s=WAIT_S)

    async def load_entity(
        self,
        entity_type: str,
        entity_id: str,
        use_cache: bool = True,  # noqa: FBT002 (as in the document)
        cache_ttl: float = 300,
    ) -> dict[str, Any] | None:
        """The data of an entity, None if there is none. `use_cache` and `cache_ttl` have no effect, as in `save_entity`."""
        del use_cache, cache_ttl
        async with self._counted("reads"):
            return await self._data(entity_type, self._agent(entity_id))

    async def delete_entity(self, entity_type: str, entity_id: str) -> bool:
        """Delete an entity; whether there was one."""
        async with self._counted("writes"):
            agent_id = self._agent(entity_id)
            if await self._data(entity_type, agent_id) is None:
                return False
            await self._client.delete_entity(entity_type, agent_id, wait_s=WAIT_S)
            return True

    async def load_entities_by_prefix(
        self, entity_type: str, prefix: str = "", limit: int = 100
    ) -> list[dict[str, Any]]:
        """The data of the entities whose id begins with `prefix`, at most 1,000, in the order of their ids."""
        async with self._counted("reads"):
            found: list[dict[str, Any]] = []
            cursor: str | None = None
            while True:  # a page also ends at a number of bytes
                page = await self._client.entities(
                    entity_type, prefix=self._agent(prefix), limit=limit - len(found), cursor=cursor
                )
                found += [entity.data for entity in page.entities]
                cursor = page.next_cursor
                if cursor is None or len(found) >= limit:
                    return found

    async def save_conversation_history(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Replace the conversation history. `AsyncMemoryClient.message` adds to one instead, and lets it be searched."""
        async with self._counted("writes"):
            data = {"messages": list(messages)}
            await self._client.put_entity("conversation", self.namespace, data, wait_s=WAIT_S)

    async def load_conversation_history(self) -> list[dict[str, Any]]:
        """The conversation history that was saved last."""
        async with self._counted("reads"):
            data = await self._data("conversation", self.namespace)
            return [] if data is None else data["messages"]

    async def save_tool_usage(self, tool_name: str, args: Mapping[str, Any], result: Any) -> None:  # noqa: ANN401
        """Record the use of a tool. Each has an id of its own, also within a millisecond."""
        async with self._counted("writes"):
            await self._client.tool(self.namespace, tool_name, input=args, output=result, wait_s=WAIT_S)

    async def load_tool_usage(self, tool_name: str, limit: int = 100) -> list[dict[str, Any]]:
        """The newest uses of a tool, at most 1,000: `args`, `result` and `timestamp` (Unix seconds) of each."""
        async with self._counted("reads"):
            page = await self._client.recent(
                self.namespace, limit, type="tool", filters={"metadata.tool": tool_name}
            )
            return [
                {
                    "args": use.metadata.get("input"),
                    "result": use.metadata.get("output"),
                    "timestamp": use.timestamp,
                }
                for use in page.memories
            ]

    async def get_memory_summary(self) -> str:
        """How many memories the namespace's agent has, by type, as text. Documents and records are not counted."""
        async with self._counted("reads"):
            found = await self._client.summary(self.namespace)
        lines = [f"- {type_ or 'without a type'}: {count}" for type_, count in sorted(found.by_type.items())]
        return "\n".join([f"## Memories of {self.namespace}: {found.total}", *lines])

    def clear_cache(self) -> None:
        """Do nothing: there is no local cache."""

    def get_metrics(self) -> dict[str, int]:
        """How many reads and writes were made, and how many failed. There are no hits and misses of a local cache."""
        return dict(self._metrics)

    async def ping(self) -> bool:
        """Whether the server answers."""
        try:
            await self._client.check()
        except Unavailable:
            return False
        return True

    def _agent(self, entity_id: str) -> str:
        return f"{self.namespace}:{entity_id}"

    async def _data(self, entity_type: str, agent_id: str) -> dict[str, Any] | None:
        try:
            return (await self._client.entity(entity_type, agent_id)).data
        except NotFound:
            return None

    @asynccontextmanager
    async def _counted(self, kind: str) -> AsyncGenerator[None]:
        try:
            yield
        except LorestreamError:
            self._metrics["errors"] += 1
            raise
        self._metrics[kind] += 1
