"""One provider's outage is no other provider's business."""

from tests.acceptance.checking import check_run
from tests.acceptance.world import World
from worker.providers.simulators import Fault


async def test_a_provider_that_hangs_does_not_hold_up_the_other(private_world: World) -> None:
    private_world.config["worker"]["max_jobs"] = 2
    providers = private_world.providers
    hanging = [providers.oa(25) for _ in range(3)]
    for oa in hanging:
        providers.etelecom.inject(Fault(kind="hang", oa_id=oa, times=0))
    oa = providers.oa(1234)

    async with private_world.worker() as worker:
        stuck = [await private_world.publish("shop", each) for each in hanging]
        for each in hanging[:2]:
            await private_world.until_requests(each, 1)
        job = await private_world.publish("esms-get", oa)
        run = await job.end(timeout=20)
        events = [(await each.reader.everything()).events for each in stuck]
        await worker.kill()

    check_run(run, ids=providers.esms.ids(oa))
    assert not any(event.is_page or event.is_terminal for each in events for event in each)


async def test_one_job_that_hangs_does_not_hold_up_the_others_of_its_provider(world: World) -> None:
    providers = world.providers
    hanging, oa = providers.oa(25), providers.oa(250)
    providers.etelecom.inject(Fault(kind="hang", oa_id=hanging, seconds=3, times=1))

    stuck = await world.publish(providers.spare("etelecom"), hanging)
    await world.until_requests(hanging, 1)
    run = await (await world.publish("shop", oa)).end(timeout=20)
    late = await stuck.end()

    assert run.events[-1].sequence < late.events[-1].sequence
    check_run(run, ids=providers.etelecom.ids(oa))
    check_run(late, ids=providers.etelecom.ids(hanging))
