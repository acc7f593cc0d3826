"""Jobs with large answers under one budget, in virtual time: all end, in turns, and what is held is bounded."""

import asyncio
import random
from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from schemas import FollowerPage, decode
from schemas.commands import FetchFollowers
from schemas.jobs import JobStatus
from schemas.subjects import page_subject
from tests.fakes import FakeClient, FakeDelivery, FakeLog, make_world
from tests.limits_kit import FakeSharedLimit, SharedState
from tests.simulation.loop import run
from worker.core.errors import ProviderUnavailableError, RateLimitedError
from worker.core.jobs.handler import CommandHandler, OpenAccount
from worker.core.memory import COST, HOLD, ROW, Budget
from worker.core.ports.provider import ProviderPage
from worker.core.ratelimit.admission import open_gate
from worker.core.ratelimit.gcra import Limit
from worker.core.ratelimit.shared import Share
from worker.providers.http.client import _find_room

KB = 1000
PAGE = 5


class HeavyClient(FakeClient):
    """Answers come in pieces over few connections, as `HttpClient` reads them, and take up room."""

    def __init__(self, users: int, dice: random.Random, *, sizes: tuple[int, ...], connections: int, offset: bool):
        super().__init__(users, paging="offset" if offset else "cursor")
        self.dice, self.sizes = dice, sizes
        self.connections = asyncio.Semaphore(connections)
        self.before_request = self.receive
        self.ids_alone = offset

    async def fetch(self, command: FetchFollowers, cursor: str | None) -> ProviderPage:
        return replace(await super().fetch(command, cursor), ids_alone=self.ids_alone)

    async def receive(self, cursor: str | None) -> None:
        hold = HOLD.get()
        assert hold is not None
        body, says = self.dice.choice(self.sizes), self.dice.random() < 0.5
        async with asyncio.timeout(60) as deadline, self.connections:
            await asyncio.sleep(self.dice.random())
            hold.receive()
            for held in range(body // 4, body + 1, body // 4):
                if COST * held > hold.size:
                    await _find_room(hold, body if says else held, deadline)
                await asyncio.sleep(self.dice.random() / 10)
        hold.settle(body, 0)


class SlowLog(FakeLog):
    """Publishing takes a while."""

    async def publish(self, *arguments: object, **options: object) -> int:
        await asyncio.sleep(0.05)
        return await super().publish(*arguments, **options)  # type: ignore[arg-type]


class Replica:
    def __init__(self, client: FakeClient, limit: int, *, rate: float = 0.0, prefetch: int = 8) -> None:
        self.budget, self.peak = Budget(limit), 0
        self.log = SlowLog()
        self.world = make_world(log=self.log, budget=self.budget, prefetch=prefetch)
        share = None
        if rate:
            share = Share("shop", Limit(rate), FakeSharedLimit(Limit(rate), SharedState()), self.world.dice)
        gate = open_gate("shop", "etelecom", self.world, share)
        accounts = {"shop": OpenAccount("shop", "etelecom", client, gate)}
        self.draining = asyncio.Event()
        self.handler = CommandHandler(accounts, self.world, self.draining)

    async def run(self, jobs: int) -> list[FakeDelivery]:
        watch = asyncio.create_task(self._watch())
        async with asyncio.timeout(20_000):
            done = await asyncio.gather(*(self.handle(number) for number in range(jobs)))
        watch.cancel()
        return done

    async def handle(self, number: int) -> FakeDelivery:
        body = {"provider": "etelecom", "oa_id": "1", "id": f"j{number}", "page_size": PAGE}
        delivery = FakeDelivery(data=msgspec.json.encode(body), sequence=number + 1)
        await self.handler.handle(delivery)
        return delivery

    def pages(self, number: int) -> list[FollowerPage]:
        return [decode(entry.data, FollowerPage) for entry in self.log.on(page_subject("etelecom", "1", f"j{number}"))]

    async def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self.budget.used)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_comes_together_every_job_ends_and_what_is_held_stays_bounded(seed: int) -> None:
    dice = random.Random(seed)
    jobs, users, offset = dice.randint(1, 10), dice.randint(0, 40), dice.random() < 0.5
    sizes = tuple(dice.choice((1, 8, 40, 90, 300)) * KB for _ in range(3))
    limit = dice.choice((20, 100, 400)) * KB * COST

    async def main() -> None:
        client = HeavyClient(users, dice, sizes=sizes, connections=dice.choice((1, 2, 5, 64)), offset=offset)
        client.fail_next(*(dice.choice((None, None, ProviderUnavailableError("down"))) for _ in range(6)))
        if dice.random() < 0.2:
            client.fail_next(RateLimitedError("slow down", retry_after=100.0))
        replica = Replica(client, limit, rate=dice.choice((0.0, 0.0, 3.0)), prefetch=dice.choice((1, 3, 8)))

        deliveries = await replica.run(jobs)

        assert [delivery.acks for delivery in deliveries] == [1] * jobs
        for number in range(jobs):
            assert [one.user_id for page in replica.pages(number) for one in page.followers] == client.users
        assert (replica.budget.used, replica.budget.waiting) == (0, 0)
        pages = sum(len(replica.pages(number)) for number in range(jobs))
        assert offset or len(client.requests) <= 2 * (pages + jobs) + 10
        rows = ROW * PAGE * 10 * jobs
        assert replica.peak <= limit + COST * 2 * max(sizes) + rows

    run(random.Random(seed), main())


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_jobs_with_large_pages_take_turns(seed: int, offset: bool) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        client = HeavyClient(40, dice, sizes=(90 * KB,), connections=64, offset=offset)
        replica = Replica(client, 100 * KB * COST)
        apart = Counter[int]()

        async def look() -> None:
            while True:
                published = [len(replica.pages(number)) for number in range(6)]
                if min(published) < 8:
                    apart[max(published) - min(published)] += 1
                await asyncio.sleep(0.1)

        task = asyncio.create_task(look())
        await replica.run(6)
        task.cancel()

        assert max(apart) <= 3

    run(random.Random(seed), main())


def test_a_page_that_waits_for_memory_is_told_and_no_other_job_gets_its_slot() -> None:
    async def main() -> None:
        dice = random.Random(1)
        client = HeavyClient(10, dice, sizes=(90 * KB,), connections=64, offset=False)
        replica = Replica(client, 100 * KB * COST)
        hold = replica.budget.open(lambda: None)
        hold.urge(0)
        hold.receive()
        assert hold.take(90 * KB)
        job = asyncio.create_task(replica.handle(0))
        await asyncio.sleep(4)

        status = await replica.world.status.get("j0")
        assert isinstance(status, JobStatus)
        assert (status.state, status.reason, status.until) == ("waiting", None, None)
        assert status.wait is not None
        assert (status.wait.owner, status.wait.reason) == ("memory", "memory")
        assert "1 request waits" in status.wait.text
        assert "worker.max_bytes_in_flight" in status.wait.text
        assert replica.handler.waiting("etelecom") == 0
        assert replica.pages(0) == []
        hold.drop()
        await job
        status = await replica.world.status.get("j0")
        assert (status and status.state, status and status.wait) == ("completed", None)

    run(random.Random(1), main())


def test_a_worker_told_to_stop_hands_back_what_waits_for_memory_before_it_is_asked_for() -> None:
    async def main() -> None:
        client = HeavyClient(40, random.Random(1), sizes=(90 * KB,), connections=64, offset=False)
        replica = Replica(client, 100 * KB * COST)
        job = asyncio.create_task(replica.handle(0))
        while len(replica.pages(0)) < 2:
            await asyncio.sleep(0.1)
        hold = replica.budget.open(lambda: None)
        hold.urge(0)
        hold.receive()
        hold.settle(90 * KB, 0)
        await asyncio.sleep(20)
        assert not job.done()

        replica.draining.set()
        delivery = await asyncio.wait_for(job, 5)

        assert (delivery.acks, len(delivery.naks)) == (0, 1)
        assert replica.budget.used == hold.size

    run(random.Random(1), main())
