"""The door to one account's provider: every request of this replica passes it, within the limit and the circuit.

Each account has its own, so a throttled or broken account holds up nobody else. With a start at hand, `enter` is a
matter of microseconds; otherwise a request queues: jobs take turns, each job's requests in order.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from schemas.types import Provider, WaitReason
from worker.core.breaker import Breaker
from worker.core.errors import FetchFailure, GarbledResponseError, ProviderUnavailableError, RateLimitedError
from worker.core.limit import BURST_SECONDS
from worker.core.share import Share
from worker.core.turns import Place, Turns
from worker.core.world import Meter, World

LOOK_AGAIN = 5.0
"""Seconds between two looks at a limit that is blocked far ahead: an operator may have reset it."""
SLOWEST = 60.0
"""Seconds: the longest pause after a rate-limited answer that names none."""
EARLY = 0.001
"""Seconds: what timers are exact to."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that may start now. Its outcome must be told to the gate, whatever it is."""

    at: float
    probe: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """Why a request waits, and until when."""

    until: float
    """Seconds of the event loop's clock; the past when nothing but a turn of the loop is in the way."""
    reason: WaitReason
    ours: bool
    """It waits for our own limit, not for the provider; `until` is an estimate then."""


class Gate:
    """Lets requests through. One a replica and account; belongs to one event loop."""

    def __init__(
        self,
        account: str,
        provider: Provider,
        breaker: Breaker,
        share: Share | None,
        *,
        meter: Meter,
        dice: Callable[[], float],
        pause: float = 1.0,
        longest: float = 86_400.0,
    ) -> None:
        """`share`: this replica's part of the rate limit; None: there is none. `dice`: a number in [0, 1).

        `pause`: seconds that a rate-limited answer holds all requests up at first, when it names no time.
        `longest`: seconds, the most that it can hold them up.
        """
        self.last_failure: ProviderUnavailableError | None = None
        """What opened the circuit."""
        self._account, self._provider = account, provider
        self._breaker, self._share = breaker, share
        self._meter, self._dice = meter, dice
        self._pause, self._longest = pause, longest
        self._burst = share.limit.burst if share else 0
        self._grace = share.limit.grace if share else 0.0
        self._turns = Turns()
        self._starts: deque[float] = deque()
        """Reserved starts, ascending."""
        self._window, self._lately, self._before = 0.0, 0, 0
        """When the count of requests began, the count, and that of the window before."""
        self._alone = False
        self._debt = 0
        """Requests made without a start of their own, such as eSMS's second endpoint: paid with the next starts."""
        self._blocked_until, self._blocked_at, self._strikes = 0.0, 0.0, 0
        self._full_until = 0.0
        self._ask_at = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._saying: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def enter(self) -> Admission | None:
        """Return the admission of a request that may start at once; None when it has to queue."""
        if self._turns.waiting:
            return None
        now = _now()
        if self._hold(now) > 0 or self._take_start(now) is None:
            return None
        if self._share is not None and len(self._starts) <= self._burst // 2:
            self._ask_for_more(now)
        return self._admit(now)

    def queue(self, job: str) -> Place:
        """Get in line for `job`. Wait for `granted`, then `claim`; `leave` in any case."""
        place = self._turns.join(job)
        self._serve()
        return place

    def claim(self, place: Place) -> Admission | None:
        """Return the admission that `place` was granted; None when it is still in line.

        A grant that was not claimed in time lapses, and `place` is the first in line again.
        """
        if not place.granted.done():
            return None
        now = _now()
        if (self._share is not None and now > place.start + self._grace + EARLY) or self._hold(now) > 0:
            self._turns.back(place)
            self._serve()
            return None
        place.claimed = True
        return self._admit(now)

    def leave(self, place: Place) -> None:
        """Get out of line; a grant that was not claimed is the next one's."""
        if place.claimed:
            return
        if place.granted.done():
            if self._share is not None:
                self._starts.appendleft(place.start)
        else:
            self._turns.remove(place)
        self._serve()

    def outlook(self, place: Place) -> Outlook:
        """Say what `place` waits for."""
        now = _now()
        if self._breaker.wait(now) > 0:
            return Outlook(max(self._breaker.until, now), "circuit_open", ours=False)
        if self._blocked_until > now:
            return Outlook(self._blocked_until, "rate_limited", ours=False)
        if self._share is None:
            return Outlook(now, "rate_limited", ours=True)
        first = self._starts[0] if self._starts else max(now, self._full_until)
        return Outlook(first + self._turns.ahead(place) * self._share.limit.interval, "rate_limited", ours=True)

    def answered(self, admission: Admission, requests: int) -> None:
        """The request gave a page, in `requests` HTTP requests."""
        self._charge(requests)
        if admission.at > self._blocked_at:
            self._strikes = 0
        self._tell_breaker(self._breaker.answered)

    def failed(self, admission: Admission, error: FetchFailure) -> None:
        """The request gave `error`."""
        self._charge(error.requests)
        match error:
            case RateLimitedError():
                self._slow_down(admission, error.retry_after)
                self._tell_breaker(self._breaker.answered)
            case ProviderUnavailableError():
                self.last_failure = error
                self._tell_breaker(lambda: self._breaker.failed(_now(), probe=admission.probe))
            case GarbledResponseError() if not admission.probe:
                pass  # one page may be broken for ever: that is no reason to stop the other jobs
            case GarbledResponseError():
                self._tell_breaker(lambda: self._breaker.failed(_now(), probe=True))
            case _:
                self._tell_breaker(self._breaker.answered)

    def left(self, admission: Admission) -> None:
        """The request was cancelled, or outlived its job's deadline."""
        self._tell_breaker(lambda: self._breaker.left(probe=admission.probe))

    def close(self) -> None:
        """Let nobody else in; whoever is in line waits for ever."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in (self._asking, *self._saying):
            if task is not None:
                task.cancel()

    def _admit(self, now: float) -> Admission:
        probe = self._breaker.enter(now)
        if probe:
            _log.info("circuit.probe", account=self._account)
            self._meter.circuit_changed(self._provider, self._account, "half_open")
        if now - self._window >= BURST_SECONDS:
            self._before = self._lately if now - self._window < 2 * BURST_SECONDS else 0
            self._window, self._lately = now, 0
        self._lately += 1
        return Admission(now, probe)

    def _hold(self, now: float) -> float:
        """Return the seconds until the provider may be asked at all."""
        return max(self._breaker.wait(now), self._blocked_until - now)

    def _take_start(self, now: float) -> float | None:
        """Use up a reserved start that is due; return its time, None when there is none."""
        if self._share is None:
            return now
        starts = self._starts
        while starts and starts[0] <= now + EARLY:
            start = starts.popleft()
            if start + self._grace < now:
                continue  # too late: with others' starts it would make a burst
            if not self._debt:
                return start
            self._debt -= 1
        return None

    def _serve(self) -> None:
        """Grant what may start now, see to it that more can, and set the timer for the next look."""
        now = _now()
        hold = self._hold(now)
        while self._turns.waiting and hold <= 0:
            start = self._take_start(now)
            if start is None:
                break
            self._turns.grant(start)
            if self._breaker.state != "closed":
                hold = LOOK_AGAIN  # the others see what becomes of the probe
        if not self._turns.waiting or self._closed:
            return
        if hold <= 0:
            self._ask_for_more(now)
        self._look_at(now, hold)

    def _look_at(self, now: float, hold: float) -> None:
        if hold > 0:
            at = now + hold
        elif self._starts:
            at = self._starts[0]
        elif self._asking is None:
            at = self._ask_at
        else:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at != float("inf"):
            self._timer = asyncio.get_running_loop().call_at(max(at, now), self._serve)

    def _ask_for_more(self, now: float) -> None:
        if self._share is None or self._asking is not None or now < self._ask_at:
            return
        wanted = min(self._burst, self._turns.waiting + self._debt + self._soon(now))
        held = len(self._starts)
        if wanted and held <= wanted // 2:
            self._asking = asyncio.get_running_loop().create_task(self._ask(self._share, wanted - held))

    def _soon(self, now: float) -> int:
        """Return how many requests are to be expected while a reserved start keeps: as many as there were lately."""
        if self._burst == 1 or now - self._window >= 2 * BURST_SECONDS:
            return 0
        return max(self._lately, self._before)

    async def _ask(self, share: Share, count: int) -> None:
        try:
            taken = await share.take(count)
        except Exception:
            # Whoever is in line must not wait for ever for a fault of ours.
            _log.exception("limit.fault", account=self._account)
            self._ask_at = _now() + 1.0
        else:
            now = _now()
            self._full_until = taken.free_at
            self._starts.extend(start for start in taken.times if start >= self._blocked_until)
            if not taken.times:
                self._ask_at = now + max(0.05, min(LOOK_AGAIN, taken.free_at - now)) * (0.5 + self._dice() / 2)
        finally:
            self._asking = None
        if share.alone != self._alone:
            self._alone = share.alone
            self._meter.limit_shared(self._provider, self._account, shared=not share.alone)
        self._serve()

    def _slow_down(self, admission: Admission, named: float | None) -> None:
        """Hold all requests up, here and in the other replicas."""
        now = _now()
        old = admission.at <= self._blocked_at
        if named is None:
            if old:
                return  # it was under way when another one was told: the same news once more
            named = min(SLOWEST, self._pause * 2 ** min(self._strikes, 30)) * (0.5 + self._dice() / 2)
            self._strikes += 1
        until = now + min(named, self._longest)
        self._blocked_at = now
        if until <= self._blocked_until + (1.0 if old else 0.0):
            return
        self._blocked_until = until
        self._starts.clear()
        _log.warning("limit.pushed", account=self._account, seconds=round(until - now, 3))
        if self._share is not None:
            task = asyncio.get_running_loop().create_task(self._share.push(until))
            self._saying.add(task)
            task.add_done_callback(self._saying.discard)

    def _charge(self, requests: int) -> None:
        if self._share is not None:
            self._debt += max(0, requests - 1)

    def _tell_breaker(self, tell: Callable[[], None]) -> None:
        before = self._breaker.state
        tell()
        after = self._breaker.state
        if after != before:
            if after == "open":
                seconds = round(self._breaker.until - _now(), 3)
                _log.warning("circuit.opened", account=self._account, seconds=seconds)
            else:
                _log.info("circuit.closed", account=self._account)
            self._meter.circuit_changed(self._provider, self._account, after)
        if self._turns.waiting:
            self._serve()


def open_gate(account: str, provider: Provider, world: World, share: Share | None) -> Gate:
    """Return the gate of `account`; `share` is this replica's part of its rate limit, None where it has none."""
    policy = world.policy
    return Gate(
        account,
        provider,
        Breaker(world.dice, base=2 * policy.base),
        share,
        meter=world.meter,
        dice=world.dice,
        pause=2 * policy.base,
        longest=policy.rate_limited_for,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
