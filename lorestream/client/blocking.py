"""MemoryClient: the client for programs with threads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2
import stamina

from lorestream.client import calls, corrections, documents, insight, learning, records
from lorestream.client import rewinds as rewinding
from lorestream.client import webhooks as hooks
from lorestream.client.call import Call, Reply, given
from lorestream.client.encoding import encoded
from lorestream.client.endpoint import Endpoint, RetryBudget, as_method
from lorestream.client.exceptions import api_error
from lorestream.client.streams import MemoryStream

STREAM_TIMEOUT_S = 60.0
"""The reports of a task have failed after this time without data: the server sends an empty line every 10 s."""


def json_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of NDJSON that are complete and not empty.

    They end with a line feed alone: texts in JSON may contain U+2028 and other characters that end a line elsewhere.
    """
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())


def before(end: float, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks. Raises TimeoutError at the first one that comes after `end` of time.monotonic()."""
    for chunk in chunks:
        if time.monotonic() > end:
            raise TimeoutError("the response did not end in time")
        yield chunk


P = ParamSpec("P")
T = TypeVar("T")


def _method(build: Callable[P, Call[T]]) -> Callable[Concatenate[MemoryClient, P], T]:
    def method(client: MemoryClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.send(build(*args, **kwargs))

    return as_method(method, build)


class MemoryClient(Endpoint[httpx2.Client]):
    """A client for programs with threads, which may share one. `calls`, `records`, `documents`, `insight`, `learning` and `rewinds` document its methods.

    An attempt may exceed its timeout by one read, and by the time for a connection: the clock is looked at whenever a
    piece of the content arrives. Headers that trickle in are not limited as a whole.
    """

    add = _method(calls.add)
    add_batch = _method(calls.add_batch)
    supersede = _method(corrections.supersede)
    delete = _method(calls.delete)
    forget = _method(calls.forget)
    forget_player = _method(calls.forget_player)
    erasure_done = _method(calls.erasure_done)
    erasures = _method(calls.erasures)
    search = _method(calls.search)
    context = _method(calls.context)
    get = _method(calls.get)
    get_many = _method(calls.get_many)
    recent = _method(calls.recent)
    summary = _method(calls.summary)
    relations = _method(corrections.relations)
    agents = _method(calls.agents)
    check = _method(calls.check)
    ready = _method(calls.ready)
    version = _method(calls.version)

    rewind = _method(rewinding.rewind)
    undo_rewind = _method(rewinding.undo_rewind)
    find_rewind = _method(rewinding.find_rewind)
    rewind_size = _method(rewinding.rewind_size)
    rewinds = _method(rewinding.rewinds)

    message = _method(records.message)
    messages = _method(records.messages)
    tool = _method(records.tool)
    reward = _method(records.reward)
    rewards = _method(records.rewards)
    interaction = _method(records.interaction)
    interactions = _method(records.interactions)
    put_state = _method(records.put_state)
    state = _method(records.state)
    states = _method(records.states)
    aggregate = _method(records.aggregate)

    explain = _method(insight.explain)
    places = _method(insight.places)
    likeness = _method(insight.likeness)

    create_webhook = _method(hooks.create_webhook)
    webhooks = _method(hooks.webhooks)
    delete_webhook = _method(hooks.delete_webhook)
    resume_webhook = _method(hooks.resume_webhook)
    try_webhook = _method(hooks.try_webhook)

    put_entity = _method(documents.put_entity)
    patch_entity = _method(documents.patch_entity)
    delete_entity = _method(documents.delete_entity)
    rollback = _method(documents.rollback)
    entity = _method(documents.entity)
    entities = _method(documents.entities)
    versions = _method(documents.versions)
    entity_write = _method(documents.entity_write)

    q_update = _method(learning.q_update)
    q_values = _method(learning.q_values)
    q_table = _method(learning.q_table)
    q_write = _method(learning.q_write)
    put_policy = _method(learning.put_policy)
    policy = _method(learning.policy)
    policy_versions = _method(learning.policy_versions)
    policy_write = _method(learning.policy_write)
    rollback_policy = _method(learning.rollback_policy)
    delete_policy = _method(learning.delete_policy)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Send a call that a function of `lorestream.client.calls` has built; return its result."""
        return self._read(call, self._reply(call))

    def _reply(self, call: Call[Any]) -> Reply:
        budget = self._retry_budget(call)
        for attempt in stamina.retry_context(budget.backoff, attempts=None, timeout=None):
            with attempt:
                timeout_s = budget.timeout_s()
                end = time.monotonic() + timeout_s
                with self._connection_errors(self._base_url(call)):
                    response = self._http.send(self._request(call, timeout_s), stream=True)
                    with contextlib.closing(response):
                        content = b"".join(before(end, response.iter_bytes()))
                return self._success(call, response, content)
        raise AssertionError  # unreachable: the last attempt raises

    def stream(
        self,
        agent_id: str | None = None,
        *,
        player: str | None = None,
        type: str | None = None,  # noqa: A002 (the parameter's name in the contract)
        last_event_id: str | None = None,
    ) -> MemoryStream:
        """Memories as they become findable, without end: of an agent, of a player, of a type, or all.

        Begins now, or behind `last_event_id` of an earlier stream. All of them need the scope admin where there are
        keys. A connection that breaks is resumed without a gap; raises Unreachable when there is none for
        `retry_timeout_s`.
        """
        return MemoryStream(
            partial(self._connect, given(agent_id=agent_id, player=player, type=type)), last_event_id
        )

    def _connect(self, params: Mapping[str, str], last_event_id: str | None) -> httpx2.Response:
        budget = RetryBudget(self._retry_timeout_s, self._timeout_s)
        for attempt in stamina.retry_context(budget.backoff, attempts=None, timeout=None):
            with attempt, self._connection_errors(self.query_url):
                request = self._stream_request(params, last_event_id, budget.timeout_s())
                response = self._http.send(request, stream=True)
                if response.is_success:
                    return response
                with contextlib.closing(response):
                    raise api_error(response.status_code, response.read(), self.query_url)
        raise AssertionError  # unreachable: the last attempt raises

    def reports(self, path: str, arguments: Mapping[str, Any]) -> Generator[bytes]:
        """Run an admin task (see `lorestream.admin`); yield its reports, one JSON text each."""
        request = self._http.build_request(
            "POST",
            self.url + path,
            content=encoded(arguments),
            headers={"Content-Type": "application/json"},
            timeout=STREAM_TIMEOUT_S,
        )
        yield from self._lines(request)

    def _lines(self, request: httpx2.Request) -> Generator[bytes]:
        with self._connection_errors(self.url):
            response = self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    raise api_error(response.status_code, response.read(), self.url)
                yield from json_lines(response.iter_bytes())
            finally:
                response.close()

    def _open(self, headers: Mapping[str, str], limits: httpx2.Limits, *, trust_env: bool) -> httpx2.Client:
        return httpx2.Client(headers=headers, limits=limits, trust_env=trust_env)
