"""The audit log: one line for each erasure that is asked for and done, and for each memory that is deleted.

The lines stand in the log of the process, told apart by `logger: lorestream.audit`, whatever LORESTREAM_LOG_LEVEL is.
They hold no name of a player and no agent: the erasure's id leads to both in the ledger, as long as it keeps them.
"""

from __future__ import annotations

from typing import Any

import structlog

_EVERY_LEVEL = structlog.make_filtering_bound_logger(0)


def erasure_asked(*, erasure_id: str, kind: str, tenant: str, by: str) -> None:
    """It is durable. `by`: the id of the caller's key, empty where there are no keys."""
    _logger().info("erasure asked for", erasure_id=erasure_id, kind=kind, tenant=tenant, by=by)


def erasure_done(*, erasure_id: str, kind: str, tenant: str) -> None:
    """No read shows any more what it took. Said again when its record is processed again, after a crash."""
    _logger().info("erasure done", erasure_id=erasure_id, kind=kind, tenant=tenant)


def memory_deleted(*, erasure_id: str, memory_id: str, tenant: str, by: str) -> None:
    """The deletion of one memory, there or not, is durable."""
    _logger().info(
        "memory deleted", erasure_id=erasure_id, kind="memory", memory_id=memory_id, tenant=tenant, by=by
    )


def _logger() -> Any:  # noqa: ANN401 (structlog makes the class)
    # Made for each line: what is configured may change after this was imported.
    return structlog.wrap_logger(None, wrapper_class=_EVERY_LEVEL).bind(logger="lorestream.audit")
