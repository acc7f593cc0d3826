import asyncio

import pytest

from schemas import Follower
from worker.core.errors import BadResponseError, ProviderUnavailableError
from worker.core.paging.cursor_reader import EMPTY_PAGES, Ahead, Reader
from worker.core.ports.provider import ProviderPage


class Rows:
    """Answers each cursor with the next number; remembers who asked and lets a test decide when to answer."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.cancelled: list[str | None] = []
        self.gates: dict[str | None, asyncio.Event] = {}

    async def fetch(self, cursor: str | None) -> ProviderPage:
        self.asked.append(cursor)
        try:
            if cursor in self.gates:
                await self.gates[cursor].wait()
        except asyncio.CancelledError:
            self.cancelled.append(cursor)
            raise
        end = int(cursor or 0) + 10
        return ProviderPage(followers=[Follower(user_id=str(end))], next_cursor=str(end) if end < 40 else None)


async def test_what_is_wanted_is_on_its_way_before_it_is_asked_for_and_only_once():
    provider = Rows()
    ahead = Ahead(provider.fetch)

    ahead.want(["10", "20"])
    ahead.want(["10", "20", "30"])
    await asyncio.sleep(0)
    pages = [await ahead.get(cursor) for cursor in (None, "10", "20", "30")]

    assert provider.asked == ["10", "20", "30", None]
    assert [page.next_cursor for page in pages] == ["10", "20", "30", None]


async def test_what_is_no_longer_wanted_is_ended():
    provider = Rows()
    provider.gates = {"20": asyncio.Event(), "30": asyncio.Event()}
    ahead = Ahead(provider.fetch)
    ahead.want(["20", "30"])
    await asyncio.sleep(0)

    ahead.want(["19"])
    await asyncio.sleep(0)

    assert provider.cancelled == ["20", "30"]
    assert (await ahead.get("19")).next_cursor == "29"


async def test_an_error_ahead_is_raised_when_its_page_is_due_and_not_before():
    provider = Rows()

    async def fetch(cursor: str | None) -> ProviderPage:
        if cursor == "20":
            raise ProviderUnavailableError("down")
        return await provider.fetch(cursor)

    ahead = Ahead(fetch)

    ahead.want(["10", "20"])
    await ahead.get("10")

    with pytest.raises(ProviderUnavailableError):
        await ahead.get("20")


async def test_the_next_page_is_read_ahead_only_where_it_is_wanted():
    provider = Rows()
    reader = Reader(provider.fetch)

    first = await reader.read(None, ahead=True)
    await asyncio.sleep(0)
    await reader.read(first.next_cursor, ahead=False)
    await asyncio.sleep(0)

    assert provider.asked == [None, "10"]


@pytest.mark.parametrize("circle", [["a", "a"], ["a", "b", "a"]])
async def test_cursors_that_run_in_a_circle_are_an_error(circle):
    following = dict(zip([None, *circle], circle, strict=False))

    async def fetch(cursor: str | None) -> ProviderPage:
        return ProviderPage(followers=[], next_cursor=following[cursor])

    reader = Reader(fetch)

    async def read_on() -> None:
        cursor: str | None = None
        for _ in range(10):
            cursor = (await reader.read(cursor, ahead=False)).next_cursor

    with pytest.raises(BadResponseError, match="circle"):
        await read_on()


@pytest.mark.parametrize("steady", [True, False])
async def test_the_rows_of_an_earlier_page_under_new_cursors_are_a_circle_where_rows_do_not_shift(steady: bool):
    async def fetch(cursor: str | None) -> ProviderPage:
        number = int(cursor or 0)
        rows = [Follower(user_id=str(number % 3) if number else "first")]
        return ProviderPage(followers=rows, next_cursor=str(number + 1), steady=steady)

    reader = Reader(fetch)
    cursors: list[str | None] = [None, "1", "2", "3"]
    for cursor in cursors:
        await reader.read(cursor, ahead=False)

    if not steady:
        await reader.read("4", ahead=False)
        return
    with pytest.raises(BadResponseError, match="very rows"):
        await reader.read("4", ahead=False)


async def test_a_page_without_anybody_that_names_another_one_is_passed_over():
    following = {None: "a", "a": "b", "b": "c", "c": None}

    async def fetch(cursor: str | None) -> ProviderPage:
        rows = [Follower(user_id="1")] if cursor == "b" else []
        return ProviderPage(followers=rows, next_cursor=following[cursor])

    reader = Reader(fetch)
    first = await reader.read(None, ahead=False)
    last = await reader.read(first.next_cursor, ahead=False)

    assert ([follower.user_id for follower in first.followers], first.next_cursor) == (["1"], "c")
    assert (list(last.followers), last.next_cursor) == ([], None)


@pytest.mark.parametrize(("empty", "ends"), [(EMPTY_PAGES - 1, True), (EMPTY_PAGES, False)])
async def test_pages_without_anybody_are_passed_over_within_a_bound(empty: int, ends: bool):
    async def fetch(cursor: str | None) -> ProviderPage:
        number = int(cursor or 0)
        return ProviderPage(followers=[], next_cursor=str(number + 1) if number < empty else None)

    reader = Reader(fetch)

    if ends:
        assert (await reader.read(None, ahead=False)).next_cursor is None
        return
    with pytest.raises(BadResponseError) as raised:
        await reader.read(None, ahead=False)
    assert raised.value.message == (
        "the provider gave 16 pages in a row without followers, each with another one to follow: nobody knows where "
        "the list ends; publish the command again under a new id, and tell the provider if it happens again"
    )


class Ending:
    """Gives so many people and a next cursor, answer by answer."""

    def __init__(self, *answers: tuple[int, str | None]) -> None:
        self.asked: list[str | None] = []
        self._answers = list(answers)

    async def fetch(self, cursor: str | None) -> ProviderPage:
        self.asked.append(cursor)
        people, following = self._answers.pop(0)
        return ProviderPage(followers=[Follower(user_id=str(n)) for n in range(people)], next_cursor=following)


@pytest.mark.parametrize(
    ("cursor", "answers", "asked", "found"),
    [
        ("a", [(0, None), (0, None)], ["a", "a"], (0, None)),
        ("a", [(0, None), (2, "b")], ["a", "a"], (2, "b")),
        ("a", [(0, None), (2, None)], ["a", "a"], (2, None)),
        ("a", [(0, None), (0, "b"), (0, None), (1, "c")], ["a", "a", "b", "b"], (1, "c")),
        ("a", [(2, None)], ["a"], (2, None)),
        (None, [(0, None)], [None], (0, None)),
        (None, [(0, "a"), (0, None), (0, None)], [None, "a", "a"], (0, None)),
    ],
)
async def test_an_end_of_nobody_that_another_page_has_named_is_asked_for_once_more(
    cursor: str | None, answers: list[tuple[int, str | None]], asked: list[str | None], found: tuple[int, str | None]
):
    provider = Ending(*answers)
    reader = Reader(provider.fetch)

    page = await reader.read(cursor, ahead=False)

    assert (len(page.followers), page.next_cursor) == found
    assert (provider.asked, reader.answers) == (asked, len(asked))


async def test_closing_ends_the_requests_that_are_under_way():
    provider = Rows()
    provider.gates = {cursor: asyncio.Event() for cursor in ("10", "20")}
    ahead = Ahead(provider.fetch)
    ahead.want(["10", "20"])
    await asyncio.sleep(0)

    await ahead.close()

    assert provider.cancelled == ["10", "20"]


async def test_no_more_than_sixteen_pages_without_anybody_are_asked_for():
    asked: list[str | None] = []

    async def fetch(cursor: str | None) -> ProviderPage:
        asked.append(cursor)
        return ProviderPage(followers=[], next_cursor=str(len(asked)))

    with pytest.raises(BadResponseError):
        await Reader(fetch).read(None, ahead=False)

    assert asked == [None, *map(str, range(1, 16))]
    assert EMPTY_PAGES == 16


async def test_who_stands_on_the_sixteenth_of_those_pages_is_read():
    async def fetch(cursor: str | None) -> ProviderPage:
        number = int(cursor or 0)
        rows = [Follower(user_id="1")] if number == EMPTY_PAGES - 1 else []
        return ProviderPage(followers=rows, next_cursor=str(number + 1))

    page = await Reader(fetch).read(None, ahead=False)

    assert (len(page.followers), page.next_cursor) == (1, "16")


async def test_aborting_ends_what_is_waited_for_and_what_is_ahead():
    provider = Rows()
    provider.gates = {cursor: asyncio.Event() for cursor in (None, "10")}
    ahead = Ahead(provider.fetch)
    ahead.want(["10"])
    waited = asyncio.ensure_future(ahead.get(None))
    for _ in range(3):
        await asyncio.sleep(0)

    ahead.abort()

    with pytest.raises(asyncio.CancelledError):
        await waited
    await ahead.close()
    assert sorted(provider.cancelled, key=str) == ["10", None]


async def test_a_wait_that_is_cancelled_ends_its_request():
    provider = Rows()
    provider.gates = {None: asyncio.Event()}
    ahead = Ahead(provider.fetch)
    waited = asyncio.ensure_future(ahead.get(None))
    for _ in range(3):
        await asyncio.sleep(0)

    waited.cancel()
    await asyncio.wait([waited])
    await asyncio.sleep(0)

    assert provider.cancelled == [None]


async def test_nothing_is_asked_for_ahead_behind_the_last_page():
    provider = Rows()
    reader = Reader(provider.fetch)

    await reader.read("30", ahead=True)
    await asyncio.sleep(0)

    assert provider.asked == ["30"]
