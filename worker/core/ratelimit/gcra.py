"""A rate limit as arithmetic (GCRA): the state is one timestamp, and clocks come in as numbers.

The timestamp is the theoretical arrival time: when the next request may start, were the account asked all the time.
Requests are reserved one `interval` apart, and a reserved time may be used up to `grace` late, never early. From
both follows that in any second, however requests bunch, at most `rate + burst` of them start; with the usual burst
above 1, half of it is left for what happens on the way, so that a provider counts no more either.
"""

from dataclasses import dataclass

BURST_SECONDS = 0.1
"""A burst is this many seconds' worth of requests, at least one request."""
SECOND = 1_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests a second, over all replicas."""

    rate: float
    """Requests a second, above 0."""

    def __post_init__(self) -> None:
        """Raise ValueError for a rate that is not above 0: no limit is no Limit."""
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"a rate limit of {self.rate} requests a second: it must be above 0 and finite")

    @property
    def interval(self) -> float:
        """Seconds between two reserved requests."""
        return 1 / self.rate

    @property
    def burst(self) -> int:
        """How many requests may come on top of `rate` in one second; also the most that are reserved at once."""
        return max(1, round(self.rate * BURST_SECONDS))

    @property
    def grace(self) -> float:
        """Seconds that a reserved time may be used late: half a burst's worth."""
        return self.burst / 2 / self.rate

    @property
    def horizon(self) -> float:
        """Seconds: with more than this reserved or blocked ahead of now, nothing is reserved yet."""
        return max(3.0, 16 / self.rate)


def reserve(arrival: int, now: int, limit: Limit, count: int) -> tuple[list[int], int]:
    """Return the times of the next `count` requests, ascending, and the new theoretical arrival time.

    All times are microseconds since 1970; `arrival` is the theoretical arrival time so far (0: never used).
    """
    first = max(arrival, now)
    step = SECOND / limit.rate
    times = [first + round(number * step) for number in range(count)]
    return times, first + round(count * step)


def pushed(arrival: int, until: int) -> int:
    """Return the theoretical arrival time once nothing more may start before `until`: both in microseconds."""
    return max(arrival, until)
