"""Which page of a job may come next: what tells a page that comes again from one that is missing, or was altered."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from schemas.digest import START
from schemas.events import FollowerPage
from schemas.subjects import EVENTS_STREAM
from schemas.verify import altered, following

REMEMBERED = 10_000
"""Jobs whose place is kept in memory; the one that was quiet for longest goes first."""


class Place(NamedTuple):
    """How far a job's pages were taken."""

    page: int
    part: int = 1
    parts: int = 1
    digest: str | None = None
    """That of the page; where it is stored too, the next page is checked against it."""


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


class AlteredError(ConsumeError):
    """A page isn't as it was published: its number of followers, or its user ids, aren't what it says itself."""

    def __init__(self, subject: str, found: Place, why: str) -> None:
        """Keep where it is."""
        super().__init__(
            f"{subject}: {why}. Somebody changed what the stream holds, or a copy of it is faulty: look at it with"
            " `followers verify`, and fetch the list again under another id. Let on_error return to take the page as"
            " it is"
        )
        self.subject, self.found = subject, found


class UnreadableError(ConsumeError):
    """A message that is no page of this version."""

    def __init__(self, subject: str, sequence: int, why: str, stream: str = EVENTS_STREAM) -> None:
        """Keep where it is. `why`: without anything that stands in the message."""
        super().__init__(
            f"message {sequence} on {subject} can't be read: {why}. Is this `schemas` older than the worker? Look at it"
            f" by `nats stream get {stream} {sequence}`. Leave skip_unreadable as it is, or let on_error return, to go"
            " on behind it"
        )
        self.subject, self.sequence, self.stream = subject, sequence, stream


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
        found, last = _place(page), self._places.get(subject)
        if last is not None and found[:2] <= last[:2]:
            return False
        if found[:2] != _after(last) and (last is not None or self._from_start):
            raise GapError(subject, last and last._replace(digest=None), found)
        return True

    def check(self, subject: str, page: FollowerPage) -> None:
        """Raise AlteredError when `page`, which comes next on `subject`, isn't as it was published.

        Where the page before it isn't known, its own digest can't be checked, but that of the next one can.
        """
        found, last = _place(page), self._places.get(subject)
        before = None
        if found[:2] == _after(last):
            before = START if last is None else last.digest
        finding = altered(page, before)
        if finding is not None:
            raise AlteredError(subject, found, finding.text)

    def took(self, subject: str, page: FollowerPage) -> None:
        """`page` is the last that was taken from `subject`."""
        self._places[subject] = _place(page)._replace(digest=page.digest)
        self._places.move_to_end(subject)
        if len(self._places) > REMEMBERED:
            self._places.popitem(last=False)


def _place(page: FollowerPage) -> Place:
    return Place(page.page, page.part, page.parts)


def _after(last: Place | None) -> tuple[int, int]:
    return (1, 1) if last is None else following(last.page, last.part, last.parts)
