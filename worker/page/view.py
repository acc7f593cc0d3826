"""What goes to a browser: chosen fields, no labels, no command, nothing of a person."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from schemas.events import FetchError, JobCompleted, JobFailed, JobStarted, JobWaiting
from schemas.jobs import JobStatus
from schemas.wait import Wait
from schemas.wire import rfc3339
from worker.page.ports import AccountView, LetterView, TimelineEntry


def job_row(job: JobStatus) -> dict[str, Any]:
    """Return a job as the page shows it. Its labels are the publisher's own words, so they stay out."""
    return {
        "id": job.job_id,
        "provider": job.provider,
        "account": job.account,
        "oa": job.oa_id,
        "state": job.state,
        "page": job.page,
        "followers": job.followers,
        "total": job.total,
        "percent": job.percent,
        "rate": rate(job),
        "reason": job.reason,
        "until": _time(job.until),
        "wait": _wait(job.wait),
        "eta": _time(job.eta),
        "attempt": job.attempt,
        "worker": job.worker,
        "started": _time(job.started_at),
        "updated": _time(job.updated_at),
        "finished": _time(job.finished_at),
        "error": _error(job.error),
        "verdict": job.verdict,
    }


def rate(job: JobStatus) -> float | None:
    """Return the followers a second since the job's start, None where that says nothing."""
    end = job.finished_at or job.updated_at
    if job.started_at is None or not job.followers or end <= job.started_at:
        return None
    return round(job.followers / (end - job.started_at).total_seconds(), 1)


def account_row(
    account: AccountView,
    *,
    circuit: str,
    where: str,
    circuit_until: datetime | None,
    blocked_until: datetime | None,
) -> dict[str, Any]:
    """Return an account as the page shows it: `circuit` is what is known of all workers, `where` it is so."""
    return {
        "name": account.name,
        "provider": account.provider,
        "rate": account.rate,
        "shared": account.shared,
        "circuit": circuit,
        "circuitIn": where,
        "circuitUntil": _time(circuit_until),
        "blockedUntil": _time(blocked_until),
        "waiting": account.waiting,
    }


def letter_row(letter: LetterView) -> dict[str, Any]:
    """Return a dead letter as the page shows it."""
    return {
        "number": letter.number,
        "job": letter.job_id,
        "provider": letter.provider,
        "code": letter.code,
        "message": letter.message,
        "at": _time(letter.stored_at),
    }


def timeline_row(entry: TimelineEntry) -> dict[str, Any]:
    """Return a job event as the page shows it."""
    event = entry.event
    row: dict[str, Any] = {
        "at": entry.at,
        "type": event.__struct_config__.tag,
        "attempt": event.attempt,
        "generation": event.generation,
    }
    match event:
        case JobStarted():
            row["page"] = event.resumed_at_page
        case JobWaiting():
            row |= {"reason": event.reason, "until": _time(event.until), "wait": _wait(event.wait)}
        case JobCompleted():
            row |= {name: getattr(event, name) for name in ("pages", "followers", "requests", "verdict", "reason")}
            row["dropped"] = event.duplicates_dropped
        case JobFailed():
            row["error"] = _error(event.error)
    return row


def frame(event: str, data: dict[str, Any]) -> bytes:
    """Return a server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(data))


def rows(make: Any, items: Iterable[Any]) -> list[dict[str, Any]]:
    """Return `make` of each."""
    return [make(item) for item in items]


def _error(error: FetchError | None) -> dict[str, Any] | None:
    return None if error is None else {"code": error.code, "message": error.message, "http": error.http_status}


def _wait(wait: Wait | None) -> dict[str, Any] | None:
    if wait is None:
        return None
    numbers = {name: getattr(wait, name) for name in ("rate", "ahead", "failures", "attempt", "position")}
    times = {"since": _time(wait.since), "until": _time(wait.until)}
    return {"owner": wait.owner, "text": wait.text, **times, **numbers}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment.replace(microsecond=0))
