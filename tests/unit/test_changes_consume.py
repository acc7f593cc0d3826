"""The change feed in a command's life: after the job's end, before the acknowledgement."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas.changes import ChangeEvent, FeedBaseline
from schemas.events import JobCompleted
from tests.changes_kit import CHANGES, FakeFeeds, FakeSnapshots, PlainPages, change_of, fake_feeds, told
from tests.fakes import FakeClient, FakeDelivery
from tests.replica import EVENTS, Replica, command, kinds
from tests.simulation.loop import run
from worker.core.changes import feeds as changes_module
from worker.core.changes.store import PATIENCE
from worker.core.jobs import handler as consume
from worker.core.jobs.handler import FAULTS_ALLOWED
from worker.core.ports.event_log import Entry


class Fed(Replica):
    """A replica with a change feed."""

    def __init__(self, client: FakeClient | None = None, *, drifted: bool = False, **world: Any) -> None:
        super().__init__(client, **world)
        self.feeds, self.snapshots = FakeFeeds(), FakeSnapshots()
        self.handler.changes = fake_feeds(self.world, self.feeds, self.snapshots, drifted=drifted)

    @property
    def changes(self) -> list[ChangeEvent]:
        return [change_of(entry) for entry in self.log.on(CHANGES)]

    async def fetch(self, job_id: str, **fields: Any) -> FakeDelivery:
        self.clock.advance(3600)
        return await self.handle(command(id=job_id, **fields))


async def test_two_complete_jobs_give_a_baseline_and_the_changes_between():
    replica = Fed()
    await replica.fetch("j1")
    replica.client.users = [*replica.client.users[1:], "7"]

    delivery = await replica.fetch("j2")

    assert told(replica.changes) == [
        ("FeedBaseline", 12), ("Followed", "7"), ("Unfollowed", "1000"), ("Compared", 12)
    ]  # fmt: skip
    assert (delivery.acks, delivery.naks) == (1, [])


async def test_changes_come_after_the_jobs_end_and_before_its_acknowledgement():
    replica = Fed()
    seen = []

    async def look(subject: str) -> None:
        if subject == CHANGES:
            seen.append((kinds(replica.events), delivery.acks, [one.state for one in replica.board.settled]))

    replica.log.before_publish = look
    delivery = command()
    await replica.handle(delivery)

    assert seen == [(["started", "completed"], 0, ["completed"])]


@pytest.mark.parametrize("fields", [{"max_pages": 1}, {"max_followers": 100}])
async def test_a_job_with_a_ceiling_gives_no_changes(fields: dict[str, int]):
    replica = Fed()

    await replica.fetch("j1", **fields)

    assert replica.changes == []
    assert replica.feeds.values == {}


@pytest.mark.parametrize("drifted", [False, True])
async def test_a_job_whose_list_moved_gives_changes_only_where_that_is_wished_and_nobody_is_missing(drifted: bool):
    client = FakeClient(12, paging="offset")
    replica = Fed(client, drifted=drifted)

    async def move(cursor: str | None) -> None:
        if cursor == "4":
            client.users.insert(0, "9")

    client.before_request = move
    await replica.fetch("j1")

    ended = replica.events[-1]
    assert isinstance(ended, JobCompleted)
    assert (ended.verdict, ended.missed_at_most) == ("drifted", 0)
    assert [type(one) for one in replica.changes] == ([FeedBaseline] if drifted else [])


async def test_a_failed_and_a_cancelled_job_give_no_changes():
    replica = Fed()
    await replica.control.cancel("j1")

    await replica.fetch("j1")

    assert kinds(replica.events) == ["cancelled"]
    assert replica.changes == []


async def test_a_worker_that_is_told_to_stop_finishes_what_takes_a_moment():
    replica = Fed()

    async def stop(subject: str) -> None:
        if subject == CHANGES:
            replica.draining.set()

    replica.log.before_publish = stop
    delivery = await replica.fetch("j1")

    assert (delivery.acks, delivery.naks) == (1, [])


async def test_a_worker_that_is_told_to_stop_hands_the_rest_of_the_changes_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(consume, "FINISH_WITHIN", 0.0)
    replica = Fed()
    await replica.fetch("j1")
    replica.client.users = [*replica.client.users, "7", "8"]

    async def stop(subject: str) -> None:
        if subject == CHANGES:
            replica.draining.set()

    replica.log.before_publish = stop
    delivery = await replica.fetch("j2")
    handed_back = told(replica.changes)
    successor = Fed(replica.client, log=replica.log, status=replica.board)
    successor.handler.changes = fake_feeds(successor.world, replica.feeds, replica.snapshots)
    replica.log.before_publish = None
    again = await successor.handle(command(id="j2", deliveries=2))

    assert (delivery.acks, delivery.naks) == (0, [1.0])
    assert handed_back == [("FeedBaseline", 12), ("Followed", "7")]
    assert (again.acks, again.naks) == (1, [])
    assert told(replica.changes) == [
        ("FeedBaseline", 12), ("Followed", "7"), ("Followed", "8"), ("Compared", 14)
    ]  # fmt: skip
    assert len(replica.log.on(EVENTS)) == 2, "the job was not run again"


async def test_missing_buckets_stop_no_job():
    replica = Fed()
    replica.feeds.missing = True

    delivery = await replica.fetch("j1")

    assert kinds(replica.events) == ["started", "completed"]
    assert (delivery.acks, delivery.naks) == (1, [])


def test_buckets_that_take_nothing_stop_a_job_for_minutes_and_no_longer():
    async def work() -> tuple[FakeDelivery, float]:
        replica = Fed()
        replica.feeds.full = True
        delivery = await replica.fetch("j1")
        return delivery, asyncio.get_running_loop().time()

    delivery, seconds = run(random.Random(1), work())

    assert (delivery.acks, delivery.naks) == (1, [])
    assert PATIENCE < seconds < 1.1 * PATIENCE


async def test_a_feed_that_fails_unexpectedly_is_left_after_some_tries_and_the_next_list_has_it_all(faults):
    replica = Fed()
    await replica.fetch("j1")
    replica.client.users = [*replica.client.users, "7"]
    broken, replica.snapshots.objects = replica.snapshots.objects, None  # type: ignore[assignment]

    deliveries = [await replica.fetch("j2", sequence=2) for _ in range(FAULTS_ALLOWED + 1)]
    replica.snapshots.objects = broken
    replica.client.users = [*replica.client.users, "8"]
    await replica.fetch("j3", sequence=3)

    assert [delivery.acks for delivery in deliveries] == [0] * FAULTS_ALLOWED + [1]
    assert told(replica.changes)[1:] == [("Followed", "7"), ("Followed", "8"), ("Compared", 14)]
    assert ["TypeError" in fault for fault in faults] == [True] * FAULTS_ALLOWED


async def test_a_command_for_a_job_that_another_one_ended_makes_no_feed_of_its_own_filter():
    replica = Fed()
    await replica.fetch("j1", sequence=1)

    delivery = await replica.fetch("j1", sequence=2, filter={"tags": ["VIP"]})

    assert delivery.acks == 1
    assert told(replica.changes) == [("FeedBaseline", 12)]
    assert list(replica.feeds.values) == ["etelecom.shop.1.all"]


async def test_without_a_change_feed_nothing_is_asked():
    replica = Replica()

    await replica.handle(command())

    assert replica.log.on(CHANGES) == []


async def test_a_list_of_which_nobody_knows_whom_it_passed_over_gives_no_changes():
    """In an order that may move, somebody who follows throughout can be missing from a list that looks complete."""
    client = FakeClient(12)
    client.order = lambda command: "unknown"  # type: ignore[method-assign]
    client.gives_total = False
    replica = Fed(client)
    await replica.fetch("j1", sort="full_name")

    async def move(cursor: str | None) -> None:
        if cursor == "1009":
            client.users.remove("1011")
            client.users.insert(6, "1011")

    client.before_request = move
    await replica.fetch("j2", sort="full_name")

    assert replica.changes == []


async def test_a_command_whose_changes_are_being_published_is_not_taken_for_a_stranded_one():
    replica, hold = Fed(), asyncio.Event()
    await replica.fetch("j1")
    replica.client.users = [*replica.client.users, "7", "8", "9"]
    published = 0

    async def stop_at_the_second(subject: str) -> None:
        nonlocal published
        published += subject == CHANGES
        if published == 2:
            await hold.wait()

    replica.log.before_publish = stop_at_the_second
    replica.clock.advance(3600)
    publishing = asyncio.create_task(replica.handle(command(id="j2", sequence=5)))
    while published < 2:
        await asyncio.sleep(0)
    other = Replica(
        replica.client,
        log=replica.log,
        status=replica.board,
        dead_letters=replica.letters,
        cancellations=replica.cancellations,
    )
    same = command(id="j2", sequence=5)
    await other.handler.handle_stranded(same)
    hold.set()
    await publishing

    assert (same.acks, same.naks) == (0, [])


def test_a_full_bucket_is_waited_for_once_and_not_by_each_job():
    async def forty_jobs() -> float:
        replica, slots = Fed(), asyncio.Semaphore(4)
        replica.feeds.full = True

        async def one(number: int) -> FakeDelivery:
            async with slots:
                return await replica.handle(command(id=f"f{number}", oa_id=str(number), sequence=number + 1))

        began = asyncio.get_running_loop().time()
        assert {delivery.acks for delivery in await asyncio.gather(*map(one, range(40)))} == {1}
        return asyncio.get_running_loop().time() - began

    assert run(random.Random(1), forty_jobs()) < 2 * PATIENCE


def test_buckets_that_came_back_are_waited_for_anew_when_they_go_again():
    async def work() -> float:
        replica = Fed()
        replica.feeds.full = True
        await replica.fetch("j1")
        replica.feeds.full = False
        await replica.fetch("j2", sequence=2)
        assert told(replica.changes) == [("FeedBaseline", 12)]
        replica.feeds.full, began = True, asyncio.get_running_loop().time()
        await replica.fetch("j3", sequence=3)
        return asyncio.get_running_loop().time() - began

    assert PATIENCE < run(random.Random(1), work()) < 1.1 * PATIENCE


async def test_lists_that_wait_for_each_other_have_one_time_to_finish_in_common(monkeypatch: pytest.MonkeyPatch):
    class SlowPages(PlainPages):
        async def read(self, subject: str, last: int, *, sure: bool = False) -> AsyncIterator[list[Entry]]:
            for _ in range(50):
                await asyncio.sleep(0.02)
                yield []

    monkeypatch.setattr(changes_module, "LARGE", 1)
    monkeypatch.setattr(consume, "FINISH_WITHIN", 0.1)
    replica = Fed()
    replica.handler.changes = fake_feeds(replica.world, replica.feeds, replica.snapshots, pages=SlowPages(replica.log))
    jobs = [asyncio.create_task(replica.handle(command(id=f"k{n}", sequence=10 + n))) for n in range(8)]
    while sum(status.state == "completed" for status in replica.board.settled) < 8:
        await asyncio.sleep(0.01)

    began = asyncio.get_running_loop().time()
    replica.draining.set()
    await asyncio.gather(*jobs)

    assert asyncio.get_running_loop().time() - began < 4 * 0.1
