"""What the core needs from the world. Each docstring is the contract that every implementation is tested against."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal, Protocol

from schemas.commands import FetchFollowers
from schemas.follower import Follower
from schemas.jobs import JobStatus
from schemas.types import JobState, Provider
from worker.core.holdups import Failed


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderPage:
    """One page as a provider gave it, normalised."""

    followers: Sequence[Follower]
    """In the provider's order; the same user id may come twice. None may come although the list goes on."""
    next_cursor: str | None
    """Where the next page starts; None at the list's end, and always where the list is read by row numbers."""
    total: int | None = None
    """The list's length as the provider said it."""
    capped: bool = False
    """The provider gives no more although the list goes on; only with `next_cursor` None."""
    requests: int = 1
    """HTTP requests that this page took."""
    steady: bool = False
    """Rows don't shift between pages, so the same rows on another page mean that the provider's paging is broken."""
    ids_alone: bool = False
    """The rows are ids and nothing else: however long the answer was, they take little."""


Order = Literal["still", "rises", "falls", "unknown"]
"""`still`: rows keep their places. `rises`: one that changes can only move on, to where it is read later. `falls`: it
can only move to the list's head, and be missed; the rows stand by their `updated_at`, newest first. `unknown`: it may
move anywhere, or nothing in the rows shows that it has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Offsets:
    """How to read a list that is asked for by row numbers.

    A cursor is then the number of the first row wanted (None: 0), after `2026-01-01/2026-01-31@` where only people of
    those days are; `total` counts the same people. A page is an answer as it is: its `next_cursor` and `capped` say
    nothing, for where such a list ends is for its reader to find out.
    """

    count: int
    """Rows asked for at once, at least 2; the provider may give fewer."""
    last: int
    """The highest row number that a request may start at."""
    days: tuple[date, date] | None = None
    """The list's first and last day, both included; None where it can't be asked for by days."""


class ProviderClient(Protocol):
    """One account at one provider."""

    def check(self, command: FetchFollowers) -> None:
        """Raise UnsupportedError naming the field, or InvalidCommandError, when this account can't do `command`."""
        ...

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        """Return the page at `cursor` (None: the first; see Offsets for lists of that kind). One attempt, no retries.

        Raises a RetryableError or a FatalError, and nothing else besides CancelledError. Safe to run many at once.
        """
        ...

    def order(self, command: FetchFollowers) -> Order:
        """Return where rows of a list that names its next page may move; see Order."""
        ...

    def offsets(self, command: FetchFollowers) -> Offsets | None:
        """Return how the list is read by row numbers; None where each page names the next one."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


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


class DeadLetters(Protocol):
    """Commands that can't be done."""

    async def store(
        self,
        provider: Provider,
        body: bytes,
        headers: Mapping[str, str],
        key: str,
        failed: Failed = lambda code, words: None,
    ) -> None:
        """Store a command's own bytes under the idempotency key `key`; returns once the server has it.

        Tries until it is stored; `failed` is called with each try that fails.
        """
        ...


class LimitUnavailableError(Exception):
    """The shared limit did not answer, so what others have reserved is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """Starts that were reserved. Times are seconds of the event loop's clock."""

    times: Sequence[float]
    """When each request may start, ascending; empty when nothing can be reserved yet."""
    free_at: float
    """From when on nothing is reserved or blocked, as far as is known."""


class SharedLimit(Protocol):
    """One account's request limit, shared by all replicas. Times are seconds of the event loop's clock."""

    async def take(self, count: int) -> Taken:
        """Reserve `count` starts, or none when the limit is spoken for too far ahead (a provider's Retry-After).

        No two replicas get the same start, and starts lie as far apart as the limit says, up to the difference of
        their clocks. Raises LimitUnavailableError; what was asked for may be reserved then all the same.
        """
        ...

    async def push(self, until: float) -> None:
        """Reserve nothing more before `until`, in any replica. Raises LimitUnavailableError."""
        ...


class CommandMessage(Protocol):
    """A command as it stands in the stream."""

    @property
    def subject(self) -> str:
        """The subject it was published on."""
        ...

    @property
    def data(self) -> bytes:
        """Its body, as published."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, as published; empty when it has none."""
        ...

    @property
    def sequence(self) -> int:
        """Its sequence in the command stream."""
        ...

    @property
    def timestamp_us(self) -> int:
        """When the stream stored it, in microseconds since 1970 UTC."""
        ...


class Delivery(CommandMessage, Protocol):
    """A command in hand. Every call may fail silently when the delivery is stale or the server is away."""

    @property
    def deliveries(self) -> int:
        """How often it was delivered, with this time: 1 or more. For the log only: a crashed server counts anew."""
        ...

    async def ack(self) -> None:
        """Settle it for good; returns once the server has confirmed."""
        ...

    async def nak(self, delay: float) -> None:
        """Hand it back, to be delivered again after `delay` seconds."""
        ...

    async def in_progress(self) -> None:
        """Keep hold of it for another `ack_wait`."""
        ...
