"""Where the reading of a list by row numbers stands: in a cursor, all that a successor needs to go on there."""

import re
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

from worker.core.errors import InternalError
from worker.core.paging.day_range import Span

ANCHORS = 8
"""So many of the rows read last stand in a cursor, to find the place again when the list has moved."""
_OLD = re.compile(r"[0-9]{1,9}", re.ASCII)
_CURSOR = re.compile(r"([0-9/-]*)\+?([0-9]?)@(-1|[0-9]{1,9}):([0-9]*):([0-9]*):([\w,-]*)", re.ASCII)
_PLAIN = re.compile(r"[\w,-]{1,500}", re.ASCII)


class Position(Struct, frozen=True, kw_only=True, gc=False):
    """After a row of the list, with what is known about the way there."""

    span: Span | None = None
    """Only people of these days; None: the whole list."""
    at: int = -1
    """The number of the row read last, when it was read; -1: none of this span."""
    total: int | None = None
    """The span's length when that row was read."""
    anchors: tuple[str, ...] = ()
    """The user ids read last, in order."""
    gap: int | None = 0
    """So many people of this span at most may have been missed; None: nobody knows."""
    settled: int | None = 0
    """The same for the spans before."""
    moved: bool = False
    """The list was seen to move."""
    dropped: int = 0
    """Rows left out because they came twice."""
    day: str | None = None
    """A day with more people than the provider gives."""
    overlap: int = 0
    """Days that neighbouring spans share, where the provider leaves out the last or the first of those asked for."""

    @property
    def missed(self) -> int | None:
        """So many of those who were there throughout may have been missed; None: nobody knows."""
        return None if self.gap is None or self.settled is None else self.gap + self.settled

    def write(self) -> str:
        """Return the cursor, which holds all but what stands in a page's progress."""
        anchors = ",".join(self.anchors[-ANCHORS:])
        if not _PLAIN.fullmatch(anchors):
            anchors = ",".join(id for id in self.anchors[-ANCHORS:] if _PLAIN.fullmatch(id) and "," not in id)
        overlap = f"+{self.overlap}" if self.overlap else ""
        return f"{self.span or ''}{overlap}@{self.at}:{_text(self.total)}:{_text(self.gap)}:{anchors}"

    def resumed(self, cursor: str) -> Self:
        """Return the position that `write` made `cursor` of, or an older version: then a plain row number.

        The rest of this one, as it stands in a page's progress, is kept. Raises InternalError.
        """
        if _OLD.fullmatch(cursor):
            # What was read so far is joined to nothing: whoever stood before this row may have been missed.
            row = int(cursor)
            return replace(self, at=row - 1, gap=row, settled=0, moved=row > 0)
        found = _CURSOR.fullmatch(cursor)
        try:
            if found is None:
                raise ValueError("another shape")
            span, overlap, at, total, gap, anchors = found.groups()
            known_gap = _number(gap)
            before = None if self.settled is None or known_gap is None else max(0, self.settled - known_gap)
            return replace(
                self,
                span=Span.read(span) if span else None,
                at=int(at),
                total=_number(total),
                gap=known_gap,
                settled=before,
                anchors=tuple(anchors.split(",")) if anchors else (),
                overlap=int(overlap or 0),
            )
        except ValueError as error:
            raise InternalError(
                "the cursor of the job's last page can't be read: start the job anew under another id", requests=0
            ) from error


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _number(text: str) -> int | None:
    return int(text) if text else None
