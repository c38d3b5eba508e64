"""The classes of the design documents that Lorestream grew out of, over its client: programs written for them run on.

    manager       DistributedMemoryManager: entities, conversation history and tool usage (asyncio)
    tinyworld     MemoryRepository, TinyWorldVectorStore, EnhancedMemoryManager: characters, their messages and memories
    agent_states  RedisAgentMemory: states of an agent as bytes
    waiting       how long a method waits until a read can see what it wrote

    repository = MemoryRepository()
    repository.save_message("socrates_001", "Socrates", "I know that I know nothing.", tick_count=7)
    print(repository.get_recent_messages("socrates_001"))

Without a `client` they talk to the Lorestream of the environment: LORESTREAM_URL, LORESTREAM_QUERY_URL and
LORESTREAM_API_KEY. A method returns when a read can see what it wrote, after `WAIT_S` at the latest. Failures raise the
client's exceptions, so that an outage does not look like an empty memory. docs/coming-from.md shows examples.
"""

from lorestream.compat.agent_states import RedisAgentMemory
from lorestream.compat.manager import DistributedMemoryManager
from lorestream.compat.tinyworld import EnhancedMemoryManager, MemoryRepository, TinyWorldVectorStore

__all__ = [
    "DistributedMemoryManager",
    "EnhancedMemoryManager",
    "MemoryRepository",
    "RedisAgentMemory",
    "TinyWorldVectorStore",
]
