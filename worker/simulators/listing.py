"""The follower list of one Official Account, alive: people follow, leave and change while it is read."""

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from itertools import count as counting

from worker.simulators.data import People

_VERSIONS = counting()

Place = tuple[int, int]
"""(value of the sort field, id): sorts rows and finds a cursor's place. Times in microseconds since 1970."""


class Listing:
    """Rows 0…`count`-1 of `people`, with what has happened to them since the start."""

    def __init__(self, people: People, count: int) -> None:
        self.people = people
        self.count = count
        self.version = next(_VERSIONS)
        """Of this state of the list, among all lists; for caches."""
        self._seeded = count
        self._states: dict[int, str] = {}
        self._touched: dict[int, int] = {}  # in order of time: the newest change stands last
        self._followed: array[int] | None = None

    def state(self, index: int) -> str:
        """`follow`, `unfollow` or `unknown`."""
        return self._states.get(index) or self.people.state(index)

    def row(self, index: int) -> dict[str, object]:
        """The row as eTelecom would send it now."""
        return self.people.row(index, self.state(index), self._touched.get(index))

    def find(self, user_id: int) -> int | None:
        """The index of a Zalo user id in this list, or None."""
        index = self.people.index_of(user_id)
        return index if index is not None and index < self.count else None

    def place(self, field: str, index: int) -> Place:
        """The place of a row when sorted by `field`: `id`, `created_at` or `updated_at`."""
        row_id = self.people.id(index)
        if field == "id":
            return row_id, row_id
        if field == "created_at":
            return self.people.created(index), row_id
        return self._touched.get(index) or self.people.updated(index), row_id

    def walk(self, field: str, *, descending: bool, beyond: Place | None) -> Iterator[int]:
        """Indexes in the order of `field`, strictly beyond a place (no row need be there), or all."""

        def place(index: int) -> Place:
            return self.place(field, index)

        if field != "updated_at":
            yield from _slice(range(self.count), place, descending, beyond)
            return
        # Rows that changed since the start stand after all others, in the order of their changes.
        touched = list(self._touched)
        if descending:
            yield from _slice(touched, place, descending, beyond)
        ranks = range((self._seeded + 63) // 64 * 64)
        for rank in _slice(ranks, lambda rank: self._seeded_place(rank), descending, beyond):
            index = self.people.by_rank(rank)
            if index < self._seeded and index not in self._touched:
                yield index
        if not descending:
            yield from _slice(touched, place, descending, beyond)

    def followed(self) -> Sequence[int]:
        """Indexes of those who follow now, oldest first."""
        if self._followed is None:
            everybody: Sequence[int] = range(self.count)
            if not self.people.all_follow or self._states:
                everybody = [index for index in everybody if self.state(index) == "follow"]
            self._followed = array("q", everybody)
        return self._followed

    def follow(self, who: int | Sequence[str]) -> list[str]:
        """So many new ones, or these user ids again; returns user ids. Raises KeyError for a stranger."""
        if isinstance(who, int):
            indexes = list(range(self.count, self.count + who))
            self.count += who
        else:
            indexes = [self._index(user_id) for user_id in who]
        return self._change(indexes, "follow")

    def unfollow(self, who: int | Sequence[str]) -> list[str]:
        """So many of the newest, or these user ids; returns user ids. Raises KeyError for a stranger."""
        if isinstance(who, int):
            indexes = list(self.followed()[-who:])[::-1] if who else []
        else:
            indexes = [self._index(user_id) for user_id in who]
        return self._change(indexes, "unfollow")

    def update(self, who: Sequence[str]) -> list[str]:
        """Something about these user ids changes; `updated_at` shows it. Raises KeyError for a stranger."""
        return self._change([self._index(user_id) for user_id in who], None)

    def _change(self, indexes: Sequence[int], state: str | None) -> list[str]:
        for index in indexes:
            was = self.state(index) if index in self._states or index < self._seeded else ""
            self._touch(index)
            if state is not None:
                self._states[index] = state
                self._enrol(index, was, state)
        self.version = next(_VERSIONS)
        return [str(self.people.user_id(index)) for index in indexes]

    def _touch(self, index: int) -> None:
        newest = next(reversed(self._touched.values()), 0)
        self._touched.pop(index, None)
        self._touched[index] = max(newest, self.people.created(self.count + 130)) + 1000

    def _enrol(self, index: int, was: str, state: str) -> None:
        if self._followed is None or was == state:
            return
        if state == "follow":
            insort(self._followed, index)
        elif was == "follow":
            del self._followed[bisect_left(self._followed, index)]

    def _seeded_place(self, rank: int) -> Place:
        index = self.people.by_rank(rank)
        return self.people.updated(index), self.people.id(index)

    def _index(self, user_id: str) -> int:
        index = self.find(int(user_id)) if user_id.isdecimal() else None
        if index is None:
            raise KeyError(f"no follower {user_id} in the list of OA {self.people.oa_id}")
        return index


def _slice(rows: Sequence[int], place: Callable[[int], Place], descending: bool, beyond: Place | None) -> Iterator[int]:
    if descending:
        end = len(rows) if beyond is None else bisect_left(rows, beyond, key=place)
        return (rows[i] for i in range(end - 1, -1, -1))
    start = 0 if beyond is None else bisect_right(rows, beyond, key=place)
    return (rows[i] for i in range(start, len(rows)))
