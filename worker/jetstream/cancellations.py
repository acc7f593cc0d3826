"""Which jobs are to be cancelled: marks in the bucket `FOLLOWERS_JOBS`, behind the port `Cancellations`."""

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.subjects import JOBS_BUCKET, cancel_mark_key
from worker.core.ports import BoardUnavailableError
from worker.jetstream.direct import last_of, stored_at

_log = structlog.get_logger(__name__)


class JetStreamCancellations:
    """`Cancellations` on the key-value bucket of job status; a mark lives as long as a status does."""

    def __init__(self, client: Client, *, timeout: float) -> None:
        """Take a connection, and the seconds after which an unanswered call is given up."""
        self._client, self._timeout = client, timeout
        self._js: JetStreamContext = client.jetstream(timeout=timeout)

    async def request(self, job_id: str) -> None:
        """Write the mark; its own time says when."""
        try:
            # A value, because an empty one looks like a deleted key to other clients.
            await self._js.publish(_subject(job_id), b'{"cancel":true}')
        except (nats.errors.Error, OSError) as error:
            _log.warning("cancellation.unwritten", job_id=job_id, error=type(error).__name__)
            raise BoardUnavailableError(type(error).__name__) from error

    async def requested_us(self, job_id: str) -> int | None:
        """Read the mark's time."""
        try:
            mark = await last_of(self._client, f"KV_{JOBS_BUCKET}", _subject(job_id), timeout=self._timeout)
        except (nats.errors.Error, OSError) as error:
            # Looked at again while the job runs; a job must not wait for this.
            _log.warning("cancellation.unreadable", job_id=job_id, error=type(error).__name__)
            return None
        at = stored_at(mark) if mark is not None and mark.data else None
        return None if at is None else round(at.timestamp() * 1_000_000)  # without data: somebody deleted it


def _subject(job_id: str) -> str:
    return f"$KV.{JOBS_BUCKET}.{cancel_mark_key(job_id)}"
