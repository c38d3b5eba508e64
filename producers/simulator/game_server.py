"""One simulated game server: sends its batches in order, again and again until they are answered."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Sequence

import httpx2
import msgspec

from lorestream.client.models import api_error
from producers.simulator.ledger import Account, Receipt
from producers.simulator.plan import Batch, Plan, server_name

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
LONGEST_RETRY_AFTER_S = 60.0
"""A gateway that asks for more is not believed."""

_LATER = frozenset({408, 429})
_SETUP = frozenset({401, 403, 404})
_FAULT = 500


class Pace:
    """The time of a run, in seconds from its beginning."""

    def __init__(self) -> None:
        self._origin = math.inf

    def begin(self, in_s: float = 0.0) -> None:
        """Let the run begin in so many seconds."""
        self._origin = time.monotonic() + in_s

    def now(self) -> float:
        """How long the run has been going on; below 0 before its beginning."""
        return time.monotonic() - self._origin

    async def until(self, moment: float) -> None:
        """Wait for that moment, where it has not passed."""
        await asyncio.sleep(max(0.0, moment - self.now()))


class _Refusal(msgspec.Struct):
    """No, for good, to a whole request."""

    kind: str


class _Failure(msgspec.Struct):
    """Not now. `elsewhere`: another gateway may do better at once. `asked_s`: the pause that this one wants."""

    kind: str
    elsewhere: bool = False
    asked_s: float = 0.0


class GameServer:
    """Sends as the Luanti mod does: one request in flight, so that the order stays.

    The gateways at `urls` take turns; where one is gone the next is asked at once. Pauses are seeded.
    """

    def __init__(
        self,
        number: int,
        plan: Plan,
        urls: Sequence[str],
        *,
        http: httpx2.AsyncClient,
        pace: Pace,
        account: Account,
    ) -> None:
        self.in_hand = 0
        """Events of a request that was sent and not answered for."""
        self._head = b'{"server":"%b","events":[' % server_name(number).encode()
        self._chance = random.Random(f"{plan.seed}:{number}")  # noqa: S311 (a game, no secret)
        self._turns = itertools.cycle([*urls[number % len(urls) :], *urls[: number % len(urls)]])
        self._gateways = len(urls)
        self._http = http
        self._pace = pace
        self._account = account
        self._free_at = -math.inf

    async def deliver(self, batch: Batch) -> None:
        """Send a batch that is due until it is answered for.

        Raises ApiError or Unreachable when the gateway says that nothing of this sender will ever be accepted.
        """
        await self._pace.until(max(batch.due, self._free_at))
        now = self._pace.now()
        self._account.send(batch, now, late=now - max(batch.due, self._free_at))
        self.in_hand = len([one for one in batch.happenings if not one.again])
        body = self._head + b",".join([one.body for one in batch.happenings]) + b"]}"
        for attempt in itertools.count():
            answer = await self._attempt(body)
            self._free_at = self._pace.now()
            if isinstance(answer, Receipt):
                self._account.accept(batch, answer, self._free_at)
                self._free_at += min(answer.retry_after_ms / 1000, LONGEST_RETRY_AFTER_S)
                break
            if isinstance(answer, _Refusal):
                self._account.refuse(batch, answer.kind)
                break
            self._account.fail(batch, answer.kind)
            await asyncio.sleep(self._pause(attempt, answer))
        self.in_hand = 0

    def _pause(self, attempt: int, failure: _Failure) -> float:
        """Seconds until the next attempt: growing, never sooner than the gateway asked for."""
        if failure.elsewhere and attempt < self._gateways - 1:
            return 0.0
        delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 10))
        return max(delay * (0.5 + 0.5 * self._chance.random()), min(failure.asked_s, LONGEST_RETRY_AFTER_S))

    async def _attempt(self, body: bytes) -> Receipt | _Refusal | _Failure:
        self._account.requests.sent += 1
        url = next(self._turns)
        began = self._pace.now()
        try:
            answer = await self._http.post(url, content=body, headers=_JSON)
        except httpx2.TimeoutException:
            return _Failure("timeout", elsewhere=True)
        except httpx2.ConnectError:
            return _Failure("connect", elsewhere=True)
        except httpx2.TransportError:
            return _Failure("cut", elsewhere=True)
        self._account.answer.add(self._pace.now() - began)
        return _judge(answer, url)


_JSON = {"Content-Type": "application/json"}


def _judge(answer: httpx2.Response, url: str) -> Receipt | _Refusal | _Failure:
    status = answer.status_code
    if answer.is_success:
        try:
            return msgspec.json.decode(answer.content, type=Receipt)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _Failure("not_lorestream", elsewhere=True)
    error = api_error(status, answer.content, url)
    if status in _SETUP:
        raise error
    if status in _LATER or status >= _FAULT:
        asked_ms = getattr(error, "retry_after_ms", None) or 0.0
        return _Failure(f"http_{status}", elsewhere=False, asked_s=asked_ms / 1000)
    return _Refusal(f"http_{status}")
