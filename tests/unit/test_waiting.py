"""A service that starts before its servers waits for them, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from lorestream.errors import Misconfigured, Unavailable
from lorestream.wiring.waiting import START_WAIT_S, when_available


class Server:
    """Answers at `up_at`, seconds on a clock that only the pauses move."""

    def __init__(self, up_at: float) -> None:
        self.up_at, self.now, self.open = up_at, 0.0, 0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert self.open == 0
        self.now += seconds

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[str]:
        self.open += 1
        try:
            if self.now < self.up_at:
                raise Unavailable("Kafka is unavailable")
            yield "connection"
        finally:
            self.open -= 1

    def waited(self) -> contextlib.AbstractAsyncContextManager[str]:
        return when_available(self.connect, monotonic=self.monotonic, sleep=self.sleep)


async def test_it_waits_until_the_server_is_there_and_says_so_once() -> None:
    server = Server(up_at=20.0)
    with capture_logs() as logs:
        async with server.waited() as opened:
            assert (opened, server.open) == ("connection", 1)
    assert server.open == 0
    assert [(one["log_level"], one["problem"]) for one in logs] == [("warning", "Kafka is unavailable")]


async def test_it_gives_up_after_a_bounded_time() -> None:
    server = Server(up_at=3600.0)
    with pytest.raises(Unavailable, match="Kafka"):
        await server.waited().__aenter__()
    assert START_WAIT_S / 2 < server.now <= START_WAIT_S


async def test_an_outage_after_the_start_and_a_wrong_setting_are_not_waited_for() -> None:
    server = Server(up_at=0.0)
    with pytest.raises(Unavailable, match="later"):
        async with server.waited():
            raise Unavailable("later")

    def wrong() -> contextlib.AbstractAsyncContextManager[str]:
        raise Misconfigured("no such setting")

    with pytest.raises(Misconfigured):
        await when_available(wrong, sleep=server.sleep).__aenter__()
    assert server.now == 0.0
