"""The calls of corrections: replace a memory, and with whom an agent has to do. Each function builds one request."""

from __future__ import annotations

import uuid

from lorestream.client.call import Call, decoder, given, write_call
from lorestream.client.encoding import milliseconds, quoted
from lorestream.client.models import Event, Relation, Relations, Superseded


def supersede(
    memory_id: str,
    agent_id: str,
    text: str,
    *,
    event: Event | None = None,
    server: str | None = None,
    wait_s: float | None = None,
) -> Call[Superseded]:
    """Replace a memory: `text` becomes a new one, and reads leave the old one out. `delete` of the new one undoes it.

    `event` has further fields of the new memory's event; `wait_s` as in `add`. Raises BadRequest when it can never
    become a memory.
    """
    fields = {"id": uuid.uuid4().hex, **(event or {}), "text": text}
    waiting = {} if wait_s is None else {"wait": "indexed", "timeout_ms": milliseconds(wait_s)}
    return write_call(
        Superseded,
        f"/v1/memories/{quoted(memory_id, 'memory_id')}/supersede",
        {**fields, **given(server=server)},
        params={"agent_id": agent_id, **waiting},
        wait_s=wait_s,
    )


def relations(agent_id: str, limit: int = 100) -> Call[list[Relation]]:
    """With whom the agent has to do, at most 1,000: over `about` and `player` of its memories, the most memories first.

    `valence` is the sum of that number of the metadata, None where no float can hold it.
    """
    decode = decoder(Relations)
    path = f"/v1/agents/{quoted(agent_id)}/relations"
    return Call(lambda reply: decode(reply).relations, "GET", path, params={"limit": str(limit)})
