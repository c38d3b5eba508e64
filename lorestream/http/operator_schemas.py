"""Answer types of the routes for operators: the pipeline, settings, keys, audit lines and admin tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct


class Timing(Struct, frozen=True):
    """The durations of one stage since the process started, in seconds; of whole queries "search, whole" and so on.

    `p50_s` and `p95_s` are estimated from the buckets, and null without an observation. `buckets`: upper bound (null =
    no bound) and how many observations are at or below it. The difference of two answers has those in between.
    """

    stage: str
    count: int
    sum_s: float
    p50_s: float | None
    p95_s: float | None
    buckets: Sequence[tuple[float | None, int]]


class PipelinePart(Struct, frozen=True):
    """One part of the way from an event to an answer.

    `state`: `ok`; `problem`, which `note` describes; `off`; or `elsewhere`: another process, whose counters and timings
    only its own /metrics has, as `note` says. `counters` only rise, from the start of the process; `gauges` are of now.
    """

    name: Literal["gateway", "log", "worker", "store", "cache", "query"]
    kind: str
    state: Literal["ok", "problem", "off", "elsewhere"]
    note: str | None
    counters: Mapping[str, float]
    gauges: Mapping[str, float]
    timings: Sequence[Timing]


class PartitionProgress(Struct, frozen=True):
    """One partition of the log. `finished`: the first offset that is not finished. `owner`: the worker that reads it."""

    partition: int
    end: int
    finished: int
    behind: int
    owner: str | None


class PipelineCollection(Struct, frozen=True):
    """One index of the memories, and how many records of the log it lacks (null where the log does not answer)."""

    name: str
    searched: bool
    whole: bool
    switching: bool
    model: str
    dim: int
    behind: int | None


class Pipeline(Struct, frozen=True):
    """The state of the whole way from an event to an answer, as this process sees it.

    `lag_seconds`: the age of the oldest record that is not finished, 0 without one, null where the log does not answer.
    """

    service: str
    at: float
    parts: Sequence[PipelinePart]
    partitions: Sequence[PartitionProgress]
    collections: Sequence[PipelineCollection]
    lag_records: int | None
    lag_seconds: float | None


class SettingRow(Struct, frozen=True):
    """One setting. `value` of a secret is "(hidden)". `origin`: default, or what has set it."""

    name: str
    value: str | float | bool | None
    origin: str


class FixedLimit(Struct, frozen=True):
    """A limit that no setting changes."""

    name: str
    value: float
    unit: str


class SettingsAnswer(Struct, frozen=True):
    """The settings that this process was started with, and the limits that no setting changes."""

    settings: Sequence[SettingRow]
    limits: Sequence[FixedLimit]


class KeyRow(Struct, frozen=True):
    """One API key, without its secret, which is stored nowhere."""

    id: str
    state: Literal["live", "expired", "revoked"]
    tenant: str
    scopes: Sequence[str]
    label: str | None
    created: datetime
    expires: datetime | None
    revoked: datetime | None


class KeysAnswer(Struct, frozen=True):
    """The keys of the file. Without a file, `file` is null, and every local caller may do everything."""

    file: str | None
    keys: Sequence[KeyRow]


class AuditLine(Struct, frozen=True):
    """One line of the audit log. `by`: the id of the caller's key, empty without keys, null where nobody called."""

    at: float
    event: str
    tenant: str
    kind: str | None = None
    erasure_id: str | None = None
    rewind_id: str | None = None
    memory_id: str | None = None
    by: str | None = None


class AuditAnswer(Struct, frozen=True):
    """The last audit lines that this process has written, the newest first; all lines are in its log."""

    lines: Sequence[AuditLine]


class TaskRun(Struct, frozen=True):
    """One call of an admin task. `progress`: its last report of it, null before the first."""

    task: str
    state: Literal["running", "done", "failed", "aborted"]
    started_at: float
    ended_at: float | None
    progress: Mapping[str, Any] | None
    outcome: Mapping[str, Any] | None
    error: str | None


class TasksAnswer(Struct, frozen=True):
    """The admin tasks that this service carries out (POST /v1/admin/NAME), and their last calls, the newest first.

    A task that is not in `offered` runs in the process of its verb: `lorestream … --help`.
    """

    offered: Sequence[str]
    runs: Sequence[TaskRun]
