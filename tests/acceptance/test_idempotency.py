"""The same job is done once, however often its command comes."""

from tests.acceptance.broker import new_id
from tests.acceptance.checking import check_run
from tests.acceptance.reading import EVENTS
from tests.acceptance.world import World


async def test_a_finished_job_published_again_costs_the_provider_nothing(world: World) -> None:
    oa = world.providers.oa(250)
    job = await world.publish("shop", oa)
    before = len((await job.end()).events)
    await world.broker.settled(job.sequence)
    requests = len(world.providers.requests(oa))

    again = await world.publish("shop", oa, id=job.id)
    command = {"provider": "etelecom", "id": job.id, "account": "shop", "oa_id": oa}
    third = await world.broker.publish("etelecom", command, message_id=new_id("message"))
    await world.broker.settled(again.sequence)
    await world.broker.settled(third.seq)

    assert len(world.providers.requests(oa)) == requests
    assert len((await job.reader.everything()).events) == before
    assert (await world.broker.status(job.id))["state"] == "completed"


async def test_the_same_message_id_again_is_not_even_a_message(world: World) -> None:
    oa, job_id = world.providers.oa(25), new_id()
    command = {"provider": "etelecom", "id": job_id, "account": "shop", "oa_id": oa}

    first = await world.broker.publish("etelecom", command, message_id=job_id)
    run = await world.follow("etelecom", job_id, oa, first.seq).end()
    again = await world.broker.publish("etelecom", command, message_id=job_id)

    assert again.duplicate
    check_run(run, ids=world.providers.etelecom.ids(oa))


async def test_a_running_job_published_again_is_not_run_twice(private_world: World) -> None:
    oa = private_world.providers.oa(1234)
    private_world.providers.slow(oa, 0.2)

    async with private_world.worker():
        job = await private_world.publish("shop", oa)
        await job.page(2)
        again = await private_world.publish("shop", oa, id=job.id)
        run = await job.end()
        await private_world.broker.settled(job.sequence)
        await private_world.broker.settled(again.sequence, timeout=20)

    end = check_run(run, ids=private_world.providers.etelecom.ids(oa))
    assert end["verdict"] == "complete"
    # The loser of the race may have asked for one page before it saw that the job is taken.
    assert len(private_world.providers.requests(oa)) <= 15 + 1


async def test_a_running_job_published_again_under_another_workers_eyes_is_not_run_twice(private_world: World) -> None:
    oa = private_world.providers.oa(1234)
    private_world.providers.slow(oa, 0.2)

    async with private_world.worker(), private_world.worker():
        job = await private_world.publish("shop", oa)
        others = [await private_world.publish("shop", oa, id=job.id) for _ in range(3)]
        run = await job.end()
        for each in (job, *others):
            await private_world.broker.settled(each.sequence, timeout=20)
        run = await job.reader.everything()

    check_run(run, ids=private_world.providers.etelecom.ids(oa))
    assert len(private_world.providers.requests(oa)) <= 15 + 2 * 3


async def test_without_an_id_the_message_id_is_the_job_id(world: World) -> None:
    oa, message_id = world.providers.oa(25), new_id("message")
    command = {"provider": "etelecom", "account": "shop", "oa_id": oa}

    ack = await world.broker.publish("etelecom", command, message_id=message_id)
    run = await world.follow("etelecom", message_id, oa, ack.seq).end()

    check_run(run, ids=world.providers.etelecom.ids(oa))


async def test_without_any_id_a_redelivery_finds_the_same_job(private_world: World) -> None:
    oa = private_world.providers.oa(1234)
    private_world.providers.slow(oa, 0.15)
    js = private_world.broker.js

    subscription = await js.subscribe(f"followers.job.*.{oa}.*", stream=EVENTS, ordered_consumer=True)
    async with private_world.worker() as first:
        ack = await private_world.broker.publish("etelecom", {"provider": "etelecom", "account": "shop", "oa_id": oa})
        job_id = (await subscription.next_msg(timeout=20)).subject.rpartition(".")[2]
        await subscription.unsubscribe()
        job = private_world.follow("etelecom", job_id, oa, ack.seq)
        await job.page(3)
        await first.kill()
    async with private_world.worker():
        run = await job.end()

    check_run(run, ids=private_world.providers.etelecom.ids(oa))
    info = await js.stream_info(EVENTS, subjects_filter=f"followers.page.*.{oa}.*")
    assert list(info.state.subjects or {}) == [f"followers.page.etelecom.{oa}.{job_id}"]
