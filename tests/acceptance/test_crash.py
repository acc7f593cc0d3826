"""Whatever dies in the middle of a job, its pages stay in order, complete, and each exactly once."""

import asyncio
import signal
import time

import pytest

from tests.acceptance.checking import check_run
from tests.acceptance.road import road
from tests.acceptance.world import Job, World

SLOW = {"shop": 0.15, "esms-get": 0.3}
"""Seconds an answer takes: long enough that page 4 is far from the end."""


@pytest.mark.parametrize("account", ["shop", "esms-get"])
async def test_a_second_worker_goes_on_where_a_killed_one_stopped(private_world: World, account: str) -> None:
    oa = private_world.providers.oa(1234)
    private_world.providers.slow(oa, SLOW[account])

    async with private_world.worker() as first:
        job = await private_world.publish(account, oa)
        await job.page(4)
        await first.kill()
    left_behind = (await job.reader.everything()).pages[-1].body["page"]
    async with private_world.worker():
        run = await job.end()
        await private_world.broker.settled(job.sequence)

    ids = private_world.providers.esms.ids(oa) if account == "esms-get" else private_world.providers.etelecom.ids(oa)
    end = check_run(run, ids=ids)
    assert (end["type"], end["verdict"], end["followers"]) == ("completed", "complete", 1234)
    starts = run.of_type("started")
    assert [start["resumed_at_page"] for start in starts] == [1, left_behind + 1]
    assert starts[-1]["attempt"] > starts[0]["attempt"]


async def test_a_worker_that_is_told_to_stop_hands_its_job_on_within_three_seconds(private_world: World) -> None:
    private_world.config["worker"]["ack_wait"] = 30  # so that only a hand-over, not a time-out, can be this quick
    oa = private_world.providers.oa(1234)
    private_world.providers.slow(oa, 0.4)

    async with private_world.worker() as first:
        job = await private_world.publish("shop", oa)
        await job.page(1)
        async with private_world.worker():
            await job.page(3)
            result = await first.stop(timeout=25)
            stopped = time.monotonic()
            left_behind = (await job.reader.everything()).pages[-1].body["page"]
            await job.page(left_behind + 1)
            pause = time.monotonic() - stopped
            run = await job.end()
            await private_world.broker.settled(job.sequence)

    assert result.code == 0, result.err
    assert left_behind < run.end["pages"], "the job was over before the worker stopped"
    assert pause < 3, f"the next page came {pause:.1f} s after the first worker had gone"
    check_run(run, ids=private_world.providers.etelecom.ids(oa))
    assert run.end["verdict"] == "complete"
    assert len(run.of_type("started")) == 2


async def test_a_job_outlives_the_death_of_the_nats_server(private_world: World) -> None:
    oa = private_world.providers.oa(1234)
    private_world.providers.slow(oa, 0.2)

    async with private_world.worker() as worker:
        job = await private_world.publish("shop", oa)
        await job.page(4)
        await job.reader.close()
        await private_world.broker.server.kill()
        await worker.answers("/readyz", 503)
        await private_world.broker.server.start()
        await worker.ready()
        after = private_world.follow("etelecom", job.id, oa, job.sequence)
        run = await after.end(timeout=90)
        await private_world.broker.settled(job.sequence)
        assert worker.process.poll() is None

    end = check_run(run, ids=private_world.providers.etelecom.ids(oa))
    assert (end["verdict"], end["followers"]) == ("complete", 1234)


async def test_a_worker_killed_between_two_parts_of_a_page_leaves_no_trace(private_world: World) -> None:
    oa = private_world.providers.oa(250)
    ids = private_world.providers.heavy.ids(oa)

    job = await killed_at(private_world, [b'"part":2,'], "heavy", oa)
    left_behind = (await job.reader.everything()).pages[-1].body
    async with private_world.worker():
        run = await job.end()

    assert (left_behind["page"], left_behind["part"]) == (1, 1)
    assert left_behind["parts"] > 1
    end = check_run(run, ids=ids)
    assert (end["verdict"], end["followers"]) == ("complete", 250)


async def test_a_worker_killed_before_its_terminal_event_leaves_it_to_the_next(private_world: World) -> None:
    oa = private_world.providers.oa(250)

    job = await killed_at(private_world, [b"vn.followers.job.completed.v1"], "shop", oa)
    left_behind = await job.reader.everything()
    requests = len(private_world.providers.requests(oa))
    assert left_behind.pages[-1].body["last"] is True
    async with private_world.worker():
        run = await job.end()
        await private_world.broker.settled(job.sequence)

    end = check_run(run, ids=private_world.providers.etelecom.ids(oa))
    assert (end["verdict"], end["followers"]) == ("complete", 250)
    assert len(private_world.providers.requests(oa)) == requests, "all pages were there"


async def test_a_worker_killed_before_its_acknowledgement_has_done_its_job(private_world: World) -> None:
    oa = private_world.providers.oa(250)

    job = await killed_at(private_world, [b"vn.followers.job.completed.v1", b"$JS.ACK."], "esms-get", oa)
    before = len((await job.reader.everything()).events)
    requests = len(private_world.providers.requests(oa))
    async with private_world.worker():
        await private_world.broker.settled(job.sequence)
        run = await job.end()

    assert len(run.events) == before
    assert len(private_world.providers.requests(oa)) == requests
    check_run(run, ids=private_world.providers.esms.ids(oa))


async def test_a_worker_killed_after_a_dead_letter_leaves_one_dead_letter(private_world: World) -> None:
    job = await killed_at(
        private_world, [b"vn.followers.job.failed.v1"], "shop-wrong-key", private_world.providers.oa(25)
    )
    assert await private_world.broker.dead_letters("etelecom") == 1, "first the dead letter, then the event"
    async with private_world.worker():
        run = await job.end()
        await private_world.broker.settled(job.sequence)

    assert check_run(run)["error"]["code"] == "unauthorized"
    assert await private_world.broker.dead_letters("etelecom") == 1


async def test_a_worker_that_wakes_from_a_long_sleep_disturbs_nobody(private_world: World) -> None:
    oa = private_world.providers.oa(1234)
    private_world.providers.slow(oa, 0.3)

    async with private_world.worker() as sleeper:
        job = await private_world.publish("shop", oa)
        await job.page(2)
        sleeper.signal(signal.SIGSTOP)
        async with private_world.worker():
            await job.page(5)
            sleeper.signal(signal.SIGCONT)
            await job.end()
            await private_world.broker.settled(job.sequence)
            await sleeper.answers("/healthz", 200)
            await sleeper.stop()
        run = await job.reader.everything()

    end = check_run(run, ids=private_world.providers.etelecom.ids(oa))
    assert (end["verdict"], end["followers"]) == ("complete", 1234)


async def killed_at(world: World, marks: list[bytes], account: str, oa: str) -> Job:
    """Publish a command and SIGKILL its worker at the moment at which it sends the last of `marks` to NATS."""
    async with (
        road(world.broker.url, *marks) as way,
        world.worker(config=world.config | {"nats": {"servers": [way.url]}}) as doomed,
    ):
        job = await world.publish(account, oa)
        async with asyncio.timeout(20):
            await way.reached.wait()
        await doomed.kill()
    return job
