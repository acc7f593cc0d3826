"""A status beside the log: who ended the job may be dead, or stopped, before its end is told anywhere else."""

import asyncio

import msgspec

from schemas.events import TERMINAL, JobCompleted, JobEvent, JobFailed
from schemas.jobs import JobStatus
from schemas.subjects import job_subject
from worker.core.ports import EventLog, LogUnavailableError
from worker.core.precedence import TERMINAL as OVER
from worker.core.unreadable import EventDecoder, UnreadableEventError

LOG_WITHIN = 0.5
"""Seconds that an answer waits for the log; without it, it says what is known."""


async def with_end(known: JobStatus, log: EventLog) -> JobStatus:
    """Return `known`, unless it goes on by that and has ended by the log: then its end."""
    if known.state in OVER:
        return known
    whose = known.provider, known.oa_id, known.job_id
    subject = job_subject(*whose)
    try:
        async with asyncio.timeout(LOG_WITHIN):
            entry = await log.last(subject)
        if entry is None or entry.sequence <= known.event_sequence:
            return known
        event = EventDecoder(subject, *whose).event(entry)
    except (LogUnavailableError, UnreadableEventError, TimeoutError):
        return known
    return _ended(known, event, entry.sequence) if isinstance(event, TERMINAL) else known


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
