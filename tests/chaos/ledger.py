"""The figures of a run, and the story of a job that went wrong."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.chaos.check import Findings
from tests.chaos.journal import Journal
from tests.chaos.records import Record

LONGEST_TIMELINE = 60


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What `make chaos` prints."""

    figures: dict[str, Any]
    broken: list[str]
    """A line for each violation, worst kinds first; empty: every promise was kept."""
    timeline: list[str]
    """Of the first job with a violation."""

    def __str__(self) -> str:
        """As people read it."""
        width = max(len(name) for name in self.figures)
        lines = [f"  {name.replace('_', ' '):{width}}  {value}" for name, value in self.figures.items()]
        if self.broken:
            shown = [f"  {line}" for line in self.broken[:20]]
            more = [f"  … and {len(self.broken) - 20} more"] if len(self.broken) > 20 else []
            lines += ["", f"BROKEN: {len(self.broken)} violations", *shown, *more, "", *self.timeline]
        else:
            lines += ["", "every promise was kept"]
        return "\n".join(lines)


def timeline(job_id: str, events: Iterable[Record], journal: Journal) -> list[str]:
    """Return what happened to a job and around it, in order of time."""
    # The record of whose the id is, `followers.id.<job>`, is no event.
    events = [record for record in events if not record.subject.startswith("followers.id.")]
    mine = [record for record in events if record.subject.endswith(f".{job_id}")]
    lines = [(record.at, f"#{record.sequence} {_told(record)}") for record in mine]
    lines += [(note.at, note.text) for note in journal.notes if note.job_id == job_id]
    first, last = min((at for at, _ in lines), default=0.0), max((at for at, _ in lines), default=0.0)
    around = [note for note in journal.notes if not note.job_id and first - 1 <= note.at <= last + 10]
    lines += [(note.at, f"    {note.text}") for note in around]
    told = [f"  {datetime.fromtimestamp(at, UTC):%H:%M:%S.%f}"[:-3] + f"  {text}" for at, text in sorted(lines)]
    if len(told) > LONGEST_TIMELINE:
        told = [*told[: LONGEST_TIMELINE // 2], "  …", *told[-LONGEST_TIMELINE // 2 :]]
    return [f"timeline of {job_id}:", *told]


def figures(findings: Findings, journal: Journal, commands: Sequence[object]) -> dict[str, Any]:
    """Return the part of the ledger that the events and the journal tell."""
    counts, kinds = journal.counts, Counter(violation.kind for violation in findings.violations)
    return {
        "worker_kills": counts["worker_kill"],
        "server_kills": counts["server_kill"],
        "zombies": counts["zombie"],
        "worker_drains": counts["worker_drain"],
        "commands": len(commands),
        "duplicates_under_the_same_message_id": counts["duplicate.same_message_id"],
        "duplicates_under_another_message_id": counts["duplicate.other_message_id"],
        "cancels_answered": counts["cancel"],
        "cancels_unanswered": counts["cancel.unanswered"],
        "jobs_cancelled": findings.cancelled,
        "status_requests_answered": counts["status"],
        "status_requests_unanswered": counts["status.unanswered"],
        "dead_letters_retried": counts["retry"],
        "generations_reopened": findings.reopened,
        "lists_held": findings.held,
        "lists_released": findings.releases,
        "publishes_retried": counts["publish_retry"],
        "jobs": findings.jobs,
        "attempts": findings.attempts,
        "attempts_after_page_1": findings.resumed,
        "pages_expected": findings.pages_expected,
        "pages_published": findings.pages_published,
        "page_events": findings.page_events,
        "pages_in_parts": findings.split_pages,
        "lost": findings.lost,
        "duplicated": findings.duplicated,
        "out_of_order": findings.out_of_order,
        "mixed_chains": findings.mixed_chains,
        "statuses_unlike_the_end": kinds["status"],
        "answers_unlike_the_log": kinds["answer"],
        "change_events": findings.changes,
    }


def _told(record: Record) -> str:
    data = record.data
    by = f"for command #{record.headers.get('Followers-Command-Sequence')}"
    if "type" in data:
        rest = {name: data[name] for name in ("attempt", "resumed_at_page", "pages", "reason", "error") if name in data}
        return f"{data['type']} {rest} {by}"
    cursors = f"{data.get('cursor')} -> {data.get('next_cursor')}"
    place = f"page {data['page']} part {data.get('part', 1)}/{data.get('parts', 1)}"
    return f"{place} {len(data['followers'])} ids {cursors}{' last' if data['last'] else ''} {by}"
