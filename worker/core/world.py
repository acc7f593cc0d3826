"""Everything that a job meets from outside, in one place."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from schemas.types import JobState, Provider
from schemas.wire import Encoding
from worker.core.ports import Cancellations, DeadLetters, EventLog, StatusBoard
from worker.core.retry import RetryPolicy


class Meter(Protocol):
    """Counts what happened. Must not raise."""

    def page_published(self, provider: Provider, followers: int) -> None:
        """Count a page, with its number of followers."""
        ...

    def request_failed(self, provider: Provider, code: str) -> None:
        """Count a request that gave an error with the contract's `code`."""
        ...

    def job_ended(self, provider: Provider, state: JobState) -> None:
        """Count a job that came to `completed`, `failed`, `cancelled`, or back to `queued`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The ports, the clock, the dice and the settings of one replica."""

    log: EventLog
    status: StatusBoard
    cancellations: Cancellations
    dead_letters: DeadLetters
    meter: Meter
    now: Callable[[], datetime]
    """The time, aware."""
    dice: Callable[[], float]
    """A number in [0, 1)."""
    token: Callable[[], str]
    """A text that never comes twice."""
    worker: str
    """This replica's name."""
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    prefetch: int = 8
    """Pages read ahead within one job."""
    encoding: Encoding = "json"
    ack_wait: float = 30.0
    """Seconds until another replica takes over from one that died."""


class DrainingError(Exception):
    """This replica is to stop: the job goes back to the queue."""


class CancelledJobError(Exception):
    """Somebody cancelled the job."""


class Signals:
    """What may end a running job from outside."""

    def __init__(self, draining: asyncio.Event) -> None:
        """Take the replica's own event; each job has its own `cancelled`."""
        self.draining = draining
        self.cancelled = asyncio.Event()
        self.on_cancel: Callable[[], None] = lambda: None
        """Called by `cancel`: ends what nobody needs to wait for."""

    def cancel(self) -> None:
        """Cancel the job; what it waits for ends at once."""
        self.cancelled.set()
        self.on_cancel()

    def check(self) -> None:
        """Raise CancelledJobError or DrainingError when one of them was given."""
        if self.cancelled.is_set():
            raise CancelledJobError
        if self.draining.is_set():
            raise DrainingError

    async def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until a signal comes; then raise as `check` does."""
        waiters = [asyncio.create_task(event.wait()) for event in (self.draining, self.cancelled)]
        try:
            await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
        self.check()
