"""What the head of a list shows that was read before: who may have moved there meanwhile."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from schemas import Follower, JobCompleted
from schemas.commands import FetchFollowers
from tests.fakes import FakeClient
from tests.replica import Replica, command
from worker.core.errors import ForbiddenError
from worker.core.jobs.checkpoint import Standing
from worker.core.jobs.head_check import look_back
from worker.core.ports.provider import Order, ProviderPage

BEGAN = datetime(2026, 11, 30, 12, tzinfo=UTC)
Row = tuple[str, float | None]
"""A user id, and so many seconds before the job began it was updated."""


def people(*rows: Row) -> list[Follower]:
    return [
        Follower(user_id=id, updated_at=None if ago is None else BEGAN - timedelta(seconds=ago)) for id, ago in rows
    ]


async def looked(
    head: Sequence[Row] | None, first: Sequence[Row], order: Order = "falls", *, alone: bool = False
) -> Standing:
    """Return where a job stands that has found `head` (None: it can't be read) in place of `first`."""
    standing = Standing(started_at=BEGAN, page=3, missed_at_most=7)

    async def read_head() -> ProviderPage:
        if head is None:
            raise ForbiddenError("no")
        return ProviderPage(followers=people(*head), next_cursor="c")

    async def first_page() -> list[Follower]:
        return people(*first)

    await look_back(order, standing, "j", read_head, first_page, alone=alone)
    return standing


PAGE: list[Row] = [("1", 10), ("2", 20), ("3", 20)]


async def test_the_same_people_with_the_same_times_show_that_nobody_moved():
    found = await looked(PAGE, PAGE)

    assert (found.missed_at_most, found.moved) == (0, False)


@pytest.mark.parametrize(
    "head",
    [
        [("1", -5), ("2", 20), ("3", 20)],
        [("1", 9.999), ("2", 20), ("3", 20)],
        [("8", 1), ("1", 10), ("2", 20)],
        [("1", 10), ("2", 20)],
        [("1", None), ("2", 20), ("3", 20)],
        [],
    ],
)
async def test_another_person_or_another_time_at_the_head_leaves_open_who_was_missed(head: list[Row]):
    found = await looked(head, PAGE)

    assert (found.missed_at_most, found.moved) == (None, True)


@pytest.mark.parametrize(
    "page",
    [
        [("1", None), ("2", None)],
        [("1", None), ("2", 20), ("3", 30)],
        [("1", 20), ("2", 10)],
        [("1", 30), ("2", 10), ("3", 20)],
        [("1", 10)],
        [("1", 10), ("2", 10)],
        [("1", 86_400)],
        [],
    ],
)
async def test_a_head_that_would_not_show_who_came_shows_nothing(page: list[Row]):
    found = await looked(page, page)

    assert (found.missed_at_most, found.moved) == (None, False)


@pytest.mark.parametrize(
    "page", [[("1", 86_401)], [("1", 90_000), ("2", 90_000)], [("1", 10), ("2", 10), ("3", None), ("4", 11)]]
)
async def test_a_time_long_before_the_job_or_several_show_who_would_have_come(page: list[Row]):
    found = await looked(page, page)

    assert (found.missed_at_most, found.moved) == (0, False)


@pytest.mark.parametrize(("order", "missed"), [("still", 7), ("rises", 7), ("unknown", None)])
async def test_under_another_order_the_head_shows_no_more_than_that_it_moved(order: Order, missed: int | None):
    same, other = await looked(PAGE, PAGE, order), await looked(PAGE[1:], PAGE, order)

    assert (same.missed_at_most, same.moved) == (missed, False)
    assert (other.missed_at_most, other.moved) == (missed, order == "unknown")


@pytest.mark.parametrize("order", ["falls", "unknown"])
async def test_a_list_in_one_answer_is_whole_under_any_order(order: Order):
    found = await looked(None, [], order, alone=True)

    assert (found.missed_at_most, found.moved) == (0, False)


async def test_a_head_that_cannot_be_read_leaves_open_who_was_missed():
    found = await looked(None, PAGE)

    assert (found.missed_at_most, found.moved) == (None, False)


class Falling(FakeClient):
    """People whose rows don't say when they changed, in an order by which they may move to the head."""

    def order(self, command: FetchFollowers) -> Order:
        return "falls"


async def test_the_last_page_of_a_list_that_is_gone_on_with_is_not_the_whole_list():
    first = Replica(Falling(12))
    first.client.fail_at("1009", asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await first.handle(command())
    second = Replica(Falling(12), log=first.log, status=first.board, worker="worker-2")

    await second.handle(command(deliveries=2))

    end = second.events[-1]
    assert isinstance(end, JobCompleted)
    assert second.client.requests == ["1009", None]
    assert (end.followers, end.verdict, end.missed_at_most) == (12, "drifted", None)


async def test_a_list_of_one_page_needs_no_look_back():
    replica = Replica(Falling(5))

    await replica.handle(command())

    end = replica.events[-1]
    assert isinstance(end, JobCompleted)
    assert replica.client.requests == [None]
    assert (end.verdict, end.missed_at_most) == ("complete", 0)
