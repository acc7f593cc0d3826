"""What NATS has not taken from a job, or not given to it, for longer than people should wonder about."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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

    def trying(self, stream: str, *, writes: bool, began: float | None = None) -> "Trying":
        """Begin something that is tried until it succeeds; entered, it gives what is to be called with each failure.

        `began`: when it was first tried, in seconds of the event loop's clock; None: now.
        """
        self._next += 1
        ago = 0.0 if began is None else asyncio.get_running_loop().time() - began
        return Trying(self, self._next, stream, writes, self._now() - timedelta(seconds=ago), ago)

    def ended(self, key: int) -> None:
        """Note that something has succeeded, or was given up."""
        if self._told.pop(key, None) is not None:
            self._on_change()

    def tell(self, key: int, holdup: Holdup) -> None:
        if self._told.get(key) != holdup:
            self._told[key] = holdup
            self._on_change()


class Trying:
    """One thing that is tried; a context, and no generator, since each page enters two."""

    __slots__ = ("_began", "_holdups", "_key", "_loop", "_since", "_stream", "_writes")

    def __init__(self, holdups: Holdups, key: int, stream: str, writes: bool, since: datetime, ago: float) -> None:
        """Take whose it is, and what is known of it before it fails; `ago`: seconds since it was first tried."""
        self._holdups, self._key, self._stream, self._writes, self._since = holdups, key, stream, writes, since
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time() - ago

    def __enter__(self) -> Failed:
        """Return what is to be called with each failure."""
        return self._failed

    def __exit__(self, *_: object) -> None:
        """It has succeeded, or was given up."""
        self._holdups.ended(self._key)

    def _failed(self, code: int | None, words: str) -> None:
        if self._loop.time() - self._began >= TELL_AFTER:
            self._holdups.tell(self._key, Holdup(self._since, self._stream, self._writes, code, words))
