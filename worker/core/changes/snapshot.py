"""A complete list as a snapshot: ids, hashes, and where in the log each person's data stand. And comparing two."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import msgspec

from schemas.subjects import EVENTS_STREAM
from schemas.wire import content_type, decode, why_unreadable
from worker.core.changes.fingerprint import COMPARED, PageRows, Row, digests, marks, numbers_of
from worker.core.ports.event_log import Entry

_MAGIC = b"FLSNAP1\n"


class UnreadablePageError(Exception):
    """A message among a job's pages can't be read; the text says which."""


class UnreadableSnapshotError(Exception):
    """The bytes are no snapshot of this version."""


@dataclass(slots=True)
class Table:
    """Rows sorted by user id, in columns."""

    keys: Any
    """User ids, ascending: an array of numbers, or a list of texts."""
    digests: array[int] = field(default_factory=lambda: array("Q"))
    """Of the compared fields; 0: the person doesn't follow (any more)."""
    marks: list[array[int]] = field(default_factory=lambda: [array("H") for _ in COMPARED])
    """A column for each compared field."""
    pages: array[int] = field(default_factory=lambda: array("I"))
    """Which of the snapshot's pages has the row."""

    def extend(self, keys: Sequence[Any], rows: Sequence[Row], page: int) -> None:
        """Add rows of a page, with their keys."""
        self.keys.extend(keys)
        self.digests.extend(digests(rows))
        for column, more in zip(self.marks, marks(rows), strict=False):
            column.extend(more)
        self.pages.extend([page] * len(rows))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One job's list."""

    job_id: str
    fields: tuple[str, ...]
    """The names of the compared fields."""
    pages: array[int]
    """Stream sequences of the page events."""
    numbers: Table
    """People whose id is a number of 64 bits, as Zalo's are."""
    texts: Table
    """Everybody else."""

    @property
    def followers(self) -> int:
        """People who follow."""
        return sum(len(table.digests) - table.digests.count(0) for table in (self.numbers, self.texts))


class Builder:
    """Makes a snapshot out of a job's page events. Keeps nothing of them."""

    def __init__(self, job_id: str) -> None:
        """Begin without a page."""
        self.rows = 0
        """Rows in the pages so far."""
        self.whole = False
        """The last page was among them."""
        self._job_id = job_id
        self._pages = array("Q")
        self._numbers = Table(array("Q"))
        self._texts = Table([])

    def add(self, entries: Iterable[Entry]) -> None:
        """Take the next page events, in order. Raises UnreadablePageError."""
        for entry in entries:
            page = _page(entry)
            number = len(self._pages)
            self._pages.append(entry.sequence)
            self.rows += len(page.followers)
            self.whole = page.last
            ids = [row.user_id for row in page.followers]
            keys = numbers_of(ids)
            if keys is not None:
                self._numbers.extend(keys, page.followers, number)
                continue
            for row in page.followers:
                keys = numbers_of([row.user_id])
                table = self._texts if keys is None else self._numbers
                table.extend(keys or [row.user_id], [row], number)

    def finish(self) -> Snapshot:
        """Return the snapshot."""
        return Snapshot(self._job_id, COMPARED, self._pages, _sorted(self._numbers), _sorted(self._texts))


class Change(NamedTuple):
    """One difference between two snapshots."""

    kind: str
    """`followed`, `unfollowed` or `changed`."""
    user_id: str
    new: int
    """The sequence of the page that has the person in the new list; 0: none has."""
    old: int
    """The same in the old list."""
    names: tuple[str, ...] = ()
    """Of the fields that differ, by their 16 bits alone."""


def compare(old: Snapshot, new: Snapshot) -> list[Change]:
    """Return what differs: first who follows, then who doesn't any more, then whose profile is another.

    Depends on the two snapshots alone, and within each kind it is in the order of the new list's pages.
    """
    found: dict[str, list[Change]] = {"followed": [], "unfollowed": [], "changed": []}
    for change in _differences(old, new):
        found[change.kind].append(change)
    for changes in found.values():
        changes.sort(key=lambda change: change.new)
    return [change for changes in found.values() for change in changes]


def encode(snapshot: Snapshot) -> bytes:
    """Return the snapshot as bytes: the same ones wherever it is made."""
    header = {
        "job_id": snapshot.job_id,
        "fields": snapshot.fields,
        "pages": len(snapshot.pages),
        "numbers": len(snapshot.numbers.keys),
        "texts": snapshot.texts.keys,
    }
    head = msgspec.json.encode(header)
    columns = [snapshot.pages, snapshot.numbers.keys]
    for table in (snapshot.numbers, snapshot.texts):
        columns += [table.digests, *table.marks, table.pages]
    return b"".join([_MAGIC, len(head).to_bytes(4, "little"), head, *map(_little, columns)])


def decode_snapshot(data: bytes) -> Snapshot:
    """Return what `encode` wrote. Raises UnreadableSnapshotError."""
    try:
        return _decoded(memoryview(data))
    except ValueError as error:
        raise UnreadableSnapshotError(f"{type(error).__name__}: {error}") from error


def _page(entry: Entry) -> PageRows:
    try:
        return decode(entry.data, PageRows, content_type(entry.headers))
    except ValueError as error:
        why = why_unreadable(error)
    raise UnreadablePageError(f"message {entry.sequence} of {EVENTS_STREAM} can't be read ({why})")


class _Header(msgspec.Struct):
    job_id: str
    fields: tuple[str, ...]
    pages: Annotated[int, msgspec.Meta(ge=0)]
    numbers: Annotated[int, msgspec.Meta(ge=0)]
    texts: list[str]


def _decoded(data: memoryview) -> Snapshot:
    start = len(_MAGIC) + 4
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("it begins otherwise")
    at = start + int.from_bytes(data[start - 4 : start], "little")
    header = decode(bytes(data[start:at]), _Header)
    fields = header.fields

    def column(kind: str, count: int) -> array[int]:
        nonlocal at
        read = array(kind)
        end = at + count * read.itemsize
        if end > len(data):
            raise ValueError("it is cut")
        read.frombytes(data[at:end])
        at = end
        return _swapped(read)

    def table(keys: Any) -> Table:
        count = len(keys)
        read = Table(keys, column("Q", count), [column("H", count) for _ in fields], column("I", count))
        if read.pages and max(read.pages) >= len(pages):
            raise ValueError("it names pages that it doesn't have")
        return read

    pages = column("Q", header.pages)
    numbers = column("Q", header.numbers)
    return Snapshot(header.job_id, fields, pages, table(numbers), table(header.texts))


def _differences(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    for before, after in ((old.numbers, new.numbers), (old.texts, new.texts)):
        i = j = 0
        was, now, last_was, last_now = before.keys, after.keys, len(before.keys), len(after.keys)
        while i < last_was or j < last_now:
            if j == last_now or (i < last_was and was[i] < now[j]):
                if before.digests[i]:
                    yield Change("unfollowed", str(was[i]), 0, old.pages[before.pages[i]])
                i += 1
            elif i == last_was or now[j] < was[i]:
                if after.digests[j]:
                    yield Change("followed", str(now[j]), new.pages[after.pages[j]], 0)
                j += 1
            else:
                if before.digests[i] != after.digests[j]:
                    yield from _turned(old, before, i, new, after, j)
                i += 1
                j += 1


def _turned(old: Snapshot, before: Table, i: int, new: Snapshot, after: Table, j: int) -> Iterator[Change]:
    pages = new.pages[after.pages[j]], old.pages[before.pages[i]]
    user_id = str(after.keys[j])
    if not after.digests[j]:
        yield Change("unfollowed", user_id, *pages)
    elif not before.digests[i]:
        yield Change("followed", user_id, *pages)
    else:
        names = tuple(_names(old, before, i, new, after, j))
        # Made by versions that compare other fields, their digests always differ: only the common fields count.
        if names or old.fields == new.fields:
            yield Change("changed", user_id, *pages, names)


def _names(old: Snapshot, before: Table, i: int, new: Snapshot, after: Table, j: int) -> Iterator[str]:
    for name, column in zip(new.fields, after.marks, strict=True):
        if name in old.fields and before.marks[old.fields.index(name)][i] != column[j]:
            yield name


_AT_A_TIME = 16_384
"""Rows per call into C: it keeps the interpreter from everybody else meanwhile."""


def _sorted(table: Table) -> Table:
    """Return the rows sorted by key, each once: of several one that follows, else the first that was read."""
    keys, order = table.keys, list[int]()
    for row in _in_order(keys):
        if not order or keys[order[-1]] != keys[row]:
            order.append(row)
        elif table.digests[row] and not table.digests[order[-1]]:
            order[-1] = row
    return Table(
        _picked("Q", keys, order) if isinstance(keys, array) else [keys[row] for row in order],
        _picked("Q", table.digests, order),
        [_picked("H", column, order) for column in table.marks],
        _picked("I", table.pages, order),
    )


def _in_order(keys: Any) -> Iterator[int]:
    """Yield the rows by their keys, sorted in portions."""
    count = len(keys)
    sample = sorted(keys[row] for row in range(0, count, max(1, count // 1024)))
    edges = sample[:: max(1, len(sample) * _AT_A_TIME // (count + 1))]
    portions: list[list[int]] = [[] for _ in range(len(edges) + 1)]
    for row, key in enumerate(keys):
        portions[bisect_right(edges, key)].append(row)
    for portion in portions:
        yield from sorted(portion, key=keys.__getitem__)


def _picked(kind: str, column: Any, order: Sequence[int]) -> Any:
    found = array(kind)
    for start in range(0, len(order), _AT_A_TIME):
        found.extend(map(column.__getitem__, order[start : start + _AT_A_TIME]))
    return found


def _little(column: array[int]) -> bytes:
    return _swapped(column[:]).tobytes() if sys.byteorder == "big" else column.tobytes()


def _swapped(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column.byteswap()
    return column
