"""Where a job stands, carried from page to page and from one worker to the next."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.events import FollowerPage, JobCompleted, Progress
from schemas.follower import Follower
from schemas.ids import Ids
from schemas.jobs import JobStatus
from schemas.types import JobState, TruncatedReason, Verdict
from schemas.wait import Wait
from worker.core.job import Job
from worker.core.paging.position import Position

LONGEST_ETA = 366 * 86_400.0
"""Seconds: what would take longer has no end that means anything, and a total may be any number."""


@dataclass(kw_only=True, slots=True)
class Standing:
    """A job's counters; what the last page event says is enough to restore them."""

    started_at: datetime
    page: int = 0
    """The last page that is published whole."""
    cursor: str | None = None
    """Where the next page is read."""
    followers: int = 0
    duplicates_dropped: int = 0
    total_first: int | None = None
    total: int | None = None
    requests: int = 0
    done_parts: int = 0
    """Parts of page `page + 1` that are published already."""
    parts: int = 1
    """Parts that those announced."""
    last: bool = False
    truncated: TruncatedReason | None = None
    attempt: int = 1
    worker: str = ""
    seen: Ids = field(default_factory=Ids)
    """User ids published so far: nobody is published twice, whatever the provider says of its order."""
    barren: int = 0
    """Pages in this attempt that brought nobody new."""
    moved: bool = False
    """The list was seen to move."""
    missed_at_most: int | None = 0
    """See `JobCompleted`."""
    window: str | None = None
    """See `JobCompleted`."""

    def restore(self, tail: FollowerPage) -> None:
        """Stand where `tail`, the newest page event, left off."""
        progress = tail.progress
        whole = tail.part == tail.parts
        self.page = tail.page if whole else tail.page - 1
        self.cursor = tail.next_cursor if whole else tail.cursor
        self.done_parts, self.parts = (0, 1) if whole else (tail.part, tail.parts)
        self.followers = progress.followers
        self.duplicates_dropped = progress.duplicates_dropped
        self.total_first = progress.total_first
        self.total = tail.total
        self.requests = progress.requests
        self.started_at = progress.started_at
        self.last = tail.last
        self.truncated = progress.truncated
        self.moved, self.missed_at_most, self.window = progress.moved, progress.missed_at_most, progress.window

    def progress(self) -> Progress:
        """Return what travels in a page event."""
        return Progress(
            followers=self.followers,
            duplicates_dropped=self.duplicates_dropped,
            total_first=self.total_first,
            requests=self.requests,
            started_at=self.started_at,
            truncated=self.truncated,
            moved=self.moved,
            missed_at_most=self.missed_at_most,
            window=self.window,
        )

    def position(self) -> Position:
        """Return where a list that is read by row numbers goes on. Raises InternalError for a cursor of nobody's."""
        known = Position(
            settled=self.missed_at_most, moved=self.moved, dropped=self.duplicates_dropped, day=self.window
        )
        return known if self.cursor is None else known.resumed(self.cursor)

    def arrive(self, position: Position) -> None:
        """Take over what is known at `position`."""
        self.duplicates_dropped = position.dropped
        self.moved, self.missed_at_most, self.window = position.moved, position.missed, position.day

    def unseen(self, followers: Sequence[Follower], published: set[str]) -> list[Follower]:
        """Return `followers` without those that came before, counting them.

        `published` are ids of this very page that its earlier parts hold; leaving those out is no duplicate.
        """
        ids = [follower.user_id for follower in followers]
        if (not published or published.isdisjoint(ids)) and self.seen.add_new(ids):
            return list(followers)  # nobody twice, as nearly always
        fresh: list[Follower] = []
        for follower in followers:
            if follower.user_id in published:
                continue
            if follower.user_id in self.seen:
                self.duplicates_dropped += 1
                continue
            self.seen.add((follower.user_id,))
            fresh.append(follower)
        return fresh


def completed(job: Job, account: str, standing: Standing, now: datetime, *, digest: str | None = None) -> JobCompleted:
    """Return the terminal event of a job whose last page, with `digest`, is published."""
    return JobCompleted(
        job_id=job.address.job_id,
        provider=job.address.provider,
        account=account,
        oa_id=job.address.oa_id,
        labels=dict(job.address.labels),
        attempt=standing.attempt,
        pages=standing.page,
        followers=standing.followers,
        distinct=standing.followers,
        duplicates_dropped=standing.duplicates_dropped,
        total_first=standing.total_first,
        total_last=standing.total,
        requests=standing.requests,
        started_at=standing.started_at,
        finished_at=now,
        verdict=_verdict(standing),
        reason=standing.truncated,
        digest=digest,
        missed_at_most=None if standing.truncated in ("max_pages", "max_followers") else standing.missed_at_most,
        window=standing.window,
    )


def _verdict(standing: Standing) -> Verdict:
    if standing.truncated:
        return "truncated"
    if standing.missed_at_most != 0:
        return "drifted"  # only what is shown to be whole is complete
    first, last = standing.total_first, standing.total
    moved = standing.moved or standing.duplicates_dropped or first != last
    return "drifted" if moved or (last is not None and last != standing.followers) else "complete"


def status(
    job: Job,
    account: str | None,
    standing: Standing,
    state: JobState,
    now: datetime,
    *,
    reason: str | None = None,
    until: datetime | None = None,
    wait: Wait | None = None,
    generation: int = 1,
    event_sequence: int = 0,
) -> JobStatus:
    """Return what people see of the job: counters, percent, an estimate of its end, and why it waits until when."""
    goal = _goal(job, standing.total)
    return JobStatus(
        job_id=job.address.job_id,
        provider=job.address.provider,
        account=account,
        oa_id=job.address.oa_id,
        state=state,
        page=standing.page,
        followers=standing.followers,
        total=standing.total,
        percent=100.0 if state == "completed" else _percent(standing.followers, goal),
        attempt=standing.attempt,
        reason=reason,
        until=until,
        eta=_estimate(state, _eta(standing, goal, now), now, until),
        worker=standing.worker or None,
        started_at=standing.started_at,
        updated_at=now,
        labels=dict(job.address.labels),
        wait=wait,
        command_sequence=job.sequence,
        generation=generation,
        event_sequence=event_sequence,
    )


def _goal(job: Job, total: int | None) -> int | None:
    if total is None:
        return None
    goal, command = total, job.command
    if command.max_followers is not None:
        goal = min(goal, command.max_followers)
    if command.max_pages is not None:
        goal = min(goal, command.max_pages * command.page_size)
    return goal


def _percent(followers: int, goal: int | None) -> float | None:
    return None if not goal else round(min(100.0, 100 * followers / goal), 1)


def _estimate(state: JobState, eta: datetime | None, now: datetime, until: datetime | None) -> datetime | None:
    """Return when the job ends: `eta` if it moves, later if it stands still until `until`."""
    if state == "waiting" and eta is not None and until is not None:
        return eta + max(timedelta(), until - now)
    return eta if state == "running" else None


def _eta(standing: Standing, goal: int | None, now: datetime) -> datetime | None:
    elapsed = (now - standing.started_at).total_seconds()
    if not goal or not standing.followers or elapsed <= 0:
        return None
    left, pace = max(0, goal - standing.followers), standing.followers / elapsed
    return now + timedelta(seconds=left / pace) if left <= LONGEST_ETA * pace else None
