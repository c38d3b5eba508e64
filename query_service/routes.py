"""What the routes of the query service share."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from query_service.queries import ResolvedAgents, resolve_agents
from query_service.schemas import AgentPath

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from lorestream.access.rate_limits import RateLimits
    from lorestream.http.request import ApiRequest
    from query_service.recall import Recall


class Routes:
    """The base of a class with one method per operation."""

    def __init__(self, recall: Callable[[], Recall], limits: RateLimits) -> None:
        """`recall` returns the Recall over the active collection."""
        self._current = recall
        self._limits = limits

    @property
    def _recall(self) -> Recall:
        """The Recall over the active collection. A read calls it once, so that it ends in the same collection."""
        return self._current()

    def _agent(self, request: ApiRequest) -> tuple[ResolvedAgents, str]:
        """The agent in the path, and its id as the caller wrote it."""
        name = request.path_params(AgentPath).agent_id
        return resolve_agents(self._recall.pseudonyms, request.tenant, [name]), name

    @contextmanager
    def _timed(self, api: str) -> Generator[None]:
        """Observe the duration of a read that is not cached."""
        started = time.perf_counter()
        yield
        self._recall.observe(api, "off", started)
