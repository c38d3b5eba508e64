"""A client of a running Engram for Python programs.

    with MemoryClient("http://127.0.0.1:8080") as memories:
        memories.add("npc:woodcutter-1", "pine trees stand north of the lake", wait_s=5)
        for memory in memories.search("npc:woodcutter-1", "where are trees").memories:
            print(memory.score, memory.text)

What can go wrong is drawn in `engram.answers`. 429, 503 and broken connections are tried again, with the same
event ids, until `patience_s` has passed: an event that is sent twice becomes one memory.
"""

from __future__ import annotations

import ipaddress
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2
import msgspec
import stamina

from engram import __version__
from engram.answers import (
    Agents,
    AgentTotal,
    ApiError,
    Document,
    Erasure,
    ErasureState,
    Event,
    FoundMemory,
    Health,
    NotFound,
    Page,
    Readiness,
    Receipt,
    Reject,
    Rejected,
    SearchAnswer,
    Unreachable,
    refusal,
    retry_delay,
)
from engram.errors import Misconfigured

__all__ = [
    "AgentTotal",
    "ApiError",
    "Erasure",
    "Event",
    "FoundMemory",
    "MemoryClient",
    "NotFound",
    "Page",
    "Readiness",
    "Receipt",
    "Reject",
    "Rejected",
    "SearchAnswer",
    "Unreachable",
]

DEFAULT_URL = "http://127.0.0.1:8080"

UNAVAILABLE = 503

TAIL_SILENCE_S = 60.0
"""A stream that says nothing for so long is dead: an Engram sends an empty line every 10 s."""

T = TypeVar("T")


class MemoryClient:
    """Writes to `url`, reads from `query_url` (the same where it is None). Safe to share between threads."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        query_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        patience_s: float = 30.0,
    ) -> None:
        self.url = url.rstrip("/")
        self.query_url = (query_url or url).rstrip("/")
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        headers = {"User-Agent": f"engram/{__version__}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        # A proxy from the environment is for what lies beyond this machine.
        here = _is_loopback(self.url) and _is_loopback(self.query_url)
        self._http = httpx2.Client(headers=headers, timeout=timeout_s, trust_env=not here)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- writes ------------------------------------------------------------------------------------------

    def add(
        self, agent_id: str, text: str, *, event: Event | None = None, wait_s: float | None = None
    ) -> Receipt:
        """Remember one text; `event` holds whatever else belongs to it.

        `wait_s`: wait until it can be found, at most so long; `Receipt.indexed` tells whether it can.
        Raises Rejected when it can never become a memory, else ApiError or Unreachable.
        """
        receipt = self.add_batch([{**(event or {}), "agent_id": agent_id, "text": text}], wait_s=wait_s)
        for reject in receipt.rejected:
            raise Rejected(reject.message, status=202, code=reject.code)
        return receipt

    def add_batch(
        self, events: Sequence[Event], *, server: str | None = None, wait_s: float | None = None
    ) -> Receipt:
        """Remember at most 1,000 events (1 MiB) in one request; look at `Receipt.rejected` afterwards.

        Events without an id get one here, so that trying again makes no second memory.
        """
        named = [event if event.get("id") else {**event, "id": uuid.uuid4().hex} for event in events]
        body = {"events": named, **({"server": server} if server is not None else {})}
        params = {} if wait_s is None else {"wait": "indexed", "timeout_ms": math.ceil(wait_s * 1000)}
        return self._call(Receipt, "POST", self.url, "/v1/events", body=body, params=params, wait_s=wait_s)

    def delete(self, memory_id: str, agent_id: str) -> Erasure:
        """Delete one memory. Its id stays deleted, whatever arrives later."""
        return self._erase({"memory_id": memory_id, "agent_id": agent_id})

    def forget(self, agent_id: str) -> Erasure:
        """Erase every memory that the agent has so far."""
        return self._erase({"agent_id": agent_id})

    def forget_player(self, player: str) -> Erasure:
        """Erase every memory about the player so far, of any agent, and the agents named after it."""
        return self._erase({"player": player})

    def erasure_done(self, erasure: Erasure) -> bool:
        """Whether nothing shows any more what the erasure takes."""
        path = f"/v1/erasures/{_part(erasure.erasure_id)}"
        return self._call(ErasureState, "GET", self.url, path).state == "done"

    def _erase(self, subject: Mapping[str, str]) -> Erasure:
        return self._call(Erasure, "POST", self.url, "/v1/erasures", body=subject)

    # --- reads -------------------------------------------------------------------------------------------

    def search(
        self,
        agent_id: str | Sequence[str],
        query: str,
        k: int = 5,
        *,
        filters: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        after: str | None = None,
        wait_ms: float | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> SearchAnswer:
        """The k memories of one agent, or of several, that answer the query best.

        `after` is the token of a write that must be in the answer, waited for at most `wait_ms`; `more` holds
        any other field of the search: near, mode, weights, explain.
        """
        body: dict[str, Any] = {"query": query, "k": k, **(more or {})}
        body["agent_id" if isinstance(agent_id, str) else "agent_ids"] = agent_id
        given = {"filters": filters, "min_score": min_score, "after": after, "wait_ms": wait_ms}
        body |= {name: value for name, value in given.items() if value is not None}
        wait_s = (wait_ms or 0) / 1000
        return self._call(
            SearchAnswer, "POST", self.query_url, "/v1/memories/search", body=body, wait_s=wait_s
        )

    def get(self, memory_id: str, agent_id: str) -> FoundMemory:
        """One memory. Raises NotFound."""
        path = f"/v1/memories/{_part(memory_id)}"
        return self._call(FoundMemory, "GET", self.query_url, path, params={"agent_id": agent_id})

    def recent(self, agent_id: str, limit: int = 20, *, cursor: str | None = None, **params: str) -> Page:
        """The newest memories, `limit` of them; `params` are the route's others (type, since, filters...)."""
        wanted = {**params, "limit": limit, **({"cursor": cursor} if cursor else {})}
        return self._call(
            Page, "GET", self.query_url, f"/v1/agents/{_part(agent_id)}/memories", params=wanted
        )

    def agents(self, limit: int = 100) -> list[AgentTotal]:
        """The agents with the most memories."""
        return self._call(Agents, "GET", self.query_url, "/v1/agents", params={"limit": limit}).agents

    # --- the system --------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise Unreachable when no Engram answers at `url`, at once and without trying again."""
        self._answer(Health, self.url, self._request("GET", f"{self.url}/health", timeout_s=self._timeout_s))

    def ready(self) -> Readiness:
        """Whether the Engram at `url` can do its job. Raises Unreachable, without trying again."""
        request = self._request("GET", f"{self.url}/ready", timeout_s=self._timeout_s)
        return self._answer(Readiness, self.url, request, also=UNAVAILABLE)

    def version(self) -> str:
        """The version of the Engram at `url`."""
        return self._call(Document, "GET", self.url, "/openapi.json").info.version

    def tail(self) -> Iterator[dict[str, Any]]:
        """The memories as they become findable, without end, from now on."""
        request = self._request(
            "GET", f"{self.url}/v1/admin/tail", timeout_s=TAIL_SILENCE_S, params={"since": "now"}
        )
        try:
            answer = self._http.send(request, stream=True)
            try:
                if not answer.is_success:
                    raise refusal(answer.status_code, answer.read(), self.url)
                for line in answer.iter_lines():
                    if line.strip():
                        yield msgspec.json.decode(line, type=dict[str, Any])
            finally:
                answer.close()
        except httpx2.TransportError as error:
            raise _unreachable(self.url, error) from error

    # --- one call ----------------------------------------------------------------------------------------

    def _call(
        self,
        kind: type[T],
        method: str,
        base: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str | int] | None = None,
        wait_s: float | None = None,
    ) -> T:
        timeout_s = self._timeout_s + (wait_s or 0)
        for attempt in stamina.retry_context(
            retry_delay, attempts=None, timeout=self._patience_s, wait_jitter=0.1
        ):
            with attempt:
                request = self._request(method, base + path, timeout_s=timeout_s, body=body, params=params)
                return self._answer(kind, base, request)
        raise AssertionError  # the last attempt raises

    def _request(
        self,
        method: str,
        url: str,
        *,
        timeout_s: float,
        body: object = None,
        params: Mapping[str, str | int] | None = None,
    ) -> httpx2.Request:
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        try:
            return self._http.build_request(
                method, url, content=content, params=params, headers=headers, timeout=timeout_s
            )
        except httpx2.InvalidURL as error:
            raise _not_an_address(url) from error

    def _answer(self, kind: type[T], base: str, request: httpx2.Request, *, also: int | None = None) -> T:
        try:
            answer = self._http.send(request)
        except httpx2.UnsupportedProtocol as error:
            raise _not_an_address(base) from error
        except httpx2.TransportError as error:
            raise _unreachable(base, error) from error
        if not answer.is_success and answer.status_code != also:
            raise refusal(answer.status_code, answer.content, base)
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"what answers at {base} is not an engram ({error})") from error


def _unreachable(base: str, error: Exception) -> Unreachable:
    if isinstance(error, httpx2.ConnectError):
        return Unreachable(f"no engram at {base}: start one with `engram up`")
    return Unreachable(f"the engram at {base} did not answer ({str(error) or type(error).__name__})")


def _not_an_address(base: str) -> Misconfigured:
    return Misconfigured(f"{base!r} is not an address: one looks like {DEFAULT_URL}")


def _part(text: str) -> str:
    """One part of a path; dots too, because `..` would leave the path."""
    return quote(text, safe="").replace(".", "%2E")


def _is_loopback(url: str) -> bool:
    try:
        host = httpx2.URL(url).host
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except (httpx2.InvalidURL, ValueError):
        return False
