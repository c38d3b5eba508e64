"""Headers of records that are retried after they became dead letters.

A retry appends the raw record to the log again, with headers that hold the number of failed attempts and the times of the
first failure and the first append. If it fails again, the new dead letter continues these counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from lorestream.ports import NewRecord

if TYPE_CHECKING:
    from lorestream.ports import DeadLetter, Record, StoredDeadLetter

PREFIX = "lorestream.retry."
ATTEMPTS = f"{PREFIX}attempts"
"""Number of failed attempts, decimal."""
FIRST_FAILED_AT = f"{PREFIX}first_failed_at"
"""When processing failed for the first time: Unix seconds, decimal."""
FIRST_APPENDED_AT = f"{PREFIX}first_appended_at"
"""When the record was appended for the first time: Unix seconds, decimal."""


def retry_record(stored: StoredDeadLetter) -> NewRecord:
    """The record of a dead letter, with retry headers, to be appended to the log again."""
    dead_letter = stored.dead_letter
    headers = {
        **dead_letter.record.headers,
        ATTEMPTS: str(dead_letter.attempts).encode(),
        FIRST_FAILED_AT: repr(stored.failed_at).encode(),
        FIRST_APPENDED_AT: repr(first_appended_at(dead_letter.record)).encode(),
    }
    return NewRecord(dead_letter.record.key, dead_letter.record.value, headers)


def with_attempts(dead_letter: DeadLetter) -> DeadLetter:
    """A copy of the dead letter whose `attempts` includes the failed attempts before its retry."""
    text = dead_letter.record.headers.get(ATTEMPTS, b"")
    before = int(text) if text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004 (other clients may write any header)
    return replace(dead_letter, attempts=before + 1)


def first_failed_at(record: Record, now: float) -> float:
    """When processing of the record failed for the first time: from its retry header, else `now`. Unix seconds."""
    return _time(record.headers, FIRST_FAILED_AT, now)


def first_appended_at(record: Record) -> float:
    """When the record was appended for the first time: from its retry header, else its own time. Unix seconds."""
    return _time(record.headers, FIRST_APPENDED_AT, record.appended_at)


def _time(headers: Mapping[str, bytes], name: str, default: float) -> float:
    try:
        time = float(headers.get(name, b""))
    except ValueError:
        return default
    return time if math.isfinite(time) else default
