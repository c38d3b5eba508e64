"""Where the routes for operators get their answers from (lorestream.http.operator_routes)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from lorestream import audit, limits
from lorestream.access import key_file
from lorestream.access.key_file import KeyScope
from lorestream.admin import AdminTasks, tasks_by_name
from lorestream.admin.cache import cache_clear_task
from lorestream.admin.dead_letters import DeadLetters
from lorestream.admin.task_runs import TaskRuns
from lorestream.cli.doctor.machine import doctor_task
from lorestream.cli.serve.pipeline import PipelineView
from lorestream.cli.setup.settings import effective
from lorestream.errors import Misconfigured, OperationRefused
from lorestream.http import admin_routes, operator_routes
from lorestream.http.operator_schemas import (
    AuditAnswer,
    AuditLine,
    FixedLimit,
    KeyRow,
    KeysAnswer,
    SettingRow,
    SettingsAnswer,
    TaskRun,
    TasksAnswer,
)
from lorestream.http.readiness import ReadinessCheck, ReadinessChecks
from lorestream.http.request import MAX_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorestream.http.operation import Operation
    from lorestream.settings import Settings
    from lorestream.wiring import QueryParts
    from stream_workers.worker import Worker  # a second of imports that a query service does not need


def operations(
    service: str,
    parts: QueryParts,
    checks: Sequence[ReadinessCheck],
    tasks: AdminTasks,
    worker: Worker | None = None,
) -> list[Operation]:
    """The routes for operators of a service, and its admin tasks. `worker`: that of this process, if it has one."""
    runs = TaskRuns()
    pipeline = PipelineView(service, parts, ReadinessChecks(checks, parts.metrics), worker)

    async def answer_tasks() -> TasksAnswer:
        found = [
            TaskRun(run.task, run.state, run.started_at, run.ended_at, run.progress, run.outcome, run.error)
            for run in runs.newest()
        ]
        return TasksAnswer(sorted(tasks), found)

    sources = operator_routes.OperatorSources(
        pipeline=pipeline.read,
        settings=lambda: _in_thread(lambda: _settings(parts.settings)),
        keys=lambda: _in_thread(lambda: read_keys(parts.settings)),
        audit=_audit,
        tasks=answer_tasks,
    )
    return [*operator_routes.operations(sources), *admin_routes.operations(tasks, runs)]


def tasks_of_query_service(parts: QueryParts) -> AdminTasks:
    """The admin tasks that a query service can carry out: those that look, and the clearing of the cache.

    What changes the log or the index needs the settings of a worker, and runs in the process of its verb.
    """
    dead_letters = DeadLetters(parts.log, parts.ledger, lambda: parts.store).tasks()
    return tasks_by_name(
        *(task for task in dead_letters if task.name in {"dlq-ls", "dlq-show"}),
        cache_clear_task(parts.cache),
        doctor_task(parts.settings),
    )


async def _in_thread(read: Callable[[], operator_routes.Answer]) -> operator_routes.Answer:
    """What `read` returns, which blocks. A file that is wrong is refused with the message, and is not an error of ours."""
    try:
        return await asyncio.to_thread(read)
    except Misconfigured as error:
        raise OperationRefused(str(error)) from error


def _settings(used: Settings) -> SettingsAnswer:
    rows = [SettingRow(one.name, one.value, one.origin) for one in effective(os.environ, used)]
    return SettingsAnswer(rows, _fixed_limits())


def _fixed_limits() -> list[FixedLimit]:
    return [
        FixedLimit("events of one request", limits.MAX_EVENTS, "events"),
        FixedLimit("body of a request, inflated", MAX_BODY_BYTES, "bytes"),
        FixedLimit("one event", limits.MAX_EVENT_BYTES, "bytes"),
        FixedLimit("one event with recall false", limits.MAX_RECORD_BYTES, "bytes"),
        FixedLimit("agent id", limits.MAX_AGENT_ID_CHARS, "characters"),
        FixedLimit("player name", limits.MAX_PLAYER_CHARS, "characters"),
        FixedLimit("type of an event", limits.MAX_TYPE_CHARS, "characters"),
    ]


def read_keys(settings: Settings) -> KeysAnswer:
    """The keys of the file in the settings, without their hashes. Blocks. Raises Misconfigured."""
    path = settings.api_keys_file
    if path is None:
        return KeysAnswer(None, [])
    now = datetime.now(UTC)
    rows = [
        KeyRow(
            key.id,
            key.state(now),
            key.tenant,
            [scope for scope in KeyScope if scope in key.scopes],
            key.label,
            key.created,
            key.expires,
            key.revoked,
        )
        for key in key_file.read(path)[1]
    ]
    return KeysAnswer(str(path), rows)


async def _audit() -> AuditAnswer:
    return AuditAnswer([msgspec.convert(line, AuditLine) for line in audit.newest()])
