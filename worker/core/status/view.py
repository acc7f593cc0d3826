"""What somebody is told who asks about a job: its status, and beside it what only the queue and the marks know."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec

from schemas.jobs import JobStatus
from worker.core.ports.job_store import Cancellations, CommandQueue, QueuedCommand, QueueUnavailableError
from worker.core.status.wait_reasons import cancelling, in_queue, queued_status, silent, waits_for_nats

OVER = ("completed", "failed", "cancelled")
PLACED_WITHIN = 1.0
"""Seconds for which a job that is known is looked for in the queue: the rest of its status is there already."""


async def explained(
    job_id: str,
    known: JobStatus | None,
    *,
    look_again: Callable[[], Awaitable[JobStatus | None]],
    queue: CommandQueue | None,
    cancellations: Cancellations,
    now: datetime,
    silent_after: float,
) -> JobStatus | None:
    """Return `known`, the status in the bucket, with why the job doesn't move; None when it is known nowhere.

    A job without a status is looked for in `queue`, and so is one whose worker handed it back, or was last heard of
    more than `silent_after` seconds ago. `look_again` reads the bucket once more, where the queue has no such job.
    Raises QueueUnavailableError when a job without a status can't be looked for, and what `look_again` does.
    """
    if known is not None and known.state in OVER:
        return known
    if known is None:
        command = None if queue is None else await queue.find(job_id)
        # A command that is taken and finished between the two looks is in neither place.
        told = await look_again() if command is None else queued_status(command)
    else:
        told = await _placed(known, queue, now, silent_after)
    if told is None:
        return None
    if waits_for_nats(told):
        return told  # nothing else would help it, not even its end
    since = await _cancelled_since(told, cancellations)
    heard = told.state in ("running", "waiting") and now - told.updated_at <= timedelta(seconds=silent_after)
    if since is not None and heard and now - since > timedelta(seconds=silent_after):
        return told  # its worker has looked since, and goes on: the mark is from before a retry
    return told if since is None else msgspec.structs.replace(told, wait=cancelling(since))


async def _placed(known: JobStatus, queue: CommandQueue | None, now: datetime, silent_after: float) -> JobStatus:
    is_silent = now - known.updated_at > timedelta(seconds=silent_after)
    if queue is None or not (known.state == "queued" or is_silent):
        return known
    command: QueuedCommand | None = None
    with contextlib.suppress(QueueUnavailableError, TimeoutError):
        async with asyncio.timeout(PLACED_WITHIN):
            command = await queue.find(known.job_id)
    if command is None:
        return known
    if known.state != "queued":
        return msgspec.structs.replace(known, wait=silent(known, command))
    wait = msgspec.structs.replace(in_queue(command), since=known.updated_at)
    return msgspec.structs.replace(known, wait=wait)


async def _cancelled_since(known: JobStatus, cancellations: Cancellations) -> datetime | None:
    """Return when the end of a job that goes on was asked for. A mark from before a retry is not meant."""
    requested_us = await cancellations.requested_us(known.job_id)
    if requested_us is None:
        return None
    since = datetime.fromtimestamp(requested_us / 1_000_000, UTC)
    return since if known.started_at is None or since >= known.started_at else None
