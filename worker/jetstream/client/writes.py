"""What becomes of this replica's writes, stream by stream: a server that answers questions may take nothing."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import nats.errors
import nats.js.errors

from worker.core.cures import NO_ANSWER, NO_STREAM, cure

UNREADY_AFTER = 5.0
"""Seconds for which a stream must have taken nothing until the replica says that it isn't ready."""
FORGOTTEN_AFTER = 30.0
"""Seconds after the last try: whoever has not tried for so long knows nothing."""


@dataclass(slots=True)
class _Failing:
    since: float
    last: float
    code: int | None
    words: str


class Writes:
    """Which streams take what this replica writes, as far as it has tried."""

    def __init__(
        self,
        hindered: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what says why an answer can't come at all (None: one can), and a clock in seconds."""
        self._hindered, self._clock = hindered, clock
        self._failing: dict[str, _Failing] = {}

    def stored(self, stream: str) -> None:
        """Note that `stream` has taken a message."""
        self._failing.pop(stream, None)

    def failed(self, stream: str, code: int | None, words: str) -> None:
        """Note that a write to `stream` failed: by the server's error, or with None for want of an answer."""
        now = self._clock()
        known = self._failing.get(stream)
        since = known.since if known is not None and now - known.last < FORGOTTEN_AFTER else now
        self._failing[stream] = _Failing(since, now, code, words)

    def refused(self, stream: str, error: Exception) -> tuple[int | None, str]:
        """As `failed`, by what nats-py raised; return the server's error code and words as `explain` does."""
        code, words = self.explain(error)
        self.failed(stream, code, words)
        return code, words

    def explain(self, error: Exception) -> tuple[int | None, str]:
        """Return the server's own error code and words; None and the reason where it gave no answer."""
        if isinstance(error, nats.js.errors.APIError):
            return error.err_code, error.description or "no words"
        if hindered := self._hindered():
            return None, hindered
        if isinstance(error, nats.errors.TimeoutError):
            return None, NO_ANSWER
        if isinstance(error, nats.errors.NoRespondersError | nats.js.errors.NoStreamResponseError):
            return None, NO_STREAM
        return None, type(error).__name__

    @property
    def why(self) -> str | None:
        """What fails for too long and what to do, None when nothing does."""
        now = self._clock()
        for stream, failing in self._failing.items():
            if now - failing.since >= UNREADY_AFTER and now - failing.last < FORGOTTEN_AFTER:
                code = f" (error {failing.code})" if failing.code else ""
                return f"writes to {stream} fail: {failing.words}{code}; {cure(failing.code, failing.words, stream)}"
        return None
