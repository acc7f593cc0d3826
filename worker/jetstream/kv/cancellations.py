"""Which jobs are to be cancelled: marks in the bucket `FOLLOWERS_JOBS`, behind the port `Cancellations`.

A known job has a mark of its own, which lives as long as its status. The marks of ids of which nobody has heard share
a few keys, with the time until which each counts, so that asking for any number of ids takes bounded room.
"""

import asyncio
import time

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.subjects import JOBS_BUCKET, cancel_mark_key, early_marks_key
from worker.core.ports.event_log import Entry
from worker.core.ports.job_store import BoardUnavailableError
from worker.jetstream.client.direct_get import last_of, stored_at
from worker.jetstream.events.log import EXPECTED_SEQUENCE, WRONG_SEQUENCE_CODES

EARLY_AT_MOST = 128
"""Unknown ids in one key: whoever asks for more pushes out those that would be forgotten first."""
TRIES = 8
"""At a key that others write, too."""

_STREAM = f"KV_{JOBS_BUCKET}"
_log = structlog.get_logger(__name__)


class _Early(msgspec.Struct, frozen=True, array_like=True):
    """When the cancellation of an unknown id was asked for, and until when that counts; microseconds since 1970."""

    at: int
    until: int


_DECODER = msgspec.json.Decoder(dict[str, _Early])


class JetStreamCancellations:
    """`Cancellations` on the key-value bucket of job status."""

    def __init__(self, client: Client, *, timeout: float) -> None:
        """Take a connection, and the seconds after which an unanswered call is given up."""
        self._client, self._timeout = client, timeout
        self._js: JetStreamContext = client.jetstream(timeout=timeout)

    async def request(self, job_id: str) -> None:
        """Write the mark; its own time says when."""
        try:
            # A value, because an empty one looks like a deleted key to other clients.
            await self._js.publish(_subject(cancel_mark_key(job_id)), b'{"cancel":true}')
        except (nats.errors.Error, OSError) as error:
            raise _unwritten(job_id, error) from error

    async def request_unknown(self, job_id: str, keep: float) -> None:
        """Add the id to its key, on condition that nobody has written there since it was read."""
        now = _now_us()
        subject = _subject(early_marks_key(job_id))
        try:
            for _ in range(TRIES):
                entry = await last_of(self._client, _STREAM, subject, timeout=self._timeout)
                marks = {known: mark for known, mark in _marks(entry).items() if mark.until > now}
                until = max(now + round(keep * 1_000_000), marks[job_id].until if job_id in marks else 0)
                marks[job_id] = _Early(now, until)
                newest = sorted(marks.items(), key=lambda item: item[1].until)[-EARLY_AT_MOST:]
                headers = {EXPECTED_SEQUENCE: str(entry.sequence if entry else 0)}
                try:
                    await self._js.publish(subject, msgspec.json.encode(dict(newest)), headers=headers)
                except nats.js.errors.APIError as error:
                    if error.err_code not in WRONG_SEQUENCE_CODES:
                        raise
                else:
                    return
        except (nats.errors.Error, OSError) as error:
            raise _unwritten(job_id, error) from error
        raise _unwritten(job_id, TimeoutError())

    async def requested_us(self, job_id: str) -> int | None:
        """Read the mark's time, and what was noted before anybody had heard of the job; the later one counts."""
        keys = cancel_mark_key(job_id), early_marks_key(job_id)
        try:
            own, shared = await asyncio.gather(
                *(last_of(self._client, _STREAM, _subject(key), timeout=self._timeout) for key in keys)
            )
        except (nats.errors.Error, OSError) as error:
            # Looked at again while the job runs; a job must not wait for this.
            _log.warning("cancellation.unreadable", job_id=job_id, error=type(error).__name__)
            return None
        at = stored_at(own) if own is not None and own.data else None  # without data: somebody deleted it
        early = _marks(shared).get(job_id)
        times = [round(at.timestamp() * 1_000_000)] if at is not None else []
        times += [early.at] if early is not None and early.until > _now_us() else []
        return max(times, default=None)


def _marks(entry: Entry | None) -> dict[str, _Early]:
    if entry is None or not entry.data:
        return {}
    try:
        return _DECODER.decode(entry.data)
    except msgspec.MsgspecError:
        _log.warning("cancellation.undecodable", subject=entry.subject, advice="it is written anew: nothing to do")
        return {}


def _unwritten(job_id: str, error: Exception) -> BoardUnavailableError:
    _log.warning("cancellation.unwritten", job_id=job_id, error=type(error).__name__)
    return BoardUnavailableError(type(error).__name__)


def _now_us() -> int:
    return time.time_ns() // 1000


def _subject(key: str) -> str:
    return f"$KV.{JOBS_BUCKET}.{key}"
