"""How a job that is under way is told to stop."""

import asyncio
from collections.abc import Callable
from typing import Any


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
