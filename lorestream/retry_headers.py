"""Dead letters on their way back: headers of a record that is tried again.

A letter is retried by appending its raw record anew, with headers that say how often it has been tried and when
it first came. Whoever sets it aside once more counts on from there.
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
"""How often it has been tried in vain, decimal."""
FIRST_FAILED_AT = f"{PREFIX}first_failed_at"
FIRST_APPENDED_AT = f"{PREFIX}first_appended_at"
"""Unix seconds."""


def retry_record(stored: StoredDeadLetter) -> NewRecord:
    """The record of a letter, to be appended anew."""
    dead_letter = stored.dead_letter
    headers = {
        **dead_letter.record.headers,
        ATTEMPTS: str(dead_letter.attempts).encode(),
        FIRST_FAILED_AT: repr(stored.failed_at).encode(),
        FIRST_APPENDED_AT: repr(first_appended_at(dead_letter.record)).encode(),
    }
    return NewRecord(dead_letter.record.key, dead_letter.record.value, headers)


def with_attempts(dead_letter: DeadLetter) -> DeadLetter:
    """The letter, with the attempts that its record went through before."""
    text = dead_letter.record.headers.get(ATTEMPTS, b"")
    before = int(text) if text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004 (anybody may write headers)
    return replace(dead_letter, attempts=before + 1)


def first_failed_at(record: Record, now: float) -> float:
    """When the record was first set aside, `now` unless it was before. Unix seconds."""
    return _time(record.headers, FIRST_FAILED_AT, now)


def first_appended_at(record: Record) -> float:
    """When what stands in the record first came into the log. Unix seconds."""
    return _time(record.headers, FIRST_APPENDED_AT, record.appended_at)


def _time(headers: Mapping[str, bytes], name: str, otherwise: float) -> float:
    try:
        time = float(headers.get(name, b""))
    except ValueError:
        return otherwise
    return time if math.isfinite(time) else otherwise
