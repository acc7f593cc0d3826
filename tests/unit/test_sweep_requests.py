"""Each request of a list that is read by row numbers, one by one, and what is said of the list in the end.

A line of a table: what the provider does, the row numbers asked for, how many followers each page has, and what is
claimed (`missed`, then what else there is to say). Who changes a number here changes what a list costs, or what people
are told of it.
"""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from schemas import Follower
from schemas.ids import Ids
from worker.core.paging.day_range import Span
from worker.core.paging.offset_reader import Sweep
from worker.core.paging.position import Position
from worker.core.paging.row_buffer import Swept
from worker.core.ports.provider import Offsets, ProviderPage

FIRST = date(2026, 1, 1)
Answer = tuple[list[str], int | None]


class Listing:
    """Five rows at once of a list of people, changed and lied about as a test says."""

    def __init__(self, people: int, per_day: str = "", *, last: int = 1_000) -> None:
        self.rows = [str(row) for row in range(people)]
        self.per_day = [int(number) for number in per_day.split()]
        days = (FIRST, FIRST + timedelta(days=len(self.per_day) - 1)) if per_day else None
        self.plan = Offsets(count=5, last=last, days=days)
        self.asked: list[str] = []
        self.act: Callable[[Listing], None] = lambda listing: None
        """Called before each answer."""
        self.lie: Callable[[Listing, int, Answer], Answer] = lambda listing, offset, answer: answer
        """Given the row number that is asked for, and the right answer."""
        self.widen: Callable[[int, int], tuple[int, int]] = lambda first, last: (first, last)
        """Given the days that are asked for: those that are answered for."""

    async def fetch(self, cursor: str | None) -> ProviderPage:
        span, _, number = (cursor or "0").rpartition("@")
        self.asked.append(f"{_days(span)}{number}")
        self.act(self)
        rows = self._of(span) if span else self.rows
        offset = int(number)
        ids, total = self.lie(self, offset, (rows[offset : offset + 5], len(rows)))
        followers = [Follower(user_id=row) for row in ids]
        return ProviderPage(followers=followers, next_cursor=None, total=total)

    def _of(self, span: str) -> list[str]:
        first, last = self.widen(*(date.fromisoformat(day).day for day in span.split("/")))
        return self.rows[sum(self.per_day[: first - 1]) : sum(self.per_day[:last])]


def _days(span: str) -> str:
    return "-".join(str(date.fromisoformat(day).day) for day in span.split("/")) + "@" if span else ""


async def told(listing: Listing, start: Position | None = None, seen: int = 0, ahead: int = 0) -> tuple[str, str, str]:
    """Read `listing` to its end; return the requests, the sizes of the pages, and the claim."""
    ids = Ids(listing.rows[:seen])
    total = len(listing.rows) if start is not None and start.span is not None else None
    sweep = Sweep(listing.fetch, listing.plan, start or Position(), ids, published=set(), total=total)
    pages: list[Swept] = []
    while not pages or pages[-1].next_cursor is not None:
        pages.append(await sweep.read(5, None, ahead))
    await sweep.close()
    found = [follower.user_id for page in pages for follower in page.followers]
    assert len(set(found)) == len(found), "somebody came twice"
    assert not any(page.requests for page in pages), "requests are counted where they are made"
    return " ".join(listing.asked), " ".join(str(len(page.followers)) for page in pages), claim(pages[-1])


def claim(page: Swept) -> str:
    """Say what the last page says of the whole list."""
    position = page.position
    words = [f"missed {position.missed}", f"total {page.total}"]
    words += ["moved"] * position.moved + ["capped"] * page.capped
    words += [f"dropped {position.dropped}"] * (position.dropped > 0)
    words += [f"day {position.day}"] * (position.day is not None)
    return ", ".join(words)


# Lies about an answer.


def no_total(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0], None


def too_high(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0], (answer[1] or 0) + 2


def too_low(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0], max(0, (answer[1] or 0) - 2)


def ten_at_most(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0], min(10, answer[1] or 0)


def what_is_left(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0], max(0, (answer[1] or 0) - offset)


def zero(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0], 0


def counts_rows(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0], len(answer[0])


def counts_reach(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0], offset + len(answer[0])


def one_more_each_time(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0], len(listing.rows) + len(listing.asked)


def one_more_at_first(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0], len(listing.rows) + (len(listing.asked) < 3)


def three_at_once(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0][:3], answer[1]


def one_at_once(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer[0][:1], answer[1]


def first_one_short(listing: Listing, offset: int, answer: Answer) -> Answer:
    return (answer[0][:2], answer[1]) if len(listing.asked) == 1 else answer


def second_one_short(listing: Listing, offset: int, answer: Answer) -> Answer:
    return (answer[0][:2], answer[1]) if len(listing.asked) == 2 else answer


def first_one_empty(listing: Listing, offset: int, answer: Answer) -> Answer:
    return ([], answer[1]) if len(listing.asked) == 1 else answer


def second_one_empty(listing: Listing, offset: int, answer: Answer) -> Answer:
    return ([], answer[1]) if len(listing.asked) == 2 else answer


def empty_from_the_third(listing: Listing, offset: int, answer: Answer) -> Answer:
    return ([], answer[1]) if len(listing.asked) > 2 else answer


def always_the_first_rows(listing: Listing, offset: int, answer: Answer) -> Answer:
    return listing.rows[:5], answer[1]


def page_numbers(listing: Listing, offset: int, answer: Answer) -> Answer:
    return listing.rows[5 * offset :][:5], answer[1]


def counts_from_one(listing: Listing, offset: int, answer: Answer) -> Answer:
    return listing.rows[max(0, offset - 1) :][:5], answer[1]


def whole_pages(listing: Listing, offset: int, answer: Answer) -> Answer:
    return listing.rows[offset // 5 * 5 :][:5], answer[1]


def one_twice(listing: Listing, offset: int, answer: Answer) -> Answer:
    rows = [*listing.rows[:3], listing.rows[1], *listing.rows[3:]]
    return rows[offset : offset + 5], len(rows)


def one_twice_later(listing: Listing, offset: int, answer: Answer) -> Answer:
    rows = [*listing.rows[:9], listing.rows[1], *listing.rows[9:]]
    return rows[offset : offset + 5], len(rows)


def turned_each_time(listing: Listing, offset: int, answer: Answer) -> Answer:
    rows = listing.rows[:: -1 if len(listing.asked) % 2 else 1]
    return rows[offset : offset + 5], answer[1]


def cut_short(listing: Listing, offset: int, answer: Answer) -> Answer:
    return listing.rows[:-3][offset : offset + 5], answer[1]


def without_end(listing: Listing, offset: int, answer: Answer) -> Answer:
    return [f"{len(listing.asked)}-{row}" for row in range(5)], None


def someone_behind_the_end(listing: Listing, offset: int, answer: Answer) -> Answer:
    return (answer[0], answer[1]) if offset < len(listing.rows) else ([f"behind-{len(listing.asked)}"], answer[1])


# What may happen before an answer.


def before(request: int, *changes: Callable[[list[str]], object]) -> Callable[[Listing], None]:
    def act(listing: Listing) -> None:
        if len(listing.asked) == request:
            for change in changes:
                change(listing.rows)

    return act


def leave(first: int, many: int) -> Callable[[list[str]], object]:
    return lambda rows: rows.__delitem__(slice(first, first + many))


def come(place: int, many: int) -> Callable[[list[str]], object]:
    return lambda rows: rows.__setitem__(slice(place, place), [f"new-{one}" for one in range(many)])


def move(old: int, new: int) -> Callable[[list[str]], object]:
    return lambda rows: rows.insert(new, rows.pop(old))


def honest(listing: Listing, offset: int, answer: Answer) -> Answer:
    return answer


# What days may be answered for.


def last_day_left_out(first: int, last: int) -> tuple[int, int]:
    return first, last - 1


def first_day_left_out(first: int, last: int) -> tuple[int, int]:
    return first + 1, last


def both_left_out(first: int, last: int) -> tuple[int, int]:
    return first + 1, last - 1


def two_days_left_out(first: int, last: int) -> tuple[int, int]:
    return first + 2, last


def a_day_late(first: int, last: int) -> tuple[int, int]:
    return first + 1, last + 1


def all_days(first: int, last: int) -> tuple[int, int]:
    return 1, 8


def days_ignored_from(answer: int) -> Callable[[Listing], None]:
    def act(listing: Listing) -> None:
        if len(listing.asked) == answer:
            listing.widen = all_days

    return act


EIGHT = tuple("12345678")


def days(first: int, last: int, **fields: Any) -> Position:
    """Say where a reading by days stands that has read five rows of these."""
    start = 5 * (first - 1)
    anchors = tuple(str(row) for row in range(start, start + 5))
    return Position(span=Span(date(2026, 1, first), date(2026, 1, last)), at=4, anchors=anchors, **fields)


@pytest.mark.parametrize(
    ("people", "asked", "pages", "claimed"),
    [
        (0, "0 0 1", "0", "missed 0, total 0"),
        (1, "0 1", "1", "missed 0, total 1"),
        (2, "0 1", "2", "missed 0, total 2"),
        (4, "0 3", "4", "missed 0, total 4"),
        (5, "0 4", "5", "missed 0, total 5"),
        (6, "0 2", "5 1", "missed 0, total 6"),
        (9, "0 4 8", "5 4", "missed 0, total 9"),
        (10, "0 4 6", "5 5", "missed 0, total 10"),
        (11, "0 4 7", "5 5 1", "missed 0, total 11"),
        (13, "0 4 8 12", "5 5 3", "missed 0, total 13"),
    ],
)  # fmt: skip
async def test_a_list_that_stands_still(people: int, asked: str, pages: str, claimed: str) -> None:
    assert await told(Listing(people)) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("lie", "people", "asked", "pages", "claimed"),
    [
        (no_total, 0, "0 0 0", "0", "missed None, total None"),
        (no_total, 1, "0 0 0 1", "1", "missed None, total None"),
        (no_total, 5, "0 4 4 5", "5", "missed None, total None"),
        (no_total, 13, "0 4 8 12 12 13", "5 5 3", "missed None, total None"),
        (too_high, 0, "0 0 0 0", "0", "missed None, total 2"),
        (too_high, 1, "0 0 0 1 5", "1", "missed None, total 3"),
        (too_high, 3, "0 1 2 3 7", "3", "missed None, total 5"),
        (too_high, 9, "0 4 7 8 9 13", "5 4", "missed None, total 11"),
        (too_high, 13, "0 4 8 11 12 13 17", "5 5 3", "missed None, total 15"),
        (too_low, 0, "0 0 1", "0", "missed 0, total 0"),
        (too_low, 1, "0 0 0 1", "1", "missed None, total 0"),
        (too_low, 3, "0 2 2 3", "3", "missed None, total 1"),
        (too_low, 9, "0 3 7 8 8 9", "5 4", "missed None, total 7"),
        (too_low, 13, "0 4 7 11 12 12 13", "5 5 3", "missed None, total 11"),
        (zero, 1, "0 0 0 1", "1", "missed None, total 0"),
        (zero, 3, "0 2 2 3", "3", "missed None, total 0"),
        (zero, 5, "0 4 4 5", "5", "missed None, total 0"),
        (zero, 9, "0 4 8 8 9", "5 4", "missed None, total 0"),
        (counts_rows, 1, "0 1 0 2 1 1", "1", "missed None, total 0, moved"),
        (counts_rows, 3, "0 2 4 3 2 3", "3", "missed None, total 0, moved"),
        (counts_rows, 5, "0 4 6 5 4 5", "5", "missed None, total 0, moved"),
        (counts_rows, 13, "0 4 8 12 14 13 12 13", "5 5 3", "missed None, total 0, moved"),
        (counts_reach, 0, "0 0 1 0 1", "0", "missed None, total 1"),
        (counts_reach, 3, "0 2", "3", "missed 0, total 3"),
        (counts_reach, 9, "0 4 2 8 8 9 13", "5 4", "missed None, total 13, moved"),
        (counts_reach, 13, "0 4 2 8 6 12 12 13 17", "5 5 3", "missed None, total 17, moved"),
        (one_more_each_time, 0, "0 0 0 0", "0", "missed None, total 4"),
        (one_more_each_time, 1, "0 0 2 1 0 2 1 1 5", "1", "missed None, total 10, moved"),
        (one_more_each_time, 3, "0 0 2 4 3 3 7", "3", "missed None, total 10, moved"),
        (one_more_each_time, 9, "0 4 2 7 9 8 8 10 9 9 13", "5 4", "missed None, total 20, moved"),
        (one_more_each_time, 13, "0 4 2 8 6 12 14 13 12 14 13 13 17", "5 5 3", "missed None, total 26, moved"),
        (one_more_at_first, 0, "0 0 0 1 1", "0", "missed None, total 0"),
        (one_more_at_first, 1, "0 0 0 2 1", "1", "missed None, total 1, moved"),
        (one_more_at_first, 3, "0 0 2 4 3", "3", "missed None, total 3, moved"),
        (one_more_at_first, 5, "0 2 4 6 5", "5 0", "missed 4, total 5, moved"),
        (one_more_at_first, 9, "0 4 6 8 9", "5 4", "missed 0, total 9, moved"),
        (one_more_at_first, 13, "0 4 8 6 12", "5 5 3", "missed 0, total 13, moved"),
        (three_at_once, 3, "0 2", "3", "missed 0, total 3"),
        (three_at_once, 5, "0 1 3", "5", "missed 0, total 5"),
        (three_at_once, 9, "0 2 4 6 8", "5 4", "missed 0, total 9"),
        (three_at_once, 13, "0 2 4 6 8 10 12", "5 5 3", "missed 0, total 13"),
        (one_at_once, 1, "0 1", "1", "missed 0, total 1"),
        (one_at_once, 3, "0 0 0 1 0 1 0 1 0 2 1 0 0 1 5", "3", "missed None, total 3, moved"),
        (one_at_once, 9, "0 0 0 1 0 1 0 1 1 1 2 2 2 3 3 3 4 4 4 5 5 5 6 5 7 6 5 5 6 10", "5 3",
         "missed None, total 9, moved"),
        (first_one_short, 1, "0 1", "1", "missed 0, total 1"),
        (first_one_short, 3, "0 0 2 2", "3", "missed 0, total 3"),
        (first_one_short, 5, "0 1 4 4", "5", "missed 0, total 5"),
        (first_one_short, 13, "0 1 5 9 12 12", "5 5 3", "missed 0, total 13"),
        (second_one_short, 3, "0 2", "3", "missed 0, total 3"),
        (second_one_short, 9, "0 4 5 8 8", "5 4", "missed 0, total 9"),
        (second_one_short, 13, "0 4 5 9 12 12", "5 5 3", "missed 0, total 13"),
        (first_one_empty, 0, "0 0 1", "0", "missed 0, total 0"),
        (first_one_empty, 1, "0 0 1 1", "1", "missed 0, total 1"),
        (first_one_empty, 3, "0 0 2 2", "3", "missed 0, total 3"),
        (first_one_empty, 13, "0 0 4 8 12 12", "5 5 3", "missed 0, total 13"),
        (second_one_empty, 1, "0 1", "1", "missed 0, total 1"),
        (second_one_empty, 3, "0 2 2 2", "3", "missed 0, total 3"),
        (second_one_empty, 5, "0 4 4 4", "5", "missed 0, total 5"),
        (second_one_empty, 9, "0 4 4 8 8", "5 4", "missed 0, total 9"),
        (empty_from_the_third, 5, "0 4", "5", "missed 0, total 5"),
        (empty_from_the_third, 9, "0 4 8 8 6 2 0 7 7 5 1 0 7 11", "5 4", "missed None, total 9, moved"),
        (empty_from_the_third, 13, "0 4 8 8 6 2 0 7 7 5 1 0 7 11", "5 4", "missed None, total 13, moved"),
        (always_the_first_rows, 1, "0 1 1 1", "1", "missed None, total 1"),
        (always_the_first_rows, 3,
         ("0 2 4 6 8 10 12 14 16 18 20 22 24 26 28 30 32 34 36 38 40 42 44 46 48 50 52 54 56 58 60 62 64 66 68 "
         "70 72 74 76 78 80 82 84"),
         "3", "missed None, total 3, moved, dropped 84"),
        (page_numbers, 3, "0 2 2 0 2 2 0 3 7 7", "3", "missed None, total 3, moved"),
        (page_numbers, 5, "0 4 4 2 0 4 4 2 0 5 9 9", "5", "missed None, total 5, moved"),
        (page_numbers, 9, "0 4 4 2 0 4 4 2 0 5 9", "5 0", "missed None, total 9, moved"),
        (page_numbers, 13, "0 4 4 2 0 4 4 2 3 3 3 1 0 4 4 2 3 3 3 7", "5 5 3", "missed None, total 13, moved"),
        (counts_from_one, 1, "0 1 1 1", "1", "missed None, total 1"),
        (counts_from_one, 3, "0 2 4 3 3 3 4", "3", "missed None, total 3, moved, dropped 1"),
        (counts_from_one, 9, "0 4 2 8 9 9 10", "5 4", "missed None, total 9, moved, dropped 1"),
        (counts_from_one, 13, "0 4 2 8 12 13 13 14", "5 5 3", "missed None, total 13, moved, dropped 1"),
        (whole_pages, 1, "0 1 1 1", "1", "missed None, total 1"),
        (whole_pages, 3, "0 2 4 6 6 5 3 5 5 4 6 6 5 3 5 5 4 6 6 5 3 5 5 5", "3",
         "missed None, total 3, moved, dropped 4"),
        (whole_pages, 5, "0 4 8 8 6 2 6 6 4 8 8 6 2 6 6 4 8 8 6 2 6 6 6", "5",
         "missed None, total 5, moved, dropped 4"),
        (whole_pages, 9,
         "0 4 8 6 2 6 8 12 10 9 9 12 12 10 6 9 12 12 10 6 9 12 12 10 6 9 12 12 10 6 9 12 12 11 11 11", "5 4",
         "missed None, total 9, moved, dropped 4"),
        (whole_pages, 13,
         ("0 4 8 6 2 6 8 12 10 9 10 12 16 14 15 12 14 16 16 15 13 15 15 14 16 16 15 13 15 15 14 16 16 15 13 15 "
         "15 15"),
         "5 5 3", "missed None, total 13, moved, dropped 4"),
        (one_twice, 3, "0 3 3 4", "3", "missed None, total 4, moved, dropped 1"),
        (one_twice, 5, "0 4 5 5 6", "5", "missed None, total 6, moved, dropped 1"),
        (one_twice, 13, "0 4 8 12 13 13 14", "5 5 3", "missed None, total 14, moved, dropped 1"),
        (one_twice_later, 5, "0 2", "5 0", "missed None, total 6, moved, dropped 1"),
        (one_twice_later, 9, "0 4 6", "5 4", "missed None, total 10, moved, dropped 1"),
        (one_twice_later, 13, "0 4 8 6 10", "5 5 3", "missed None, total 14, moved, dropped 1"),
        (turned_each_time, 1, "0 1", "1", "missed 0, total 1"),
        (turned_each_time, 3, "0 2 4 3", "3", "missed None, total 3, moved"),
        (turned_each_time, 5, "0 4 6 5", "5", "missed None, total 5, moved"),
        (turned_each_time, 9, "0 4 6 5 8 10 9 8 10 9 9", "5 3", "missed None, total 9, moved, dropped 4"),
        (turned_each_time, 13, "0 4 2 6 8 7 10 12 16 14 13 12 14 13 12 14 13 13", "5 5 3",
         "missed None, total 13, moved, dropped 4"),
        (cut_short, 1, "0 0 0 0", "0", "missed None, total 1"),
        (cut_short, 3, "0 0 0 0", "0", "missed None, total 3"),
        (cut_short, 5, "0 1 1 2 6", "2", "missed None, total 5"),
        (cut_short, 9, "0 4 5 5 6 10", "5 1", "missed None, total 9"),
        (cut_short, 13, "0 4 8 9 9 10 14", "5 5 0", "missed None, total 13"),
    ],
)  # fmt: skip
async def test_a_provider_that_errs(
    lie: Callable[[Listing, int, Answer], Answer], people: int, asked: str, pages: str, claimed: str
) -> None:
    listing = Listing(people)
    listing.lie = lie

    assert await told(listing) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("act", "people", "asked", "pages", "claimed"),
    [
        (before(2, leave(0, 1)), 9, "0 4 2 0 4", "5 4", "missed 0, total 8, moved"),
        (before(2, leave(0, 1)), 22, "0 4 2 0 4 8 12 16 20", "5 5 5 5 2", "missed 0, total 21, moved"),
        (before(2, leave(0, 6)), 9, "0 4 4 2 0", "5 3", "missed 0, total 3, moved"),
        (before(2, leave(0, 6)), 22, "0 4 2 0 4 8 12", "5 5 5 5 1", "missed 0, total 16, moved"),
        (before(3, leave(0, 1)), 9, "0 4 8 8 6 7", "5 4", "missed 8, total 8, moved"),
        (before(3, leave(0, 1)), 22, "0 4 8 6 2 6 10 14 17", "5 5 5 5 2", "missed 0, total 21, moved"),
        (before(3, leave(0, 6)), 9, "0 4 8 8 6 2 4 3 7 7 5 1 3 7", "5 4", "missed 7, total 3, moved"),
        (before(3, leave(0, 6)), 22, "0 4 8 6 2 0 4 8 12", "5 5 5 5 2", "missed 0, total 16, moved"),
        (before(3, leave(3, 8)), 9, "0 4 8 8 6 2 4 3 7 7 5 1 3 7", "5 4", "missed 7, total 3, moved"),
        (before(3, leave(3, 8)), 22, "0 4 8 6 2 0 4 8 10", "5 5 5 5", "missed 0, total 14, moved"),
        (before(2, come(0, 1)), 9, "0 4 2 6", "5 4", "missed 0, total 10, moved, dropped 1"),
        (before(2, come(0, 1)), 22, "0 4 2 8 12 16 19", "5 5 5 5 2", "missed 0, total 23, moved, dropped 1"),
        (before(2, come(0, 3)), 9, "0 4 8 11", "5 4", "missed 0, total 12, moved, dropped 3"),
        (before(2, come(0, 3)), 22, "0 4 8 12 16 20 24", "5 5 5 5 2", "missed 0, total 25, moved, dropped 3"),
        (before(2, come(0, 6)), 9, "0 4 2 0 8 6 11", "5 5 5", "missed 0, total 15, moved, dropped 4"),
        (before(2, come(0, 6)), 22, "0 4 2 0 8 6 12 16 20 24", "5 5 5 5 5 3",
         "missed 0, total 28, moved, dropped 4"),
        (before(3, come(0, 4)), 9, "0 4 8 12 12", "5 4", "missed 0, total 13, moved, dropped 4"),
        (before(3, come(0, 4)), 22, "0 4 8 12 16 20 22", "5 5 5 5 2", "missed 0, total 26, moved, dropped 4"),
        (before(3, come(0, 12)), 9, "0 4 8 6 2 0 4 8 10 14 22 18 20 12 14 18 26 22 20 21 16 18 22 20 21 20",
         "5 5 5 5 1", "missed 16, total 21, moved, dropped 9"),
        (before(3, come(0, 12)), 22,
         "0 4 8 6 2 0 4 8 10 14 22 18 16 12 14 18 26 22 24 23 16 18 22 30 26 28 27 20 24 28 30", "5 5 5 5 5 5 4",
         "missed 16, total 34, moved, dropped 9"),
        (before(3, move(8, 0)), 9, "0 4 8 10 9", "5 4", "missed 8, total 9, moved"),
        (before(3, move(8, 0)), 22, "0 4 8 6 12 16 18", "5 5 5 5 2", "missed 0, total 22, moved"),
        (before(3, move(0, 8)), 9, "0 4 8 10 9", "5 4", "missed 8, total 9, moved"),
        (before(3, move(0, 8)), 22, "0 4 8 6 2 6 10 14 18", "5 5 5 5 2", "missed 0, total 22, moved"),
        (before(2, move(4, 8)), 9, "0 4 2 0 4 6 10 8 9 8", "5 4", "missed 4, total 9, moved, dropped 1"),
        (before(2, move(4, 8)), 22, "0 4 2 0 4 6 5 8 12 16 18", "5 5 5 5 2",
         "missed 4, total 22, moved, dropped 1"),
        (before(2, leave(0, 2), come(0, 2)), 9, "0 4 8", "5 4", "missed 0, total 9"),
        (before(2, leave(0, 2), come(0, 2)), 22, "0 4 8 12 16 18", "5 5 5 5 2", "missed 0, total 22"),
        (before(3, come(9, 2)), 9, "0 4 8 6 10", "5 5 1", "missed 0, total 11, moved"),
        (before(3, come(9, 2)), 22, "0 4 8 6 12 16 20", "5 5 5 5 4", "missed 0, total 24, moved"),
        (before(3, leave(2, 3), come(9, 3)), 9, "0 4 8 6 2 5", "5 5 2", "missed 0, total 9, moved"),
        (before(3, leave(2, 3), come(9, 3)), 22, "0 4 8 6 2 6 10 14 18", "5 5 5 5 5",
         "missed 0, total 22, moved"),
        (before(3, leave(0, 22)), 9, "0 4 8 8 6 2 0 7 7 5 1 0 7", "5 4", "missed 7, total 0, moved"),
        (before(3, leave(0, 22)), 22, "0 4 8 8 6 2 0 7 7 5 1 0 7", "5 4", "missed 7, total 0, moved"),
        (before(3, leave(0, 22), come(0, 22)), 9, "0 4 8 6 2 0 4 8 12 16 18", "5 5 5 5 5 5 1",
         "missed 0, total 22, moved"),
        (before(3, leave(0, 22), come(0, 22)), 22, "0 4 8 6 2 0 4 8 12 16 18", "5 5 5 5 5 5 1",
         "missed 0, total 22, moved"),
        (before(6, come(22, 3)), 22, "0 4 8 12 16 18 21 24", "5 5 5 5 5", "missed 0, total 25, moved"),
        (before(6, leave(0, 20)), 22, "0 4 8 12 16 18 18 16 12 4 0", "5 5 5 5 2", "missed 0, total 2, moved"),
    ],
)  # fmt: skip
async def test_people_who_come_and_go_while_the_list_is_read(
    act: Callable[[Listing], None], people: int, asked: str, pages: str, claimed: str
) -> None:
    listing = Listing(people)
    listing.act = act

    assert await told(listing) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("lie", "people", "last", "asked", "pages", "claimed"),
    [
        (honest, 9, 5, "0 4 5", "5 4", "missed 0, total 9"),
        (honest, 10, 5, "0 4 5", "5 5", "missed None, total 10, capped"),
        (honest, 11, 5, "0 4 5", "5 5", "missed 1, total 11, capped"),
        (honest, 12, 5, "0 4 5", "5 5", "missed 2, total 12, capped"),
        (honest, 30, 12, "0 4 8 12", "5 5 5 2", "missed 13, total 30, capped"),
        (no_total, 10, 5, "0 4 5", "5 5", "missed None, total None, capped"),
        (no_total, 11, 5, "0 4 5", "5 5", "missed None, total None, capped"),
        (no_total, 12, 5, "0 4 5", "5 5", "missed None, total None, capped"),
        (no_total, 30, 12, "0 4 8 12", "5 5 5 2", "missed None, total None, capped"),
        (too_low, 10, 5, "0 4 5", "5 5", "missed None, total 8, capped"),
        (too_low, 11, 5, "0 4 5", "5 5", "missed None, total 9, capped"),
        (too_low, 12, 5, "0 4 5", "5 5", "missed None, total 10, capped"),
        (too_low, 30, 12, "0 4 8 12", "5 5 5 2", "missed 11, total 28, capped"),
        (too_high, 10, 5, "0 4 5", "5 5", "missed 2, total 12, capped"),
        (too_high, 11, 5, "0 4 5", "5 5", "missed 3, total 13, capped"),
        (too_high, 12, 5, "0 4 5", "5 5", "missed 4, total 14, capped"),
        (too_high, 30, 12, "0 4 8 12", "5 5 5 2", "missed 15, total 32, capped"),
        (ten_at_most, 9, 5, "0 4 5", "5 4", "missed 0, total 9"),
        (ten_at_most, 12, 5, "0 4 5", "5 5", "missed None, total 10, capped"),
        (what_is_left, 12, 5, "0 4 2 5", "5 5", "missed None, total 7, moved, capped"),
        (three_at_once, 10, 5, "0 2 4 5", "5 3", "missed None, total 10, capped"),
        (three_at_once, 11, 5, "0 2 4 5", "5 3", "missed 3, total 11, capped"),
        (three_at_once, 12, 5, "0 2 4 5", "5 3", "missed 4, total 12, capped"),
        (three_at_once, 30, 12, "0 2 4 6 8 10 12", "5 5 5", "missed 15, total 30, capped"),
        (one_more_each_time, 10, 5, "0 4 2 5", "5 5", "missed 4, total 14, moved, capped"),
        (one_more_each_time, 11, 5, "0 4 2 5", "5 5", "missed 5, total 15, moved, capped"),
        (one_more_each_time, 12, 5, "0 4 2 5", "5 5", "missed 6, total 16, moved, capped"),
        (one_more_each_time, 30, 12, "0 4 2 8 6 12 10", "5 5 5 2", "missed 19, total 36, moved, capped"),
    ],
)  # fmt: skip
async def test_a_provider_that_gives_no_more_than_its_first_rows(
    lie: Callable[[Listing, int, Answer], Answer], people: int, last: int, asked: str, pages: str, claimed: str
) -> None:
    listing = Listing(people, last=last)
    listing.lie = lie

    assert await told(listing) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("start", "asked", "pages", "claimed"),
    [
        (Position(at=8, total=22, anchors=EIGHT), "8 12 16 18", "5 5 3", "missed 0, total 22"),
        (Position(at=8, total=22, anchors=EIGHT, settled=None), "8 12 16 20 21 21 22", "5 5 3",
         "missed None, total 22"),
        (Position(at=8, total=22, anchors=EIGHT, moved=True), "8 12 16 18", "5 5 3", "missed 0, total 22, moved"),
        (Position(at=8, total=22, anchors=EIGHT, gap=None), "8 12 16 18", "5 5 3", "missed None, total 22"),
        (Position(at=8, total=22, anchors=EIGHT, gap=2, settled=3), "8 12 16 18", "5 5 3", "missed 5, total 22"),
        (Position(at=8, total=20, anchors=EIGHT), "8 6 12 16 18", "5 5 3", "missed 0, total 22, moved"),
        (Position(at=8, total=22), "9 13 17 21", "5 5 3", "missed 9, total 22, moved"),
        (Position(at=8, total=9, anchors=EIGHT), "8 6 12 16 18", "5 5 3", "missed 0, total 22, moved"),
        (Position(at=8, total=22, anchors=EIGHT, day="2026-01-02"), "8 12 16 18", "5 5 3",
         "missed 0, total 22, capped, day 2026-01-02"),
        (Position(at=8, total=22, anchors=EIGHT, dropped=2), "8 12 16 18", "5 5 3",
         "missed 0, total 22, dropped 2"),
    ],
)  # fmt: skip
async def test_a_successor_goes_on_at_a_position(start: Position, asked: str, pages: str, claimed: str) -> None:
    assert await told(Listing(22), start, seen=9) == (asked, pages, claimed)


# By days.


@pytest.mark.parametrize(
    ("per_day", "last", "asked", "pages", "claimed"),
    [
        ("1 1 1 1 1 1 2 1", 5, "0 4 5", "5 4", "missed 0, total 9"),
        ("1 1 1 1 1 1 2 2", 5, "0 1-4@0 5-8@0 1-4@0 5-8@0 5-8@2 0", "5 5", "missed 0, total 10"),
        ("1 1 1 1 1 1 2 3", 5, "0 1-4@0 5-8@0 1-4@0 5-8@0 5-8@3 0", "5 5 1", "missed 0, total 11"),
        ("1 9 3 0 0 10 9 8", 5,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-2@4 1-2@5 3-4@0 5-8@0 5-6@0 7-8@0 5-6@0 5-6@4 5-6@5 7-8@0 "
         "7-7@0 8-8@0 7-7@0 7-7@4 7-7@5 8-8@0 8-8@4 0"),
         "5 5 5 5 5 5 5 5", "missed 0, total 40"),
        ("0 0 0 0 0 0 0 24", 5,
         "0 1-4@0 5-8@0 1-4@0 5-8@0 5-6@0 7-8@0 5-6@0 7-8@0 7-7@0 8-8@0 7-7@0 8-8@0 8-8@4 8-8@5 0", "5 5",
         "missed 14, total 24, capped, day 2026-01-08"),
        ("24 0 0 0 0 0 0 0", 5,
         "0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-1@0 2-2@0 1-1@0 1-1@4 1-1@5 2-2@0 3-4@0 5-8@0 0", "5 5",
         "missed 14, total 24, capped, day 2026-01-01"),
        ("0 0 0 15 0 0 15 0", 5,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 3-6@0 3-4@0 5-6@0 3-4@0 3-3@0 4-4@0 3-3@0 4-5@0 4-4@0 5-5@0 "
         "4-4@0 4-4@4 4-4@5 5-5@0 6-7@0 6-6@0 7-7@0 6-6@0 7-8@0 7-7@0 8-8@0 7-7@0 7-7@4 7-7@5 8-8@0 0"),
         "5 5 5 5", "missed 10, total 30, capped, day 2026-01-04"),
        ("2 2 2 2 12 20 10 10", 8,
         ("0 1-4@0 5-8@0 1-4@0 1-4@4 5-8@0 5-6@0 7-8@0 5-6@0 5-5@0 6-6@0 5-5@0 5-5@4 5-5@8 6-6@0 6-6@4 6-6@8 "
         "7-7@0 7-7@4 7-7@6 8-8@0 8-8@4 8-8@6 0"),
         "5 5 5 5 5 5 5 5 5 5 3", "missed 7, total 60, capped, day 2026-01-06"),
        ("12 0 0 0 0 0 0 0", 5,
         "0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-1@0 2-2@0 1-1@0 1-1@4 1-1@5 2-2@0 3-4@0 5-8@0 0", "5 5",
         "missed 2, total 12, capped, day 2026-01-01"),
        ("11", 5, "0 4 5", "5 5", "missed 1, total 11, capped"),
        ("12 12", 5, "0 1-1@0 2-2@0 1-1@0 1-1@4 1-1@5 2-2@0 2-2@4 2-2@5 0", "5 5 5 5",
         "missed 4, total 24, capped, day 2026-01-01"),
    ],
)  # fmt: skip
async def test_a_list_that_is_read_by_days(per_day: str, last: int, asked: str, pages: str, claimed: str) -> None:
    people = sum(map(int, per_day.split()))

    assert await told(Listing(people, per_day, last=last)) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("widen", "per_day", "asked", "pages", "claimed"),
    [
        (last_day_left_out, "5 5 5 5 5 5 5 5",
         ("0 1-4@0 5-8@0 4-8@0 3-8@0 1-5@0 1-3@0 1-3@4 1-3@5 2-4@0 2-4@4 2-4@5 3-5@0 3-5@4 3-5@5 4-6@0 4-6@4 "
         "4-6@5 5-7@0 5-7@4 5-7@5 6-8@0 6-8@4 6-8@5 0"),
         "5 5 5 5 5 5 5", "missed 5, total 40"),
        (last_day_left_out, "0 0 8 0 0 0 8 0", "0 1-4@0 5-8@0 1-4@0 1-4@4 5-8@0 5-8@4 0", "5 5 5 1",
         "missed 0, total 16"),
        (first_day_left_out, "5 5 5 5 5 5 5 5",
         ("0 1-4@0 5-8@0 4-8@0 3-8@0 1-5@0 1-3@0 1-3@4 1-3@5 2-4@0 2-4@4 2-4@5 3-5@0 3-5@4 3-5@5 4-6@0 4-6@4 "
         "4-6@5 5-7@0 5-7@4 5-7@5 6-8@0 6-8@4 6-8@5 0"),
         "5 5 5 5 5 5 5", "missed 5, total 40"),
        (both_left_out, "5 5 5 5 5 5 5 5",
         ("0 1-4@0 5-8@0 4-8@0 3-8@0 0 1-4@0 5-8@0 4-8@0 3-8@0 1-4@0 1-4@4 1-4@5 1-2@0 3-4@0 2-4@0 2-4@0 1-4@0 "
         "1-2@0 3-4@0 2-4@0 2-4@0 1-2@0 1-2@0 1-2@1 3-6@0 3-6@4 3-6@5 3-4@0 5-6@0 4-6@0 4-6@0 3-6@0 3-4@0 "
         "5-6@0 4-6@0 4-6@0 3-4@0 3-4@0 3-4@1 5-8@0 5-8@4 5-8@5 5-6@0 7-8@0 6-8@0 6-8@0 5-8@0 5-6@0 7-8@0 "
         "6-8@0 6-8@0 5-6@0 5-6@0 5-6@1 7-8@0 7-8@0 7-8@1 0"),
         "5 5 5 5 5 5", "missed None, total 40"),
        (all_days, "5 5 5 5 5 5 5 5", "0 1-4@0 5-8@0 4 5", "5 5", "missed 30, total 40, capped"),
        (all_days, "0 0 8 0 0 0 8 0", "0 1-4@0 5-8@0 4 5", "5 5", "missed 6, total 16, capped"),
        (a_day_late, "5 5 5 5 5 5 5 5",
         ("0 1-4@0 5-8@0 4-8@0 1-4@0 1-2@0 1-2@4 1-2@5 2-3@0 2-3@4 2-3@5 3-4@0 3-4@4 3-4@5 4-5@0 4-5@4 4-5@5 "
         "5-6@0 5-6@4 5-6@5 6-7@0 6-7@4 6-7@5 7-8@0 7-8@4 0"),
         "5 5 5 5 5 5 5", "missed 5, total 40"),
        (two_days_left_out, "5 5 5 5 5 5 5 5",
         ("0 1-4@0 5-8@0 4-8@0 3-8@0 0 1-4@0 5-8@0 4-8@0 3-8@0 1-4@0 1-4@4 1-4@5 1-2@0 3-4@0 2-4@0 2-4@0 1-4@0 "
         "1-2@0 3-4@0 2-4@0 2-4@0 1-2@0 1-2@0 1-2@1 3-6@0 3-6@4 3-6@5 3-4@0 5-6@0 4-6@0 4-6@0 3-6@0 3-4@0 "
         "5-6@0 4-6@0 4-6@0 3-4@0 3-4@0 3-4@1 5-8@0 5-8@4 5-8@5 5-6@0 7-8@0 6-8@0 6-8@0 5-8@0 5-6@0 7-8@0 "
         "6-8@0 6-8@0 5-6@0 5-6@0 5-6@1 7-8@0 7-8@0 7-8@1 0"),
         "5 5 5 5 5 5", "missed None, total 40"),
    ],
)  # fmt: skip
async def test_a_provider_that_takes_days_otherwise(
    widen: Callable[[int, int], tuple[int, int]], per_day: str, asked: str, pages: str, claimed: str
) -> None:
    listing = Listing(sum(map(int, per_day.split())), per_day, last=5)
    listing.widen = widen

    assert await told(listing) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("act", "lie", "asked", "pages", "claimed"),
    [
        (before(2, leave(0, 1)), honest,
         ("0 1-4@0 5-8@0 4-8@0 3-8@0 0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-2@4 3-4@0 3-4@4 5-6@0 5-6@4 7-8@0 "
         "7-8@3 0"),
         "5 5 5 5 5 5 1", "missed 0, total 31"),
        (before(3, leave(0, 1)), honest,
         ("0 1-4@0 5-8@0 4-8@0 3-8@0 0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-2@4 3-4@0 3-4@4 5-6@0 5-6@4 7-8@0 "
         "7-8@3 0"),
         "5 5 5 5 5 5 1", "missed 0, total 31"),
        (before(4, come(0, 1)), honest,
         "0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-2@4 3-4@0 3-4@4 5-6@0 5-6@4 7-8@0 7-8@4 0", "5 5 5 5 5 5 2",
         "missed 1, total 33"),
        (before(5, come(0, 2)), honest,
         "0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-2@4 3-4@0 3-4@4 5-6@0 5-6@4 7-8@0 7-8@4 0", "5 5 5 5 5 5 2",
         "missed 2, total 34"),
        (before(9, leave(0, 1)), honest,
         "0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-2@4 3-4@0 3-4@4 5-6@0 5-6@4 7-8@0 7-8@3 0", "5 5 5 5 5 5 1",
         "missed 0, total 31"),
        (before(9, come(0, 1)), honest,
         "0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-2@4 3-4@0 3-4@4 5-6@0 5-6@4 7-8@0 7-8@4 0", "5 5 5 5 5 5 1",
         "missed None, total 33, moved, dropped 1"),
        (lambda listing: None, no_total,
         ("0 4 5 1-4@0 1-4@4 1-4@5 1-2@0 1-2@4 1-2@5 1-2@5 1-2@5 3-4@0 3-4@4 3-4@5 3-4@5 3-4@5 5-6@0 5-6@4 "
         "5-6@5 5-6@5 5-6@5 7-8@0 7-8@4 7-8@5 7-8@5 7-8@5 0"),
         "5 5 5 5 5 5 2", "missed None, total None"),
        (lambda listing: None, too_high,
         ("0 1-4@0 5-8@0 4-8@0 3-8@0 0 1-4@0 5-8@0 4-8@0 3-8@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-4@0 1-2@0 3-4@0 "
         "2-4@0 2-4@0 1-2@0 1-2@4 1-2@5 1-2@5 1-2@5 3-4@0 3-4@4 3-4@5 3-4@5 3-4@5 5-6@0 5-6@4 5-6@5 5-6@5 "
         "5-6@5 7-8@0 7-8@4 7-8@5 7-8@5 7-8@5 0"),
         "5 5 5 5 5 5 2", "missed None, total 34"),
        (lambda listing: None, too_low,
         ("0 1-4@0 5-8@0 4-8@0 3-8@0 0 1-4@0 5-8@0 4-8@0 3-8@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-4@0 1-2@0 3-4@0 "
         "2-4@0 2-4@0 1-2@0 1-2@4 1-2@5 1-2@5 1-2@5 3-4@0 3-4@4 3-4@5 3-4@5 3-4@5 5-6@0 5-6@4 5-6@5 5-6@5 "
         "5-6@5 7-8@0 7-8@4 7-8@5 7-8@5 7-8@5 0"),
         "5 5 5 5 5 5 2", "missed None, total 30"),
        (lambda listing: None, one_more_each_time,
         ("0 1-4@0 5-8@0 4-8@0 3-8@0 0 1-4@0 5-8@0 4-8@0 3-8@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-4@0 1-2@0 3-4@0 "
         "2-4@0 2-4@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-1@0 1-1@3 1-1@5 1-1@4 "
         "1-1@3 1-1@5 1-1@4 1-1@4 2-2@0 2-2@3 2-2@5 2-2@4 2-2@3 2-2@5 2-2@4 2-2@4 3-3@0 3-3@3 3-3@5 3-3@4 "
         "3-3@3 3-3@5 3-3@4 3-3@4 4-4@0 4-4@3 4-4@5 4-4@4 4-4@3 4-4@5 4-4@4 4-4@4 5-5@0 5-5@3 5-5@5 5-5@4 "
         "5-5@3 5-5@5 5-5@4 5-5@4 6-6@0 6-6@3 6-6@5 6-6@4 6-6@3 6-6@5 6-6@4 6-6@4 7-7@0 7-7@3 7-7@5 7-7@4 "
         "7-7@3 7-7@5 7-7@4 7-7@4 8-8@0 8-8@3 8-8@5 8-8@4 8-8@3 8-8@5 8-8@4 8-8@4 0"),
         "5 5 5 5 5 5 2", "missed None, total 127, moved"),
        (lambda listing: None, three_at_once,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-2@2 1-2@4 1-2@5 1-2@5 1-2@5 1-2@5 1-2@5 1-2@5 3-4@0 3-4@2 "
         "3-4@4 3-4@5 3-4@5 3-4@5 3-4@5 5-6@0 5-6@2 5-6@4 5-6@5 5-6@5 5-6@5 5-6@5 7-8@0 7-8@2 7-8@4 7-8@5 "
         "7-8@5 7-8@5 7-8@5 0"),
         "5 5 5 5 5 5 2", "missed None, total 32"),
    ],
)  # fmt: skip
async def test_days_of_a_list_that_moves_or_of_a_provider_that_errs(
    act: Callable[[Listing], None],
    lie: Callable[[Listing, int, Answer], Answer],
    asked: str,
    pages: str,
    claimed: str,
) -> None:
    listing = Listing(32, "4 4 4 4 4 4 4 4", last=5)
    listing.act, listing.lie = act, lie

    assert await told(listing) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("per_day", "asked", "pages", "claimed"),
    [
        ("0 0 0 0 0 0 6 6",
         ("0 1-4@0 5-8@0 1-4@0 5-8@0 5-6@0 7-8@0 5-6@0 7-8@0 7-7@0 8-8@0 8-8@0 8-8@0 7-8@0 7-7@0 8-8@0 8-8@0 8-8@0 "
         "7-7@0 7-7@4 7-7@5 7-7@5 7-7@5 8-8@0 8-8@4 8-8@5 8-8@5 8-8@5 0"),
         "5 5 2", "missed None, total 10"),
        ("1 1 1 1 2 2 2 2",
         ("0 1-4@0 5-8@0 4-8@0 3-8@0 0 1-4@0 5-8@0 4-8@0 3-8@0 1-4@0 1-4@3 1-4@3 1-4@4 5-8@0 5-8@4 5-8@5 5-8@5 5-8@5 "
         "0"),
         "5 5 2", "missed None, total 10"),
        ("5 5 5 5 5 5 5 5", "0 1-4@0 5-8@0 4 5", "5 5", "missed None, total 10, capped"),
    ],
)  # fmt: skip
async def test_days_of_a_list_whose_total_counts_no_more_than_can_be_had(
    per_day: str, asked: str, pages: str, claimed: str
) -> None:
    listing = Listing(sum(map(int, per_day.split())), per_day, last=5)
    listing.lie = ten_at_most

    assert await told(listing) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("lie", "people", "ahead", "asked", "pages", "claimed"),
    [
        (no_total, 2, 0, "0 1 1 2", "2", "missed None, total None"),
        (too_high, 2, 0, "0 0 1 2 6", "2", "missed None, total 4"),
        (too_low, 2, 0, "0 1 1 2", "2", "missed None, total 0"),
        (counts_rows, 2, 0, "0 1 3 2 1 2", "2", "missed None, total 0, moved"),
        (counts_reach, 2, 0, "0 1", "2", "missed 0, total 2"),
        (one_more_each_time, 2, 0, "0 0 2 1 1 3 2 2 6", "2", "missed None, total 11, moved"),
        (one_more_at_first, 2, 0, "0 0 1 3 2", "2", "missed None, total 2, moved"),
        (one_at_once, 2, 0, "0 0 0 1 0 1 0 1 1 1 2 6 6", "2", "missed None, total 2, moved"),
        (first_one_empty, 2, 0, "0 0 1 1", "2", "missed 0, total 2"),
        (second_one_empty, 2, 0, "0 1 1 1", "2", "missed 0, total 2"),
        (page_numbers, 2, 0, "0 1 1 0 1 1 0 2 6 6", "2", "missed None, total 2, moved"),
        (counts_from_one, 2, 0, "0 1 2 2 3", "2", "missed None, total 2, moved, dropped 1"),
        (one_twice, 2, 0, "0 2 2 3", "2", "missed None, total 3, moved, dropped 1"),
        (turned_each_time, 2, 0, "0 1 3 2", "2", "missed None, total 2, moved"),
        (honest, 13, 3, "0 4 8 12", "5 5 3", "missed 0, total 13"),
        (honest, 22, 3, "0 4 8 12 16 18", "5 5 5 5 2", "missed 0, total 22"),
        (no_total, 9, 3, "0 4 8 8 9", "5 4", "missed None, total None"),
        (too_high, 9, 3, "0 4 7 8 9 13", "5 4", "missed None, total 11"),
        (too_low, 13, 3, "0 4 7 11 12 12 13", "5 5 3", "missed None, total 11"),
        (one_at_once, 3, 3, "0 0 0 1 0 1 0 1 0 2 1 0 0 1 5", "3", "missed None, total 3, moved"),
        (three_at_once, 13, 3, "0 2 6 9 4 8 10 12", "5 5 3", "missed 0, total 13"),
        (one_more_each_time, 9, 3, "0 4 6 2 7 9 8 8 10 9 9 13", "5 4", "missed None, total 21, moved"),
        (first_one_short, 13, 3, "0 1 5 9 9 10 11 12 12", "5 5 3", "missed 0, total 13"),
        (one_twice_later, 13, 3, "0 4 8 10 6", "5 5 3", "missed None, total 14, moved, dropped 1"),
        (whole_pages, 9, 3,
         "0 4 8 6 2 6 8 12 10 9 9 12 12 10 6 9 12 12 10 6 9 12 12 10 6 9 12 12 10 6 9 12 12 11 11 11", "5 4",
         "missed None, total 9, moved, dropped 4"),
        (cut_short, 13, 3, "0 4 8 9 9 10 14", "5 5 0", "missed None, total 13"),
    ],
)  # fmt: skip
async def test_two_people_or_requests_ahead_at_a_provider_that_errs(
    lie: Callable[[Listing, int, Answer], Answer], people: int, ahead: int, asked: str, pages: str, claimed: str
) -> None:
    listing = Listing(people)
    listing.lie = lie

    assert await told(listing, ahead=ahead) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("lie", "people", "last", "asked", "pages", "claimed"),
    [
        (too_high, 6, 5, "0 4 4 5", "5 1", "missed 2, total 8, capped"),
        (too_low, 6, 5, "0 4 5 5 5", "5 1", "missed None, total 4"),
        (no_total, 6, 5, "0 4 5 5 5", "5 1", "missed None, total None"),
        (too_high, 7, 5, "0 4 5", "5 2", "missed 2, total 9, capped"),
        (too_low, 7, 5, "0 4 5 5 5", "5 2", "missed None, total 5"),
        (no_total, 7, 5, "0 4 5 5 5", "5 2", "missed None, total None"),
    ],
)  # fmt: skip
async def test_a_list_as_long_as_the_provider_gives(
    lie: Callable[[Listing, int, Answer], Answer], people: int, last: int, asked: str, pages: str, claimed: str
) -> None:
    listing = Listing(people, last=last)
    listing.lie = lie

    assert await told(listing) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("per_day", "answer", "asked", "pages", "claimed"),
    [
        ("5 5 5 5 5 5 5 5", 4,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-2@0 1-1@0 2-2@0 2-2@0 "
         "2-2@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-1@0 1-1@4 1-1@5 2-2@0"),
         "5 5", "missed None, total 40, capped"),
        ("5 5 5 5 5 5 5 5", 6,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-2@0 1-1@0 2-2@0 2-2@0 "
         "2-2@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-1@0 1-1@4 1-1@5 2-2@0"),
         "5 5", "missed None, total 40, capped"),
        ("5 5 5 5 5 5 5 5", 7,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-1@0 "
         "1-1@4 1-1@5 2-2@0"),
         "5 5", "missed None, total 40, capped"),
        ("5 5 5 5 5 5 5 5", 9,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-2@4 1-2@5 1-1@0 2-2@0 2-2@0 2-2@0 1-2@0 1-1@0 2-2@0 2-2@0 "
         "2-2@0 1-1@0 1-1@4 1-1@5 2-2@0 2-2@4 2-2@5 3-3@0 3-3@4 3-3@5 4-4@0 4-4@4 4-4@5 5-5@0 5-5@4 5-5@5 "
         "6-6@0 6-6@4 6-6@5 7-7@0 7-7@4 7-7@5 8-8@0 8-8@4 8-8@5 0"),
         "5 5", "missed None, total 40, moved, capped, day 2026-01-01"),
        ("5 5 5 5 5 5 5 5", 12,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-2@4 1-2@5 3-4@0 3-4@4 3-4@5 3-3@0 4-4@0 4-4@0 4-4@0 3-4@0 "
         "3-3@0 4-4@0 4-4@0 4-4@0 3-3@0 3-3@4 3-3@5 4-4@0 4-4@4 4-4@5 5-5@0 5-5@4 5-5@5 6-6@0 6-6@4 6-6@5 "
         "7-7@0 7-7@4 7-7@5 8-8@0 8-8@4 8-8@5 0"),
         "5 5 5 4", "missed None, total 40, moved, capped, dropped 1, day 2026-01-03"),
        ("8 8 8 8 8 0 0 0", 4,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-2@0 1-1@0 2-2@0 2-2@0 "
         "2-2@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-1@0 1-1@4 1-1@5 2-2@0"),
         "5 5", "missed None, total 40, capped"),
        ("8 8 8 8 8 0 0 0", 6,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-4@0 1-2@0 3-4@0 2-4@0 2-4@0 1-2@0 1-1@0 2-2@0 2-2@0 "
         "2-2@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-1@0 1-1@4 1-1@5 2-2@0"),
         "5 5", "missed None, total 40, capped"),
        ("8 8 8 8 8 0 0 0", 7,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-1@0 "
         "1-1@4 1-1@5 2-2@0"),
         "5 5", "missed None, total 40, capped"),
        ("8 8 8 8 8 0 0 0", 9,
         ("0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-2@0 1-1@0 2-2@0 2-2@0 2-2@0 1-1@0 "
         "1-1@4 1-1@5 2-2@0"),
         "5 5", "missed None, total 40, capped"),
        ("8 8 8 8 8 0 0 0", 12, "0 1-4@0 5-8@0 1-4@0 1-2@0 3-4@0 1-2@0 1-1@0 2-2@0 1-1@0 1-1@4 2-2@0", "5 3",
         "missed 32, total 40, capped"),
    ],
)  # fmt: skip
async def test_a_provider_that_does_not_look_at_days_any_more(
    per_day: str, answer: int, asked: str, pages: str, claimed: str
) -> None:
    listing = Listing(40, per_day, last=5)
    listing.act = days_ignored_from(answer)

    assert await told(listing) == (asked, pages, claimed)


@pytest.mark.parametrize(
    ("start", "seen", "asked", "pages", "claimed"),
    [
        (days(1, 2, total=10), 5, "1-2@4 1-2@5 3-4@0 3-4@4 3-4@5 5-6@0 5-6@4 5-6@5 7-8@0 7-8@4 7-8@5 0",
         "5 5 5 5 5 5 5", "missed 0, total 40"),
        (days(3, 4, total=10, settled=2), 15, "3-4@4 3-4@5 5-6@0 5-6@4 5-6@5 7-8@0 7-8@4 7-8@5 0", "5 5 5 5 5",
         "missed 2, total 40"),
        (days(3, 4, total=10, gap=None), 15, "3-4@4 3-4@5 5-6@0 5-6@4 5-6@5 7-8@0 7-8@4 7-8@5 0", "5 5 5 5 5",
         "missed None, total 40"),
        (days(3, 5, total=10, overlap=1), 15,
         ("3-5@4 3-5@2 3-5@5 3-4@0 3-4@4 3-4@5 4-5@0 4-5@4 4-5@5 5-6@0 5-6@4 5-6@5 6-7@0 6-7@4 6-7@5 7-8@0 "
         "7-8@4 7-8@5 0"),
         "5 5 5 5 5", "missed 0, total 40, moved"),
        (days(3, 5, total=15, overlap=2), 15,
         "3-5@4 3-5@5 4-6@0 4-6@4 4-6@5 5-7@0 5-7@4 5-7@5 6-8@0 6-8@4 6-8@5 0", "5 5 5 5",
         "missed 20, total 40, capped, day 2026-01-03"),
        (days(7, 8, total=10, moved=True), 35, "7-8@4 7-8@5 7-8@5 0", "5", "missed 0, total 40, moved"),
    ],
)  # fmt: skip
async def test_a_successor_goes_on_in_the_same_days(
    start: Position, seen: int, asked: str, pages: str, claimed: str
) -> None:
    assert await told(Listing(40, "5 5 5 5 5 5 5 5", last=5), start, seen=seen) == (asked, pages, claimed)
