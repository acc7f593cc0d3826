"""What the change feed needs from the world. Each docstring is the contract of every implementation."""

from collections.abc import AsyncIterator
from typing import Protocol

from schemas.changes import Feed
from worker.core.ports.event_log import Entry


class FeedsMissingError(Exception):
    """A bucket of the change feed isn't on the server: the feed is off until `followers setup` has made it."""


class FeedsUnavailableError(Exception):
    """A bucket of the change feed did not answer, so the outcome is unknown: ask again."""


class FeedsAwayError(Exception):
    """A bucket of the change feed has not done its part for so long that a job must wait no more."""


class Feeds(Protocol):
    """Where each feed stands: changed by compare-and-set."""

    async def get(self, key: str) -> tuple[Feed | None, int]:
        """Return the feed under `key` and its revision, (None, …) when there is none that can be read. Never stale.

        Raises FeedsMissingError, FeedsUnavailableError.
        """
        ...

    async def put(self, key: str, feed: Feed, revision: int) -> int:
        """Write `feed` when `revision` is still the key's (0: it was never written); return the new one.

        Raises WrongSequenceError when it isn't, FeedsUnavailableError when the outcome is unknown.
        """
        ...

    async def all(self) -> list[tuple[str, Feed]]:
        """Return every feed by its key; one that was written just now may be missing, or as it was before.

        Raises FeedsMissingError, FeedsUnavailableError.
        """
        ...


class Snapshots(Protocol):
    """The lists that feeds compare, by feed and job."""

    async def put(self, key: str, job_id: str, data: bytes) -> None:
        """Store a snapshot whole or not at all. Two may do it at once, with the same bytes.

        Raises FeedsMissingError, FeedsUnavailableError.
        """
        ...

    async def get(self, key: str, job_id: str) -> bytes | None:
        """Return the snapshot as it was stored, None when there is none that is whole.

        Raises FeedsMissingError, FeedsUnavailableError.
        """
        ...

    async def delete(self, key: str, job_id: str) -> None:
        """Remove the snapshot, or what there is of it. Raises FeedsMissingError, FeedsUnavailableError."""
        ...


class PageStore(Protocol):
    """The event log, read fast."""

    def read(self, subject: str, last: int, *, sure: bool = False) -> AsyncIterator[list[Entry]]:
        """Yield the messages on `subject` with sequences up to `last`, in order, some at a time.

        Some may be missing unless `sure`, which is slow. Raises LogUnavailableError.
        """
        ...

    async def at(self, sequence: int) -> Entry | None:
        """Return the message with that sequence, None when it is no longer there. Raises LogUnavailableError."""
        ...
