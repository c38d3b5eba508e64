"""RedisAgentMemory: states of an agent as bytes, and the configuration of the encoder that makes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from lorestream.client import AgentState, MemoryClient, NotFound, VersionConflict
from lorestream.compat.waiting import WAIT_S, decided

T = TypeVar("T")

_logger = logging.getLogger(__name__)

ENCODER = {
    "input_dim": 50,
    "latent_dim": 25,
    "feature_groups": {
        "critical": [0, 10, 0.3],
        "spatial": [10, 20, 0.5],
        "social": [20, 30, 0.4],
        "other": [30, 50, 0.8],
    },
    "base_compression_level": 0.5,
}
"""The document's example of a configuration."""


class RedisAgentMemory(Generic[T]):
    """States of agents in the order of time.

    `encode` makes bytes of a state (about 48 KB at most), `decode` the state of these bytes; both are the caller's: bytes that come
    from a database are never unpickled here. Safe are, for example, msgpack, protobuf, and zlib over them.
    `redis_url` and `compression_threshold` are accepted, and not used: the server trims what is too much
    (LORESTREAM_KEEP_PER_AGENT for memories, `ttl` for records).
    """

    def __init__(
        self,
        redis_url: str | None = None,
        compression_threshold: int | None = None,
        *,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
        codec: str | None = None,
        client: MemoryClient | None = None,
    ) -> None:
        del redis_url, compression_threshold
        self._encode = encode
        self._decode = decode
        self._codec = codec
        self._client = client or MemoryClient()

    def store_agent_memory(
        self, agent_id: str, agent_state: T, metadata: Mapping[str, Any] | None = None
    ) -> str:
        """Store a state; returns its id, which is unique: a time in milliseconds would not be."""
        receipt = self._client.put_state(
            agent_id,
            self._encode(agent_state),
            codec=self._codec,
            event={"metadata": {"details": dict(metadata or {})}},
            wait_s=WAIT_S,
        )
        return str(receipt.ids[0])

    def retrieve_agent_memory(self, agent_id: str, memory_id: str) -> dict[str, Any]:
        """`id`, `state`, `timestamp` (milliseconds) and `metadata`. Raises KeyError if there is none with this id."""
        try:
            found = self._client.state(memory_id, agent_id)
        except NotFound as error:
            raise KeyError(f"agent {agent_id} has no state {memory_id}") from error
        return self._decoded(found)

    def get_recent_memories(self, agent_id: str, count: int = 10) -> list[dict[str, Any]]:
        """The newest states, at most 1,000, newest first. One that `decode` fails on is left out, with a warning in the log."""
        memories: list[dict[str, Any]] = []
        for found in self._client.states(agent_id, count).states:
            try:
                memories.append(self._decoded(found))
            except Exception:  # decode is the caller's, and may raise anything
                _logger.warning(
                    "State %s of agent %s cannot be decoded: left out", found.id, agent_id, exc_info=True
                )
        return memories

    def encoder_config(self, agent_id: str, default: Mapping[str, Any] = ENCODER) -> dict[str, Any]:
        """The configuration of the agent's encoder; the default becomes it if there is none yet.

        Of several programs that ask at the same time, all get the same one. Raises Unavailable if it is not known in time
        which one it is.
        """
        try:
            return self._client.entity("encoder", agent_id).data
        except NotFound:
            pass
        try:
            receipt = self._client.put_entity("encoder", agent_id, default, if_version=0, wait_s=WAIT_S)
            decided(self._client, "encoder", agent_id, receipt)
        except VersionConflict:
            return self._client.entity("encoder", agent_id).data
        return dict(default)

    def _decoded(self, found: AgentState) -> dict[str, Any]:
        return {
            "id": found.id,
            "state": self._decode(found.data),
            "timestamp": int(found.timestamp * 1000),
            "metadata": found.metadata.get("details", {}),
        }
