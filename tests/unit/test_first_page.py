"""The first page is asked for while the start is told: what may overtake what."""

import asyncio

from schemas.subjects import job_subject
from tests.fakes import FakeClient
from tests.replica import EVENTS, PAGES, Replica, command, kinds
from worker.core.errors import UnauthorizedError


async def test_the_first_request_does_not_wait_until_the_start_is_told():
    replica, asked = Replica(), asyncio.Event()

    async def request(cursor: str | None) -> None:
        asked.set()

    async def publish(subject: str) -> None:
        await asked.wait()

    replica.client.before_request, replica.log.before_publish = request, publish

    async with asyncio.timeout(5):
        await replica.handle(command())

    assert kinds(replica.events) == ["started", "completed"]


async def test_no_page_is_published_before_the_start_is_told():
    replica, answered, published = Replica(FakeClient(3)), asyncio.Event(), list[str]()

    async def request(cursor: str | None) -> None:
        answered.set()

    async def publish(subject: str) -> None:
        if not published:
            await answered.wait()
            for _ in range(20):  # time enough for whatever would overtake
                await asyncio.sleep(0)
        published.append(subject)

    replica.client.before_request, replica.log.before_publish = request, publish

    await replica.handle(command())

    assert published == [EVENTS, PAGES, EVENTS]


async def test_who_is_fenced_at_the_start_publishes_nothing_and_waits_for_no_answer():
    replica = Replica()
    replica.client.gate.clear()

    async def rival(subject: str) -> None:
        replica.log.before_publish = None
        await replica.log.publish(job_subject("etelecom", "1", "j1"), b"{}", {}, 0)

    replica.log.before_publish = rival

    async with asyncio.timeout(5):
        delivery = await replica.handle(command())

    assert replica.log.on(PAGES) == []
    assert delivery.acks == 0


async def test_a_first_page_that_fails_at_once_ends_the_job_after_its_start():
    replica = Replica()
    replica.client.fail_next(UnauthorizedError("the key isn't accepted"))

    await replica.handle(command())

    assert kinds(replica.events) == ["started", "failed"]
