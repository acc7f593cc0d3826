"""The log of events."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in the event log."""

    sequence: int
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    subject: str = ""


class WrongSequenceError(Exception):
    """The log may hold something newer than was expected (10071, 10164, 10158, or `duplicate: true`): read its tail."""


class LogUnavailableError(Exception):
    """The log did not answer, so what it holds is unknown: ask again."""

    def __init__(self, message: str = "no answer", *, code: int | None = None, words: str = "") -> None:
        """Keep the server's own error code and words; without a code, what came in place of an answer."""
        super().__init__(message)
        self.code, self.words = code, words or message


class PayloadTooLargeError(Exception):
    """The server takes no message of this size; the same publish can't succeed."""


class EventLog(Protocol):
    """The stream of events: ordered a subject, appended to by compare-and-set."""

    @property
    def max_payload(self) -> int:
        """The most bytes that headers and body of one message may have together."""
        ...

    async def last(self, subject: str) -> Entry | None:
        """Return the newest message on `subject`, None when there is none. Never stale on a healthy stream.

        Raises LogUnavailableError when that can't be known now.
        """
        ...

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str], expected: int) -> int:
        """Append when the newest message on `subject` has the sequence `expected` (0: none); return the new sequence.

        Raises WrongSequenceError when it has another, LogUnavailableError when the outcome is unknown (the message
        may be in the log, or may still land there), PayloadTooLargeError.
        """
        ...

    def read(self, subject: str, first: int, last: int) -> AsyncIterator[Entry]:
        """Yield the messages on `subject` with sequences from `first` to `last`, in order.

        Raises LogUnavailableError.
        """
        ...


TOKEN_HEADER = "Followers-Publish-Token"
COMMAND_HEADER = "Followers-Command-Sequence"
