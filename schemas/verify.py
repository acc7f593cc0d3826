"""Checking from a job's events alone that its list is whole: the first one that doesn't fit is named, and how.

Feed a `Checker` the events of one job in the order in which the stream has them::

    checker = Checker()
    for event in events:
        if finding := checker.take(event):
            break
    else:
        finding = checker.end()
    print("verified" if finding is None else finding.text)
"""

from typing import Literal, NamedTuple

from schemas.counted import counted
from schemas.digest import START, next_digest
from schemas.events import TERMINAL, FollowerPage, JobCompleted, JobEvent, JobFailed, JobStarted
from schemas.ids import Ids

Kind = Literal[
    "missing",  # pages or parts are not there
    "order",  # a page or an event stands where it doesn't belong
    "cursor",  # it wasn't read where the page before points
    "last",  # pages go on after the last one, or it isn't marked
    "count",  # it says another number of followers than it has
    "digest",  # its user ids aren't those that were published, or a page before it isn't
    "progress",  # the running total is another one
    "distinct",  # somebody comes twice
    "completed",  # the terminal event says something else than the pages
    "aged_out",  # the job's beginning has left the stream
    "unreadable",  # a message is no event of this version
    "unfinished",  # there is no `completed`: not yet, or the job failed or was cancelled
    "no_digest",  # all fits, but an older version wrote it, without digests
]


class Finding(NamedTuple):
    """What doesn't fit."""

    kind: Kind
    text: str
    """One sentence, without anybody's data."""
    page: int | None
    """The page that doesn't fit, or that is missing; None: it is not about a page."""
    part: int | None = None


class Checker:
    """Takes one job's events in order. After the first finding it has nothing more to say."""

    def __init__(self) -> None:
        """Expect page 1."""
        self.pages = 0
        """Pages that are whole."""
        self.followers = 0
        self.digest: str | None = START
        """That of the last page; None when it has none."""
        self.completed: JobCompleted | None = None
        """The terminal event of a job that completed."""
        self.without_digest: int | None = None
        """The first page without a digest."""
        self._ids = Ids()
        self._last: FollowerPage | None = None
        self._end: JobEvent | None = None
        self._generation: int | None = None

    @property
    def distinct(self) -> int:
        """Different user ids so far."""
        return len(self._ids)

    @property
    def begun(self) -> bool:
        """A page was taken."""
        return self._last is not None

    @property
    def expected(self) -> tuple[int, int]:
        """The page and part that should come next."""
        if self._last is None:
            return (1, 1)
        return following(self._last.page, self._last.part, self._last.parts)

    def take(self, event: FollowerPage | JobEvent) -> Finding | None:
        """Return what is wrong with `event`, the next one; None when it fits."""
        if isinstance(event, FollowerPage):
            return self._take_page(event)
        return self._take_event(event)

    def end(self) -> Finding | None:
        """Return what is missing when no event is left; None: the list is verified."""
        if self._end is None:
            so_far = f"it has {counted(self.pages, 'whole page')} so far"
            return Finding("unfinished", f"the job has no terminal event: {so_far}", None)
        if self.completed is None:
            kind = "failed" if isinstance(self._end, JobFailed) else "was cancelled"
            return Finding(
                "unfinished", f"the job {kind} after {counted(self.pages, 'whole page')}: the list isn't whole", None
            )
        if self.without_digest is not None:
            what = "the event `completed`" if self.digest else f"page {self.without_digest}"
            text = f"{what} has no digest: an older version wrote it; all else fits"
            return Finding("no_digest", text, self.without_digest)
        return None

    def _take_page(self, page: FollowerPage) -> Finding | None:
        finding = self._misplaced(page) or altered(page, self.digest)
        if finding is None and page.digest is not None and self.digest is None:
            finding = _finding("digest", page, "has a digest, though the one before it has none")
        self.followers += len(page.followers)
        if finding is None and page.progress.followers != self.followers:
            said = f"says {counted(page.progress.followers, 'follower')} so far"
            finding = _finding("progress", page, f"{said}, but {counted(self.followers, 'is', 'are')} there")
        if finding is None and (number := self._repeated(page)) is not None:
            finding = _finding("distinct", page, f"has somebody who came before: its follower {number}")
        self.pages += page.part == page.parts
        self.digest, self._last = page.digest, page
        if page.digest is None and self.without_digest is None:
            self.without_digest = page.page
        return finding

    def _misplaced(self, page: FollowerPage) -> Finding | None:
        before = self._last
        if self._end is not None:
            return _finding("order", page, "comes after the job's terminal event")
        if before is not None and before.last:
            return _finding("last", page, f"comes after page {before.page}, which says that it is the last")
        if (page.page, page.part) != self.expected:
            return self._gap(page)
        read_at = None if before is None else before.cursor if page.part > 1 else before.next_cursor
        if page.cursor != read_at:
            return _finding("cursor", page, "was not read where the one before it points")
        if page.part > page.parts:
            return _finding("order", page, "has a part beyond its parts")
        if page.last != (page.next_cursor is None and page.part == page.parts):
            return _finding("last", page, f"says last: {str(page.last).lower()}, and its next_cursor says otherwise")
        return None

    def _gap(self, page: FollowerPage) -> Finding:
        number, part = self.expected
        if (page.page, page.part) < self.expected:
            return _finding("order", page, f"stands where {_named(number, part)} belongs")
        text = f"{_named(number, part)} is missing: {_named(page.page, page.part)} comes instead"
        return Finding("missing", text, number, part)

    def _repeated(self, page: FollowerPage) -> int | None:
        """Return the number within `page` of the first follower who came before."""
        ids = [follower.user_id for follower in page.followers]
        if self._ids.add_new(ids):
            return None
        repeated = (number for number, id in enumerate(ids) if id in self._ids or id in ids[:number])
        first = next(repeated)
        self._ids.add(ids)
        return first + 1

    def _take_event(self, event: JobEvent) -> Finding | None:
        if self._end is not None:
            reopens = isinstance(self._end, JobFailed) and isinstance(event, JobStarted)
            if not reopens:
                return Finding("order", f"a job event comes after the end of generation {self._generation}", None)
            self._generation, self._end = self._end.generation + 1, None
        if self._generation is None:
            self._generation = event.generation  # the events of those before may have left the stream
        if event.generation != self._generation:
            said = f"generation {event.generation}, where generation {self._generation} is expected"
            return Finding("order", f"a job event is of {said}", None)
        if isinstance(event, TERMINAL):
            self._end = event
        if isinstance(event, JobCompleted):
            self.completed = event
            return self._disagreement(event)
        return None

    def _disagreement(self, event: JobCompleted) -> Finding | None:
        last = self._last
        if last is None or not last.last:
            number, part = self.expected
            text = f"{_named(number, part)} is missing: the job completed, but the last page is not there"
            return Finding("missing", text, number, part)
        if event.digest is None and self.without_digest is None:
            self.without_digest = last.page  # the worker that ended the job was of an older version
        found: dict[str, tuple[object, object]] = {
            "pages": (event.pages, self.pages),
            "followers": (event.followers, self.followers),
            "distinct": (event.distinct, self.distinct),
        }
        if event.digest is not None:
            found["digest"] = (event.digest, self.digest)
        wrong = [f"{name} {said}, not {right}" for name, (said, right) in found.items() if said != right]
        return Finding("completed", f"the event `completed` says {'; '.join(wrong)}", None) if wrong else None


def altered(page: FollowerPage, before: str | None) -> Finding | None:
    """Return what shows that `page` isn't as it was published; `before`: the digest before it, None when unknown.

    A page of an older version, which has neither count nor digest, passes.
    """
    if page.count is not None and page.count != len(page.followers):
        return _finding("count", page, f"says {counted(page.count, 'follower')}, but has {len(page.followers):,}")
    if page.digest is not None and before is not None and page.digest != next_digest(before, page.followers):
        return _finding("digest", page, "has other user ids than its digest was made of, or a page before it has")
    return None


def following(page: int, part: int, parts: int) -> tuple[int, int]:
    """Return the page and part that come after `part` of `parts` of `page`."""
    return (page, part + 1) if part < parts else (page + 1, 1)


def _finding(kind: Kind, page: FollowerPage, text: str) -> Finding:
    return Finding(kind, f"{_named(page.page, page.part)} {text}", page.page, page.part)


def _named(page: int, part: int) -> str:
    return f"page {page}" if part == 1 else f"page {page} part {part}"
