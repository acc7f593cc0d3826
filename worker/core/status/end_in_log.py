"""A status beside the log: who ended the job may be dead, or stopped, before its end is told anywhere else."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime

import msgspec

from schemas.events import TERMINAL, JobCompleted, JobEvent, JobFailed, JobWaiting
from schemas.jobs import JobStatus
from schemas.subjects import job_subject
from worker.core.eventlog.unreadable import EventDecoder, UnreadableEventError
from worker.core.ports.event_log import Entry, EventLog, LogUnavailableError
from worker.core.status.precedence import TERMINAL as OVER
from worker.core.status.wait_reasons import unread, waits_for_nats

LOG_WITHIN = 0.5
"""Seconds that an answer waits for the log."""
STOPPED_FOR = 2 * LOG_WITHIN
"""Seconds after which a time of `LOG_WITHIN` can't be over only now, unless the process was stopped."""
LOOKS = 3


async def with_end(known: JobStatus, log: EventLog, now: Callable[[], datetime]) -> JobStatus:
    """Return `known`, unless the log has an end that `known` hasn't, or a retry of the failure that `known` is.

    Where the log gives no answer within `LOG_WITHIN`, the status of a job that goes on says so.
    """
    has_failed = known.state == "failed"
    if known.state in OVER and not has_failed:
        return known
    whose = known.provider, known.oa_id, known.job_id
    subject = job_subject(*whose)
    try:
        entry = await _last(log, subject)
        if entry is None or entry.sequence <= known.event_sequence:
            return known
        event = EventDecoder(subject, *whose).event(entry)
    except UnreadableEventError:
        return known
    except (LogUnavailableError, TimeoutError):
        if has_failed or waits_for_nats(known):
            return known  # what is said already says more
        return msgspec.structs.replace(known, wait=unread(now()))
    if has_failed and event.generation <= known.generation:
        return known
    if isinstance(event, TERMINAL):
        return _ended(known, event, entry.sequence)
    return _retried(known, event, entry.sequence) if has_failed else known


async def _last(log: EventLog, subject: str) -> Entry | None:
    """As `EventLog.last`, within `LOG_WITHIN`. Raises TimeoutError, too."""
    loop = asyncio.get_running_loop()
    for _ in range(LOOKS):
        began = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOG_WITHIN):
                return await log.last(subject)
        if loop.time() - began < STOPPED_FOR:
            break
        # It was this process that stood still, not the log, and much may have happened since.
    raise TimeoutError


def _retried(known: JobStatus, event: JobEvent, sequence: int) -> JobStatus:
    told = msgspec.structs.replace(
        known,
        state="running",
        attempt=event.attempt,
        error=None,
        finished_at=None,
        worker=None,
        generation=event.generation,
        event_sequence=sequence,
    )
    if isinstance(event, JobWaiting):
        return msgspec.structs.replace(told, state="waiting", reason=event.reason, until=event.until, wait=event.wait)
    return told


def _ended(known: JobStatus, event: JobEvent, sequence: int) -> JobStatus:
    assert isinstance(event, TERMINAL)
    told = msgspec.structs.replace(
        known,
        state="cancelled",
        attempt=event.attempt,
        reason=None,
        until=None,
        eta=None,
        wait=None,
        error=None,
        finished_at=event.finished_at,
        generation=event.generation,
        event_sequence=sequence,
    )
    if isinstance(event, JobFailed):
        return msgspec.structs.replace(told, state="failed", error=event.error)
    if isinstance(event, JobCompleted):
        return msgspec.structs.replace(
            told,
            state="completed",
            page=event.pages,
            followers=event.followers,
            total=event.total_last,
            percent=100.0,
            reason=event.reason,
            verdict=event.verdict,
        )
    return told
