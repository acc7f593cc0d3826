"""Rows that were read and not published yet: cut into pages, with the position after each cut."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from schemas.follower import Follower
from worker.core.paging.position import ANCHORS, Position
from worker.core.ports.provider import ProviderPage


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept(ProviderPage):
    """A page of followers that were not published before, made of one reading or several."""

    position: Position
    """Where the next page starts, with what is known about the way there."""


@dataclass(slots=True)
class _Stretch:
    """What is new in one reading."""

    position: Position
    """After its last row."""
    rows: Sequence[Follower]
    numbers: Sequence[int] | None
    """Their row numbers; None: they stand elsewhere, and the position is the same before, among and after them."""


class Pending:
    """A line of rows; safe to cut anywhere."""

    def __init__(self, published: set[str]) -> None:
        """`published`: ids of rows that are in the log already, although their page isn't whole."""
        self._published = published
        self._line: deque[_Stretch] = deque()
        self._length = 0
        self._taken: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self._length

    def put(
        self, position: Position, known: Sequence[str], rows: Sequence[Follower], numbers: Sequence[int] | None
    ) -> None:
        """Append `rows` with their row `numbers`; `position` is where the reading stands after them.

        `known`: ids that were read up to there. `numbers` None: rows met on the way, which the position is not behind.
        """
        if self._published:
            kept = [place for place, row in enumerate(rows) if row.user_id not in self._published]
            rows = [rows[place] for place in kept]
            numbers = None if numbers is None else [numbers[place] for place in kept]
        if rows:
            position = replace(position, anchors=tuple(known[-ANCHORS:]))
            self._line.append(_Stretch(position, rows, numbers))
            self._length += len(rows)

    def take(self, count: int) -> tuple[list[Follower], Position | None]:
        """Remove `count` rows or all there are; return them, and the position after them while rows are left."""
        taken: list[Follower] = []
        cut: Position | None = None
        while self._line and len(taken) < count:
            stretch, more = self._line[0], count - len(taken)
            part = stretch.rows[:more]
            taken += part
            cut = stretch.position
            if len(part) == len(stretch.rows):
                self._line.popleft()
                self._taken = cut.anchors
                continue
            self._taken = (*self._taken, *[row.user_id for row in part[-ANCHORS:]])[-ANCHORS:]
            stretch.rows = stretch.rows[more:]
            if stretch.numbers is not None:
                cut = replace(cut, at=stretch.numbers[len(part) - 1], anchors=self._taken)
                stretch.numbers = stretch.numbers[more:]
        self._length -= len(taken)
        return taken, cut if self._line else None
