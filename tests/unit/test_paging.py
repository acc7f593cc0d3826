import asyncio

import pytest

from schemas import Follower
from worker.core.errors import BadResponseError, ProviderUnavailableError
from worker.core.paging import Reader
from worker.core.ports import ProviderPage


class Offsets:
    """Forty rows in pages of ten, by offset; remembers who asked and lets a test decide when to answer."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.cancelled: list[str | None] = []
        self.gates: dict[str | None, asyncio.Event] = {}
        self.short: set[str | None] = set()

    async def fetch(self, cursor: str | None) -> ProviderPage:
        self.asked.append(cursor)
        try:
            if cursor in self.gates:
                await self.gates[cursor].wait()
        except asyncio.CancelledError:
            self.cancelled.append(cursor)
            raise
        end = int(cursor or 0) + (9 if cursor in self.short else 10)
        return ProviderPage(followers=[], next_cursor=str(end) if end < 40 else None)

    def ahead(self, page: ProviderPage, count: int) -> list[str]:
        return [str(at) for at in range(int(page.next_cursor or 0), 40, 10)][:count]


async def test_pages_come_in_order_while_later_ones_are_on_their_way():
    provider = Offsets()
    provider.gates["20"] = asyncio.Event()
    reader = Reader(provider.fetch, provider.ahead)

    first = await reader.read(None, 2)
    second = await reader.read("10", 2)
    third = asyncio.create_task(reader.read("20", 2))
    await asyncio.sleep(0)

    assert (first.next_cursor, second.next_cursor) == ("10", "20")
    assert not third.done()
    provider.gates["20"].set()
    assert (await third).next_cursor == "30"
    await reader.close()


async def test_no_page_is_asked_for_twice_and_none_beyond_the_count():
    provider = Offsets()
    reader = Reader(provider.fetch, provider.ahead)

    cursor: str | None = None
    for ahead in (2, 2, 1, 0):
        cursor = (await reader.read(cursor, ahead)).next_cursor
        await asyncio.sleep(0)

    assert provider.asked == [None, "10", "20", "30"]


async def test_nothing_is_read_ahead_when_nothing_more_is_wanted():
    provider = Offsets()
    reader = Reader(provider.fetch, provider.ahead)

    await reader.read(None, 0)
    await asyncio.sleep(0)

    assert provider.asked == [None]


async def test_a_short_page_throws_away_what_was_read_at_the_wrong_offsets():
    provider = Offsets()
    provider.short = {"10"}
    provider.gates = {"20": asyncio.Event(), "30": asyncio.Event()}
    reader = Reader(provider.fetch, provider.ahead)
    await reader.read(None, 3)
    await asyncio.sleep(0)

    second = await reader.read("10", 3)
    third = await reader.read(second.next_cursor, 0)

    assert second.next_cursor == "19"
    assert third.next_cursor == "29"
    await asyncio.sleep(0)
    assert provider.cancelled == ["20", "30"]


async def test_an_error_ahead_is_raised_when_its_page_is_due_and_not_before():
    provider = Offsets()

    async def fetch(cursor: str | None) -> ProviderPage:
        if cursor == "20":
            raise ProviderUnavailableError("down")
        return await provider.fetch(cursor)

    reader = Reader(fetch, provider.ahead)

    await reader.read(None, 3)
    await reader.read("10", 3)

    with pytest.raises(ProviderUnavailableError):
        await reader.read("20", 3)
    await reader.close()


@pytest.mark.parametrize("circle", [["a", "a"], ["a", "b", "a"]])
async def test_cursors_that_run_in_a_circle_are_an_error(circle):
    following = dict(zip([None, *circle], circle, strict=False))

    async def fetch(cursor: str | None) -> ProviderPage:
        return ProviderPage(followers=[], next_cursor=following[cursor])

    reader = Reader(fetch, lambda page, count: [])

    async def read_on() -> None:
        cursor: str | None = None
        for _ in range(10):
            cursor = (await reader.read(cursor, 0)).next_cursor

    with pytest.raises(BadResponseError, match="circle"):
        await read_on()


@pytest.mark.parametrize("steady", [True, False])
async def test_the_rows_of_an_earlier_page_under_new_cursors_are_a_circle_where_rows_do_not_shift(steady: bool):
    async def fetch(cursor: str | None) -> ProviderPage:
        number = int(cursor or 0)
        rows = [Follower(user_id=str(number % 3))] if number else []
        return ProviderPage(followers=rows, next_cursor=str(number + 1), steady=steady)

    reader = Reader(fetch, lambda page, count: [])
    cursors: list[str | None] = [None, "1", "2", "3"]
    for cursor in cursors:
        await reader.read(cursor, 0)

    if not steady:
        await reader.read("4", 0)
        return
    with pytest.raises(BadResponseError, match="very rows"):
        await reader.read("4", 0)


async def test_closing_ends_the_requests_that_are_under_way():
    provider = Offsets()
    provider.gates = {cursor: asyncio.Event() for cursor in ("10", "20")}
    reader = Reader(provider.fetch, provider.ahead)
    await reader.read(None, 2)
    await asyncio.sleep(0)

    await reader.close()

    assert provider.cancelled == ["10", "20"]
