"""When two readings of a list that moves can be joined without losing anybody.

People who stay keep their order. Say that somebody who is there throughout, an anchor, stands in two readings, each
of them rows that stood side by side when it was made. Then whoever is there throughout and stands behind the anchor,
up to the last such person in the second reading, is in that second reading; and whoever stands before the anchor is
in the first one or before it. That holds whatever moved in between, and in whatever order of time the two were made.
So when the first reading begins at the list's head, each next one is joined to what was read before by an anchor, and
the last one comes to the list's end, nobody who was there throughout is missing.

One row that stands in both readings need not be an anchor: its owner may have left and come again, elsewhere. So it
counts alone only where nothing moved as far as can be seen; else several rows must stand in the same order. What is
left is a coincidence: ENOUGH people who leave and come again between two requests, keep their order, and stand where
the next request starts, with none of those who stayed beside them.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

ENOUGH = 3
"""Rows that must stand in the same order in both readings."""


class Common(NamedTuple):
    """What two readings have in common."""

    rows: int
    """So many rows stand in both."""
    ordered: int
    """So many of them at most stand in the same order."""

    @property
    def joins(self) -> bool:
        """Whether ENOUGH of the common rows keep their order, and most of them do."""
        return self.ordered >= ENOUGH and 2 * self.ordered > self.rows

    @property
    def disordered(self) -> bool:
        """Whether enough rows are in both to tell that they stand in another order."""
        return self.rows >= ENOUGH and self.ordered < self.rows


def common(known: Sequence[str], rows: Sequence[str]) -> Common:
    """Compare the rows `known`, in order, with the new reading `rows`."""
    places = {id: place for place, id in enumerate(known)}
    found = [places[id] for id in rows if id in places]
    return Common(len(found), _longest_rise(found))


def _longest_rise(numbers: Sequence[int]) -> int:
    ends: list[int] = []
    for number in numbers:
        at = bisect_left(ends, number)
        ends[at : at + 1] = [number]
    return len(ends)
