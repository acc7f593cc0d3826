"""At which row numbers a list is asked for: each request at the last row of the one before."""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Route:
    """What the provider gives at once."""

    count: int
    """Rows a request."""
    last: int
    """The highest row number that a request may start at."""

    def offset(self, at: int, total: int | None, left: int | None, *, anchored: bool) -> int:
        """Return where the request after row `at` (-1: none) starts, in a list of `total` of which `left` are wanted.

        `anchored`: row `at` is known, so that the request can be joined to it.
        """
        count = self.count
        if at < 0:
            return 0
        cut = left is not None and total is not None and total - at - 1 > left
        if not anchored or (cut and left and math.ceil(left / (count - 1)) > math.ceil(left / count)):
            # A list that a ceiling cuts short is never proven whole: then no request goes beyond the ceiling for it.
            at += 1
        elif total is not None and at + 1 < total < at + count:
            # The last request asks for one row more than there is, and for as many as it can: a longer overlap.
            at = max(0, total - count + 1)
        return min(at, self.last)

    def following(
        self, at: int, total: int | None, left: int | None, ahead: int, *, anchored: bool = True
    ) -> list[int]:
        """Return where up to `ahead` requests after row `at` start, as far as that is known."""
        found: list[int] = []
        if left is None and total is not None and anchored and at >= 0 and self.count > 1:
            # As long as none of it can end the list, each starts where the one before ends; the rest is looked at.
            found += range(at, min(total - self.count, self.last), self.count - 1)[:ahead]
            at += len(found) * (self.count - 1)
        while len(found) < ahead and (left is None or left > 0):
            offset = self.offset(at, total, left, anchored=anchored)
            found.append(offset)
            end = offset + self.count - 1
            if total is None or end + 1 >= total or end <= at or offset >= self.last:
                break
            left = None if left is None else left - (end - at)
            at = end
        return found
