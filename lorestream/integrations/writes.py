"""Writes and deletions that return once reads show them, which the frameworks expect of what they store in."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import cast

from lorestream.client import Event, Receipt, Rejected, calls
from lorestream.errors import Unavailable
from lorestream.integrations.steps import Steps

WAIT_S = 10.0
"""How long a write waits until reads show it."""
BATCH = 100
MAX_BATCH_BYTES = 500_000
"""What one request has at most: the server's limits are 1,000 events and 1 MiB."""


def add_all(events: Sequence[Event]) -> Steps[list[str]]:
    """Write the events in their order; the ids of their memories.

    Raises Rejected when one of them can never become a memory (those of requests before it are stored), and Unavailable
    when reads do not show them in time.
    """
    ids: list[str] = []
    for batch in _batches(events):
        receipt: Receipt = yield calls.add_batch(batch, wait_s=WAIT_S)
        for reject in receipt.rejected:
            number = len(ids) + reject.index + 1
            raise Rejected(
                f"number {number} of {len(events)}: {reject.message}", status=202, code=reject.code
            )
        if not receipt.indexed:
            raise Unavailable("what was written is stored, but cannot be read yet: the server is busy")
        ids += cast("list[str]", receipt.ids)
    return ids


def delete_all(agent_id: str, ids: Sequence[str]) -> Steps[None]:
    """Delete memories of an agent for ever. Raises Unavailable when reads may still show them."""
    token: str | None = None
    for memory_id in ids:
        token = (yield calls.delete(memory_id, agent_id)).token
    if token is not None:  # all in one partition: the last one comes after the others
        shown = yield calls.search(agent_id, k=1, after=token, wait_s=WAIT_S)
        if not shown.fresh:
            raise Unavailable("what was deleted is gone, but reads may show it for a moment")


def _batches(events: Sequence[Event]) -> Generator[Sequence[Event]]:
    """The events in their order, in requests below the limit of a body."""
    start, size = 0, 0
    for index, event in enumerate(events):
        length = len(json.dumps(event))
        size += length
        if index > start and (index - start >= BATCH or size > MAX_BATCH_BYTES):
            yield events[start:index]
            start, size = index, length
    if start < len(events):
        yield events[start:]
