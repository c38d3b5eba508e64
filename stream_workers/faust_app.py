"""The Faust app of the stream workers: the process around the worker.

    lorestream worker                              the usual way
    faust -A stream_workers.faust_app worker       the same, started by Faust's own command

Faust starts and stops the service, and ends the process when the service crashes. The app has no agents and consumes
no topic: Faust acknowledges events whose processing failed, and its committer can commit past unfinished records
(docs/adr). The indexer reads the log itself.
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
from lorestream.wiring.waiting import when_available
from stream_workers.worker import Worker


class _WithoutKafka(BootStrategy):
    enable_kafka = False
    enable_web = False


class Shell(faust.App):
    """A Faust app that runs services only."""

    BootStrategy = _WithoutKafka

    def _create_directories(self) -> None:
        """Do nothing: Faust needs directories for tables, and this app has no tables."""


class Indexing(Service):
    """Runs a Worker, on parts that it opens at its start and closes at its end."""

    def __init__(self, *, settings: Settings | None = None, burst: bool = False, **options: Any) -> None:  # noqa: ANN401
        """`burst`: end when the log is drained. `settings` None: read them from the environment."""
        super().__init__(**options)
        self._settings = settings
        self._burst = burst
        self._worker: Worker | None = None
        self._error: Exception | None = None
        self._worker_ended = asyncio.Event()

    @property
    def parts(self) -> WorkerParts:
        """The worker's parts. Available only after the start."""
        assert self._worker is not None, "not started"
        return self._worker.parts

    @property
    def worker(self) -> Worker:
        """The worker. Available only after the start."""
        assert self._worker is not None, "not started"
        return self._worker

    async def on_start(self) -> None:
        """Open the parts and start the worker. Raises Misconfigured, Unavailable."""
        if self._settings is None:
            self._settings = load_settings()
            set_up_logging(self._settings.log_format, self._settings.log_level)
        settings = self._settings
        parts = await self.add_async_context(when_available(lambda: open_worker(settings)))
        self._worker = Worker(parts)

    @Service.task
    async def _index(self) -> None:
        """Run the worker. An error crashes the service, and with it the app."""
        try:
            await self.worker.run(burst=self._burst)
        except Exception as error:
            self._error = error
            raise
        finally:
            self._worker_ended.set()

    async def on_stop(self) -> None:
        """Finish the current batch, commit, and leave the group."""
        if self._worker is not None:
            self._worker.stop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._worker_ended.wait(), Worker.STOP_TIMEOUT_S)

    async def ended(self) -> None:
        """Wait until the worker has ended. Raises the error that ended it."""
        await self._worker_ended.wait()
        if self._error is not None:
            raise self._error


app = Shell("lorestream")
app.service(Indexing)
