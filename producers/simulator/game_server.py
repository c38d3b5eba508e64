"""One simulated game server: sends its batches in order, and retries each until it is answered."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Sequence

import httpx2
import msgspec

from lorestream.client.exceptions import api_error
from producers.simulator.ledger import Receipt, Results
from producers.simulator.plan import Batch, Plan, server_name

MIN_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
MAX_RETRY_AFTER_S = 60.0
"""Upper bound for the `retry_after_ms` of a gateway, in seconds."""

_RETRYABLE = frozenset({408, 429})
_MISCONFIGURED = frozenset({401, 403, 404})
_SERVER_ERROR = 500


class RunClock:
    """The time of a run in seconds, 0 at its beginning."""

    def __init__(self) -> None:
        self._origin = math.inf

    def start(self, in_s: float = 0.0) -> None:
        """Set the beginning of the run to `in_s` seconds from now."""
        self._origin = time.monotonic() + in_s

    def now(self) -> float:
        """Seconds since the beginning; negative before it."""
        return time.monotonic() - self._origin

    async def sleep_until(self, moment: float) -> None:
        """Wait until `moment`; return at once if it has passed."""
        await asyncio.sleep(max(0.0, moment - self.now()))


class _Refusal(msgspec.Struct):
    """The gateway refused the whole request; a retry is pointless."""

    kind: str


class _Failure(msgspec.Struct):
    """The attempt failed; it will be retried.

    `try_next`: try the next gateway at once. `retry_after_s`: the pause that the gateway requested.
    """

    kind: str
    try_next: bool = False
    retry_after_s: float = 0.0


class GameServer:
    """Sends as the Luanti mod does: one request in flight, so that the order is kept.

    Requests rotate over the gateways at `urls`; if one cannot be reached, the next is tried at once. The jitter of
    the backoff is seeded.
    """

    def __init__(
        self,
        number: int,
        plan: Plan,
        urls: Sequence[str],
        *,
        http: httpx2.AsyncClient,
        clock: RunClock,
        results: Results,
    ) -> None:
        self.in_flight = 0
        """How many new events are in the request that is sent and not yet answered."""
        self._head = b'{"server":"%b","events":[' % server_name(number).encode()
        self._rng = random.Random(f"{plan.seed}:{number}")  # noqa: S311 (not a secret)
        self._urls = itertools.cycle([*urls[number % len(urls) :], *urls[: number % len(urls)]])
        self._gateways = len(urls)
        self._http = http
        self._clock = clock
        self._results = results
        self._ready_at = -math.inf

    async def deliver(self, batch: Batch) -> None:
        """Wait until `batch` is due, then send it until the gateway accepts or refuses it.

        Raises ApiError or Unreachable if the gateway will never accept anything from this sender.
        """
        await self._clock.sleep_until(max(batch.due, self._ready_at))
        now = self._clock.now()
        self._results.on_sent(batch, now, late=now - max(batch.due, self._ready_at))
        self.in_flight = len([one for one in batch.events if not one.resend])
        body = self._head + b",".join([one.body for one in batch.events]) + b"]}"
        for attempt in itertools.count():
            answer = await self._attempt(body)
            self._ready_at = self._clock.now()
            if isinstance(answer, Receipt):
                self._results.on_accepted(batch, answer, self._ready_at)
                self._ready_at += min(answer.retry_after_ms / 1000, MAX_RETRY_AFTER_S)
                break
            if isinstance(answer, _Refusal):
                self._results.on_refused(batch, answer.kind)
                break
            self._results.on_failed(batch, answer.kind)
            await asyncio.sleep(self._backoff_s(attempt, answer))
        self.in_flight = 0

    def _backoff_s(self, attempt: int, failure: _Failure) -> float:
        """Seconds until the next attempt: exponential with jitter, and at least what the gateway requested."""
        if failure.try_next and attempt < self._gateways - 1:
            return 0.0
        delay = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2 ** min(attempt, 10))
        return max(delay * (0.5 + 0.5 * self._rng.random()), min(failure.retry_after_s, MAX_RETRY_AFTER_S))

    async def _attempt(self, body: bytes) -> Receipt | _Refusal | _Failure:
        self._results.requests.sent += 1
        url = next(self._urls)
        started = self._clock.now()
        try:
            answer = await self._http.post(url, content=body, headers=_JSON)
        except httpx2.TimeoutException:
            return _Failure("timeout", try_next=True)
        except httpx2.ConnectError:
            return _Failure("connect", try_next=True)
        except httpx2.TransportError:
            return _Failure("cut", try_next=True)
        self._results.answer.add(self._clock.now() - started)
        return _outcome(answer, url)


_JSON = {"Content-Type": "application/json"}


def _outcome(answer: httpx2.Response, url: str) -> Receipt | _Refusal | _Failure:
    status = answer.status_code
    if answer.is_success:
        try:
            return msgspec.json.decode(answer.content, type=Receipt)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _Failure("not_lorestream", try_next=True)
    error = api_error(status, answer.content, url)
    if status in _MISCONFIGURED:
        raise error
    if status in _RETRYABLE or status >= _SERVER_ERROR:
        retry_after_ms = getattr(error, "retry_after_ms", None) or 0.0
        return _Failure(f"http_{status}", retry_after_s=retry_after_ms / 1000)
    return _Refusal(f"http_{status}")
