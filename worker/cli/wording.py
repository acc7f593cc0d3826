"""Numbers and times in a terminal: one form a line, also within the sentences that workers write for all readers."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

_AT = re.compile(r"\bat (\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z)")


def moment(at: datetime | None) -> str:
    """Return a time with its day, empty for None."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def clock(at: datetime) -> str:
    """Return the time of day."""
    return at.astimezone(UTC).strftime("%H:%M:%S UTC")


def has_time(text: str) -> bool:
    """Say whether a sentence of a worker's says when."""
    return _AT.search(text) is not None


def with_times(text: str, show: Callable[[datetime], str]) -> str:
    """Return a sentence of a worker's with its times as `show` writes them."""
    return _AT.sub(lambda found: f"at {show(datetime.fromisoformat(found[1]))}", text)


def counted(number: int, one: str, many: str | None = None) -> str:
    """As `schemas.counted.counted`, which would load all messages when a command only shows its help."""
    from schemas.counted import counted as counted_

    return counted_(number, one, many)
