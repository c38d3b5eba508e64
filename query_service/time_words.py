"""Time words of a question ("yesterday", "last spring", "in May") as a span of time that ranks memories of it higher.

English only, on the calendar in UTC, relative to the service's clock. A small table instead of a library: dateparser
(1.5, with three further packages) finds points in time and not spans, knows neither seasons nor parts of a day, and
takes "may" and "march" for months where they are verbs. What is not in the table has no effect.

Memories of the span are lifted by WEIGHT, others by less, half as much for each length of the span that they are away
from it. None is left out. The time words themselves are not searched for as words, since a memory that says
"yesterday" means another day.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lorestream.limits import is_time, utc
from query_service.ranking import Ranked

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHT = 0.5
"""How much of what a score lacks to 1 a memory of the right time gets. Measured in docs/retrieval.md."""
_LEAST_LENGTH_S = 3600.0
"""Shorter spans count as this long: nobody remembers the minute."""

_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
"""The first month of each, as on the northern hemisphere."""
_PARTS = {"morning": (5, 12), "afternoon": (12, 18), "evening": (17, 24), "night": (20, 30)}
"""Hours of a day; a night goes on until six of the next day."""
_UNITS = {"minute": 60.0, "hour": 3600.0, "day": 86_400.0, "week": 604_800.0}
_NUMBERS = {
    word: number
    for number, word in enumerate(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], 1
    )
} | {"a": 1, "an": 1, "a couple of": 2, "a few": 3, "several": 4}

_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_NUMBER = rf"(?P<number>\d{{1,4}}|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_DAY_OF_MONTH = r"(?P<date>[0-3]?\d)(?:st|nd|rd|th)?"
_NO_DAY = rf"(?! {_DAY_OF_MONTH.replace('?P<date>', '?:')}\b)"

_YEARS_TO_29_FEBRUARY = 9
"""Within so many years there is always one."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The time that a question is about: from `start` to `end`, in Unix seconds. `words`: those that say so."""

    start: float
    end: float
    words: str = field(default="", compare=False)

    def without_words(self, text: str) -> str:
        """The question without its time words: these say when, and not what. Unchanged if nothing else is in it."""
        rest = text.replace(self.words, " ", 1)
        return rest if any(map(str.isalnum, rest)) else text

    def closeness(self, timestamp: float) -> float:
        """1 within the span, and half for each of its lengths that a time is away from it."""
        away = max(self.start - timestamp, timestamp - self.end, 0.0)
        return 0.5 ** (away / max(self.end - self.start, _LEAST_LENGTH_S))


def parse_time_words(text: str, now: float) -> TimeSpan | None:
    """The span of the first time words of a question at the time `now`; None if it has none."""
    if not is_time(now):
        return None
    found: list[tuple[int, int, TimeSpan]] = []
    for pattern, span_of in _PATTERNS:
        match = pattern.search(text)
        if match is not None:
            try:
                start, end = span_of(match, utc(now))
            except (ValueError, OverflowError):  # 31 June, or a time outside of the calendar
                continue
            if start < end:
                span = TimeSpan(start.timestamp(), end.timestamp(), match.group())
                found.append((match.start(), -len(span.words), span))
    return min(found, key=lambda one: one[:2])[2] if found else None


def lift_by_time(pool: Sequence[Ranked], span: TimeSpan, *, best: float = 1.0) -> list[Ranked]:
    """The pool in its order, with memories of the span lifted. `best`: the score that counts as 1."""
    lifted: list[Ranked] = []
    for one in pool:
        lift = WEIGHT * span.closeness(one.memory.timestamp) * (best - max(0.0, min(best, one.score)))
        lifted.append(Ranked(one.memory, one.score + lift, {**one.details, "time": lift}))
    return lifted


# --- the table ---------------------------------------------------------------------------------------------


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _add_months(day: datetime, months: int) -> datetime:
    """The first of the month that is so many months from a day."""
    index = day.year * 12 + day.month - 1 + months
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)


def _hours(day: datetime, part: str) -> tuple[datetime, datetime]:
    first, last = _PARTS[part]
    return day + timedelta(hours=first), day + timedelta(hours=last)


def _part_of_day(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    """This morning, tonight, last night, yesterday evening."""
    which, part = match["which"].lower(), (match["part"] or "night").lower()
    today = _midnight(now)
    return _hours(today if which in {"this", "tonight"} else today - timedelta(days=1), part)


def _near_day(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    words = " ".join(match.group().lower().split()).removeprefix("the ")
    day = _midnight(now) - timedelta(days=("today", "yesterday", "day before yesterday").index(words))
    return day, day + timedelta(days=1)


def _ago(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    """N units ago: the whole unit around that moment; a day begins at midnight, and months and years with a month."""
    number, unit = _number(match["number"]), match["unit"].lower()
    if unit == "year":
        return _add_months(now, -12 * number - 6), _add_months(now, -12 * number + 6)
    if unit == "month":
        return _add_months(now, -number), _add_months(now, 1 - number)
    length = timedelta(seconds=_UNITS[unit])
    moment = now - number * length
    if unit == "day":
        return _midnight(moment), _midnight(moment) + length
    return moment - length / 2, moment + length / 2


def _past_units(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    """In the last N units, up to now."""
    number, unit = _number(match["number"]), match["unit"].lower()
    seconds = _UNITS.get(unit) or {"month": 30.4, "year": 365.25}[unit] * 86_400
    return now - timedelta(seconds=number * seconds), now


def _calendar_unit(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    """This week, last month, last year: weeks begin on Monday."""
    back, unit = int(match["which"].lower() != "this"), match["unit"].lower()
    if unit == "week":
        monday = _midnight(now) - timedelta(days=now.weekday() + 7 * back)
        return monday, monday + timedelta(days=7)
    if unit == "month":
        return _add_months(now, -back), _add_months(now, 1 - back)
    return datetime(now.year - back, 1, 1, tzinfo=UTC), datetime(now.year - back + 1, 1, 1, tzinfo=UTC)


def _weekday(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    """The last such day before today."""
    back = (now.weekday() - _DAYS.index(match["day"].lower()) - 1) % 7 + 1
    day = _midnight(now) - timedelta(days=back)
    return day, day + timedelta(days=1)


def _season(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    """The season of the year that is named, else the last one that has begun; with "last", one that is over."""
    first = _SEASONS[match["season"].lower()]
    if match["year"]:
        start = datetime(int(match["year"]), first, 1, tzinfo=UTC)
        return start, _add_months(start, 3)
    start = datetime(now.year, first, 1, tzinfo=UTC)
    is_last = (match["which"] or "").lower() in ("last", "previous")
    while (_add_months(start, 3) if is_last else start) > now:
        start = start.replace(year=start.year - 1)
    return start, _add_months(start, 3)


def _month(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    """The month of the year that is named, else the last one that has begun; with "last", one that is over."""
    number = _MONTHS.index(match["month"].lower()) + 1
    groups = match.groupdict()
    if groups.get("year"):
        start = datetime(int(match["year"]), number, 1, tzinfo=UTC)
        return start, _add_months(start, 1)
    start = datetime(now.year, number, 1, tzinfo=UTC)
    is_last = (groups.get("which") or "").lower() in ("last", "previous")
    while (_add_months(start, 1) if is_last else start) > now:
        start = start.replace(year=start.year - 1)
    return start, _add_months(start, 1)


def _date(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    """A day of a month; without a year the last one that has begun."""
    month, date = _MONTHS.index(match["month"].lower()) + 1, int(match["date"])
    years = [int(match["year"])] if match["year"] else range(now.year, now.year - _YEARS_TO_29_FEBRUARY, -1)
    for year in years:
        if date <= monthrange(year, month)[1]:
            day = datetime(year, month, date, tzinfo=UTC)
            if day <= now or match["year"]:
                return day, day + timedelta(days=1)
    raise ValueError(match.group())


def _iso_date(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    del now
    day = datetime.fromisoformat(match.group()).replace(tzinfo=UTC)
    return day, day + timedelta(days=1)


def _year(match: re.Match[str], now: datetime) -> tuple[datetime, datetime]:
    del now
    return datetime(int(match["year"]), 1, 1, tzinfo=UTC), datetime(int(match["year"]) + 1, 1, 1, tzinfo=UTC)


def _number(text: str) -> int:
    return _NUMBERS.get(" ".join(text.lower().split())) or int(text)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{text})\b".replace(" ", r"\s+"), re.IGNORECASE)


_PATTERNS: tuple[
    tuple[re.Pattern[str], Callable[[re.Match[str], datetime], tuple[datetime, datetime]]], ...
] = (
    (_pattern("(?P<which>this|last|yesterday) (?P<part>morning|afternoon|evening|night)"), _part_of_day),
    (_pattern("(?P<which>tonight)(?P<part>)"), _part_of_day),
    (_pattern("(?:the )?day before yesterday|yesterday|today"), _near_day),
    (_pattern(f"{_NUMBER} (?P<unit>minute|hour|day|week|month|year)s? ago"), _ago),
    (_pattern(f"(?:last|past|previous) {_NUMBER} (?P<unit>minute|hour|day|week|month|year)s?"), _past_units),
    (_pattern("(?P<which>this|last|past|previous) (?P<unit>week|month|year)"), _calendar_unit),
    (_pattern(f"(?:on|last|this|since) (?P<day>{'|'.join(_DAYS)})"), _weekday),
    (
        _pattern(
            f"(?:in|during|since|of|(?P<which>this|last|previous))(?: the)? (?P<season>{'|'.join(_SEASONS)})"
            f"(?: (?:of )?{_YEAR})?"
        ),
        _season,
    ),
    (
        _pattern(
            f"(?:in|during|since|of|(?P<which>this|last|previous)) {_MONTH}(?:,? (?:of )?{_YEAR}|{_NO_DAY})"
        ),
        _month,
    ),
    (_pattern(f"{_MONTH},? (?:of )?{_YEAR}"), _month),
    (_pattern(f"{_DAY_OF_MONTH} (?:of )?{_MONTH}(?:,? {_YEAR})?"), _date),
    (_pattern(f"{_MONTH} {_DAY_OF_MONTH}(?:,? {_YEAR})?"), _date),
    (_pattern(r"(?:19|20)\d\d-[01]\d-[0-3]\d"), _iso_date),
    (_pattern(rf"(?:in|during|since|of) {_YEAR}(?!-\d)"), _year),
)
