"""The workers' Faust app: the shell in which the indexer lives.

    lorestream worker                              what most people want
    faust -A stream_workers.faust_app worker   the same, for those at home in Faust

Faust starts and stops the service, and takes the process down when it crashes. It has no agents and consumes
nothing: its consumer acknowledges what failed, and its committer can step over unfinished records (docs/adr).
The indexer reads the log by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import faust
from faust.app.base import BootStrategy
from mode import Service

from lorestream.settings import Settings, load_settings
from lorestream.telemetry import set_up_logging
from lorestream.wiring import WorkerParts, open_worker
from stream_workers.worker import Worker


class _WithoutKafka(BootStrategy):
    enable_kafka = False
    enable_web = False


class Shell(faust.App):
    """A Faust app that runs services only."""

    BootStrategy = _WithoutKafka

    def _create_directories(self) -> None:
        """None: they are for tables."""


class Indexing(Service):
    """Feeds the store from the log, on parts that it opens at its start and closes at its end."""

    def __init__(self, *, settings: Settings | None = None, burst: bool = False, **options: Any) -> None:  # noqa: ANN401
        """`burst`: end when the log is drained. Without settings, those of the environment count."""
        super().__init__(**options)
        self._settings = settings
        self._burst = burst
        self._worker: Worker | None = None
        self._error: Exception | None = None
        self._over = asyncio.Event()

    @property
    def parts(self) -> WorkerParts:
        """What it runs on, once it has started."""
        assert self._worker is not None, "not started"
        return self._worker.parts

    @property
    def worker(self) -> Worker:
        """The work itself, once it has started."""
        assert self._worker is not None, "not started"
        return self._worker

    async def on_start(self) -> None:
        """Open the parts, and begin. Raises Misconfigured."""
        if self._settings is None:
            self._settings = load_settings()
            set_up_logging(self._settings.log_format, self._settings.log_level)
        parts = await self.add_async_context(open_worker(self._settings))
        self._worker = Worker(parts)

    @Service.task
    async def _index(self) -> None:
        """An error of it crashes the service, and with it the app."""
        try:
            await self.worker.run(burst=self._burst)
        except Exception as error:
            self._error = error
            raise
        finally:
            self._over.set()

    async def on_stop(self) -> None:
        """Finish the batch in hand, commit, and leave the group."""
        if self._worker is not None:
            self._worker.stop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), Worker.STOP_S)

    async def ended(self) -> None:
        """Return when the work has ended; raise what ended it."""
        await self._over.wait()
        if self._error is not None:
            raise self._error


app = Shell("lorestream")
app.service(Indexing)
