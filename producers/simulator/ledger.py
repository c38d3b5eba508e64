"""The results of a simulated load: counts and latencies, and a file of all accepted events."""

from __future__ import annotations

from typing import BinaryIO

import msgspec
import orjson

from lorestream import tokens
from lorestream.client.models import Reject
from lorestream.errors import InvalidToken
from lorestream.narrate import narrate
from producers.simulator.plan import Batch, PlannedEvent, server_name
from producers.simulator.report import EventFigures, Latencies, RequestFigures, count


class Receipt(msgspec.Struct):
    """The answer of a gateway to a write."""

    accepted: int
    rejected: list[Reject]
    ids: list[str | None]
    token: str
    retry_after_ms: float = 0


class Results:
    """The results of a run. All times are in seconds from its beginning.

    `ledger` gets every accepted event as a line of JSON: server, agent_id, id, memory_id (from the answer), text.
    `positions`: the highest offset written to each partition, from the tokens.
    """

    def __init__(self, ledger: BinaryIO | None = None) -> None:
        self.events = EventFigures()
        self.requests = RequestFigures()
        self.event, self.request, self.flush_wait, self.answer, self.sender_late = (
            Latencies() for _ in range(5)
        )
        self.positions: dict[int, int] = {}
        self.first_sent = 0
        """The number of new events that were sent at least once."""
        self.last_sent = self.last_accepted = 0.0
        """When new events were last sent, and last accepted."""
        self._ledger = ledger

    @property
    def completed(self) -> int:
        """The number of new events that were accepted, or never will be."""
        return self.events.accepted + self.events.rejected + self.events.refused

    def on_sent(self, batch: Batch, now: float, *, late: float) -> None:
        """A batch is sent for the first time, `late` seconds after it could have been."""
        if number := _new_events(batch):
            self.first_sent += number
            self.last_sent = now
        self.sender_late.add(late)
        for one in batch.events:
            self.flush_wait.add(batch.due - one.at)

    def on_failed(self, batch: Batch, kind: str) -> None:
        """An attempt failed, and will be retried."""
        count(self.requests.errors, kind)
        self.requests.retried += 1
        self.events.retried += len(batch.events)

    def on_refused(self, batch: Batch, kind: str) -> None:
        """The gateway refused the request; it is not retried."""
        count(self.requests.errors, kind)
        self.events.refused += _new_events(batch)

    def on_accepted(self, batch: Batch, receipt: Receipt, now: float) -> None:
        """The gateway accepted the batch at `now`."""
        self.requests.accepted += 1
        if _new_events(batch):
            self.last_accepted = now
        self.request.add(now - batch.due)
        for reject in receipt.rejected:
            count(self.events.rejects, reject.code)
        lines: list[bytes] = []
        for one, memory_id in zip(batch.events, receipt.ids, strict=True):
            self.event.add(now - one.at)
            if one.resend:
                self.events.resent += memory_id is not None
            elif memory_id is None:
                self.events.rejected += 1
            else:
                self.events.accepted += 1
                if self._ledger is not None:
                    lines.append(_line(one, memory_id))
        if self._ledger is not None:
            self._ledger.write(b"".join(lines))
            self._ledger.flush()
        self._note_positions(receipt.token)

    def _note_positions(self, token: str) -> None:
        try:
            positions = tokens.parse_token(token)
        except InvalidToken:
            count(self.requests.errors, "invalid_token")
            return
        for partition, offset in positions.items():
            self.positions[partition] = max(offset, self.positions.get(partition, -1))


def _new_events(batch: Batch) -> int:
    return sum(not one.resend for one in batch.events)


def _line(one: PlannedEvent, memory_id: str) -> bytes:
    event = orjson.loads(one.body)
    text = event.get("text") or narrate(event["type"], event["data"], by_player="player" in event)
    line = {"server": server_name(one.server), "agent_id": event["agent_id"], "id": event["id"]}
    return orjson.dumps(line | {"memory_id": memory_id, "text": text}, option=orjson.OPT_APPEND_NEWLINE)
