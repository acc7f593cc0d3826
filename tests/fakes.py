"""In-memory fakes of the core's ports, which pass the same contract tests as the adapters (`tests/contract`)."""

import asyncio
import contextlib
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec

from schemas.commands import FetchFollowers
from schemas.follower import Follower
from schemas.jobs import JobStatus
from schemas.types import JobState, Provider, WaitReason
from worker.core.errors import FetchFailure
from worker.core.holdups import Failed
from worker.core.ports.event_log import Entry, LogUnavailableError, PayloadTooLargeError, WrongSequenceError
from worker.core.ports.job_store import BoardUnavailableError
from worker.core.ports.metrics import Circuit, Outcome
from worker.core.ports.provider import Offsets, Order, ProviderPage
from worker.core.retry import RetryPolicy
from worker.core.services import World
from worker.core.status.precedence import outranks

Fault = Literal["lost", "ack_lost", "late"]
"""A publish that never arrives, one that arrives unconfirmed, one that arrives only after a later read."""
EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
MAX_HEADER_BYTES = 65_535
MSG_ID = "Nats-Msg-Id"
TERMINAL_STATES = ("completed", "failed", "cancelled")


class Clock:
    """The time, which passes only when told to."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self.time = start

    def now(self) -> datetime:
        """Return the time, aware."""
        return self.time

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.time += timedelta(seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A message of the fake log, with where and when it was stored."""

    subject: str
    entry: Entry
    at: datetime


class FakeLog:
    """`EventLog` in memory, for any number of subjects and publishers.

    `window` is the seconds in which a `Nats-Msg-Id` is known again. `dedupe_first`: a known id is answered before the
    expectation is looked at, as servers before 2.12 do; either way the caller gets WrongSequenceError.
    """

    def __init__(
        self,
        *,
        max_payload: int = 1_048_576,
        window: float = 120.0,
        dedupe_first: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.max_payload = max_payload
        self.window = window
        self.dedupe_first = dedupe_first
        self.down = False
        """Neither reads nor publishes are answered."""
        self.reads_unavailable = 0
        """So many reads to come are not answered."""
        self.before_publish: Callable[[str], Awaitable[None]] | None = None
        """Called with the subject before each publish is looked at: the place for a rival."""
        self.publishes = 0
        """Publishes tried, failed ones included."""
        self.stored: list[Stored] = []
        self._clock = clock or Clock()
        self._faults: deque[Fault | None] = deque()
        self._ids: dict[str, datetime] = {}
        self._sequences = itertools.count(1)
        self._late: list[Callable[[], int]] = []

    def fail_next(self, *faults: Fault | None) -> None:
        """Let the publishes to come meet `faults`, in order; None: that one works."""
        self._faults.extend(faults)

    def on(self, subject: str) -> list[Entry]:
        """Return the messages on `subject`, oldest first."""
        return [stored.entry for stored in self.stored if stored.subject == subject]

    def purge(self, subject: str) -> None:
        """Remove the messages on `subject`, as age would."""
        self.stored = [stored for stored in self.stored if stored.subject != subject]

    async def last(self, subject: str) -> Entry | None:
        """See `EventLog.last`."""
        await self._read()
        entries = self.on(subject)
        self._land()
        return entries[-1] if entries else None

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str], expected: int) -> int:
        """See `EventLog.publish`."""
        self.publishes += 1
        await asyncio.sleep(0)
        if self.before_publish is not None:
            await self.before_publish(subject)
        if _size(data, headers) > self.max_payload or _size(b"", headers) > MAX_HEADER_BYTES:
            raise PayloadTooLargeError(f"{len(data)} bytes on {subject}")
        fault = self._faults.popleft() if self._faults else None
        if self.down or fault == "lost":
            raise LogUnavailableError("publish: no answer")
        if fault == "late":
            self._late.append(lambda: self._store(subject, data, headers, expected))
            raise LogUnavailableError("publish: no answer yet")
        sequence = self._store(subject, data, headers, expected)
        if fault == "ack_lost":
            raise LogUnavailableError("publish: stored, but the answer was lost")
        return sequence

    async def read(self, subject: str, first: int, last: int) -> AsyncIterator[Entry]:
        """See `EventLog.read`."""
        await self._read()
        for entry in self.on(subject):
            if first <= entry.sequence <= last:
                yield entry
                await self._read()

    async def _read(self) -> None:
        await asyncio.sleep(0)
        if self.reads_unavailable > 0:
            self.reads_unavailable -= 1
            raise LogUnavailableError("read: no answer")
        if self.down:
            raise LogUnavailableError("read: no answer")

    def _store(self, subject: str, data: bytes, headers: Mapping[str, str], expected: int) -> int:
        if self.dedupe_first:
            self._check_id(headers)
        entries = self.on(subject)
        if (entries[-1].sequence if entries else 0) != expected:
            raise WrongSequenceError
        self._check_id(headers)
        entry = Entry(next(self._sequences), data, dict(headers), subject)
        self.stored.append(Stored(subject=subject, entry=entry, at=self._clock.now()))
        if MSG_ID in headers:
            self._ids[headers[MSG_ID]] = self._clock.now()
        return entry.sequence

    def _check_id(self, headers: Mapping[str, str]) -> None:
        known = self._ids.get(headers.get(MSG_ID, ""))
        if known is not None and self._clock.now() - known < timedelta(seconds=self.window):
            raise WrongSequenceError

    def _land(self) -> None:
        """Let late publishes arrive, when their expectation still holds."""
        late, self._late = self._late, []
        for store in late:
            try:
                store()
            except WrongSequenceError:
                continue


class FakeBucket:
    """A key-value bucket that several fake status boards may share."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[int, bytes]] = {}
        """Revision and value by key; empty bytes are a delete marker."""
        self.writes: list[JobStatus] = []
        """Every status written, in order."""
        self.down = False
        self._revision = 0

    def put(self, key: str, value: bytes) -> int:
        """Write `value` whatever stands there; return its revision."""
        self._revision += 1
        self.values[key] = (self._revision, value)
        return self._revision

    def delete(self, key: str) -> None:
        """Leave a delete marker."""
        self.put(key, b"")


class FakeStatusBoard:
    """`StatusBoard` of one replica; writes are conditional on the revision that this replica saw last.

    `every` is the seconds of the event loop between two writes of a job that change no state.
    """

    def __init__(self, bucket: FakeBucket | None = None, *, every: float = 1.0) -> None:
        self.bucket = bucket or FakeBucket()
        self.every = every
        self.posted: list[JobStatus] = []
        self.settled: list[JobStatus] = []
        self.dropped: list[str] = []
        self._pending: dict[str, JobStatus] = {}
        self._written: dict[str, tuple[JobState, float]] = {}
        self._revisions: dict[str, int] = {}
        self._over: set[str] = set()
        self._newest: dict[str, JobStatus] = {}

    @property
    def states(self) -> list[JobState]:
        """The states that were written, in order, without repetitions."""
        return [state for state, _ in itertools.groupby(status.state for status in self.bucket.writes)]

    async def get(self, job_id: str) -> JobStatus | None:
        """See `StatusBoard.get`."""
        if self.bucket.down:
            return None
        revision, value = self.bucket.values.get(job_id, (0, b""))
        if job_id not in self._written:
            self._revisions[job_id] = revision
        try:
            return msgspec.json.decode(value, type=JobStatus) if value else None
        except msgspec.DecodeError:
            return None

    def in_hand(self, job_id: str) -> JobStatus | None:
        """See `StatusBoard.in_hand`."""
        return self._newest.get(job_id)

    async def look(self, job_id: str) -> JobStatus | None:
        """See `StatusBoard.look`."""
        await asyncio.sleep(0)
        if self.bucket.down:
            raise BoardUnavailableError
        _, value = self.bucket.values.get(job_id, (0, b""))
        return msgspec.json.decode(value, type=JobStatus) if value else None

    def post_later(self, job_id: str, state: JobState, make: Callable[[], JobStatus]) -> None:
        """See `StatusBoard.post_later`; nothing is put off here."""
        status = make()
        assert (status.job_id, status.state) == (job_id, state)
        self.post(status)

    def post(self, status: JobStatus) -> None:
        """See `StatusBoard.post`."""
        self.posted.append(status)
        if status.job_id in self._over:
            return
        loop = asyncio.get_running_loop()
        self._newest[status.job_id] = status
        self._pending[status.job_id] = status
        state, at = self._written.get(status.job_id, (None, 0.0))
        wait = 0.0 if state != status.state else at + self.every - loop.time()
        if wait <= 0:
            self._flush(status.job_id)
        else:
            loop.call_later(wait, self._flush, status.job_id)

    async def settle(self, status: JobStatus) -> None:
        """See `StatusBoard.settle`."""
        self.settled.append(status)
        job_id = status.job_id
        self._over.add(job_id)
        self._newest[job_id] = status
        self._pending.pop(job_id, None)
        if not self._write(status) and status.state in TERMINAL_STATES:
            self._forget(job_id)
            await self.get(job_id)
            self._write(status)
        self._forget(job_id)

    def drop(self, job_id: str) -> None:
        """See `StatusBoard.drop`."""
        self.dropped.append(job_id)
        self._forget(job_id)
        self._over.discard(job_id)

    def _forget(self, job_id: str) -> None:
        self._pending.pop(job_id, None)
        self._written.pop(job_id, None)
        self._revisions.pop(job_id, None)
        self._newest.pop(job_id, None)

    def _flush(self, job_id: str) -> None:
        status = self._pending.pop(job_id, None)
        if status is not None:
            self._write(status)

    def _write(self, status: JobStatus) -> bool:
        job_id = status.job_id
        self._written[job_id] = (status.state, asyncio.get_running_loop().time())
        expected, (revision, value) = self._revisions.get(job_id), self.bucket.values.get(job_id, (0, b""))
        if self.bucket.down or (expected is not None and expected != revision):
            return False
        with contextlib.suppress(msgspec.DecodeError):
            if value and not outranks(status, msgspec.json.decode(value, type=JobStatus)):
                return False
        self._revisions[job_id] = self.bucket.put(job_id, msgspec.json.encode(status))
        self.bucket.writes.append(status)
        return True


class FakeCancellations:
    """`Cancellations` in memory, which several replicas may share."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.marks: dict[str, int] = {}
        """When each job's cancellation was asked for, in microseconds."""
        self.early: dict[str, tuple[int, float]] = {}
        """The same of unknown ids, with the second until which it counts."""
        self.down = False
        self.looks = 0
        self._clock = clock or Clock()

    async def request(self, job_id: str) -> None:
        """See `Cancellations.request`."""
        await asyncio.sleep(0)
        if self.down:
            raise BoardUnavailableError
        self.marks[job_id] = int(self._clock.now().timestamp() * 1_000_000)

    async def request_unknown(self, job_id: str, keep: float) -> None:
        """See `Cancellations.request_unknown`."""
        await asyncio.sleep(0)
        if self.down:
            raise BoardUnavailableError
        now = self._clock.now().timestamp()
        self.early[job_id] = int(now * 1_000_000), max(now + keep, self.early.get(job_id, (0, 0.0))[1])

    async def requested_us(self, job_id: str) -> int | None:
        """See `Cancellations.requested_us`."""
        self.looks += 1
        await asyncio.sleep(0)
        if self.down:
            return None
        at, until = self.early.get(job_id, (0, 0.0))
        early = at if until > self._clock.now().timestamp() else 0
        return max(self.marks.get(job_id, 0), early) or None


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A stored dead letter."""

    provider: Provider
    body: bytes
    headers: Mapping[str, str]
    key: str


class FakeDeadLetters:
    """`DeadLetters` in memory. `blocked` holds every store back until it is set again."""

    def __init__(self, *, max_payload: int = 1_048_576) -> None:
        self.max_payload = max_payload
        self.letters: list[Letter] = []
        self.open = asyncio.Event()
        """Set: the server takes letters. Cleared: `store` waits."""
        self.open.set()

    async def store(
        self,
        provider: Provider,
        body: bytes,
        headers: Mapping[str, str],
        key: str,
        failed: Failed = lambda code, words: None,
    ) -> None:
        """See `DeadLetters.store`."""
        if not self.open.is_set():
            failed(None, "no answer")
        await self.open.wait()
        if any(letter.key == key for letter in self.letters):
            return
        kept, room = dict(headers), self.max_payload - _size(b"", headers) - 1024
        if len(body) > room:
            kept["Followers-Body-Bytes"] = str(len(body))
        self.letters.append(Letter(provider=provider, body=body[: max(room, 0)], headers=kept, key=key))


@dataclass(kw_only=True, eq=False)
class FakeDelivery:
    """`Delivery` that records how it was settled. One of a `FakeQueue` also removes or returns its command."""

    subject: str = "followers.fetch.etelecom"
    data: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    sequence: int = 1
    timestamp_us: int = int(EPOCH.timestamp() * 1_000_000)
    deliveries: int = 1
    acks: int = 0
    naks: list[float] = field(default_factory=list)
    """The delays asked for."""
    beats: int = 0
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first ack or nak."""
    queue: "FakeQueue | None" = None

    async def ack(self) -> None:
        """See `Delivery.ack`."""
        await asyncio.sleep(0)
        self.acks += 1
        self.settled.set()
        if self.queue is not None and not self.queue.down:
            self.queue.remove(self.sequence)

    async def nak(self, delay: float) -> None:
        """See `Delivery.nak`."""
        await asyncio.sleep(0)
        self.naks.append(delay)
        self.settled.set()
        if self.queue is not None and not self.queue.down:
            self.queue.hide(self.sequence, delay)

    async def in_progress(self) -> None:
        """See `Delivery.in_progress`."""
        await asyncio.sleep(0)
        self.beats += 1
        if self.queue is not None and not self.queue.down:
            self.queue.hide(self.sequence, self.queue.ack_wait)


class FakeQueue:
    """A work queue in memory: what is neither acknowledged nor held comes again after `ack_wait` seconds."""

    def __init__(self, *, ack_wait: float = 30.0) -> None:
        self.ack_wait = ack_wait
        self.down = False
        self._commands: dict[int, FakeDelivery] = {}
        self._visible_at: dict[int, float] = {}
        self._sequences = itertools.count(1)

    def __len__(self) -> int:
        """Return how many commands are not acknowledged."""
        return len(self._commands)

    def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Store a command; return its sequence."""
        sequence = next(self._sequences)
        at = int(datetime.now(UTC).timestamp() * 1_000_000)
        self._commands[sequence] = FakeDelivery(
            subject=subject, data=data, headers=dict(headers or {}), sequence=sequence, timestamp_us=at, deliveries=0
        )
        self._visible_at[sequence] = 0.0
        return sequence

    async def next(self, timeout: float) -> FakeDelivery | None:
        """Return the next command to work on, None when there is none for `timeout` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while (due := self._due(loop.time())) is None:
            if loop.time() >= deadline:
                return None
            await asyncio.sleep(0.01)
        due.deliveries += 1
        self.hide(due.sequence, self.ack_wait)
        return FakeDelivery(
            subject=due.subject,
            data=due.data,
            headers=due.headers,
            sequence=due.sequence,
            timestamp_us=due.timestamp_us,
            deliveries=due.deliveries,
            queue=self,
        )

    def remove(self, sequence: int) -> None:
        """Acknowledge a command, whoever has it now."""
        self._commands.pop(sequence, None)

    def hide(self, sequence: int, seconds: float) -> None:
        """Deliver a command no earlier than in `seconds`."""
        self._visible_at[sequence] = asyncio.get_running_loop().time() + seconds

    def _due(self, now: float) -> FakeDelivery | None:
        return next((one for sequence, one in self._commands.items() if self._visible_at[sequence] <= now), None)


class FakeClient:
    """`ProviderClient` over a list of user ids that may change while it is read.

    `paging="cursor"`: a page starts after the user that its cursor names, so rows don't move. `paging="offset"`: a page
    starts at a row number, so rows move when the list changes.
    """

    def __init__(self, users: Iterable[str] | int = (), *, paging: Literal["cursor", "offset"] = "cursor") -> None:
        self.users = [f"{1000 + row}" for row in range(users)] if isinstance(users, int) else list(users)
        self.paging = paging
        self.requests: list[str | None] = []
        """The cursors asked for, in order, failed requests included."""
        self.refusal: FetchFailure | None = None
        """What `check` raises."""
        self.gives_total = True
        self.cap: int | None = None
        """The most rows that the provider gives; a list that names its next page says that it is capped there."""
        self.gate = asyncio.Event()
        """Clear it to hold requests back."""
        self.gate.set()
        self.before_request: Callable[[str | None], Awaitable[None]] | None = None
        """Called with the cursor before each request is answered: the place to change the list."""
        self.closed = False
        self._failures: deque[BaseException | None] = deque()
        self._failures_at: defaultdict[str | None, deque[BaseException]] = defaultdict(deque)

    def fail_next(self, *errors: BaseException | None) -> None:
        """Let the requests to come fail with `errors`, in order; None: that one works."""
        self._failures.extend(errors)

    def fail_at(self, cursor: str | None, *errors: BaseException) -> None:
        """Let the next requests for `cursor` fail with `errors`, in order."""
        self._failures_at[cursor].extend(errors)

    def check(self, command: FetchFollowers) -> None:
        """See `ProviderClient.check`."""
        if self.refusal is not None:
            raise self.refusal

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        """See `ProviderClient.fetch`."""
        self.requests.append(cursor)
        await asyncio.sleep(0)
        await self.gate.wait()
        if self.before_request is not None:
            await self.before_request(cursor)
        failures = self._failures_at[cursor] or self._failures
        error = failures.popleft() if failures else None
        if error is not None:
            raise error
        users = self.users if self.cap is None else self.users[: self.cap]
        start = self._start(users, cursor)
        count = command.page_size if self.paging == "cursor" else max(2, command.page_size)
        rows = users[start : start + count]
        end = start + len(rows)
        more = end < len(users)
        return ProviderPage(
            followers=[Follower(user_id=user) for user in rows],
            next_cursor=rows[-1] if more and self.paging == "cursor" else None,
            total=len(self.users) if self.gives_total else None,
            capped=not more and len(users) < len(self.users) and self.paging == "cursor",
        )

    def order(self, command: FetchFollowers) -> Order:
        """See `ProviderClient.order`."""
        return "still" if self.paging == "cursor" else "unknown"

    def offsets(self, command: FetchFollowers) -> Offsets | None:
        """See `ProviderClient.offsets`."""
        count = max(2, command.page_size)
        last = 1_000_000 if self.cap is None else self.cap - count
        return None if self.paging == "cursor" else Offsets(count=count, last=last)

    async def close(self) -> None:
        """See `ProviderClient.close`."""
        self.closed = True

    def _start(self, users: list[str], cursor: str | None) -> int:
        if cursor is None:
            return 0
        return users.index(cursor) + 1 if self.paging == "cursor" else int(cursor)


class FakeMeter:
    """`Meter` that counts in plain sight."""

    def __init__(self) -> None:
        self.pages: Counter[Provider] = Counter()
        self.followers: Counter[Provider] = Counter()
        self.requests: Counter[tuple[Provider, Outcome]] = Counter()
        self.seconds: list[float] = []
        """What each of those took."""
        self.letters: Counter[tuple[Provider, str]] = Counter()
        self.changes: Counter[tuple[Provider, str]] = Counter()
        self.redeliveries: Counter[Provider] = Counter()
        self.faults: Counter[Provider] = Counter()
        self.jobs: Counter[tuple[Provider, JobState]] = Counter()
        self.waits: defaultdict[tuple[Provider, WaitReason], float] = defaultdict(float)
        self.circuits: list[tuple[str, Circuit]] = []
        self.shared: dict[str, bool] = {}

    def page_published(self, provider: Provider, followers: int) -> None:
        """See `Meter.page_published`."""
        self.pages[provider] += 1
        self.followers[provider] += followers

    def request_ended(self, provider: Provider, outcome: Outcome, seconds: float) -> None:
        """See `Meter.request_ended`."""
        self.requests[provider, outcome] += 1
        self.seconds.append(seconds)

    def job_ended(self, provider: Provider, state: JobState) -> None:
        """See `Meter.job_ended`."""
        self.jobs[provider, state] += 1

    def dead_lettered(self, provider: Provider, code: str) -> None:
        """See `Meter.dead_lettered`."""
        self.letters[provider, code] += 1

    def change_published(self, provider: Provider, kind: str) -> None:
        """See `Meter.change_published`."""
        self.changes[provider, kind] += 1

    def redelivered(self, provider: Provider) -> None:
        """See `Meter.redelivered`."""
        self.redeliveries[provider] += 1

    def faulted(self, provider: Provider) -> None:
        """See `Meter.faulted`."""
        self.faults[provider] += 1

    def request_waited(self, provider: Provider, reason: WaitReason, seconds: float) -> None:
        """See `Meter.request_waited`."""
        self.waits[provider, reason] += seconds

    def circuit_changed(self, provider: Provider, account: str, state: Circuit) -> None:
        """See `Meter.circuit_changed`."""
        self.circuits.append((account, state))

    def limit_shared(self, provider: Provider, account: str, *, shared: bool) -> None:
        """See `Meter.limit_shared`."""
        self.shared[account] = shared


def make_world(*, clock: Clock | None = None, **overrides: Any) -> World:
    """Return a World of fakes with numbered tokens, no backoff and `clock`; `overrides` are fields of World.

    Two replicas: `make_world(worker="a", log=log)` and `make_world(worker="b", log=log)`.
    """
    clock = clock or Clock()
    worker: str = overrides.get("worker", "worker-1")
    tokens = itertools.count(1)
    fields: dict[str, Any] = {
        "log": FakeLog(clock=clock),
        "status": FakeStatusBoard(),
        "cancellations": FakeCancellations(clock),
        "dead_letters": FakeDeadLetters(),
        "meter": FakeMeter(),
        "now": clock.now,
        "dice": lambda: 0.0,
        "token": lambda: f"{worker}-{next(tokens)}",
        "worker": worker,
        "policy": RetryPolicy(base=0.0),
    }
    return World(**(fields | overrides))


def _size(data: bytes, headers: Mapping[str, str]) -> int:
    """Return what NATS counts against `max_payload`: the header block and the body."""
    block = sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())
    return len(data) + (block + len("NATS/1.0\r\n\r\n") if headers else 0)
