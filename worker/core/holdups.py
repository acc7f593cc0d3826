"""What NATS has not taken from a job, or not given to it, for longer than people should wonder about."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

TELL_AFTER = 1.0
"""Seconds for which something must have been tried until people are told."""

Failed = Callable[[int | None, str], None]
"""Takes the server's error code, or None, and its words, or what came in their place."""


@dataclass(frozen=True, slots=True)
class Holdup:
    """One thing that is tried again and again."""

    since: datetime
    stream: str
    writes: bool
    """It is a write that fails, not a read."""
    code: int | None
    """The server's own; None: it gave no answer, or none that is an error."""
    words: str


class Holdups:
    """What one job is held up by just now."""

    def __init__(
        self,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the clock, and what to call when there is something to tell, or no longer."""
        self._now = now
        self._on_change = on_change
        self._told: dict[int, Holdup] = {}
        self._next = 0

    @property
    def current(self) -> Holdup | None:
        """Return what has been tried for the longest time, None when nothing needs telling."""
        return next(iter(self._told.values()), None)

    @contextlib.contextmanager
    def trying(self, stream: str, *, writes: bool) -> Iterator[Failed]:
        """Begin something that is tried until it succeeds; yields what is to be called with each failure."""
        loop, since = asyncio.get_running_loop(), self._now()
        began, self._next = loop.time(), self._next + 1
        key = self._next

        def failed(code: int | None, words: str) -> None:
            if loop.time() - began >= TELL_AFTER:
                self._tell(key, Holdup(since, stream, writes, code, words))

        try:
            yield failed
        finally:
            if self._told.pop(key, None) is not None:
                self._on_change()

    def _tell(self, key: int, holdup: Holdup) -> None:
        if self._told.get(key) != holdup:
            self._told[key] = holdup
            self._on_change()
