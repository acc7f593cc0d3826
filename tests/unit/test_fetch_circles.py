"""A provider whose pages name each other without an end, and bring nobody new."""

import msgspec
import pytest

from schemas import Follower, JobCompleted, JobFailed
from schemas.commands import FetchFollowers
from tests.fakes import FakeClient
from tests.replica import Replica, command, kinds
from worker.core.jobs.run import BARREN_PAGES
from worker.core.ports.provider import Order, ProviderPage


class Circle(FakeClient):
    """Gives so many pages of new people, then those of the first one again and again, under ever new cursors."""

    def __init__(self, fruitful: int, barren: int, order: Order = "unknown") -> None:
        super().__init__()
        self.fruitful, self.barren, self._order = fruitful, barren, order

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        self.requests.append(cursor)
        number = int(cursor or 0)
        row = number if number < self.fruitful else 0
        more = number + 1 < self.fruitful + self.barren
        return ProviderPage(
            followers=[Follower(user_id=f"user-{row}")], next_cursor=str(number + 1) if more else None, total=None
        )

    def order(self, command: FetchFollowers) -> Order:
        return self._order


@pytest.mark.parametrize("fruitful", [1, 2, 5])
async def test_as_many_pages_as_brought_somebody_and_eight_more_may_bring_nobody_new(fruitful: int):
    replica = Replica(Circle(fruitful, fruitful + BARREN_PAGES))

    await replica.handle(command())

    assert kinds(replica.events) == ["started", "completed"]
    assert len(replica.pages) == 2 * fruitful + 8
    assert replica.ids == [f"user-{row}" for row in range(fruitful)]


@pytest.mark.parametrize("fruitful", [1, 2, 5])
async def test_pages_that_bring_nobody_new_without_an_end_end_the_job(fruitful: int):
    replica = Replica(Circle(fruitful, 10**9))

    delivery = await replica.handle(command())

    assert kinds(replica.events) == ["started", "failed"]
    end = replica.events[-1]
    assert isinstance(end, JobFailed)
    assert end.error.code == "bad_response"
    assert end.error.message == (
        f"the provider's paging runs in a circle: {fruitful + 9} pages brought nobody new; publish the command again "
        "under a new id, and tell the provider if it happens again"
    )
    assert len(replica.pages) == 2 * fruitful + 8
    assert len(replica.letters.letters) == delivery.acks == 1


@pytest.mark.parametrize(
    ("order", "claimed"), [("still", (True, None)), ("rises", (False, 0)), ("unknown", (False, None))]
)
async def test_who_comes_twice_in_a_list_whose_rows_stand_still_shows_that_they_move(
    order: Order, claimed: tuple[bool, int | None]
):
    replica = Replica(Circle(2, 1, order))

    await replica.handle(command())

    progress = replica.pages[-1].progress
    assert (progress.moved, progress.missed_at_most) == claimed
    assert progress.duplicates_dropped == 1
    assert (replica.pages[1].progress.moved, replica.pages[1].progress.duplicates_dropped) == (False, 0)
    end = replica.events[-1]
    assert isinstance(end, JobCompleted)
    assert msgspec.to_builtins(end)["verdict"] == "drifted"
