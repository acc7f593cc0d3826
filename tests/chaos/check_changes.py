"""The promises of the change feed, checked from the stored events alone. The lists here never change."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tests.chaos.records import Record

Feed = tuple[str, str, str]
"""Provider, account and Official Account; no command here has a filter."""


def is_change(record: Record) -> bool:
    """Say whether this is a change event."""
    return record.subject.startswith("followers.change.")


def check_changes(changes: Iterable[Record], job_events: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Yield the job and the text of each broken promise: one baseline a feed, then one `compared` after the other."""
    last: dict[Feed, str] = {}
    told: set[str] = set()
    for record in changes:
        data = record.data
        feed, job_id = _feed(data), data["job_id"]
        if job_id in told:
            yield job_id, f"#{record.sequence} comes after another change event of the same job"
        told.add(job_id)
        yield from ((job_id, text) for text in _wrong(data, last.get(feed)))
        last[feed] = job_id
    for feed, job_id in _newest(job_events).items():
        if last.get(feed) != job_id:
            yield job_id, f"is the newest complete list of {feed}, but its last change event is of {last.get(feed)}"


def _wrong(data: dict[str, Any], before: str | None) -> Iterator[str]:
    wanted = "baseline" if before is None else "compared"
    if data["type"] != wanted:
        yield f"a {data['type']} event where only {wanted} can be"
    if data.get("previous_job_id") != before:
        yield f"is against {data.get('previous_job_id')}, not {before}"
    if (data["number"], data["of"]) != (1, 1):
        yield f"is {data['number']} of {data['of']}, but the list never changes"


def _newest(job_events: Sequence[Record]) -> dict[Feed, str]:
    """The complete job of each feed that began last, as the stream has it: by its first event."""
    began: dict[str, int] = {}
    found: dict[Feed, tuple[int, str]] = {}
    for record in job_events:
        data = record.data
        first = began.setdefault(record.subject, record.sequence)
        if data["type"] == "completed" and data.get("verdict") == "complete" and "job_id" in data:
            found[_feed(data)] = max((first, data["job_id"]), found.get(_feed(data), (0, "")))
    return {feed: job_id for feed, (_, job_id) in found.items()}


def _feed(data: dict[str, Any]) -> Feed:
    return data["provider"], data["account"], data["oa_id"]
