"""Everything that a job meets from outside, in one place."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from schemas.cloudevents import CloudEventsMode
from schemas.types import ErrorCode, JobState, Provider, WaitReason
from schemas.wire import Encoding
from worker.core.memory import Budget
from worker.core.ports import Cancellations, CommandQueue, DeadLetters, EventLog, StatusBoard
from worker.core.ports.tracing import NoTracer, Tracer
from worker.core.ratelimit.circuit_breaker import Circuit
from worker.core.retry import RetryPolicy

Outcome = Literal["ok"] | ErrorCode
"""Of a request: it gave a page, or the contract's word for why not; `cancelled` when nobody needed the answer."""


class Meter(Protocol):
    """Counts what happened. Must not raise."""

    def page_published(self, provider: Provider, followers: int) -> None:
        """Count a page, with its number of followers."""
        ...

    def request_ended(self, provider: Provider, outcome: Outcome, seconds: float) -> None:
        """Count a request that gave a page or an error after so many seconds."""
        ...

    def job_ended(self, provider: Provider, state: JobState) -> None:
        """Count a job that came to `completed`, `failed`, `cancelled`, or back to `queued`."""
        ...

    def dead_lettered(self, provider: Provider, code: str) -> None:
        """Count a command that was stored among the dead letters, for the contract's `code`."""
        ...

    def change_published(self, provider: Provider, kind: str) -> None:
        """Count a change event that this replica appended, by its type."""
        ...

    def redelivered(self, provider: Provider) -> None:
        """Count a command that had been delivered before."""
        ...

    def faulted(self, provider: Provider) -> None:
        """Count an unexpected error while working on a command."""
        ...

    def request_waited(self, provider: Provider, reason: WaitReason, seconds: float) -> None:
        """Add up the seconds that a request waited before it could start."""
        ...

    def circuit_changed(self, provider: Provider, account: str, state: Circuit) -> None:
        """Take note of the state that an account's circuit breaker came to."""
        ...

    def limit_shared(self, provider: Provider, account: str, *, shared: bool) -> None:
        """Take note that an account's limit can be shared with the other replicas, or no longer."""
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
    cloudevents: CloudEventsMode = "binary"
    ack_wait: float = 30.0
    """Seconds until another replica takes over from one that died."""
    tracer: Tracer = field(default_factory=NoTracer)
    budget: Budget = field(default_factory=lambda: Budget(None))
    """What the answers in hand may take together."""
    queue: CommandQueue | None = None
    """Where jobs are looked for that no worker has seen; None: nowhere."""
    keeps_ids: bool = False
    """The log has room for whose job an id is; False: only the status tells, which may be late. See `core.identity`."""


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

    async def sleep(self, seconds: float, until: asyncio.Future[Any] | None = None) -> None:
        """Sleep, but no longer than until a signal comes; then raise as `check` does.

        The end of `until` ends the sleep too; it is not cancelled.
        """
        waiters = [asyncio.create_task(event.wait()) for event in (self.draining, self.cancelled)]
        woken_by = [*waiters, until] if until is not None else waiters
        try:
            await asyncio.wait(woken_by, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
        self.check()
