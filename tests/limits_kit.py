"""What tests of limits share: a limit in memory, and how many requests came in the worst second."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from worker.core.ports.limiter import LimitUnavailableError, Taken
from worker.core.ratelimit.gcra import SECOND, Limit, pushed, reserve


@dataclass
class SharedState:
    """What the bucket holds, for all replicas."""

    arrival: int = 0
    up: bool = True
    writes: int = 0
    replicas: int = 0


async def _at_once() -> None:
    """Take no time."""


class FakeSharedLimit:
    """`SharedLimit` in memory; `travel` is awaited on each way to the bucket and back."""

    def __init__(self, limit: Limit, state: SharedState, travel: Callable[[], Awaitable[None]] = _at_once) -> None:
        self._limit, self._state, self._travel = limit, state, travel

    async def take(self, count: int) -> Taken:
        """See `SharedLimit.take`."""
        await self._go()
        state, now = self._state, _micros(_now())
        if state.arrival > now + _micros(self._limit.horizon):
            return Taken(times=(), free_at=state.arrival / SECOND)
        times, state.arrival = reserve(state.arrival, now, self._limit, count)
        state.writes += 1
        await self._travel()
        return Taken(times=[time / SECOND for time in times], free_at=state.arrival / SECOND)

    async def push(self, until: float) -> None:
        """See `SharedLimit.push`."""
        await self._go()
        self._state.arrival = pushed(self._state.arrival, _micros(until))
        self._state.writes += 1
        await self._travel()

    async def _go(self) -> None:
        await self._travel()
        if not self._state.up:
            raise LimitUnavailableError("down")


def worst_second(times: Sequence[float]) -> int:
    """Return the most of `times` (seconds, ascending) that lie within one second."""
    worst = first = 0
    for index, time in enumerate(times):
        while times[first] <= time - 1.0:
            first += 1
        worst = max(worst, index - first + 1)
    return worst


def _micros(seconds: float) -> int:
    return round(seconds * SECOND)


def _now() -> float:
    return asyncio.get_running_loop().time()
