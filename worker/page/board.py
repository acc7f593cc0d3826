"""Job status by state, as far as a page shows it: thousands of jobs cost little, and what expired is forgotten."""

from collections.abc import Sequence
from datetime import datetime
from typing import get_args

import msgspec

from schemas.jobs import JobStatus
from schemas.types import JobState
from worker.page.ports import Changes

STATES: tuple[JobState, ...] = get_args(JobState)
GROUPS: Sequence[tuple[JobState, ...]] = (("running", "waiting"), ("queued",), ("completed", "failed", "cancelled"))
KEPT = 500
"""Jobs of one state that are kept in full; of older ones only the number is known."""

_decoder = msgspec.json.Decoder(JobStatus)


class Board:
    """What is known of all jobs. Nothing here waits."""

    def __init__(self) -> None:
        """Begin empty."""
        self._seen: dict[str, tuple[int, JobState | None]] = {}
        """Revision and state of each key, in the order of revisions."""
        self._jobs: dict[JobState, dict[str, JobStatus]] = {state: {} for state in STATES}
        self.counts: dict[JobState, int] = dict.fromkeys(STATES, 0)

    def apply(self, news: Changes) -> None:
        """Take note of what has changed."""
        if news.anew:
            self.__init__()  # type: ignore[misc]
        for change in news.changes:
            self._forget(change.job_id)
            if change.data is None:
                continue
            try:
                status = _decoder.decode(change.data)
            except (ValueError, RecursionError):
                self._seen[change.job_id] = change.revision, None  # of another version, or somebody's own key
                continue
            self._seen[change.job_id] = change.revision, status.state
            self.counts[status.state] += 1
            kept = self._jobs[status.state]
            kept[change.job_id] = status
            if len(kept) > KEPT:
                del kept[next(iter(kept))]
        while news.first is not None and self._seen:
            job_id, (revision, _) = next(iter(self._seen.items()))
            if revision >= news.first:
                break
            self._forget(job_id)

    def get(self, job_id: str) -> JobStatus | None:
        """Return a job's status, None when it isn't known or only counted."""
        _, state = self._seen.get(job_id, (0, None))
        return self._jobs[state].get(job_id) if state else None

    def jobs(self, state: JobState | None) -> Sequence[JobStatus]:
        """Return the jobs of `state`, the newest first; None: of all, those in hand, those in the queue, the others.

        A job keeps its place while it runs and waits by turns.
        """
        groups: Sequence[tuple[JobState, ...]] = [(state,)] if state is not None else GROUPS
        return [job for group in groups for job in self._sorted(group)]

    def _sorted(self, states: Sequence[JobState]) -> list[JobStatus]:
        return sorted((job for one in states for job in self._jobs[one].values()), key=_newness, reverse=True)

    def _forget(self, job_id: str) -> None:
        _, state = self._seen.pop(job_id, (0, None))
        if state is not None:
            self.counts[state] -= 1
            self._jobs[state].pop(job_id, None)


def _newness(job: JobStatus) -> tuple[datetime, str]:
    # Not when it was updated: rows would change places every second.
    return job.finished_at or job.started_at or job.updated_at, job.job_id
