"""A model of what the core meets: the log, the work queue, the provider; each as hostile as the seed says."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from schemas.commands import FetchFollowers
from schemas.follower import Follower
from schemas.jobs import JobStatus
from schemas.types import JobState, Provider, WaitReason
from worker.core.errors import ProviderUnavailableError, RateLimitedError, UnauthorizedError
from worker.core.holdups import Failed
from worker.core.ports.event_log import Entry, LogUnavailableError, PayloadTooLargeError, WrongSequenceError
from worker.core.ports.metrics import Circuit, Outcome
from worker.core.ports.provider import Offsets, Order, ProviderPage
from worker.core.status.precedence import outranks

EXPECTED = "expected"


def now_us() -> int:
    """Return the virtual time in microseconds, as a server stamps what it stores."""
    return round(asyncio.get_running_loop().time() * 1_000_000)


@dataclass
class Faults:
    """How likely each fault is, for one call."""

    publish_lost: float = 0.03
    ack_lost: float = 0.03
    lands_late: float = 0.03
    read_fails: float = 0.03
    provider_fails: float = 0.05
    fatal: float = 0.0
    """Of those, how many are for good."""


@dataclass
class Stream:
    """The event stream itself; outlives every worker."""

    rng: random.Random
    dedupe_first: bool
    """Servers up to 2.11 look for duplicates before they check the expectation; newer ones after."""
    window: float
    fence: bool = True
    max_payload: int = 1 << 20
    entries: list[tuple[str, Entry]] = field(default_factory=list)
    _ids: dict[str, tuple[int, float]] = field(default_factory=dict)

    def store(self, subject: str, data: bytes, headers: Mapping[str, str], expected: int, now: float) -> int:
        """Append as nats-server does. Raises WrongSequenceError."""
        if len(data) + 512 > self.max_payload:
            raise PayloadTooLargeError
        id = headers["Nats-Msg-Id"]
        duplicate = id in self._ids and now - self._ids[id][1] < self.window
        if duplicate and self.dedupe_first:
            raise WrongSequenceError
        tail = self.tail(subject)
        if self.fence and (tail.sequence if tail else 0) != expected:
            raise WrongSequenceError
        if duplicate:
            raise WrongSequenceError
        sequence = len(self.entries) + 1
        self.entries.append((subject, Entry(sequence, data, dict(headers))))
        self._ids[id] = (sequence, now)
        return sequence

    def tail(self, subject: str) -> Entry | None:
        """Return the newest entry on `subject`."""
        return next((entry for on, entry in reversed(self.entries) if on == subject), None)

    def of(self, subject: str) -> list[Entry]:
        """Return all entries on `subject`, in order."""
        return [entry for on, entry in self.entries if on == subject]


class Process:
    """A worker process as the outside sees it: it may be killed, or stopped for a while."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.over = False
        """The run has been judged: let everything end."""
        self._grave: list[asyncio.Future[None]] = []
        self._paused_until = 0.0

    def kill(self) -> None:
        """From now on nothing that it does has an effect."""
        self.dead = True

    def pause(self, seconds: float) -> None:
        """As SIGSTOP and, `seconds` later, SIGCONT."""
        self._paused_until = asyncio.get_running_loop().time() + seconds

    async def step(self) -> None:
        """Called at each touch with the outside; never returns in a dead process."""
        loop = asyncio.get_running_loop()
        if self.over:
            return
        while self._paused_until > loop.time():
            await asyncio.sleep(self._paused_until - loop.time())
        if self.dead:
            # Kept, or the garbage collector would end what a dead process was doing.
            self._grave.append(loop.create_future())
            await self._grave[-1]


class ModelLog:
    """`EventLog` of one process on the shared stream."""

    def __init__(self, stream: Stream, process: Process, faults: Faults, rng: random.Random) -> None:
        self._stream, self._process, self._faults, self._rng = stream, process, faults, rng
        self.max_payload = stream.max_payload
        self.trust_duplicates = False

    async def last(self, subject: str) -> Entry | None:
        await self._travel()
        if self._rng.random() < self._faults.read_fails:
            raise LogUnavailableError
        tail = self._stream.tail(subject)
        await self._travel()
        return tail

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str], expected: int) -> int:
        await self._travel()
        fate, faults = self._rng.random(), self._faults
        if fate < faults.publish_lost:
            raise LogUnavailableError
        fate -= faults.publish_lost
        if fate < faults.lands_late:
            delay = self._rng.uniform(0, 8)
            asyncio.get_running_loop().call_later(delay, self._land, subject, data, headers, expected)
            raise LogUnavailableError
        fate -= faults.lands_late
        try:
            sequence = self._store(subject, data, headers, expected)
        finally:
            await self._travel()
        if fate < faults.ack_lost:
            raise LogUnavailableError
        return sequence

    async def read(self, subject: str, first: int, last: int) -> AsyncIterator[Entry]:
        for entry in self._stream.of(subject):
            if first <= entry.sequence <= last:
                await self._travel()
                if self._rng.random() < self._faults.read_fails:
                    raise LogUnavailableError
                yield entry

    def _store(self, subject: str, data: bytes, headers: Mapping[str, str], expected: int) -> int:
        now = asyncio.get_running_loop().time()
        try:
            return self._stream.store(subject, data, headers, expected, now)
        except WrongSequenceError:
            if self.trust_duplicates and headers["Nats-Msg-Id"] in self._stream._ids:
                return self._stream._ids[headers["Nats-Msg-Id"]][0]
            raise

    def _land(self, subject: str, data: bytes, headers: Mapping[str, str], expected: int) -> None:
        try:
            self._store(subject, data, headers, expected)
        except (WrongSequenceError, PayloadTooLargeError):
            return

    async def _travel(self) -> None:
        await self._process.step()
        await asyncio.sleep(self._rng.expovariate(200))
        await self._process.step()


@dataclass
class Command:
    """A message in the work queue."""

    sequence: int
    subject: str
    data: bytes
    headers: Mapping[str, str]
    timestamp_us: int
    due: float = 0.0
    deliveries: int = 0
    gone: bool = False


class Queue:
    """The work queue. As on the server, whatever a stale delivery says acts on the current one."""

    def __init__(self, ack_wait: float) -> None:
        self.ack_wait = ack_wait
        self.commands: list[Command] = []

    def put(self, subject: str, data: bytes, headers: Mapping[str, str]) -> None:
        """Publish a command."""
        self.commands.append(Command(len(self.commands) + 1, subject, data, headers, now_us()))

    def take(self) -> Command | None:
        """Deliver the next command that is due, if any."""
        now = asyncio.get_running_loop().time()
        for command in self.commands:
            if not command.gone and command.due <= now:
                command.due = now + self.ack_wait
                command.deliveries += 1
                return command
        return None

    @property
    def left(self) -> int:
        """Commands that nobody has acknowledged."""
        return sum(not command.gone for command in self.commands)


class ModelDelivery:
    """`Delivery` of one command to one process."""

    def __init__(self, queue: Queue, command: Command, process: Process) -> None:
        self._queue, self._command, self._process = queue, command, process
        self.subject, self.data, self.headers = command.subject, command.data, command.headers
        self.sequence = command.sequence
        self.timestamp_us = command.timestamp_us
        self.deliveries = command.deliveries

    async def ack(self) -> None:
        await self._process.step()
        self._command.gone = True

    async def nak(self, delay: float) -> None:
        await self._process.step()
        self._command.due = asyncio.get_running_loop().time() + delay

    async def in_progress(self) -> None:
        await self._process.step()
        self._command.due = asyncio.get_running_loop().time() + self._queue.ack_wait


class ModelStatusBoard:
    """`StatusBoard` that all processes share; writes of a dead process are lost."""

    def __init__(self, shared: dict[str, JobStatus], process: Process) -> None:
        self._shared, self._process = shared, process

    async def get(self, job_id: str) -> JobStatus | None:
        await self._process.step()
        return self._shared.get(job_id)

    async def look(self, job_id: str) -> JobStatus | None:
        return await self.get(job_id)

    def in_hand(self, job_id: str) -> JobStatus | None:
        return None

    def post(self, status: JobStatus) -> None:
        if not self._process.dead and outranks(status, self._shared.get(status.job_id)):
            self._shared[status.job_id] = status

    def post_later(self, job_id: str, state: JobState, make: Callable[[], JobStatus]) -> None:
        self.post(make())

    async def settle(self, status: JobStatus) -> None:
        await self._process.step()
        if outranks(status, self._shared.get(status.job_id)):
            self._shared[status.job_id] = status

    def drop(self, job_id: str) -> None:
        """Nothing is pending here."""


class ModelCancellations:
    """`Cancellations` that all processes share."""

    def __init__(self, shared: dict[str, int], process: Process) -> None:
        self._shared, self._process = shared, process

    async def request(self, job_id: str) -> None:
        await self._process.step()
        self._shared[job_id] = now_us()

    async def request_unknown(self, job_id: str, keep: float) -> None:
        # A command here comes sooner than any note is forgotten.
        await self.request(job_id)

    async def requested_us(self, job_id: str) -> int | None:
        await self._process.step()
        return self._shared.get(job_id)


Letter = tuple[Provider, bytes, Mapping[str, str]]


@dataclass
class Letters:
    """The dead letters themselves; the window for duplicates has no end here."""

    left: list[Letter] = field(default_factory=list)
    ever: list[Letter] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


class ModelDeadLetters:
    """`DeadLetters` in a list."""

    def __init__(self, letters: Letters, process: Process) -> None:
        self._letters, self._process = letters, process

    async def store(
        self,
        provider: Provider,
        body: bytes,
        headers: Mapping[str, str],
        key: str,
        failed: Failed = lambda code, words: None,
    ) -> None:
        await self._process.step()
        if key not in self._letters.keys:
            self._letters.keys.add(key)
            self._letters.left.append((provider, body, headers))
            self._letters.ever.append((provider, body, headers))


class ModelClient:
    """`ProviderClient` over a list of user ids; each answer's next cursor has a nonce, so a mixed chain shows."""

    def __init__(
        self, ids: list[str], process: Process, faults: Faults, rng: random.Random, *, offsets: bool, notes: int = 0
    ) -> None:
        self._ids, self._process, self._faults, self._rng = ids, process, faults, rng
        self._offsets = offsets
        self._notes = "n" * notes

    def check(self, command: FetchFollowers) -> None:
        """Everything is possible here."""

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        await self._process.step()
        await asyncio.sleep(self._rng.uniform(0.01, 0.4))
        await self._process.step()
        if self._rng.random() < self._faults.provider_fails:
            if self._faults.fatal and self._rng.random() < self._faults.fatal:
                raise UnauthorizedError("the key is wrong", http_status=401)
            raise self._rng.choice(
                [
                    ProviderUnavailableError("down", http_status=503),
                    RateLimitedError("slow down", retry_after=self._rng.uniform(0, 3)),
                    ProviderUnavailableError("html"),
                ]
            )
        start = int((cursor or "0").split(".")[0])
        rows = self._ids[start : start + command.page_size]
        end = start + len(rows)
        more = end < len(self._ids)
        nonce = "" if self._offsets else f".{self._rng.getrandbits(32)}"
        notes = [self._notes] if self._notes else []
        return ProviderPage(
            followers=[Follower(user_id=row, notes=notes) for row in rows],
            next_cursor=f"{end}{nonce}" if more else None,
            total=len(self._ids) if self._offsets else None,
        )

    def order(self, command: FetchFollowers) -> Order:
        return "unknown" if self._offsets else "still"

    def offsets(self, command: FetchFollowers) -> Offsets | None:
        return Offsets(count=max(2, command.page_size), last=1_000_000) if self._offsets else None

    async def close(self) -> None:
        """Nothing to let go."""


class NoMeter:
    """Counts nothing."""

    def page_published(self, provider: Provider, followers: int) -> None:
        """Ignore it."""

    def request_ended(self, provider: Provider, outcome: Outcome, seconds: float) -> None:
        """Ignore it."""

    def dead_lettered(self, provider: Provider, code: str) -> None:
        """Ignore it."""

    def change_published(self, provider: Provider, kind: str) -> None:
        """Ignore it."""

    def redelivered(self, provider: Provider) -> None:
        """Ignore it."""

    def faulted(self, provider: Provider) -> None:
        """Ignore it."""

    def job_ended(self, provider: Provider, state: JobState) -> None:
        """Ignore it."""

    def request_waited(self, provider: Provider, reason: WaitReason, seconds: float) -> None:
        """Ignore it."""

    def circuit_changed(self, provider: Provider, account: str, state: Circuit) -> None:
        """Ignore it."""

    def limit_shared(self, provider: Provider, account: str, *, shared: bool) -> None:
        """Ignore it."""


Mutation = Callable[["ModelLog"], None]
