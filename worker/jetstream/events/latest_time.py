"""The time, where a clock that is behind must not leave the newest people out of a list."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def wall_clock() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


class LatestTime:
    """This machine's time, but never before one that the server has written on a message."""

    def __init__(self, clock: Callable[[], datetime] = wall_clock) -> None:
        """Take the machine's clock."""
        self._clock = clock
        self._heard = _EPOCH

    def hear(self, timestamp_us: int) -> None:
        """Take a message's time, in microseconds since 1970."""
        self._heard = max(self._heard, _EPOCH + timedelta(microseconds=timestamp_us))

    def __call__(self) -> datetime:
        """Return the time, aware."""
        return max(self._clock(), self._heard)
