"""Where jobs, their marks and their commands are looked up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.jobs import JobStatus
from schemas.types import JobState, Provider


class BoardUnavailableError(Exception):
    """The bucket of job status did not answer."""


class StatusBoard(Protocol):
    """Where people look up a job. Never read for correctness."""

    async def get(self, job_id: str) -> JobStatus | None:
        """Return the status of `job_id`, or None when it isn't known or can't be read now.

        A look at a job in hand changes nothing.
        """
        ...

    def post(self, status: JobStatus) -> None:
        """Take note of `status`; it is written at once on a change of state, else at most once a second."""
        ...

    def post_later(self, job_id: str, state: JobState, make: Callable[[], JobStatus]) -> None:
        """As `post`, of a job in `state`: `make` is asked once, when somebody writes it or looks at it, if ever."""
        ...

    async def look(self, job_id: str) -> JobStatus | None:
        """Return the status of a job for somebody who asks, None when it isn't known.

        Unlike `get`, this has no part in our own writes. Raises BoardUnavailableError.
        """
        ...

    async def settle(self, status: JobStatus) -> None:
        """Write a terminal or `queued` status before returning, as far as the bucket can be reached.

        What is posted for the job after that is ignored until `drop`. A status that is terminal gives way to nothing
        but one that rests on a newer job event. An end that can't be written is written once the bucket is back.
        """
        ...

    def in_hand(self, job_id: str) -> JobStatus | None:
        """Return what this replica knows of a job that it has, or whose end the bucket hasn't taken yet; else None."""
        ...

    def drop(self, job_id: str) -> None:
        """This replica no longer has the job: what is posted and not written yet must not be written."""
        ...


class QueueUnavailableError(Exception):
    """The work queue did not answer, or was too long to be searched."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuedCommand:
    """A command in the work queue, as somebody who looks for it sees it."""

    job_id: str
    provider: Provider
    account: str | None
    oa_id: str
    labels: Mapping[str, str]
    sequence: int
    """In the command stream."""
    stored_at: datetime
    ahead: int | None
    """Commands that are delivered before it; None: it was delivered already, or its place isn't known."""
    in_hand: int
    """Commands of its provider that were delivered and are not settled."""
    asking: int
    """Open requests of workers for a command of its provider."""
    paused_until: datetime | None = None
    """Somebody has told the server to deliver nothing of its provider until then."""


class CommandQueue(Protocol):
    """Where a job's command is, for people who ask. Never read for correctness."""

    async def find(self, job_id: str, *, anew: bool = False) -> QueuedCommand | None:
        """Return the oldest command of `job_id` that is queued, None when there is none. Bounded in time.

        With `anew`, what another call found before this one began is no answer.
        Raises QueueUnavailableError, also when the queue is longer than what is searched.
        """
        ...


class Cancellations(Protocol):
    """Which jobs are to be cancelled: noted durably, for those that are still queued or change hands."""

    async def request(self, job_id: str) -> None:
        """Note that `job_id`, which is known, is to be cancelled; returns once it is stored.

        Kept as long as a job's status. Raises BoardUnavailableError.
        """
        ...

    async def request_unknown(self, job_id: str, keep: float) -> None:
        """As `request`, for an id of which nobody has heard; kept for `keep` seconds, or less where there are many.

        All of these together take bounded room, whatever is asked for. Raises BoardUnavailableError.
        """
        ...

    async def requested_us(self, job_id: str) -> int | None:
        """Return when the last request was stored, in microseconds since 1970 UTC.

        None when there was none, or when that can't be known now.
        """
        ...
