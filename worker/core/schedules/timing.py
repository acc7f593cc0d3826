"""When a schedule is due: cron expressions and intervals, as arithmetic on times that are given.

Both are questions about one fixed set of moments, so that all replicas agree whatever they have seen. Times come and go
aware; what is returned is in UTC, at a whole second.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LONGEST_EVERY = 366 * 86_400
"""Seconds: the most that may lie between two due times of an interval."""
FIRST_YEAR = 2000
"""Intervals count from the start of this year in their time zone: every 6 h is at 0, 6, 12 and 18 o'clock."""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_FIRST_WINDOW = timedelta(hours=2)


class Timing(Protocol):
    """A set of due times."""

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first due time behind `moment`, None when there is none."""
        ...

    def newest(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last due time behind `after` and not behind `until`, None when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """Due times at a fixed distance."""

    seconds: int
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime:
        """Count on from the start of `FIRST_YEAR`."""
        return self._at(self._number(moment) + 1)

    def newest(self, after: datetime, until: datetime) -> datetime | None:
        """Count as `next_after`."""
        found = self._at(self._number(until))
        return found if found > after else None

    def _number(self, moment: datetime) -> int:
        return (moment - self._first) // timedelta(seconds=self.seconds)

    def _at(self, number: int) -> datetime:
        return self._first + number * timedelta(seconds=self.seconds)

    @property
    def _first(self) -> datetime:
        return datetime(FIRST_YEAR, 1, 1, tzinfo=self.zone).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Cron:
    """Due times by a cron expression of five fields, in the local time of a zone.

    Where clocks go forward, a time that doesn't exist is due at the next that does; where they go back, one that comes
    twice is due once, unless its minutes or hours are a `*`.
    """

    expression: str
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime | None:
        """Ask cronsim."""
        return next(self._behind(moment), None)

    def newest(self, after: datetime, until: datetime) -> datetime | None:
        """Look back further and further: a thousand due times that were missed need not be counted one by one."""
        window = _FIRST_WINDOW
        while True:
            start = max(after, until - window)
            found = deque(takewhile(lambda due: due <= until, self._behind(start)), maxlen=1)
            if found or start == after:
                return found[0] if found else None
            window *= 4

    def _behind(self, moment: datetime) -> Iterator[datetime]:
        from cronsim import CronSim  # only where somebody has a schedule

        for local in CronSim(self.expression, moment.astimezone(self.zone)):
            due = local.astimezone(UTC)
            # In the hour that comes twice cronsim goes on from its first time, which may lie before `moment`.
            if due > moment:
                yield due


def zone_of(name: str) -> tzinfo:
    """Return the IANA time zone `name`. Raises ValueError when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no IANA time zone; write one such as Asia/Ho_Chi_Minh or UTC") from None


def check_cron(expression: str) -> None:
    """Raise ValueError when `expression` is no cron expression of five fields, or is never due."""
    from cronsim import CronSim, CronSimError

    if len(expression.split()) != 5:
        raise ValueError("needs five fields: minute hour day-of-month month day-of-week, such as 0 3 * * *")
    try:
        first = next(CronSim(expression, datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        raise ValueError(f"can't be read ({str(error).lower()}); write minute hour day month weekday") from None
    if first is None:
        raise ValueError("is never due; correct its day, month or weekday")


def seconds_of(text: str) -> int:
    """Return the seconds of `6h`, `90m`, `30s`, `1d` or a bare number of seconds. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})(|s|m|h|d)", text.strip(), re.ASCII)
    if found is None:
        raise ValueError('must be seconds, or a number with s, m, h or d such as "6h"')
    return int(found[1]) * _UNITS[found[2]]
