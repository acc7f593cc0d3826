"""A page that is cut into parts while its list moves: what a successor finds behind a part."""

import asyncio

import pytest

from schemas import FollowerPage, JobCompleted, Progress, decode
from schemas.follower import Follower
from schemas.wire import event_message
from tests.fakes import EPOCH, FakeClient, FakeLog
from tests.replica import PAGES, Replica, command
from worker.core.ports.provider import Order

SMALL = 2048 + 860
"""Bytes of a message: a page of 20 bare ids takes several."""


async def test_a_successor_behind_a_part_counts_what_the_page_found_once() -> None:
    client, log = FakeClient(100, paging="offset"), FakeLog(max_payload=1 << 20)
    await publish_as_the_version_before(log, client.users[:20])
    log.max_payload = SMALL
    first, stopped = Replica(client, log=log), asyncio.Event()

    async def unfollow(cursor: str | None) -> None:
        if cursor == "39" and len(client.users) == 100:
            del client.users[:35]

    async def stop_behind_a_part(subject: str) -> None:
        pages = pages_of(log) if subject == PAGES else []
        if pages and (pages[-1].page, pages[-1].part) == (3, 1):
            stopped.set()
            await asyncio.Event().wait()

    client.before_request = unfollow
    log.before_publish = stop_behind_a_part
    killed = asyncio.create_task(first.handle(command(page_size=20)))
    async with asyncio.timeout(5):
        await stopped.wait()
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    log.before_publish = None
    second = Replica(client, log=log)
    await second.handle(command(page_size=20, deliveries=2))

    missed = [page.progress.missed_at_most for page in pages_of(log)[1:]]
    ended = second.events[-1]
    assert all(number is not None and number >= 0 for number in missed), missed
    assert isinstance(ended, JobCompleted)
    assert ended.missed_at_most is not None
    assert ended.missed_at_most >= 0


@pytest.mark.parametrize("order", ["still", "rises"])
async def test_whoever_leaves_a_page_between_two_of_its_parts_comes_once(order: Order) -> None:
    """A worker dies behind part 1; read again, the page lacks somebody who is in that part, and comes later."""
    client, log = FakeClient(60), FakeLog(max_payload=SMALL)
    client.order = lambda command: order  # type: ignore[method-assign]
    first, stopped = Replica(client, log=log), asyncio.Event()

    async def stop_behind_a_part(subject: str) -> None:
        pages = pages_of(log) if subject == PAGES else []
        if pages and (pages[-1].page, pages[-1].part) == (1, 1):
            stopped.set()
            await asyncio.Event().wait()

    log.before_publish = stop_behind_a_part
    killed = asyncio.create_task(first.handle(command(page_size=20)))
    async with asyncio.timeout(5):
        await stopped.wait()
    killed.cancel()
    await asyncio.gather(killed, return_exceptions=True)
    log.before_publish = None
    assert pages_of(log)[0].parts > 1
    client.users.append(client.users.pop(0))
    second = Replica(client, log=log)
    await second.handle(command(page_size=20, deliveries=2))

    ended = second.events[-1]
    assert isinstance(ended, JobCompleted)
    assert sorted(second.ids) == sorted(client.users)
    assert (ended.distinct, ended.duplicates_dropped, ended.verdict) == (60, 1, "drifted")
    assert ended.missed_at_most == (None if order == "still" else 0)


def pages_of(log: FakeLog) -> list[FollowerPage]:
    return [decode(entry.data, FollowerPage) for entry in log.on(PAGES)]


async def publish_as_the_version_before(log: FakeLog, users: list[str]) -> None:
    """Page 1 of a list of 100, with a plain row number as cursor."""
    page = FollowerPage(
        job_id="j1",
        provider="etelecom",
        account="shop",
        oa_id="1",
        page=1,
        followers=[Follower(user_id=user) for user in users],
        total=100,
        cursor=None,
        next_cursor="20",
        last=False,
        fetched_at=EPOCH,
        progress=Progress(followers=20, duplicates_dropped=0, total_first=100, requests=1, started_at=EPOCH),
    )
    data, headers = event_message(page, id="1.1", time=EPOCH)
    await log.publish(PAGES, data, headers, 0)
