"""Job status: the bucket `FOLLOWERS_JOBS` behind the port `StatusBoard`."""

import asyncio
import time

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.jobs import JobStatus
from schemas.subjects import JOBS_BUCKET
from schemas.wire import decode, encode
from worker.core.ports import BoardUnavailableError
from worker.jetstream.pages import EXPECTED_SEQUENCE, WRONG_SEQUENCE_CODES

TERMINAL = ("completed", "failed", "cancelled")
EVERY = 1.0
"""Seconds between two writes of a job's status that change no state."""
SETTLE_TRIES = 3

_log = structlog.get_logger(__name__)


class JetStreamStatusBoard:
    """`StatusBoard` on a key-value bucket; writes in the background what `post` takes.

    A write is conditional on the revision that this replica saw: a paused worker that comes back can't paint over
    what its successor wrote.
    """

    def __init__(self, client: Client, *, timeout: float) -> None:
        """Take a connection, and the seconds after which an unanswered call is given up."""
        self._js: JetStreamContext = client.jetstream(timeout=timeout)
        self._stream = f"KV_{JOBS_BUCKET}"
        self._pending: dict[str, JobStatus] = {}
        self._written: dict[str, tuple[str, float]] = {}
        self._revisions: dict[str, int] = {}
        self._lost: set[str] = set()
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()

    async def get(self, job_id: str) -> JobStatus | None:
        """Read the key, and remember its revision for our next write."""
        try:
            message = await self._js.get_msg(self._stream, subject=self._key(job_id), direct=True)
        except nats.js.errors.NotFoundError:
            self._revisions[job_id] = 0
            return None
        except (nats.errors.Error, OSError) as error:
            _log.warning("status.unreadable", job_id=job_id, error=type(error).__name__)
            return None
        self._revisions[job_id] = message.seq or 0
        if not message.data:
            return None  # a delete marker
        try:
            return decode(message.data, JobStatus)
        except msgspec.DecodeError as error:
            _log.warning("status.undecodable", job_id=job_id, error=str(error))
            return None

    async def look(self, job_id: str) -> JobStatus | None:
        """Read the key, and remember nothing."""
        try:
            message = await self._js.get_msg(self._stream, subject=self._key(job_id), direct=True)
            return decode(message.data, JobStatus) if message.data else None
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, OSError) as error:
            raise BoardUnavailableError(type(error).__name__) from error
        except msgspec.DecodeError as error:
            _log.warning("status.undecodable", job_id=job_id, error=str(error))
            return None

    def post(self, status: JobStatus) -> None:
        """Note it; `run` writes it."""
        self._pending[status.job_id] = status
        self._wake.set()

    async def settle(self, status: JobStatus) -> None:
        """Write it now, in place of whatever is pending for the job."""
        self._pending.pop(status.job_id, None)
        async with self._lock:
            for _ in range(SETTLE_TRIES):
                if await self._write(status):
                    break

    def drop(self, job_id: str) -> None:
        """Forget what is pending and what we knew of the key."""
        self._pending.pop(job_id, None)
        self._written.pop(job_id, None)
        self._revisions.pop(job_id, None)
        self._lost.discard(job_id)

    async def run(self) -> None:
        """Write what was posted, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            wait = await self._write_due()
            if wait is not None:
                asyncio.get_running_loop().call_later(wait, self._wake.set)

    async def _write_due(self) -> float | None:
        """Write each pending status whose time has come; return the seconds until the next one's, if any."""
        soonest: float | None = None
        for job_id in list(self._pending):
            async with self._lock:
                status = self._pending.get(job_id)
                if status is None:
                    continue
                wait = self._wait(status)
                if wait > 0:
                    soonest = wait if soonest is None else min(soonest, wait)
                    continue
                del self._pending[job_id]
                await self._write(status)
        return soonest

    def _wait(self, status: JobStatus) -> float:
        state, at = self._written.get(status.job_id, ("", 0.0))
        return 0.0 if state != status.state else at + EVERY - time.monotonic()

    async def _write(self, status: JobStatus) -> bool:
        job_id = status.job_id
        if job_id in self._lost and status.state not in TERMINAL:
            return True
        revision = self._revisions.get(job_id)
        headers = None if revision is None else {EXPECTED_SEQUENCE: str(revision)}
        self._written[job_id] = (status.state, time.monotonic())
        try:
            ack = await self._js.publish(self._key(job_id), encode(status), headers=headers)
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_SEQUENCE_CODES:
                return await self._yield_to_other(status)
            _log.warning("status.unwritten", job_id=job_id, error=type(error).__name__, err_code=error.err_code)
            return False
        except (nats.errors.Error, OSError) as error:
            # It may have landed all the same: the revision is no longer known.
            self._revisions.pop(job_id, None)
            _log.warning("status.unwritten", job_id=job_id, error=type(error).__name__)
            return False
        self._revisions[job_id] = ack.seq
        return True

    async def _yield_to_other(self, status: JobStatus) -> bool:
        """Somebody else wrote: say whether that settles it. Only a terminal status is worth another try."""
        current = await self.get(status.job_id)
        mine = current is not None and current.worker == status.worker
        if status.state in TERMINAL:
            return current is not None and current.state in TERMINAL
        if not mine:
            self._lost.add(status.job_id)
        return True

    @staticmethod
    def _key(job_id: str) -> str:
        return f"$KV.{JOBS_BUCKET}.{job_id}"
