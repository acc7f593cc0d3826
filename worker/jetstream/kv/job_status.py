"""Job status: the bucket `FOLLOWERS_JOBS` behind the port `StatusBoard`."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.jobs import JobStatus
from schemas.subjects import JOBS_BUCKET
from schemas.types import JobState
from schemas.wire import decode, encode
from worker.core.ports.job_store import BoardUnavailableError
from worker.core.status.precedence import TERMINAL, outranks
from worker.jetstream.client.direct_get import last_of
from worker.jetstream.client.writes import Writes
from worker.jetstream.events.log import EXPECTED_SEQUENCE, NO_MESSAGE, WRONG_SEQUENCE_CODES

EVERY = 1.0
"""Seconds between two writes of a job's status that change no state."""
OWED_EVERY = 5.0
"""Seconds between two tries at the ends that the bucket didn't take."""
SETTLE_TRIES = 3
REMEMBERED = 1024
"""Jobs not in hand of which something is remembered, at most: anybody may ask for any id."""

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a key had when it was read."""

    revision: int
    """0: never written."""
    status: JobStatus | None
    """None: there is none, or none that this version can read."""


@dataclass(slots=True)
class _Posted:
    """What was told of a job; made when it is needed, and once."""

    state: JobState
    make: Callable[[], JobStatus]
    made: JobStatus | None = None

    @property
    def status(self) -> JobStatus:
        if self.made is None:
            self.made = self.make()
        return self.made


class JetStreamStatusBoard:
    """`StatusBoard` on a key-value bucket; writes in the background what `post` takes.

    Every write is conditional on the revision at which the key was read: one that was paused or cut off and comes back
    can't paint over what its successor wrote. And nothing replaces a job's end but what rests on a newer job event.
    """

    def __init__(self, client: Client, *, timeout: float, writes: Writes | None = None) -> None:
        """Take a connection, the seconds after which an unanswered call is given up, and who hears of failed writes."""
        self._client, self._timeout = client, timeout
        self._writes = writes or Writes()
        self._js: JetStreamContext = client.jetstream(timeout=timeout)
        self._stream = f"KV_{JOBS_BUCKET}"
        self._pending: dict[str, _Posted] = {}
        self._written: dict[str, tuple[str, float]] = {}
        """State and time of the last write of each job in hand."""
        self._seen: dict[str, _Seen] = {}
        """What a job in hand has in the bucket, as far as we know."""
        self._looked_up: dict[str, _Seen] = {}
        """What `get` found for a job that isn't in hand, or not yet."""
        self._newest: dict[str, _Posted] = {}
        """What was told last of each job in hand, whether or not the bucket has it."""
        self._owed: dict[str, JobStatus] = {}
        """The ends that the bucket didn't take."""
        self._settled: dict[str, None] = {}
        """Jobs of which nothing more may be posted: a heartbeat may come between the end and `drop`."""
        self._lost: set[str] = set()
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()

    async def get(self, job_id: str) -> JobStatus | None:
        """Read the key; unless the job is in hand, remember what is there for our first write."""
        seen = await self._look(job_id, direct=True)
        if seen is not None and job_id not in self._written:
            _remember(self._looked_up, job_id, seen)
        return None if seen is None else seen.status

    async def look(self, job_id: str) -> JobStatus | None:
        """Read the key, and remember nothing."""
        seen = await self._look(job_id, direct=True)
        if seen is None:
            raise BoardUnavailableError
        return seen.status

    def in_hand(self, job_id: str) -> JobStatus | None:
        """Return what was told last, unless another replica has taken the job since."""
        if job_id in self._lost:
            return None
        posted = self._newest.get(job_id)
        return self._owed.get(job_id) if posted is None else posted.status

    def post(self, status: JobStatus) -> None:
        """Note it; `run` writes it."""
        self.post_later(status.job_id, status.state, lambda: status)

    def post_later(self, job_id: str, state: JobState, make: Callable[[], JobStatus]) -> None:
        """Note how to make it."""
        if job_id in self._settled:
            return
        waits = self._pending.get(job_id)
        self._newest[job_id] = self._pending[job_id] = _Posted(state, make)
        # In place of one that waits for its second to be over, it waits as long: there is nothing to look at.
        if waits is None or waits.state != state:
            self._wake.set()

    async def settle(self, status: JobStatus) -> None:
        """Write it now, in place of whatever is pending for the job; what is posted after it is ignored."""
        job_id = status.job_id
        _remember(self._settled, job_id, None)
        self._pending.pop(job_id, None)
        self._newest[job_id] = _Posted(status.state, lambda: status)
        async with self._lock:
            for _ in range(SETTLE_TRIES):
                if await self._write(status):
                    break
            else:
                if status.state in TERMINAL:
                    _remember(self._owed, job_id, status)
            self._forget(job_id)

    def drop(self, job_id: str) -> None:
        """Forget what is pending and what we knew of the key."""
        self._forget(job_id)
        self._settled.pop(job_id, None)

    async def run(self) -> None:
        """Write what was posted, and what is owed, until cancelled."""
        await asyncio.gather(self._write_posted(), self._settle_owed())

    async def _write_posted(self) -> None:
        loop, again = asyncio.get_running_loop(), None
        while True:
            await self._wake.wait()
            self._wake.clear()
            wait = await self._write_due()
            if again is not None:
                again.cancel()
            again = None if wait is None else loop.call_later(wait, self._wake.set)

    async def _settle_owed(self) -> None:
        while True:
            await asyncio.sleep(OWED_EVERY)
            await self.write_owed()

    async def write_owed(self) -> None:
        """Try once to write each end that is owed, as long as the bucket takes them."""
        for job_id, status in list(self._owed.items()):
            async with self._lock:
                held = job_id in self._newest
                settled = held or await self._write(status)
                if not held:
                    self._forget(job_id)
            if not settled:
                return  # the others would fare no better
            if self._owed.get(job_id) is status:
                del self._owed[job_id]

    async def _write_due(self) -> float | None:
        """Write each pending status whose time has come; return the seconds until the next one's, if any."""
        soonest: float | None = None
        for job_id in list(self._pending):
            async with self._lock:
                posted = self._pending.get(job_id)
                if posted is None:
                    continue
                wait = self._wait(job_id, posted.state)
                if wait <= 0:
                    del self._pending[job_id]
                    if await self._write(posted.status) or job_id not in self._written:
                        continue
                    # Not written, and still in hand: once more, unless something newer was posted meanwhile.
                    self._pending.setdefault(job_id, posted)
                    wait = EVERY
                soonest = wait if soonest is None else min(soonest, wait)
        return soonest

    def _wait(self, job_id: str, state: JobState) -> float:
        written, at = self._written.get(job_id, ("", 0.0))
        return 0.0 if written != state else at + EVERY - time.monotonic()

    async def _write(self, status: JobStatus) -> bool:
        """Write `status` if that is ours to do; return whether that is settled, or must be tried again."""
        job_id = status.job_id
        if job_id in self._lost and status.state not in TERMINAL:
            return True
        self._written[job_id] = (status.state, time.monotonic())
        seen = self._seen.get(job_id) or self._looked_up.pop(job_id, None)
        if seen is None:
            # Ask the leader: a replica that lags would show what was there before.
            seen = await self._look(job_id, direct=False)
            if seen is None or job_id not in self._written:
                return seen is not None
        self._seen[job_id] = seen
        if not outranks(status, seen.status):
            self._lost.add(job_id)
            return True
        return await self._publish(status, seen.revision)

    async def _publish(self, status: JobStatus, revision: int) -> bool:
        job_id = status.job_id
        try:
            ack = await self._js.publish(self._key(job_id), encode(status), headers={EXPECTED_SEQUENCE: str(revision)})
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_SEQUENCE_CODES:
                return await self._yield_to_other(status)
            self._unwritten(job_id, error)
            return False
        except (nats.errors.Error, OSError) as error:
            # It may have landed all the same; then the next write is refused, and finds our own status there.
            self._unwritten(job_id, error)
            return False
        self._writes.stored(self._stream)
        if job_id in self._written:
            self._seen[job_id] = _Seen(ack.seq, status)
        return True

    def _unwritten(self, job_id: str, error: Exception) -> None:
        code, words = self._writes.refused(self._stream, error)
        _log.warning("status.unwritten", job_id=job_id, error=type(error).__name__, err_code=code, reason=words)

    async def _yield_to_other(self, status: JobStatus) -> bool:
        """Something else is there: say whether that settles it, or `status` must be tried again."""
        job_id = status.job_id
        seen = await self._look(job_id, direct=False)
        if job_id not in self._written:
            return True  # dropped meanwhile
        if seen is None:
            return False
        there = seen.status
        ours = outranks(status, there)
        if there is not None and status.state not in TERMINAL and there.state not in TERMINAL:
            ours = there.worker == status.worker
        self._seen[job_id] = seen
        if not ours:
            self._lost.add(job_id)
        return not ours

    async def _look(self, job_id: str, *, direct: bool) -> _Seen | None:
        """Return what the key has; None when that can't be known now."""
        try:
            revision, data = await (self._ask_any(job_id) if direct else self._ask_leader(job_id))
        except nats.js.errors.NotFoundError:
            return None  # the bucket is missing
        except (nats.errors.Error, OSError) as error:
            _log.warning("status.unreadable", job_id=job_id, error=type(error).__name__)
            return None
        if not data:
            return _Seen(revision, None)  # never written, or a delete marker
        try:
            return _Seen(revision, decode(data, JobStatus))
        except msgspec.DecodeError as error:
            _log.warning("status.undecodable", job_id=job_id, error=str(error))
            return _Seen(revision, None)

    async def _ask_any(self, job_id: str) -> tuple[int, bytes | None]:
        found = await last_of(self._client, self._stream, self._key(job_id), timeout=self._timeout)
        return (found.sequence, found.data) if found is not None else (0, None)

    async def _ask_leader(self, job_id: str) -> tuple[int, bytes | None]:
        try:
            message = await self._js.get_msg(self._stream, subject=self._key(job_id))
        except nats.js.errors.NotFoundError as error:
            if error.err_code != NO_MESSAGE:
                raise
            return 0, None
        return message.seq or 0, message.data

    def _forget(self, job_id: str) -> None:
        self._pending.pop(job_id, None)
        self._written.pop(job_id, None)
        self._seen.pop(job_id, None)
        self._newest.pop(job_id, None)
        self._looked_up.pop(job_id, None)
        self._lost.discard(job_id)

    @staticmethod
    def _key(job_id: str) -> str:
        return f"$KV.{JOBS_BUCKET}.{job_id}"


def _remember(memory: dict[str, T], job_id: str, value: T) -> None:
    """Keep `value`, and let go of the oldest when there are too many."""
    memory.pop(job_id, None)
    memory[job_id] = value
    if len(memory) > REMEMBERED:
        del memory[next(iter(memory))]
