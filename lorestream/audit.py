"""The audit log: one line when an erasure or a rewind is requested, one when it is done, one for each deleted memory.

The lines go to the log of the process with `logger: lorestream.audit`, whatever LORESTREAM_LOG_LEVEL is. They contain
neither players nor agents: those are in the erasure ledger, under the erasure's id, as are the servers of rewinds. The
last lines are kept in memory, too, for `GET /v1/admin/audit`.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import structlog

KEPT_LINES = 1000

_lines: deque[dict[str, Any]] = deque(maxlen=KEPT_LINES)
"""Of the process, as its log is."""

_EVERY_LEVEL = structlog.make_filtering_bound_logger(0)


def erasure_requested(*, erasure_id: str, kind: str, tenant: str, by: str) -> None:
    """Log that an erasure is durable. `by`: the id of the caller's API key, empty when no keys are configured."""
    _write("erasure requested", erasure_id=erasure_id, kind=kind, tenant=tenant, by=by)


def erasure_done(*, erasure_id: str, kind: str, tenant: str) -> None:
    """Log that no read returns what the erasure covers. Logged again if its record is processed again after a crash."""
    _write("erasure done", erasure_id=erasure_id, kind=kind, tenant=tenant)


def memory_deleted(*, erasure_id: str, memory_id: str, tenant: str, by: str) -> None:
    """Log that the deletion of one memory is durable, whether or not the memory existed. `by`: see `erasure_requested`."""
    _write("memory deleted", erasure_id=erasure_id, kind="memory", memory_id=memory_id, tenant=tenant, by=by)


def rewind_requested(*, rewind_id: str, tenant: str, by: str, undone: bool) -> None:
    """Log that a rewind, or its undoing, is durable. `by`: see `erasure_requested`."""
    what = "rewind undoing requested" if undone else "rewind requested"
    _write(what, rewind_id=rewind_id, tenant=tenant, by=by)


def rewind_done(*, rewind_id: str, tenant: str, undone: bool) -> None:
    """Log that reads show what a rewind, or its undoing, leaves. Logged again if its record is processed again."""
    _write("rewind undone" if undone else "rewind done", rewind_id=rewind_id, tenant=tenant)


def newest() -> list[dict[str, Any]]:
    """The last `KEPT_LINES` lines of this process with their time (`at`, Unix seconds), the newest first."""
    return list(reversed(_lines))


def _write(event: str, **fields: str) -> None:
    _lines.append({"at": time.time(), "event": event, **fields})
    _logger().info(event, **fields)


def _logger() -> Any:  # noqa: ANN401 (structlog generates the class)
    # Bound for each line: structlog may be configured again after this module was imported.
    return structlog.wrap_logger(None, wrapper_class=_EVERY_LEVEL).bind(logger="lorestream.audit")
