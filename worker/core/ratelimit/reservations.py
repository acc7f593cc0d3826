"""The starts that a replica has reserved for an account: taken when due, asked for before they run out."""

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from worker.core.ratelimit.gcra import BURST_SECONDS
from worker.core.ratelimit.shared import Share
from worker.core.tasks import begin

LOOK_AGAIN = 5.0
"""Seconds between two looks at a limit that is blocked far ahead: an operator may have reset it."""
KEEPS = BURST_SECONDS / 2
"""Seconds that a reserved start can be used, where a burst is more than one request."""
EARLY = 0.001
"""Seconds: what timers are exact to."""

_log = structlog.get_logger(__name__)


class Starts:
    """Reserved starts of one account. Times are seconds of the event loop's clock."""

    def __init__(self, account: str, share: Share, dice: Callable[[], float], on_more: Callable[[], None]) -> None:
        """`account`: for the log. `dice`: a number in [0, 1). `on_more`: called when starts, or none, were given."""
        self.share = share
        self._account, self._dice, self._on_more = account, dice, on_more
        self._burst, self._grace = share.limit.burst, share.limit.grace
        self._held: deque[float] = deque()
        """Ascending."""
        self._debt = 0
        self._not_before = 0.0
        self._free_at = 0.0
        self._ask_at = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._saying: set[asyncio.Task[None]] = set()
        self._window, self._lately, self._before = 0.0, 0, 0
        """When the count of requests began, the count, and that of the window before."""

    def take(self, now: float) -> float | None:
        """Use up a start that is due; return it, None when there is none."""
        held = self._held
        while held and held[0] <= now + EARLY:
            start = held.popleft()
            if self.is_late(start, now):
                continue  # with others' starts it would make a burst
            if not self._debt:
                return start
            self._debt -= 1
        return None

    def give_back(self, start: float) -> None:
        """Take back a start that was not used."""
        self._held.appendleft(start)

    def is_late(self, start: float, now: float) -> bool:
        """Say whether it is too late to use `start`."""
        return now > start + self._grace + EARLY

    def used(self, now: float) -> None:
        """Count a request, to know how many are to be expected."""
        if now - self._window >= KEEPS:
            self._before = self._lately if now - self._window < 2 * KEEPS else 0
            self._window, self._lately = now, 0
        self._lately += 1

    def owe(self, requests: int) -> None:
        """Pay with the next starts for `requests` that were made without one."""
        self._debt += requests

    def push(self, until: float) -> None:
        """Start nothing before `until`, here and in the other replicas."""
        self._not_before = max(self._not_before, until)
        self._held.clear()
        task = begin(self.share.push(until), "limit.push")
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    def want(self, now: float, waiting: int) -> None:
        """Ask for more, when what is held is soon used up by `waiting` requests and those to be expected."""
        if self._asking is not None or now < self._ask_at or len(self._held) > self._burst // 2:
            return
        wanted = min(self._burst, waiting + self._debt + self._soon(now))
        held = len(self._held)
        if wanted and held <= wanted // 2:
            self._asking = begin(self._ask(wanted - held), "limit.ask")

    @property
    def look_at(self) -> float | None:
        """When something may be done next; None: when `on_more` is called."""
        if self._held:
            return self._held[0]
        return self._ask_at if self._asking is None else None

    def expected_at(self, now: float) -> float:
        """Return when the next start is likely to be."""
        return self._held[0] if self._held else max(now, self._free_at)

    def close(self) -> None:
        """Ask no more."""
        for task in (self._asking, *self._saying):
            if task is not None:
                task.cancel()

    def _soon(self, now: float) -> int:
        """Return how many requests are to be expected while a reserved start keeps: as many as there were lately."""
        if self._burst == 1 or now - self._window >= 2 * KEEPS:
            return 0
        return max(self._lately, self._before)

    async def _ask(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            taken = await self.share.take(count)
        except Exception:
            # Whoever is in line must not wait for ever for a fault of ours.
            _log.exception("limit.fault", account=self._account)
            self._ask_at = loop.time() + 1.0
        else:
            self._free_at = taken.free_at
            self._held.extend(start for start in taken.times if start >= self._not_before)
            if not taken.times:
                now = loop.time()
                ahead = max(0.05, min(LOOK_AGAIN, taken.free_at - now))
                self._ask_at = now + ahead * (0.5 + self._dice() / 2)
        finally:
            self._asking = None
        self._on_more()
