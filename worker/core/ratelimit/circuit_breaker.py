"""The circuit breaker of one account: after repeated failures, one request at a time finds out whether it is back.

closed ── FAILURES in a row ──▶ open ── its time is over ──▶ half open: one probe
  ▲                              ▲                              │
  └────────── an answer ─────────┼────────── an answer ─────────┤
                                 └── no answer: longer, to CAP ─┘
"""

from collections.abc import Callable

from worker.core.ports.metrics import Circuit

FAILURES = 5
"""So many failures in a row, over all jobs of the account, open the circuit."""
CAP = 60.0
"""Seconds: the longest time between two probes."""


class Breaker:
    """Decides whether a request may be tried. Times are seconds on any clock that only goes forward.

    A failure is no answer or a 5xx. Whatever else a provider says, refusals and rate limits included, shows that it
    is there.
    """

    def __init__(self, dice: Callable[[], float], *, failures: int = FAILURES, base: float = 1.0) -> None:
        """`dice`: a number in [0, 1). `failures`: how many in a row open it. `base`: seconds it is open at first."""
        self.state: Circuit = "closed"
        self.until = 0.0
        """While open: when a probe may start. While half open: when its outcome is expected."""
        self._dice = dice
        self._threshold = failures
        self._base = base
        self.failures = 0
        """Since the last answer."""
        self.heard = False
        """There was an answer."""
        self._failures = 0
        self._openings = 0
        self._probing = False

    def wait(self, now: float) -> float:
        """Return the seconds until a request may be tried: 0 now; infinite while a probe is out."""
        if self.state == "closed":
            return 0.0
        if self._probing:
            return float("inf")
        return max(0.0, self.until - now)

    def enter(self, now: float) -> bool:
        """A request starts, which `wait` allows; return whether it is a probe. Its outcome must be told."""
        if self.state == "closed":
            return False
        self.state = "half_open"
        self._probing = True
        self.until = now + self._open_for()
        return True

    def answered(self) -> None:
        """The provider is there: close the circuit."""
        self.state, self.heard = "closed", True
        self.failures = self._failures = self._openings = 0
        self._probing = False

    def failed(self, now: float, *, probe: bool) -> None:
        """A request got no answer, or a 5xx."""
        self.failures += 1
        if probe:
            self._open(now)
        elif self.state == "closed":
            self._failures += 1
            if self._failures >= self._threshold:
                self._open(now)
        # Else a request that was under way when the circuit opened: it says nothing new.

    def left(self, *, probe: bool) -> None:
        """A request ended without telling anything, such as by a cancellation: another may probe at once."""
        if probe:
            self._probing = False
            self.until = 0.0

    def _open(self, now: float) -> None:
        self.until = now + self._open_for()
        self._openings += 1
        self._probing = False
        self._failures = 0
        self.state = "open"

    def _open_for(self) -> float:
        # Half of it is jitter, so that replicas don't probe together; a float overflows long before 2 ** 1024.
        longest = min(CAP, self._base * 2.0 ** min(self._openings, 30))
        return longest * (0.5 + self._dice() / 2)
