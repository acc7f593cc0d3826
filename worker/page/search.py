"""When the live page looks for a job that nobody has news of."""

import asyncio
from datetime import UTC, datetime, timedelta

from schemas.jobs import JobStatus
from worker.page.ports import Sources

SEARCH_EVERY = 5.0
"""Seconds between two searches of one open page."""
SILENT_AFTER = timedelta(seconds=15)
OVER = ("completed", "failed", "cancelled")


class Search:
    """Searches for the job of one page, seldom, and where no other page searches.

    Each search may read the whole queue, which those who ask by NATS have to wait for.
    """

    def __init__(self, searching: asyncio.Lock, sources: Sources, job_id: str) -> None:
        """`searching`: held by the page that searches now."""
        self._searching, self._sources, self._job_id = searching, sources, job_id
        self._found: JobStatus | None = None
        self._next = 0.0
        self.done = False
        """Once is enough to say that a job isn't known."""

    async def look(self, status: JobStatus | None) -> JobStatus | None:
        """Return what is known of the job, beside its last `status`. Raises SourceUnavailableError."""
        now = asyncio.get_running_loop().time()
        if now >= self._next and not self._searching.locked():
            async with self._searching:
                self._next, self.done = now + SEARCH_EVERY, True
                self._found = await self._sources.status(self._job_id)
        found = self._found
        return found if status is None or (found is not None and found.updated_at >= status.updated_at) else status


def is_silent(status: JobStatus) -> bool:
    """Say whether a worker should have been heard of: then more may be known than its status says."""
    return status.state not in OVER and datetime.now(UTC) - status.updated_at > SILENT_AFTER
