"""Spans of days, into which a list is cut that is longer than the provider gives at once (PROVIDERS 2.1, 2.2).

They are read in order of time. A person stands in the span of one day, and a day that moves can only move forward:
so whoever moves while the spans are read is met again later, and never missed.
"""

from datetime import date, timedelta
from typing import NamedTuple

_DAY = timedelta(days=1)


class Span(NamedTuple):
    """Whole days in the provider's calendar, both ends included."""

    first: date
    last: date

    def __str__(self) -> str:
        """Write it as in a cursor: `2026-01-01/2026-01-31`."""
        return f"{self.first}/{self.last}"

    @classmethod
    def read(cls, text: str) -> "Span":
        """Return what `str` wrote. Raises ValueError."""
        first, _, last = text.partition("/")
        return cls(date.fromisoformat(first), date.fromisoformat(last))

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.last - self.first).days + 1

    def half(self) -> "Span":
        """Return its first half; one of a single day has none."""
        return Span(self.first, self.first + (self.days // 2 - 1) * _DAY)

    def next(self, end: date, *, twice: bool) -> "Span | None":
        """Return the span after this one, just as long or `twice` that, up to `end`; None after that day."""
        if self.last >= end:
            return None
        first = self.last + _DAY
        days = self.days * (2 if twice else 1)
        return Span(first, end if days > (end - first).days else first + (days - 1) * _DAY)
