"""What workers answer, and what the bucket of job status has in the end, compared with the events."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.chaos.acts import Asked, Told
from tests.chaos.check import CLOCKS, TERMINAL, End, Violation
from tests.chaos.records import Record
from worker.core.status.wait_reasons import unread

STOPS_WITHIN = 10.0
"""Seconds after the answer to a cancel in which a page may still come: a worker may be frozen for half of it."""

Status = Mapping[str, Any]
CLAIM_NOTHING = ("internal", "rate_limited")
"""Codes of answers which say that the worker can't tell now, and to ask again."""

NOT_KNOWN = unread(datetime.now(UTC)).text
"""What is told of a job whose events can't be read."""


def check_statuses(ends: Mapping[str, list[End]], statuses: Mapping[str, Status]) -> Iterator[Violation]:
    """Yield each job whose status, once all is quiet, isn't that of its last terminal event."""
    for job_id, generations in ends.items():
        status = statuses.get(job_id)
        if status is None:
            yield Violation("status", job_id, "it has none in the bucket")
        elif generations:
            differs = {name: pair for name, pair in _compared(generations[-1], status).items() if pair[0] != pair[1]}
            if differs:
                told = ", ".join(f"{name} is {said!r}, not {right!r}" for name, (said, right) in differs.items())
                yield Violation("status", job_id, f"of generation {generations[-1].generation}: {told}")
    for job_id in statuses.keys() - ends.keys():
        yield Violation("status", job_id, "a job that nobody asked for has one")


def check_answers(asked: Asked, ends: Mapping[str, list[End]], events: Collection[Record]) -> Iterator[Violation]:
    """Yield each answer that contradicts what was in the log when it was asked for, and each cancel that had no effect.

    A job of which the log had the end is told with that end, unless a later generation began.
    """
    began: dict[str, list[float]] = {}
    first: dict[str, float] = {}
    pages: dict[str, float] = {}
    for record in events:
        job_id = record.subject.rpartition(".")[2]
        if record.subject.startswith("followers.job."):
            first.setdefault(job_id, record.at)
            if record.data["type"] == "started":
                began.setdefault(job_id, []).append(record.at)
        elif record.subject.startswith("followers.page."):
            pages[job_id] = record.at
    for told in asked.told:
        if told.job_id not in ends:
            if told.state is not None:
                yield Violation("answer", told.job_id, f"nobody's job is told as {told.state}")
            continue
        yield from _contradicts(told, ends[told.job_id], began.get(told.job_id, []))
        if told.act == "cancel" and told.code not in CLAIM_NOTHING and not asked.retried[told.job_id]:
            yield from _goes_on(told, ends[told.job_id], first.get(told.job_id, 0.0), pages.get(told.job_id, 0.0))


def _contradicts(told: Told, generations: list[End], began: list[float]) -> Iterator[Violation]:
    over = [end for end in generations if end.record.at + CLOCKS < told.sent]
    if told.state in TERMINAL:
        before = [end for end in generations if end.record.at < told.received + CLOCKS]
        if not any(_is_of(told, end) for end in (before if not over else before[len(over) - 1 :])):
            yield Violation("answer", told.job_id, f"{told.act} is told {told.state}, which the log doesn't have")
    elif over and _claims(told):
        anew = any(over[-1].record.at < at < told.received + CLOCKS for at in began)
        if not anew and told.answer.get("generation", 1) <= over[-1].generation:
            late = told.sent - over[-1].record.at
            text = (
                f"{told.act}, asked {late:.3f} s after the log had {over[-1].type}, is told {told.state or told.code}"
            )
            yield Violation("answer", told.job_id, text)


def _claims(told: Told) -> bool:
    """Say whether an answer is about the job: not that its worker, or NATS, can't tell now."""
    wait = told.answer.get("wait") or {}
    return told.code not in CLAIM_NOTHING and wait.get("text") != NOT_KNOWN


def _is_of(told: Told, end: End) -> bool:
    code = end.data["error"]["code"] if end.type == "failed" else None
    return (told.state, told.code, told.answer.get("generation", 1)) == (end.type, code, end.generation)


def _goes_on(told: Told, generations: list[End], first: float, last_page: float) -> Iterator[Violation]:
    if last_page > told.received + STOPS_WITHIN:
        late = last_page - told.received
        yield Violation("cancel", told.job_id, f"a page comes {late:.1f} s after its cancel was answered")
    if first > told.received + CLOCKS and generations and generations[-1].type == "completed":
        early = first - told.received
        yield Violation(
            "cancel", told.job_id, f"completed, though it began {early:.3f} s after its cancel was answered"
        )


def _compared(end: End, status: Status) -> dict[str, tuple[Any, Any]]:
    data, error = end.data, status.get("error") or {}
    return {
        "state": (status["state"], end.type),
        "page": (status.get("page", 0), end.pages),
        "followers": (status.get("followers", 0), end.followers),
        "error": (error.get("code"), data["error"]["code"] if end.type == "failed" else None),
        "generation": (status.get("generation", 1), end.generation),
        "event_sequence": (status.get("event_sequence", 0), end.record.sequence),
        "verdict": (status.get("verdict"), data.get("verdict")),
    }
