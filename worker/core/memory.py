"""The bytes of answers that a replica holds at once, from their first byte until their page is published.

Whoever finds no room waits in line. Pages that their jobs wait for come first, and of those the one that holds most
already; pages read ahead come last. Where nothing moves that could make room, the first in line gets what it needs
beyond the limit: one at a time, so that no answer is too large and no job waits for itself.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

COST = 4
"""Bytes of memory that a byte of a body takes, of Vietnamese text, which is the dearest.

The rows 1.8, their UTF-8, which Python keeps once they were encoded, 1, and the event 1; before that the body 1.
"""
ROW = 512
"""Bytes that a row takes beside that, were it nothing but an id."""
FEW = 16
"""What a job holds beside is worth its turn when it is more than this part of the limit."""
LOOK_EVERY = 1.0
"""Seconds between two looks at whether somebody still waits."""


class NoRoomError(Exception):
    """A page that nobody waits for yet finds no room: it must not keep its connection from others."""

    def __init__(self, body: int) -> None:
        """`body`: bytes that were wanted."""
        super().__init__("no room")
        self.body = body


class Hold:
    """What one request may hold. Whoever opens it drops it in any case; nothing here waits but `wait`."""

    __slots__ = ("_budget", "_tell", "body", "granted", "is_urgent", "parked", "receives", "refused", "size", "wanted")

    def __init__(self, budget: "Budget", tell: Callable[[], None]) -> None:
        """`tell`: called each second while a page that its job waits for finds no room."""
        self._budget, self._tell = budget, tell
        self.size = self.wanted = 0
        """Bytes of memory that it has, and would have."""
        self.body = 0
        """Bytes of the answer, once it is there."""
        self.parked = 0
        """Bytes that its job holds elsewhere, and can't let go of before this."""
        self.is_urgent = False
        """Its job waits for it."""
        self.receives = False
        """Its answer has begun to come, and its page is not published."""
        self.refused = False
        """It found no room once: it is not read ahead any more, or it would be asked for again and again."""
        self.granted: asyncio.Future[None] | None = None
        """While it is in line."""

    def take(self, body: int) -> bool:
        """Take room for a body of so many bytes; return False where there is none."""
        self.wanted = COST * body
        return self.wanted <= self.size or self._budget.take(self)

    def line_up(self) -> asyncio.Future[None]:
        """Get in line for what `take` refused; the future is done when it is there."""
        return self._budget.line_up(self)

    async def wait(self) -> None:
        """As `line_up`, and wait."""
        granted = self.line_up()
        while not granted.done():
            await asyncio.wait([granted], timeout=LOOK_EVERY)
            if not granted.done():
                self.tell()

    def tell(self) -> None:
        """Say that its job waits, if it does."""
        if self.is_urgent:
            self._tell()

    def urge(self, parked: int) -> None:
        """Its job waits for it now, and holds `parked` bytes beside."""
        self.is_urgent, self.parked = True, parked
        if self.granted is not None:
            self._budget.begin_anew(self)

    def park(self) -> None:
        """Its job has its page, and asks for more before it publishes."""
        self.is_urgent = False
        self._budget.serve()

    def receive(self) -> None:
        """Its answer has begun to come."""
        self._budget.receive(self)

    def settle(self, body: int, rows: int) -> None:
        """The answer is there and read: a body of so many bytes, with so many rows."""
        self.body = body
        self._budget.resize(self, COST * body + ROW * rows)

    def drop(self) -> None:
        """Let go of everything; it may be used again."""
        if self.size or self.receives or self.granted is not None or self._budget.let_go is self:
            self._budget.drop(self)


class Budget:
    """A limit for all jobs of a replica. Belongs to one event loop."""

    def __init__(self, limit: int | None) -> None:
        """`limit`: bytes of memory; None: whatever is needed."""
        self.limit = float("inf") if limit is None else limit
        self.used = 0
        self._line: list[Hold] = []
        self._receiving: set[Hold] = set()
        self.let_go: Hold | None = None
        """It may ask although there is no room for what is expected, and its answer hasn't come."""

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._line)

    def open(self, tell: Callable[[], None]) -> Hold:
        """Return a hold of nothing."""
        return Hold(self, tell)

    def take(self, hold: Hold) -> bool:
        """See `Hold.take`: nobody is passed by who comes first."""
        if self._line and (not hold.is_urgent or any(other.is_urgent for other in self._line)):
            return False
        if hold.refused and not hold.is_urgent:
            return False
        if self.used + hold.wanted - hold.size > self.limit:
            return False
        self._give(hold)
        return True

    def line_up(self, hold: Hold) -> asyncio.Future[None]:
        """See `Hold.line_up`."""
        granted = hold.granted = asyncio.get_running_loop().create_future()
        self._line.append(hold)
        self.serve()
        return granted

    def begin_anew(self, hold: Hold) -> None:
        """Put a page that was read ahead behind those that jobs have waited for, however long it has been in line."""
        self._line.remove(hold)
        self._line.append(hold)
        self.serve()

    def receive(self, hold: Hold) -> None:
        """See `Hold.receive`."""
        self.let_go = None if self.let_go is hold else self.let_go
        hold.receives = True
        self._receiving.add(hold)

    def resize(self, hold: Hold, size: int) -> None:
        """Correct what a hold takes by what it turned out to be."""
        self.used += size - hold.size
        hold.size = size
        if self._line:
            self.serve()

    def drop(self, hold: Hold) -> None:
        """See `Hold.drop`."""
        self.used -= hold.size
        hold.size = 0
        hold.receives = False
        self._receiving.discard(hold)
        self.let_go = None if self.let_go is hold else self.let_go
        if hold.granted is not None:
            self._line.remove(hold)
            hold.granted = None
        if self._line:
            self.serve()

    def serve(self) -> None:
        """Give room to who is first in line, as long as there is some."""
        while self._line and (line := [hold for hold in self._line if hold.is_urgent or not hold.refused]):
            hold = max(line, key=self._comes_first)  # of equals the one that has been there for longest
            fits = self.used + hold.wanted - hold.size <= self.limit
            if not fits and not self._may_exceed(hold):
                return
            granted, hold.granted = hold.granted, None
            self._line.remove(hold)
            if fits or hold.receives:
                self._give(hold)
            else:
                self.let_go = hold  # it may ask: until its answer comes it takes nothing, and then it is in line again
            if granted is not None and not granted.done():
                granted.set_result(None)

    def _may_exceed(self, hold: Hold) -> bool:
        if not hold.is_urgent or (self.let_go is not None and not hold.receives):
            return False
        return not any(other.is_urgent and other.granted is None for other in self._receiving)

    def _give(self, hold: Hold) -> None:
        self.used += hold.wanted - hold.size
        hold.size = hold.wanted

    def _comes_first(self, hold: Hold) -> tuple[bool, bool, float]:
        # Who has a connection keeps it from others; who holds most makes most room. A few rows that are left over make
        # none, and must not put their job before others each time.
        return hold.is_urgent, hold.receives, hold.size + (hold.parked if hold.parked > self.limit / FEW else 0)


HOLD: ContextVar[Hold | None] = ContextVar("hold", default=None)
"""What the request may hold that is made here; None: nobody counts."""
