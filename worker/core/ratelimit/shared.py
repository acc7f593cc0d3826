"""This replica's share of an account's limit: the shared one, or a stated fraction while that can't be reached."""

import asyncio
from collections.abc import Callable

import structlog

from worker.core.ports.limiter import LimitUnavailableError, SharedLimit, Taken
from worker.core.ratelimit.gcra import Limit

FALLBACK = 0.2
"""The fraction of the rate that a replica allows itself while the shared limit can't be reached.

Four replicas come to 80 % of the limit, five to all of it; with more the provider may answer "too many requests"
until the shared limit can be reached again.
"""
TRY_EVERY = 1.0
"""Seconds between two tries to reach the shared limit."""
SETTLE = 2.0
"""Seconds without a new start when the shared limit is lost, and when it is back.

By then what others had reserved is used, and all have noticed the change: those who still share and those who are on
their own don't add up.
"""

_log = structlog.get_logger(__name__)


class Share:
    """Times at which this replica may start requests. Times are seconds of the event loop's clock."""

    def __init__(self, account: str, limit: Limit, shared: SharedLimit, dice: Callable[[], float]) -> None:
        """`account`: for the log. `dice`: a number in [0, 1)."""
        self.limit = limit
        self.alone = False
        """The shared limit can't be reached: the fraction holds."""
        self._account = account
        self._shared = shared
        self._dice = dice
        self._free_at = 0.0
        self._unsaid = 0.0
        self._try_at = 0.0

    async def take(self, count: int) -> Taken:
        """Reserve up to `count` starts, one or more. Raises nothing of its own."""
        now = _now()
        if not self.alone or now >= self._try_at:
            try:
                return await self._take_shared(count, now)
            except LimitUnavailableError as error:
                self._go_alone(error)
        start = max(self._free_at, _now())
        self._free_at = start + self.limit.interval / FALLBACK
        return Taken(times=(start,), free_at=self._free_at)

    async def push(self, until: float) -> None:
        """Let no replica start before `until`; as soon as the shared limit can be reached. Raises nothing."""
        self._free_at = max(self._free_at, until)
        self._unsaid = max(self._unsaid, until)
        try:
            await self._say()
        except LimitUnavailableError as error:
            self._go_alone(error)

    async def _take_shared(self, count: int, now: float) -> Taken:
        if self.alone:
            # The others are still on their own, or have just been: what they and we start now must add up.
            self._unsaid = max(self._unsaid, self._free_at, now + SETTLE)
        await self._say()
        taken = await self._shared.take(count)
        self._free_at = taken.free_at
        if self.alone:
            self.alone = False
            _log.info("limit.shared_again", account=self._account)
        return taken

    async def _say(self) -> None:
        until = self._unsaid
        if until > _now():
            await self._shared.push(until)
        if self._unsaid == until:
            self._unsaid = 0.0

    def _go_alone(self, error: LimitUnavailableError) -> None:
        now = _now()
        self._try_at = now + TRY_EVERY
        if self.alone:
            return
        self.alone = True
        # The dice keep the replicas apart from each other.
        self._free_at = max(self._free_at, now + SETTLE) + self._dice() * self.limit.interval / FALLBACK
        _log.warning(
            "limit.fallback",
            account=self._account,
            rate=self.limit.rate * FALLBACK,
            reason=str(error),
            advice="check the bucket FOLLOWERS_LIMITS: followers setup --check",
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
