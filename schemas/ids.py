"""The user ids that a job has met: exact up to a million and more, in about ten bytes each.

Zalo's ids are decimal numbers below 2^64. A few are kept in a plain set; more of them in many short sorted arrays, each
of which takes a new number in microseconds, so that no step holds up the event loop.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence

SMALL = 4_096
"""Up to so many are a plain set."""
_SHARDS = 1021
"""A prime, so that ids that end alike don't meet in one shard."""
_LIMIT = 2**64


class Ids:
    """A set of ids that grows until it is cleared. An id that is no plain number below 2^64 is kept as it is."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        """Begin with `ids`."""
        self._texts: set[str] = set()
        self._shards: list[array[int]] = []
        self._numbers = 0
        self.add(list(ids))

    def __len__(self) -> int:
        """Return how many ids there are."""
        return self._numbers + len(self._texts)

    def __contains__(self, id: str) -> bool:
        """Say whether `id` was added."""
        return id in self._texts or any(map(self._has, _split((id,))[0]))

    def add_new(self, ids: Sequence[str]) -> bool:
        """Add `ids` if all are different from each other and unknown so far; say whether that is so."""
        if not self._texts.isdisjoint(ids):
            return False
        if not self._shards:
            before = len(self._texts)
            self._texts.update(ids)
            if len(self._texts) < before + len(ids):
                self._texts.difference_update(ids)
                return False
            if len(self._texts) > SMALL:
                self._spread()
            return True
        if len(set(ids)) < len(ids):
            return False
        numbers, texts = _split(ids)
        if any(map(self._has, numbers)):
            return False
        self._insert(numbers)
        self._texts.update(texts)
        return True

    def add(self, ids: Sequence[str]) -> None:
        """Add `ids`, known or not."""
        if self._shards:
            numbers, ids = _split(ids)
            self._insert(numbers)
        self._texts.update(ids)
        if not self._shards and len(self._texts) > SMALL:
            self._spread()

    def clear(self) -> None:
        """Forget all of them."""
        self._texts, self._shards, self._numbers = set(), [], 0

    def _has(self, number: int) -> bool:
        if not self._shards:
            return False
        shard = self._shards[number % _SHARDS]
        at = bisect_left(shard, number)
        return at < len(shard) and shard[at] == number

    def _insert(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            shard = self._shards[number % _SHARDS]
            at = bisect_left(shard, number)
            if at == len(shard) or shard[at] != number:
                shard.insert(at, number)
                self._numbers += 1

    def _spread(self) -> None:
        numbers, texts = _split(list(self._texts))
        shards: list[list[int]] = [[] for _ in range(_SHARDS)]
        for number in numbers:
            shards[number % _SHARDS].append(number)
        self._shards = [array("Q", sorted(shard)) for shard in shards]
        self._numbers, self._texts = len(numbers), set(texts)


def _split(ids: Sequence[str]) -> tuple[Sequence[int], Sequence[str]]:
    """Return the ids that are plain numbers below 2^64, and the others: `07` is another id than `7`."""
    try:
        numbers = list(map(int, ids))
        if not ids or (list(map(str, numbers)) == list(ids) and min(numbers) >= 0 and max(numbers) < _LIMIT):
            return numbers, ()
    except ValueError:
        pass
    if len(ids) == 1:
        return (), ids
    split = [_split((id,)) for id in ids]
    return [number for numbers, _ in split for number in numbers], [text for _, texts in split for text in texts]
