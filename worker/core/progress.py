"""Where a job stands, carried from page to page and from one worker to the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.events import FollowerPage, JobCompleted, Progress
from schemas.follower import Follower
from schemas.jobs import JobStatus
from schemas.types import JobState, TruncatedReason, Verdict
from worker.core.commands import Job


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
    seen: set[str] | None = None
    """User ids published so far, where rows may come twice; else None."""

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

    def progress(self) -> Progress:
        """Return what travels in a page event."""
        return Progress(
            followers=self.followers,
            duplicates_dropped=self.duplicates_dropped,
            total_first=self.total_first,
            requests=self.requests,
            started_at=self.started_at,
            truncated=self.truncated,
        )

    def unseen(self, followers: Sequence[Follower], published: set[str]) -> list[Follower]:
        """Return `followers` without those that came before, counting them.

        `published` are ids of this very page that its earlier parts hold; leaving those out is no duplicate.
        """
        known = self.seen if self.seen is not None else set[str]()
        ids = [follower.user_id for follower in followers]
        page = set(ids)
        if len(page) == len(ids) and known.isdisjoint(page) and published.isdisjoint(page):
            known |= page  # nobody twice, as nearly always
            return list(followers)
        fresh: list[Follower] = []
        for follower in followers:
            if follower.user_id in published:
                continue
            if follower.user_id in known:
                self.duplicates_dropped += 1
                continue
            known.add(follower.user_id)
            fresh.append(follower)
        return fresh


def completed(job: Job, account: str, standing: Standing, now: datetime) -> JobCompleted:
    """Return the terminal event of a job whose last page is published."""
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
    )


def _verdict(standing: Standing) -> Verdict:
    if standing.truncated:
        return "truncated"
    first, last = standing.total_first, standing.total
    moved = standing.duplicates_dropped or first != last or (last is not None and last != standing.followers)
    return "drifted" if moved else "complete"


def status(
    job: Job,
    account: str | None,
    standing: Standing,
    state: JobState,
    now: datetime,
    *,
    reason: str | None = None,
    until: datetime | None = None,
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
        eta=_eta(standing, goal, now) if state == "running" else None,
        worker=standing.worker or None,
        started_at=standing.started_at,
        updated_at=now,
        labels=dict(job.address.labels),
        command_sequence=job.sequence,
    )


def _goal(job: Job, total: int | None) -> int | None:
    ceilings = [number for number in (total, job.command.max_followers) if number is not None]
    if job.command.max_pages is not None:
        ceilings.append(job.command.max_pages * job.command.page_size)
    return min(ceilings) if ceilings and total is not None else None


def _percent(followers: int, goal: int | None) -> float | None:
    return None if not goal else round(min(100.0, 100 * followers / goal), 1)


def _eta(standing: Standing, goal: int | None, now: datetime) -> datetime | None:
    elapsed = (now - standing.started_at).total_seconds()
    if not goal or not standing.followers or elapsed <= 0:
        return None
    return now + timedelta(seconds=elapsed * max(0, goal - standing.followers) / standing.followers)
