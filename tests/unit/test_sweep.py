"""What the reading of a list by row numbers asks for, and what a successor goes on with."""

from collections.abc import Callable
from datetime import date
from functools import partial

import pytest
from msgspec.structs import replace

from schemas import Follower
from schemas.ids import Ids
from worker.core.errors import InternalError, NotFoundError
from worker.core.paging.day_range import Span
from worker.core.paging.offset_reader import BARREN, WALKS, Sweep
from worker.core.paging.overlap import common
from worker.core.paging.position import Position
from worker.core.paging.row_buffer import Swept
from worker.core.ports.provider import Offsets, ProviderPage

DAYS = (date(2026, 1, 1), date(2026, 1, 8))


class Provider:
    """Rows by number, ten at most reachable at once; people of eight days, where it knows days."""

    def __init__(self, rows: int, per_day: list[int] | None = None, *, last: int = 5) -> None:
        self.rows = [str(row) for row in range(rows)]
        self.per_day = per_day
        self.plan = Offsets(count=5, last=last, days=DAYS)
        self.asked: list[str | None] = []
        self.before_request: Callable[[], None] = lambda: None

    async def fetch(self, cursor: str | None) -> ProviderPage:
        self.asked.append(cursor)
        self.before_request()
        span, _, number = (cursor or "0").rpartition("@")
        rows, offset = self._of(span) if span else self.rows, int(number)
        found = rows[offset : offset + self.plan.count]
        end = offset + len(found)
        capped = end < len(rows) and offset >= self.plan.last
        more = bool(found) and end < len(rows) and not capped
        followers = [Follower(user_id=row) for row in found]
        return ProviderPage(followers=followers, next_cursor=str(end) if more else None, total=len(rows), capped=capped)

    def _of(self, span: str) -> list[str]:
        if self.per_day is None:
            raise NotFoundError("no such endpoint")
        first, last = (date.fromisoformat(day).day for day in span.split("/"))
        return self.rows[sum(self.per_day[: first - 1]) : sum(self.per_day[:last])]


def reading(provider: Provider, start: Position | None = None, seen: list[str] | None = None) -> Sweep:
    return Sweep(provider.fetch, provider.plan, start or Position(), Ids(seen or []), published=set(), total=None)


async def rest(sweep: Sweep, ahead: int = 0) -> list[Swept]:
    pages = [await sweep.read(5, None, ahead)]
    while pages[-1].next_cursor is not None:
        pages.append(await sweep.read(5, None, ahead))
    await sweep.close()
    return pages


def ids(pages: list[Swept]) -> list[str]:
    return [follower.user_id for page in pages for follower in page.followers]


async def test_requests_overlap_by_a_row_and_the_last_one_by_more() -> None:
    provider = Provider(22, last=1_000)

    pages = await rest(reading(provider))

    assert provider.asked == [None, "4", "8", "12", "16", "18"]
    assert [len(page.followers) for page in pages] == [5, 5, 5, 5, 2]
    assert ids(pages) == provider.rows
    assert (pages[-1].position.missed, pages[-1].position.moved) == (0, False)


@pytest.mark.parametrize(("wanted", "asked"), [(10, [None, "5"]), (9, [None, "4"]), (7, [None, "4"])])
async def test_a_ceiling_costs_no_request_more_than_it_lets_pages_through(wanted: int, asked: list[str | None]) -> None:
    provider = Provider(100, last=1_000)
    sweep = reading(provider)

    first, second = await sweep.read(5, wanted, 8), await sweep.read(5, wanted - 5, 8)
    await sweep.close()

    assert ids([first, second]) == provider.rows[:wanted]
    assert provider.asked == asked
    assert second.next_cursor is not None


@pytest.mark.parametrize("rows", [5, 9, 10, 15, 100])
async def test_a_ceiling_at_the_lists_very_end_is_no_ceiling(rows: int) -> None:
    provider = Provider(rows, last=1_000)
    sweep = reading(provider)
    pages = [await sweep.read(5, rows, 0)]
    while pages[-1].next_cursor is not None:
        pages.append(await sweep.read(5, rows - len(ids(pages)), 0))

    assert ids(pages) == provider.rows
    assert (pages[-1].position.missed, pages[-1].position.moved) == (0, False)


async def test_a_stretch_is_walked_again_when_people_before_it_have_left() -> None:
    provider = Provider(40, last=1_000)
    sweep = reading(provider)
    pages = [await sweep.read(5, None, 0), await sweep.read(5, None, 0)]

    del provider.rows[:3]
    pages += await rest(sweep)

    assert set(ids(pages)) == {str(row) for row in range(40)}
    assert (pages[-1].position.missed, pages[-1].position.moved, pages[-1].position.dropped) == (0, True, 0)
    assert "10" in provider.asked, "half a reading further back"


async def test_what_cannot_be_found_again_bounds_what_may_be_missed() -> None:
    provider = Provider(2_000, last=9_950)
    start = Position(at=999, total=2_000, anchors=tuple(provider.rows[992:1_000]))

    def others_come() -> None:
        provider.rows = [f"{len(provider.asked)}-{row}" for row in range(2_000)]

    provider.before_request = others_come
    sweep = reading(provider, start, provider.rows[:1_000])
    page = await sweep.read(5, None, 0)
    await sweep.close()

    assert len(provider.asked) == 1 + WALKS
    assert [follower.user_id for follower in page.followers] == [f"1-{row}" for row in range(999, 1_004)]
    assert (page.position.missed, page.position.moved) == (999, True)


async def test_a_successor_goes_on_at_the_next_row() -> None:
    provider = Provider(40, last=1_000)
    sweep = reading(provider)
    pages = [await sweep.read(5, None, 3) for _ in range(3)]
    await sweep.close()
    cursor = pages[-1].next_cursor
    assert cursor is not None

    pages += await rest(reading(provider, Position().resumed(cursor), ids(pages)))

    assert ids(pages) == provider.rows
    assert (pages[-1].position.missed, pages[-1].position.moved) == (0, False)


async def test_a_cursor_of_an_older_version_is_gone_on_from_without_a_proof() -> None:
    provider = Provider(20, last=1_000)

    pages = await rest(reading(provider, Position().resumed("5"), provider.rows[:5]))

    assert provider.asked[0] == "5"
    assert ids(pages) == provider.rows[5:]
    assert (pages[-1].position.missed, pages[-1].position.moved) == (5, True)


@pytest.mark.parametrize("cursor", ["", "x", "@", "@5", "2026-01-01/x@5:1:0:", "@-2:1:0:", "@5:1:0:a b"])
def test_a_cursor_of_nobodys_is_refused(cursor: str) -> None:
    with pytest.raises(InternalError, match="another id"):
        Position().resumed(cursor)


def test_a_position_is_the_same_after_writing_and_reading() -> None:
    position = Position(at=98, total=120, gap=3, settled=4, anchors=("1", "a-b", "9" * 19), day="2026-01-02")
    by_days = replace(position, span=Span(*DAYS), overlap=2)

    assert Position(settled=7, day="2026-01-02").resumed(position.write()) == position
    assert Position(settled=7, day="2026-01-02").resumed(by_days.write()) == by_days


# By days.


async def test_a_list_beyond_the_ceiling_is_read_by_days() -> None:
    provider = Provider(40, [1, 9, 3, 0, 0, 10, 9, 8])

    pages = await rest(reading(provider), ahead=2)

    assert ids(pages) == provider.rows
    assert (pages[-1].position.missed, pages[-1].capped, pages[-1].total) == (0, False, 40)
    assert [len(page.followers) for page in pages] == [5] * 8


async def test_a_successor_goes_on_in_the_same_days() -> None:
    provider = Provider(40, [1, 9, 3, 0, 0, 10, 9, 8])
    whole = await rest(reading(provider))

    for done in range(1, len(whole)):
        cursor = whole[done - 1].next_cursor
        assert cursor is not None
        again = Provider(40, provider.per_day)
        pages = await rest(reading(again, Position().resumed(cursor), ids(whole[:done])))

        assert ids(whole[:done] + pages) == provider.rows
        assert (pages[-1].position.missed, pages[-1].position.moved) == (0, False)


async def test_a_list_that_grows_beyond_the_ceiling_is_read_by_days_wherever_its_reader_is_replaced() -> None:
    def grow(provider: Provider) -> None:
        if len(provider.asked) == 3:
            provider.rows += ["late-1", "late-2", "late-3"]
            assert provider.per_day is not None
            provider.per_day[4] += 3

    for done in range(1, 4):
        provider = Provider(10, [2, 2, 2, 2, 2, 0, 0, 0], last=8)
        provider.plan = Offsets(count=3, last=8, days=DAYS)
        provider.before_request = partial(grow, provider)
        sweep = reading(provider)
        pages = [await sweep.read(3, None, 0) for _ in range(done)]
        await sweep.close()
        cursor = pages[-1].next_cursor
        assert cursor is not None

        pages += await rest(reading(provider, Position().resumed(cursor), ids(pages)))

        assert sorted(ids(pages)) == sorted(provider.rows)


async def test_a_day_beyond_the_ceiling_is_named() -> None:
    provider = Provider(40, [1, 9, 3, 14, 0, 5, 4, 4])

    pages = await rest(reading(provider))

    assert ids(pages) == provider.rows[:23] + provider.rows[27:]
    last = pages[-1].position
    assert (pages[-1].capped, last.day, last.missed) == (True, "2026-01-04", 4)


async def test_where_days_cannot_be_asked_for_the_list_is_read_as_far_as_it_goes() -> None:
    provider = Provider(40)

    pages = await rest(reading(provider))

    assert ids(pages) == provider.rows[:10]
    assert (pages[-1].capped, pages[-1].position.missed) == (True, 30)


async def test_where_days_make_no_difference_the_list_is_not_read_once_for_each_of_them() -> None:
    class Indifferent(Provider):
        def _of(self, span: str) -> list[str]:
            return self.rows

    provider = Indifferent(40)

    pages = await rest(reading(provider), ahead=3)

    assert ids(pages) == provider.rows[:10]
    last = pages[-1].position
    assert (pages[-1].capped, last.day, last.missed) == (True, None, 30)
    assert len(provider.asked) < 20


@pytest.mark.parametrize(("rows", "given"), [(45, 40), (80, 40), (60, 30), (45, 45)])
async def test_a_provider_that_gives_fewer_than_asked_is_taken_at_its_word(rows: int, given: int) -> None:
    provider = Provider(rows, last=9_950)
    provider.plan = Offsets(count=50, last=9_950, days=None)

    async def fetch(cursor: str | None) -> ProviderPage:
        page = await Provider.fetch(provider, cursor)
        followers = page.followers[:given]
        end = int(cursor or 0) + len(followers)
        return ProviderPage(followers=followers, next_cursor=str(end) if followers and end < rows else None, total=rows)

    sweep = Sweep(fetch, provider.plan, Position(), Ids(), published=set(), total=None)
    pages = await rest(sweep)

    assert ids(pages) == provider.rows
    assert (pages[-1].position.moved, pages[-1].position.missed) == (False, 0)
    assert len(provider.asked) <= 5


# Joins.


@pytest.mark.parametrize(
    ("known", "rows", "expected"),
    [
        ("abcdef", "defxyz", True),
        ("abcdef", "efxyz", False),  # two are not enough
        ("abcdef", "xfedcba", False),  # known, but in another order
        ("abcdef", "adxef", True),
        ("abcdefgh", "habcdxyz", True),  # one of them has moved
        ("abcdefgh", "gfabhdc", False),  # most of them have
        ("abcdef", "", False),
        ("", "abc", False),
    ],
)
def test_readings_join_where_enough_known_rows_keep_their_order(known: str, rows: str, expected: bool) -> None:
    assert common(known, rows).joins is expected


# Providers that don't fit themselves.


@pytest.mark.parametrize("rows", [1, 5, 60])
async def test_a_provider_that_does_not_look_at_the_row_number_is_left_within_few_requests(rows: int) -> None:
    provider = Provider(rows, last=1_000)

    async def fetch(cursor: str | None) -> ProviderPage:
        provider.asked.append(cursor)
        followers = [Follower(user_id=row) for row in provider.rows[:5]]
        return ProviderPage(followers=followers, next_cursor=None, total=rows + 2)

    pages = await rest(Sweep(fetch, provider.plan, Position(), Ids(), published=set(), total=None))

    assert ids(pages) == provider.rows[:5]
    assert pages[-1].position.missed is None
    assert len(provider.asked) <= BARREN + 2 * WALKS
    assert (BARREN, WALKS) == (40, 8)


async def test_days_whose_halves_never_fit_are_read_to_their_end_all_the_same() -> None:
    """Somebody leaves between any two requests, so that no two totals come to a third."""
    provider = Provider(60, [0, 0, 0, 20, 20, 20, 0, 0], last=20)

    def leave() -> None:
        if len(provider.rows) > 30:
            provider.rows.pop(0)
            assert provider.per_day is not None
            day = next(day for day, people in enumerate(provider.per_day) if people)
            provider.per_day[day] -= 1

    provider.before_request = leave
    pages = await rest(reading(provider))

    assert set(provider.rows) <= set(ids(pages)) or pages[-1].position.missed is None
    assert len(set(ids(pages))) == len(ids(pages))
    assert len(provider.asked) < 200
