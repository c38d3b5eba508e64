"""The routes for operators that only read: what the console's views of the machine show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from lorestream.access.key_file import KeyScope
from lorestream.admin import NoArguments
from lorestream.http.operation import Operation
from lorestream.http.operator_schemas import (
    AuditAnswer,
    KeysAnswer,
    Pipeline,
    SettingsAnswer,
    TasksAnswer,
)
from lorestream.http.request import ApiRequest, ApiResponse, json_response

TAG = "Operators"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class OperatorSources:
    """Where the answers come from. Each raises LorestreamError."""

    pipeline: Callable[[], Awaitable[Pipeline]]
    settings: Callable[[], Awaitable[SettingsAnswer]]
    keys: Callable[[], Awaitable[KeysAnswer]]
    audit: Callable[[], Awaitable[AuditAnswer]]
    tasks: Callable[[], Awaitable[TasksAnswer]]


def operations(sources: OperatorSources) -> list[Operation]:
    """The routes, for the scope operator: what they answer crosses tenants, or concerns the machine."""
    return [
        _operation("pipeline", sources.pipeline, Pipeline, "State, rates and lag of each part"),
        _operation("settings", sources.settings, SettingsAnswer, "Settings, with where each comes from"),
        _operation("keys", sources.keys, KeysAnswer, "API keys, without secrets"),
        _operation("audit", sources.audit, AuditAnswer, "Deletions that this process has logged"),
        _operation("tasks", sources.tasks, TasksAnswer, "Admin tasks, and how their last calls went"),
    ]


def _operation(name: str, source: Callable[[], Awaitable[Any]], answer: type, summary: str) -> Operation:
    async def respond(request: ApiRequest) -> ApiResponse:
        request.query_params(NoArguments)
        return json_response(await source())

    return Operation(
        "GET",
        f"/v1/admin/{name}",
        respond,
        summary,
        KeyScope.OPERATOR,
        answer,
        query_params=NoArguments,
        tag=TAG,
        read_only=True,
    )
