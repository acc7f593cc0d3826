"""The dates that `QueryListUID` wants, from those that a command may name (PROVIDERS 2.1, 5)."""

from datetime import date, datetime, timedelta, timezone

from schemas.commands import EsmsFilter
from worker.core.errors import InvalidCommandError

VIETNAM = timezone(timedelta(hours=7))
"""No daylight saving time."""

_FIRST_DAY = datetime(2012, 1, 1, tzinfo=VIETNAM)
"""Zalo's first year: nobody followed an OA before."""


def days(wanted: EsmsFilter | None, now: datetime) -> tuple[date, date]:
    """Return the first and last day; unset, they are the first of 2012 and the day after `now`.

    Raises InvalidCommandError for a day that doesn't exist, or a first day after the last.
    """
    first = _FIRST_DAY
    last = now.astimezone(VIETNAM) + timedelta(days=1)
    if wanted is not None and wanted.date_from is not None:
        first = _day("date_from", wanted.date_from)
    if wanted is not None and wanted.date_to is not None:
        last = _day("date_to", wanted.date_to)
    if first.date() > last.date():
        raise InvalidCommandError(
            f"filter.date_from {first.date()} is after date_to {last.date()} (days in Vietnam): correct them",
            requests=0,
        )
    return first.date(), last.date()


def written(day: date) -> str:
    """Return `day` as eSMS wants it, dd/MM/yyyy."""
    return f"{day:%d/%m/}{day.year:04}"


def _day(name: str, value: str) -> datetime:
    try:
        if "/" in value:
            return datetime.strptime(value, "%d/%m/%Y").replace(tzinfo=VIETNAM)
        if len(value) == len("2026-01-31"):
            return datetime.fromisoformat(value).replace(tzinfo=VIETNAM)
        return datetime.fromisoformat(value.upper()).astimezone(VIETNAM)
    except (ValueError, OverflowError) as error:
        raise InvalidCommandError(
            f"filter.{name} is no day of the calendar: write 2026-01-31, 31/01/2026 or an RFC 3339 time",
            requests=0,
        ) from error
