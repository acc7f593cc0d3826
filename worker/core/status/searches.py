"""How many may look for a job in the queue at the same time: a search reads the queue, and anybody can ask for one."""

from worker.core.ports.job_store import CommandQueue, QueuedCommand, QueueUnavailableError

WAITING = 8
"""Searches at the same time, with those that wait for others."""


class QueueBusyError(QueueUnavailableError):
    """So many jobs are being looked for that this one is not: ask again."""


class Searches:
    """A `CommandQueue` that refuses what it can't look for soon."""

    def __init__(self, queue: CommandQueue, *, waiting: int = WAITING) -> None:
        """Take the queue to search."""
        self._queue, self._free = queue, waiting

    async def find(self, job_id: str, *, anew: bool = False) -> QueuedCommand | None:
        """As `CommandQueue.find`. Raises QueueBusyError at once where others keep it busy."""
        if not self._free:
            raise QueueBusyError("many jobs are being looked for just now")
        self._free -= 1
        try:
            return await self._queue.find(job_id, anew=anew)
        finally:
            self._free += 1
