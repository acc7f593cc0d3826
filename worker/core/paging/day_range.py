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

    def half(self, overlap: int = 0) -> "Span | None":
        """Return its first half, which the next one will share `overlap` days with; None where it can't be cut."""
        days = (self.days + overlap) // 2
        return Span(self.first, self.first + (days - 1) * _DAY) if overlap < days < self.days else None

    def next(self, end: date, *, twice: bool, overlap: int = 0) -> "Span | None":
        """Return the span after this one, just as long or `twice` that, up to `end`; None after that day.

        It begins with this one's last `overlap` days, but always later than this one.
        """
        if self.last >= end:
            return None
        first = max(self.last + (1 - overlap) * _DAY, self.first + _DAY)
        days = self.days * (2 if twice else 1)
        return Span(first, end if days > (end - first).days else first + (days - 1) * _DAY)
