"""What the live page needs to know, and may do. Each docstring is a contract."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.events import JobEvent
from schemas.jobs import ControlError, JobStatus
from schemas.types import Provider
from worker.core.ports.metrics import Circuit


class SourceUnavailableError(Exception):
    """What was asked can't be known or done now; the message says what to do."""


class Change(Protocol):
    """A job's newest status."""

    @property
    def revision(self) -> int:
        """Ascending over all jobs."""
        ...

    @property
    def job_id(self) -> str:
        """The key."""
        ...

    @property
    def data(self) -> bytes | None:
        """The status as JSON, None when it was deleted."""
        ...


class Changes(Protocol):
    """What has changed since the last time."""

    @property
    def changes(self) -> Sequence[Change]:
        """In the order of their revisions."""
        ...

    @property
    def more(self) -> bool:
        """There are others already."""
        ...

    @property
    def first(self) -> int | None:
        """The oldest revision that there is, where that is known."""
        ...

    @property
    def anew(self) -> bool:
        """What was known before is void."""
        ...


class Watch(Protocol):
    """All job status, then every change of it."""

    async def next(self) -> Changes | None:
        """Return what has changed, waiting for it; None while that can't be known. Raises nothing of its own."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountView:
    """How it stands with an account in this replica."""

    name: str
    provider: Provider
    rate: float
    """Requests a second over all replicas; 0: no limit."""
    shared: bool
    """False: the shared limit can't be reached, and this replica keeps to a fraction."""
    circuit: Circuit
    circuit_until: datetime | None
    blocked_until: datetime | None
    """The provider asked for patience until then."""
    waiting: int
    """Requests in line."""
    heard: bool = True
    """The provider has answered this replica; False: `closed` says no more than that nothing is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterView:
    """A dead letter, without the command in it."""

    number: int
    job_id: str | None
    provider: Provider
    code: str | None
    message: str
    stored_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineEntry:
    """A job event, and when it was published."""

    sequence: int
    at: str
    """RFC 3339."""
    event: JobEvent


class Sources(Protocol):
    """What is to be seen."""

    def watch(self) -> AbstractAsyncContextManager[Watch]:
        """Begin to watch job status. Raises SourceUnavailableError."""
        ...

    def accounts(self) -> Sequence[AccountView]:
        """Return the accounts of this replica."""
        ...

    async def queued(self) -> Mapping[Provider, int]:
        """Return how many commands no worker has taken. Raises SourceUnavailableError."""
        ...

    async def letters(self) -> tuple[int, Sequence[LetterView]]:
        """Return the number of dead letters, and the newest first. Raises SourceUnavailableError."""
        ...

    def in_hand(self, job_id: str) -> JobStatus | None:
        """Return what this replica knows of a job that it has in hand, None when it hasn't."""
        ...

    async def status(self, job_id: str) -> JobStatus | None:
        """Return a job's status, with why it doesn't move where that can be known; None when the job isn't known.

        Raises SourceUnavailableError.
        """
        ...

    def timeline(self, status: JobStatus, after: int) -> AsyncIterator[TimelineEntry]:
        """Yield the job's events behind the sequence `after`, in order. Raises SourceUnavailableError."""
        ...


class Steering(Protocol):
    """What may be done from the page, by whoever has the token. Each may raise SourceUnavailableError."""

    async def cancel(self, job_id: str) -> JobStatus | ControlError:
        """Cancel a job wherever it is; return its status."""
        ...

    async def retry(self, number: int) -> int:
        """Publish the command of a dead letter anew; return its sequence."""
        ...

    async def retry_job(self, job_id: str) -> int:
        """Publish the command of a failed job's newest letter anew; return its sequence."""
        ...


Now = Callable[[], datetime]
