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

ENOUGH = 3
"""Rows that must stand in the same order in both readings."""


def joined(known: Sequence[str], rows: Sequence[str]) -> bool:
    """Say whether ENOUGH of the rows `known` stand in the new reading `rows` in the same order, and most of them do."""
    places = {id: place for place, id in enumerate(known)}
    common = [places[id] for id in rows if id in places]
    ordered = _longest_rise(common)
    return ordered >= ENOUGH and 2 * ordered > len(common)


def _longest_rise(numbers: Sequence[int]) -> int:
    ends: list[int] = []
    for number in numbers:
        at = bisect_left(ends, number)
        ends[at : at + 1] = [number]
    return len(ends)
