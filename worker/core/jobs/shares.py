"""Which commands of a provider this replica takes in hand: a share for each account, in the order of the stream.

An account that can't use more now must not keep the commands of others from coming: beyond its share they go back, to
be delivered again soon. Whichever of them came first is the next one of its account that is taken here, so the later
ones go back, too, until it has come again. What other replicas take in the meantime is not known here.
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable

WAITING_JOBS = 16
"""Times `worker.max_jobs`: the most commands of one provider in hand, those included that wait for an account."""
SOON = 0.5
"""Seconds until the first of an account's commands that went back comes again."""
SLOWEST, FASTEST = 5.0, 200.0
"""Commands of one account that come again in a second at first, at least and at most: twice as many as its jobs end."""
LONGEST = 60.0
"""Seconds until a command that went back comes again, at most: thousands of them are a hundred in a second then."""
LATELY = 32
"""Jobs of an account by whose ends its pace is told."""
GRACE = 2.0
"""Seconds by which a command may come later than it was asked for."""


class Slots:
    """The commands of one provider in this replica's hands. Times are seconds of the event loop's clock."""

    def __init__(self, slots: int, accounts: int, waiting: Callable[[], int]) -> None:
        """`slots`: `worker.max_jobs`. `accounts`: how many the provider has.

        `waiting`: counts the jobs in hand that stand still.
        """
        self.share = max(1, min(slots, slots * WAITING_JOBS // max(1, accounts)))
        """Commands of one account in hand, at most."""
        self.are_shared = accounts > 1
        """There is somebody to give way to: else commands stay in the queue, where all replicas have them."""
        self.held = 0
        self._sends_back = False
        self._slots, self._waiting = slots, waiting
        self._held: Counter[str] = Counter()
        self._back: defaultdict[str, list[int]] = defaultdict(list)
        """Sequences of commands that went back and have not come again, ascending."""
        self._due: dict[int, float] = {}
        """When each of them is to come."""
        self._ends: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=LATELY))
        """When the account's last jobs ended."""

    def take(self, account: str | None, sequence: int, now: float) -> float | None:
        """Take a command that was delivered; or return in how many seconds it is to be delivered again.

        `account`: whose it is, None where that can't be told.
        """
        self._sends_back = False
        if account is None or not self.are_shared:
            self._hold(account)
            return None
        came_for = self._came(account, sequence, now)
        if not self._goes_back(account, sequence, came_for):
            self._hold(account)
            return None
        self._sends_back = True
        back = self._back[account]
        delay = min(LONGEST, SOON + bisect_left(back, sequence) / self._returns(account, now))
        insort(back, sequence)
        self._due[sequence] = now + delay
        return delay

    def done(self, account: str | None, now: float) -> None:
        """A command that was taken is settled."""
        self.held -= 1
        if account is not None:
            self._held[account] -= 1
            self._ends[account].append(now)

    @property
    def is_full(self) -> bool:
        """Whether no other command is to be taken now, but from an account that has none.

        A job that stands still gives its slot to others, where those may be another account's.
        """
        if self.held < self._slots:
            return False
        return not self.are_shared or self.is_crammed or self.held - self._waiting() >= self._slots

    def at_once(self, many: int) -> int:
        """Return how many commands to ask for: one, and `many` where the last one went back, as the next ones may."""
        return many if self._sends_back else 1

    @property
    def is_crammed(self) -> bool:
        """Whether no other command is to be taken, whosever it is."""
        return self.held >= self._slots * WAITING_JOBS

    def comes_again(self, account: str | None, sequence: int) -> bool:
        """Say whether a command that isn't in hand is one that went back, or would now."""
        if account is None or not self.are_shared:
            return False
        return sequence in self._due or self._held[account] >= self.share

    def _hold(self, account: str | None) -> None:
        self.held += 1
        if account is not None:
            self._held[account] += 1

    def _returns(self, account: str, now: float) -> float:
        ends = self._ends[account]
        pace = len(ends) / max(1.0, now - ends[0]) if ends else 0.0
        return min(FASTEST, max(SLOWEST, 2 * pace))

    def _came(self, account: str, sequence: int, now: float) -> float:
        """Note that a command has come; return for when it was asked, which is now where it wasn't."""
        due = self._due.pop(sequence, None)
        if due is None:
            return now
        back = self._back[account]
        del back[bisect_left(back, sequence)]
        return due

    def _goes_back(self, account: str, sequence: int, came_for: float) -> bool:
        held = self._held[account]
        if held >= self.share or (held and self.is_full):
            return True
        back = self._back[account]
        # The server delivers what is due before what is due later, and both before what nobody has seen: a command that
        # was due so much earlier is with another replica, or settled.
        while back and self._due[back[0]] + GRACE < came_for:
            del self._due[back.pop(0)]
        return bool(back) and back[0] < sequence
