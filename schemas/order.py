"""Which page of a job may come next: what tells a page that comes again from one that is missing."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from schemas.events import FollowerPage

REMEMBERED = 10_000
"""Jobs whose place is kept in memory; the one that was quiet for longest goes first."""


class Place(NamedTuple):
    """How far a job's pages were taken."""

    page: int
    part: int = 1
    parts: int = 1


class ConsumeError(Exception):
    """Why reading can't go on; the message says what to do."""


class GapError(ConsumeError):
    """Pages are missing before `found`; the job's last one before that was `after` (None: there was none)."""

    def __init__(self, subject: str, after: Place | None, found: Place) -> None:
        """Keep where it is."""
        reached = f"page {after.page} part {after.part}/{after.parts}" if after else "nothing"
        super().__init__(
            f"{subject}: page {found.page} part {found.part}/{found.parts} comes after {reached}: what was between has"
            " left the stream (streams.events_max_age). Fetch the list again under another id, and let on_error"
            " return to go on behind the gap"
        )
        self.subject, self.after, self.found = subject, after, found


class UnreadableError(ConsumeError):
    """A message that is no page of this version."""

    def __init__(self, subject: str, sequence: int, why: str) -> None:
        """Keep where it is."""
        super().__init__(
            f"message {sequence} on {subject} can't be read: {why}. Is this `schemas` older than the worker?"
            " Let on_error return to skip it"
        )
        self.subject, self.sequence = subject, sequence


class Order:
    """What came already, subject by subject."""

    def __init__(self, after: Mapping[str, Place] | None = None, *, from_start: bool = True) -> None:
        """Begin behind `after`; `from_start`: a subject that isn't there must begin with page 1."""
        self._places: OrderedDict[str, Place] = OrderedDict(after or {})
        self._from_start = from_start

    def forget(self) -> None:
        """Somebody else has read meanwhile: any page may be next."""
        self._places.clear()
        self._from_start = False

    def admit(self, subject: str, page: FollowerPage) -> bool:
        """Say whether `page` is new on `subject`. Raises GapError when something before it is missing."""
        found, last = Place(page.page, page.part, page.parts), self._places.get(subject)
        if last is not None and found[:2] <= last[:2]:
            return False
        expected = {(1, 1)} if last is None else _after(last)
        if found[:2] not in expected and (last is not None or self._from_start):
            raise GapError(subject, last, found)
        return True

    def took(self, subject: str, page: FollowerPage) -> None:
        """`page` is the last that was taken from `subject`."""
        self._places[subject] = Place(page.page, page.part, page.parts)
        self._places.move_to_end(subject)
        if len(self._places) > REMEMBERED:
            self._places.popitem(last=False)


def _after(last: Place) -> set[tuple[int, int]]:
    return {(last.page, last.part + 1)} if last.part < last.parts else {(last.page + 1, 1)}
