"""The door to one account's provider: every request of this replica passes it, within the limit and the circuit.

Each account has its own, so a throttled or broken account holds up nobody else. With a start at hand, `enter` is a
matter of microseconds; otherwise a request queues: jobs take turns, each job's requests in order.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from schemas.types import Provider, WaitReason
from worker.core.errors import FetchFailure, ProviderUnavailableError, RateLimitedError
from worker.core.ports.metrics import Circuit, Meter
from worker.core.ratelimit.circuit_breaker import Breaker
from worker.core.ratelimit.fair_queue import Place, Turns
from worker.core.ratelimit.reservations import Starts
from worker.core.ratelimit.shared import Share
from worker.core.services import World

SLOWEST = 60.0
"""Seconds: the longest pause after a rate-limited answer that names none."""
PROBE_LOST = 5.0
"""Seconds after which somebody else may be the probe, when the one who was granted it doesn't claim it."""

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
    rate: float | None = None
    """Requests a second over all replicas; None: no limit."""
    ahead: int = 0
    """Requests in line before it, in this replica."""
    shared: bool = True
    """False: the shared limit can't be reached, and this replica keeps to a fraction of it."""
    failures: int = 0
    """Of an open circuit: requests that failed in a row."""
    failure: FetchFailure | None = None
    """Of an open circuit: the last of them. Of a provider that wants patience: its answer, where it came here."""
    asked: float | None = None
    """Seconds that the provider asked for, where that is longer than it is left alone."""


@dataclass(frozen=True, slots=True)
class GateState:
    """How it stands with an account, for people. Times are seconds of the event loop's clock."""

    circuit: Circuit
    circuit_until: float
    """While it isn't closed: when the next probe may start, or its outcome is expected."""
    blocked_until: float
    """Until then the provider has asked for patience; the past when it hasn't."""
    waiting: int
    """Requests in line."""
    shared: bool
    """The limit is shared with the other replicas; False: this replica keeps to a fraction of it."""
    heard: bool = False
    """The provider has answered, whatever it was; False: nothing is known of it but that it didn't."""


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
        self._breaker = breaker
        self._starts = Starts(account, share, dice, self._more) if share else None
        self._meter, self._dice = meter, dice
        self._pause, self._longest = pause, longest
        self._turns = Turns()
        self._alone = False
        self._blocked_until, self._blocked_at, self._strikes = 0.0, float("-inf"), 0
        self._blocked_by: RateLimitedError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def enter(self) -> Admission | None:
        """Return the admission of a request that may start at once; None when it has to queue."""
        if self._turns.waiting:
            return None
        now = _now()
        if self._hold(now) > 0:
            return None
        if self._starts is not None:
            if self._starts.take(now) is None:
                return None
            self._starts.want(now, 0)
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
        lapsed = self._starts is not None and self._starts.is_late(place.start, now)
        if lapsed or self._hold(now) > 0:
            self._turns.back(place)
            self._serve()
            return None
        place.claimed = True
        return self._admit(now)

    def leave(self, place: Place) -> None:
        """Get out of line; a grant that was not claimed is the next one's."""
        if place.claimed:
            return
        if not place.granted.done():
            self._turns.remove(place)
        elif self._starts is not None:
            self._starts.give_back(place.start)
        self._serve()

    def outlook(self, place: Place) -> Outlook:
        """Say what `place` waits for."""
        now = _now()
        if self._breaker.wait(now) > 0:
            until, breaker = max(self._breaker.until, now), self._breaker
            return Outlook(until, "circuit_open", False, failures=breaker.failures, failure=self.last_failure)
        ahead = self._turns.ahead(place)
        limit = None if self._starts is None else self._starts.share.limit
        rate = None if limit is None else limit.rate
        if self._blocked_until > now:
            return self._blocked(self._blocked_until, rate, ahead)
        if self._starts is None or limit is None:
            return Outlook(now, "rate_limited", True, ahead=ahead)
        expected = self._starts.expected_at(now)
        if expected - now > limit.horizon + limit.burst * limit.interval:
            # Nobody reserves so far ahead: another replica was told to be patient.
            return Outlook(expected, "rate_limited", False, rate, ahead)
        until = expected + ahead * limit.interval
        return Outlook(until, "rate_limited", True, rate, ahead, shared=not self._alone)

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
                self._slow_down(admission, error)
                self._tell_breaker(self._breaker.answered)
            case ProviderUnavailableError():
                self.last_failure = error
                self._tell_breaker(lambda: self._breaker.failed(_now(), probe=admission.probe))
            case _:
                self._tell_breaker(self._breaker.answered)

    def left(self, admission: Admission) -> None:
        """The request was cancelled, or outlived its job's deadline."""
        self._tell_breaker(lambda: self._breaker.left(probe=admission.probe))

    def state(self) -> GateState:
        """Say how it stands with the account. Changes nothing."""
        breaker = self._breaker
        until = breaker.until if breaker.state != "closed" else 0.0
        waiting, heard = self._turns.waiting, breaker.heard
        return GateState(breaker.state, until, self._blocked_until, waiting, not self._alone, heard)

    def close(self) -> None:
        """Let nobody else in; whoever is in line waits for ever."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._starts is not None:
            self._starts.close()

    def _admit(self, now: float) -> Admission:
        probe = self._breaker.enter(now)
        if probe:
            _log.info("circuit.probe", account=self._account)
            self._meter.circuit_changed(self._provider, self._account, "half_open")
        if self._starts is not None:
            self._starts.used(now)
        return Admission(now, probe)

    def _hold(self, now: float) -> float:
        """Return the seconds until the provider may be asked at all."""
        return max(self._breaker.wait(now), self._blocked_until - now)

    def _serve(self) -> None:
        """Grant what may start now, see to it that more can, and set the timer for the next look."""
        now = _now()
        hold = self._hold(now)
        while self._turns.waiting and hold <= 0:
            start = now if self._starts is None else self._starts.take(now)
            if start is None:
                break
            self._turns.grant(start)
            if self._breaker.state != "closed":
                hold = PROBE_LOST  # the others see what becomes of the probe
        if not self._turns.waiting or self._closed:
            return
        at: float | None = now + hold
        if hold <= 0 and self._starts is not None:
            self._starts.want(now, self._turns.waiting)
            at = self._starts.look_at
        self._look_again(at, now)

    def _look_again(self, at: float | None, now: float) -> None:
        if at is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at != float("inf"):
            self._timer = asyncio.get_running_loop().call_at(max(at, now), self._serve)

    def _more(self) -> None:
        """The shared limit has answered."""
        share = self._starts.share if self._starts is not None else None
        if share is not None and share.alone != self._alone:
            self._alone = share.alone
            self._meter.limit_shared(self._provider, self._account, shared=not share.alone)
        self._serve()

    def _blocked(self, until: float, rate: float | None, ahead: int) -> Outlook:
        error = self._blocked_by
        asked = error.retry_after if error is not None else None
        longer = asked if asked is not None and asked > self._longest else None
        return Outlook(until, "rate_limited", False, rate, ahead, failure=error, asked=longer)

    def _slow_down(self, admission: Admission, error: RateLimitedError) -> None:
        """Hold all requests up, here and in the other replicas; never longer than a job would wait for that."""
        now, named = _now(), error.retry_after
        old = admission.at <= self._blocked_at
        if named is None:
            if old:
                return  # it was under way when another one was told: the same news once more
            named = min(SLOWEST, self._pause * 2.0 ** min(self._strikes, 30)) * (0.5 + self._dice() / 2)
            self._strikes += 1
        until = now + min(named, self._longest)
        self._blocked_at = now
        if until <= self._blocked_until + (1.0 if old else 0.0):
            return
        self._blocked_until, self._blocked_by = until, error
        _log.warning("limit.pushed", account=self._account, seconds=round(until - now, 3), asked=error.retry_after)
        if self._starts is not None:
            self._starts.push(until)

    def _charge(self, requests: int) -> None:
        """Account for requests beyond the first, such as to eSMS's second endpoint."""
        if requests > 1 and self._starts is not None:
            self._starts.owe(requests - 1)

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
