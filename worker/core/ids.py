"""The user ids that a job has met: exact up to a million and more, in about ten bytes each.

Zalo's ids are decimal numbers below 2^64. Few of them are kept in a set; more of them in many short sorted arrays,
each of which takes a new number in microseconds, so that no step holds up the event loop.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence

SMALL = 10_000
"""Up to so many numbers are a plain set: one list as far as eSMS gives it."""
_SHARDS = 1021
"""A prime, so that ids that end alike don't meet in one shard."""
_LIMIT = 2**64


class Ids:
    """A set of ids that only grows. An id that is no plain number below 2^64 is kept as the text that it is."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        """Begin with `ids`."""
        self._few: set[int] = set()
        self._many: list[array[int]] = []
        self._texts: set[str] = set()
        self._count = 0
        self.add(list(ids))

    def __len__(self) -> int:
        """Return how many ids there are."""
        return self._count + len(self._few) + len(self._texts)

    def __contains__(self, id: str) -> bool:
        """Say whether `id` was added."""
        number = _number(id)
        return id in self._texts if number is None else self._has(number)

    def add_new(self, ids: Sequence[str]) -> bool:
        """Add `ids` if all are different from each other and unknown so far; say whether that is so."""
        if len(set(ids)) != len(ids):
            return False
        numbers = _numbers(ids)
        if numbers is None:
            if any(id in self for id in ids):
                return False
            self.add(ids)
            return True
        if not (self._few.isdisjoint(numbers) if not self._many else not any(map(self._has, numbers))):
            return False
        self._add(numbers)
        return True

    def add(self, ids: Sequence[str]) -> None:
        """Add `ids`, known or not."""
        numbers = _numbers(ids)
        if numbers is None:
            found = [(id, _number(id)) for id in ids]
            self._texts.update(id for id, number in found if number is None)
            numbers = [number for _, number in found if number is not None]
        self._add(numbers)

    def _add(self, numbers: Sequence[int]) -> None:
        if self._many:
            for number in numbers:
                self._insert(number)
            return
        self._few.update(numbers)
        if len(self._few) > SMALL:
            self._spread()

    def _has(self, number: int) -> bool:
        if not self._many:
            return number in self._few
        shard = self._many[number % _SHARDS]
        at = bisect_left(shard, number)
        return at < len(shard) and shard[at] == number

    def _insert(self, number: int) -> None:
        shard = self._many[number % _SHARDS]
        at = bisect_left(shard, number)
        if at == len(shard) or shard[at] != number:
            shard.insert(at, number)
            self._count += 1

    def _spread(self) -> None:
        shards: list[list[int]] = [[] for _ in range(_SHARDS)]
        for number in self._few:
            shards[number % _SHARDS].append(number)
        self._many = [array("Q", sorted(shard)) for shard in shards]
        self._count = len(self._few)
        self._few = set()


def _numbers(ids: Sequence[str]) -> list[int] | None:
    """Return all of `ids` as numbers, None when one of them is no plain number below 2^64."""
    try:
        numbers = list(map(int, ids))
    except ValueError:
        return None
    if numbers and (list(map(str, numbers)) != list(ids) or min(numbers) < 0 or max(numbers) >= _LIMIT):
        return None
    return numbers


def _number(id: str) -> int | None:
    numbers = _numbers((id,))
    return numbers[0] if numbers else None
