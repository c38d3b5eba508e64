"""Tasks for operators: dead letters, exports and imports, snapshots, cache. Replay and alias are AdminTasks, too.

    __init__.py           AdminTask and the reports that a task yields
    dead_letters.py       list, show, retry and drop dead letters; removes the erased ones
    dead_letter_view.py   one dead letter as JSON, decoded as far as possible
    exports.py            all memories, or those of some agents, as rows
    imports.py            exported memories back into the log
    export_format.py      one memory as one line of JSON, checked when it is read
    task_runs.py          how the last call of each task went
    cache.py              clears the answer cache
    snapshots.py          takes snapshots, on request and by schedule
    snapshot_manifest.py  the file that describes a snapshot
    snapshot_files.py     the files of a snapshot: copies, checksums

A task is an async generator of reports: progress, remarks, rows of data, and one Outcome at its end. In the embedded
shape `lorestream up` runs it and streams the reports over HTTP; in the distributed shape the command line runs it in
its own process.

    tasks = tasks_over(parts)  # lorestream.cli.admin.tasks
    task = tasks["dlq-ls"]
    arguments = msgspec.convert({"limit": 10}, task.arguments)
    async with aclosing(task.run(arguments)) as reports:
        async for report in reports:
            match report:
                case Row(value):
                    print(value["id"], value["reason"])
                case Outcome(value):
                    print(value["total"], "dead letters")
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from lorestream.access.authentication import Forbidden, Principal
from lorestream.access.key_file import KeyScope


class NoArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of a task that takes none."""


class Progress(msgspec.Struct, frozen=True, tag_field="report", tag="progress", omit_defaults=True):
    """How far a task is: `done` of `total` in `unit`. `total` is None while it is unknown."""

    doing: str
    """The current step, such as "copying": one progress bar for each."""
    done: int
    total: int | None = None
    unit: str = ""
    """Plural noun, such as "records". Empty: no rate is shown."""
    left_s: float | None = None
    """Estimated time to the end, in seconds."""


class Remark(msgspec.Struct, frozen=True, tag_field="report", tag="remark"):
    """One sentence for the operator: a warning or a note."""

    text: str


class Row(msgspec.Struct, frozen=True, tag_field="report", tag="row"):
    """One item of the task's data: a dead letter, a memory, a collection."""

    value: dict[str, Any]


class Outcome(msgspec.Struct, frozen=True, tag_field="report", tag="outcome"):
    """The result of a task, always its last report: counts, names, durations in seconds."""

    value: dict[str, Any]


class Failure(msgspec.Struct, frozen=True, tag_field="report", tag="failure"):
    """The error message of a task that failed. Only sent over HTTP; in process the generator raises instead."""

    message: str


Report: TypeAlias = Progress | Remark | Row | Outcome
ReportStream: TypeAlias = AsyncGenerator[Report]


TENANT_SCOPES = (KeyScope.ADMIN, KeyScope.OPERATOR)
"""The scopes of tasks that `only_own_tenant` limits for callers without the scope operator."""


def only_own_tenant(tenant: str | None, caller: Principal) -> str | None:
    """The tenant that a task is limited to, of the one in its arguments; None is all tenants.

    A caller without the scope operator is limited to its own tenant. Raises Forbidden when it asks for another one.
    """
    if KeyScope.OPERATOR in caller.scopes:
        return tenant
    if tenant not in {None, caller.tenant}:
        raise Forbidden(
            f"this key is of the tenant {caller.tenant}: another tenant needs a key with the scope operator"
        )
    return caller.tenant


def _unchanged(arguments: Any, _caller: Principal) -> Any:  # noqa: ANN401 (each task has a type of its own)
    return arguments


@dataclass(frozen=True, slots=True)
class AdminTask:
    """One operation for operators: its name in routes and verbs, the type of its arguments, and the function.

    `run` raises LorestreamError: InvalidRequest for wrong arguments, OperationRefused for what would lose data.
    """

    name: str
    arguments: type[msgspec.Struct]
    """Must forbid unknown fields."""
    run: Callable[[Any], ReportStream]
    scopes: tuple[KeyScope, ...] = (KeyScope.OPERATOR,)
    """A caller over the network needs a key with one of these."""
    restrict: Callable[[Any, Principal], Any] = _unchanged
    """Returns the arguments limited to what this caller over the network may do. Raises Forbidden, OperationRefused."""


AdminTasks: TypeAlias = Mapping[str, AdminTask]


def tasks_by_name(*tasks: AdminTask) -> AdminTasks:
    """The tasks under their names."""
    return {task.name: task for task in tasks}
