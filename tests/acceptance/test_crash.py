"""Whatever dies in the middle of a job, its pages stay in order, complete, and each exactly once."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from tests.acceptance.checking import check_run
from tests.acceptance.product import free_port
from tests.acceptance.world import World

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

    async with _narrow_road(private_world, bytes_per_second=1_500_000) as road:
        config = private_world.config | {"nats": {"servers": [road]}}
        async with private_world.worker(config=config) as first:
            job = await private_world.publish("heavy", oa)
            await job.reader.part(1, 1)
            await first.kill()
    left_behind = (await job.reader.everything()).pages[-1].body
    async with private_world.worker():
        run = await job.end()

    assert left_behind["part"] < left_behind["parts"], "the worker was not killed between two parts"
    end = check_run(run, ids=ids)
    assert (end["verdict"], end["followers"]) == ("complete", 250)


@contextlib.asynccontextmanager
async def _narrow_road(world: World, bytes_per_second: int) -> AsyncIterator[str]:
    """An address that leads to NATS, slowly in the worker's direction: so the parts of a page come apart in time."""
    host, port = world.broker.url.removeprefix("nats://").split(":")
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause: float) -> None:
        with contextlib.suppress(ConnectionError):
            try:
                while data := await reader.read(32_768):
                    writer.write(data)
                    await writer.drain()
                    await asyncio.sleep(len(data) * pause)
            finally:
                writer.close()
                await writer.wait_closed()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        for each in (carry(reader, far_writer, 1 / bytes_per_second), carry(far_reader, writer, 0)):
            task = asyncio.create_task(each)
            tasks.add(task)

    near = free_port()
    server = await asyncio.start_server(accept, "127.0.0.1", near)
    try:
        yield f"nats://127.0.0.1:{near}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
