"""What schedules need from the world. Each docstring is the contract that every implementation is tested against."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.types import Provider
from worker.core.schedules.decision import Outcome, Run, ScheduleState


class ScheduleUnavailableError(Exception):
    """The bucket, its clock or the command stream did not answer: what was asked for may have happened."""


class NoScheduleBucketError(Exception):
    """The bucket isn't there; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a schedule's key holds."""

    state: ScheduleState | None
    revision: int
    """0 when there is no key."""


class ScheduleDesk(Protocol):
    """Where all replicas look up and note what became of schedules. Each call may raise ScheduleUnavailableError."""

    async def now(self) -> datetime:
        """Return a time that the server's clock has reached, in UTC. Raises NoScheduleBucketError."""
        ...

    async def read(self, name: str) -> Stored:
        """Return what is stored of a schedule; never stale on a healthy stream."""
        ...

    async def write(self, name: str, state: ScheduleState, revision: int) -> int | None:
        """Store `state` if `revision` is still the key's; return the new one, None when somebody was quicker."""
        ...

    async def publish(self, provider: Provider, command: bytes, job_id: str) -> int:
        """Put a command into the stream under the id `job_id`, and return its sequence there.

        Within the stream's window for duplicates the same id is stored once.
        """
        ...

    async def is_queued(self, run: Run) -> bool:
        """Say whether the command of `run` is still in the queue, waiting or in hand."""
        ...


class ScheduleMeter(Protocol):
    """Counts what happened. Must not raise."""

    def schedule_decided(self, schedule: str, outcome: Outcome) -> None:
        """Count a due time by what this replica made of it."""
        ...

    def schedule_next(self, schedule: str, due: float) -> None:
        """Take note of when something is to be done next, in seconds since 1970; no number: never."""
        ...
