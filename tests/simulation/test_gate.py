"""The gate, its line and its share of the limit, in virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from tests.fakes import FakeMeter
from tests.limits_kit import FakeSharedLimit, SharedState, worst_second
from tests.simulation.loop import run, stop
from worker.core.errors import (
    ProviderUnavailableError,
    RateLimitedError,
    UnauthorizedError,
    UnknownRefusalError,
)
from worker.core.ratelimit.admission import Admission, Gate
from worker.core.ratelimit.circuit_breaker import FAILURES, Breaker
from worker.core.ratelimit.gcra import Limit
from worker.core.ratelimit.shared import FALLBACK, SETTLE, Share

DOWN = ProviderUnavailableError("down", http_status=503)


def in_virtual_time(main: Coroutine[Any, Any, None], seed: int = 1) -> None:
    run(random.Random(seed), main)


def now() -> float:
    return asyncio.get_running_loop().time()


class Replica:
    """A gate with what a test wants to look at."""

    def __init__(self, rate: float, state: SharedState | None = None, *, travel: float = 0.001) -> None:
        self.state = state or SharedState()
        self.meter = FakeMeter()
        self.started: list[tuple[float, str]] = []
        self.state.replicas += 1
        dice = random.Random(self.state.replicas).random
        share = None
        if rate:
            limit = Limit(rate)
            shared = FakeSharedLimit(limit, self.state, lambda: asyncio.sleep(travel))
            share = Share("shop", limit, shared, dice)
        self.gate = Gate("shop", "etelecom", Breaker(dice), share, meter=self.meter, dice=dice)

    async def enter(self, job: str = "a") -> Admission:
        admission = self.gate.enter()
        if admission is None:
            place = self.gate.queue(job)
            try:
                while (admission := self.gate.claim(place)) is None:
                    await asyncio.wait([place.granted], timeout=1.0)
            finally:
                self.gate.leave(place)
        self.started.append((now(), job))
        return admission

    async def work(self, job: str = "a", seconds: float = 0.02) -> None:
        """Make one request after the other, for ever."""
        while True:
            admission = await self.enter(job)
            await asyncio.sleep(seconds)
            self.gate.answered(admission, 1)

    async def fail(self, times: int, error: Exception = DOWN) -> None:
        for _ in range(times):
            self.gate.failed(await self.enter(), error)  # type: ignore[arg-type]

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.started]


async def all_for(seconds: float, *works: Awaitable[None]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    await asyncio.sleep(seconds)
    await stop(tasks)


def merged(*replicas: Replica) -> list[float]:
    return sorted(time for replica in replicas for time in replica.times)


@pytest.mark.parametrize("rate", [2.0, 5.0, 20.0, 90.0, 500.0])
@pytest.mark.parametrize("replicas", [1, 4])
def test_replicas_use_the_whole_limit_and_no_more(rate: float, replicas: int):
    async def main() -> None:
        state = SharedState()
        all_ = [Replica(rate, state) for _ in range(replicas)]
        workers = max(8, int(rate / 4))

        await all_for(10.0, *(replica.work(f"job-{n % 5}") for replica in all_ for n in range(workers)))

        times = merged(*all_)
        assert worst_second(times) <= rate + Limit(rate).burst
        assert len(times) >= 0.95 * rate * 10

    in_virtual_time(main())


def test_without_a_limit_a_request_enters_at_once_and_nobody_is_asked():
    async def main() -> None:
        replica = Replica(0)

        assert all(replica.gate.enter() for _ in range(1000))

        assert now() == 0.0
        assert replica.state.writes == 0

    in_virtual_time(main())


def test_one_job_after_another_asks_the_bucket_less_often_than_once_a_request():
    async def main() -> None:
        replica = Replica(1000.0, travel=0.003)

        await all_for(10.0, *(replica.work(f"job-{n}", seconds=0.04) for n in range(8)))

        assert len(replica.times) > 0.95 * 8 * 10 / 0.04
        assert replica.state.writes < 0.2 * len(replica.times)

    in_virtual_time(main())


def test_what_one_slow_replica_reserves_and_does_not_use_is_little():
    async def main() -> None:
        state = SharedState()
        slow, busy = Replica(500.0, state), Replica(500.0, state)

        await all_for(10.0, slow.work(seconds=0.03), *(busy.work(seconds=0.02) for _ in range(200)))

        assert len(merged(slow, busy)) >= 0.95 * 500 * 10
        assert len(slow.times) > 10 / 0.06  # its turn comes within 30 ms

    in_virtual_time(main())


def test_a_newcomer_is_served_soon_by_a_limit_that_others_use_up():
    async def main() -> None:
        state = SharedState()
        busy, newcomer = [Replica(20.0, state) for _ in range(3)], Replica(20.0, state)
        asked = []

        async def come() -> None:
            await asyncio.sleep(2.0)
            asked.append(now())
            await newcomer.enter()

        await all_for(5.0, come(), *(replica.work() for replica in busy for _ in range(50)))

        assert newcomer.times[0] - asked[0] < 0.5

    in_virtual_time(main())


def test_jobs_take_turns_whatever_they_ask_for_at_once():
    async def main() -> None:
        replica = Replica(20.0)

        await all_for(5.0, *(replica.work("big") for _ in range(30)), replica.work("small"))

        small = sum(job == "small" for _, job in replica.started)
        assert small >= 0.45 * len(replica.started)

    in_virtual_time(main())


def test_requests_of_one_job_start_in_the_order_in_which_they_asked():
    async def main() -> None:
        replica = Replica(20.0)
        order: list[int] = []

        async def ask(number: int) -> None:
            await asyncio.sleep(number / 1000)
            await replica.enter()
            order.append(number)

        await asyncio.gather(*(ask(number) for number in range(20)))

        assert order == sorted(order)

    in_virtual_time(main())


def test_a_request_that_gives_up_in_line_leaves_its_start_to_the_next():
    async def main() -> None:
        replica = Replica(2.0)
        await replica.enter()
        tasks = [asyncio.ensure_future(replica.enter(f"job-{n}")) for n in range(10)]
        await asyncio.sleep(0.1)
        for task in tasks[:9]:
            task.cancel()

        await tasks[9]

        assert now() < 0.6

    in_virtual_time(main())


def test_starts_that_were_slept_through_are_not_made_up_for():
    async def main() -> None:
        replica = Replica(100.0)
        tasks = [asyncio.ensure_future(replica.work()) for _ in range(50)]
        await asyncio.sleep(1.0)
        loop: Any = asyncio.get_running_loop()
        loop.now += 3.0  # the process was stopped
        woken = now()
        await all_for(2.0, *tasks)

        after = [time for time in replica.times if time >= woken]
        assert worst_second(after) <= 100 + Limit(100.0).burst

    in_virtual_time(main())


def test_requests_beyond_the_first_of_a_fetch_are_paid_for():
    async def main() -> None:
        replica = Replica(20.0)

        async def work() -> None:
            while True:
                admission = await replica.enter()
                await asyncio.sleep(0.01)
                replica.gate.answered(admission, 2)

        await all_for(10.0, *(work() for _ in range(20)))

        assert len(replica.times) <= 20 * 10 / 2 + 4

    in_virtual_time(main())


def test_a_rate_limited_answer_holds_up_every_replica_until_the_named_time():
    async def main() -> None:
        state = SharedState()
        told, other = Replica(20.0, state), Replica(20.0, state)

        async def hit() -> None:
            await asyncio.sleep(1.0)
            told.gate.failed(await told.enter(), RateLimitedError("slow down", retry_after=5.0))

        await all_for(9.0, hit(), *(replica.work() for replica in (told, other) for _ in range(5)))

        hit_at = max(time for time in told.times if time < 2.0)
        # Two replicas' clocks agree up to half a round trip.
        quiet = [time for time in merged(told, other) if hit_at + 0.15 < time < hit_at + 5.0 - 0.005]
        assert quiet == []
        assert len([time for time in merged(told, other) if time > hit_at + 5.0]) > 40

    in_virtual_time(main())


def test_rate_limited_answers_without_a_time_hold_up_longer_each_time_and_once_for_those_under_way():
    async def main() -> None:
        replica = Replica(1000.0)
        pauses = []
        for _ in range(4):
            under_way = [await replica.enter() for _ in range(5)]
            for admission in under_way:
                replica.gate.failed(admission, RateLimitedError("slow down"))
            began = now()
            await replica.enter()
            pauses.append(now() - began)

        assert [0.5 * 2**n <= pause <= 1.1 * 2**n for n, pause in enumerate(pauses)] == [True] * 4
        replica.gate.answered(await replica.enter(), 1)
        replica.gate.failed(await replica.enter(), RateLimitedError("slow down"))
        began = now()
        await replica.enter()
        assert now() - began <= 1.1

    in_virtual_time(main())


def test_a_limit_far_ahead_is_looked_at_again_so_that_it_can_be_reset():
    async def main() -> None:
        replica = Replica(20.0)
        replica.state.arrival = 10**12

        async def reset() -> None:
            await asyncio.sleep(60.0)
            replica.state.arrival = 0

        task = asyncio.ensure_future(reset())
        await replica.enter()

        assert 60.0 <= now() <= 66.0
        await task

    in_virtual_time(main())


def test_failures_in_a_row_stop_all_requests_but_a_probe_until_one_is_answered():
    async def main() -> None:
        replica = Replica(0)
        await replica.fail(FAILURES)
        tasks = [asyncio.ensure_future(replica.enter(f"job-{n}")) for n in range(20)]
        await asyncio.sleep(1.5)

        probes = [task for task in tasks if task.done()]
        assert len(probes) == 1
        assert (await probes[0]).probe

        replica.gate.answered(await probes[0], 1)
        await asyncio.gather(*tasks)
        assert replica.meter.circuits == [("shop", "open"), ("shop", "half_open"), ("shop", "closed")]

    in_virtual_time(main())


def test_while_the_provider_is_away_it_is_asked_ever_more_rarely():
    async def main() -> None:
        replica = Replica(20.0)

        async def work() -> None:
            while True:
                admission = await replica.enter()
                await asyncio.sleep(0.01)
                replica.gate.failed(admission, DOWN)

        await all_for(600.0, *(work() for _ in range(20)))

        assert len([time for time in replica.times if time > 60.0]) <= 540 / 30 + 1

    in_virtual_time(main())


@pytest.mark.parametrize(
    "error", [UnauthorizedError("no"), RateLimitedError("slow", retry_after=0.0), UnknownRefusalError("code 777")]
)
def test_refusals_show_that_the_provider_is_there(error: Exception):
    async def main() -> None:
        replica = Replica(0)
        await replica.fail(FAILURES - 1)
        await replica.fail(1, error)
        await replica.fail(FAILURES - 1)

        assert replica.gate.enter() is not None

    in_virtual_time(main())


def test_a_probe_that_tells_nothing_is_followed_by_another():
    async def main() -> None:
        replica = Replica(0)
        await replica.fail(FAILURES)
        tasks = [asyncio.ensure_future(replica.enter(job)) for job in "ab"]
        (first,), (second,) = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        replica.gate.left(first.result())

        admission = await second

        assert admission.probe
        assert now() < 1.3

    in_virtual_time(main())


def test_while_the_shared_limit_is_away_four_replicas_stay_under_it():
    async def main() -> None:
        state = SharedState(up=False)
        replicas = [Replica(20.0, state) for _ in range(4)]

        await all_for(20.0, *(replica.work() for replica in replicas for _ in range(10)))

        times = merged(*replicas)
        assert worst_second(times) <= 20
        assert len(times) >= 0.95 * 4 * FALLBACK * 20 * (20 - SETTLE)
        assert all(replica.meter.shared == {"shop": False} for replica in replicas)

    in_virtual_time(main())


@pytest.mark.parametrize("seed", range(10))
def test_losing_and_regaining_the_shared_limit_never_exceeds_it(seed: int):
    async def main() -> None:
        rng = random.Random(seed)
        state = SharedState()
        replicas = [Replica(20.0, state) for _ in range(4)]

        async def flap() -> None:
            while True:
                await asyncio.sleep(rng.uniform(1, 5))
                state.up = not state.up

        await all_for(60.0, flap(), *(replica.work() for replica in replicas for _ in range(10)))

        assert worst_second(merged(*replicas)) <= 20 + Limit(20.0).burst

    in_virtual_time(main(), seed)


def test_a_pushed_limit_holds_also_while_it_cannot_be_shared():
    async def main() -> None:
        replica = Replica(20.0, SharedState(up=False))
        replica.gate.failed(await replica.enter(), RateLimitedError("slow down", retry_after=10.0))
        began = now()

        await replica.enter()

        assert 10.0 <= now() - began <= 12.0

    in_virtual_time(main())


def test_a_closed_gate_leaves_nothing_behind():
    async def main() -> None:
        replica = Replica(2.0)
        waiting = asyncio.ensure_future(replica.work())
        await asyncio.sleep(1.6)
        replica.gate.close()
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)

        assert asyncio.all_tasks() == {asyncio.current_task()}

    in_virtual_time(main())


@pytest.mark.parametrize("later", [0.0, -0.5], ids=["from the same moment", "from before"])
def test_the_answer_to_an_old_request_does_not_make_the_pauses_short_again(later: float):
    async def main() -> None:
        replica = Replica(0)

        async def pause() -> float:
            began = now()
            admission = await replica.enter()
            replica.gate.failed(admission, RateLimitedError("slow down"))
            return now() - began

        await pause()
        old = await replica.enter() if later else None
        await asyncio.sleep(-later)
        replica.gate.failed(await replica.enter(), RateLimitedError("slow down"))
        if old is None:
            old = Admission(now(), probe=False)
        replica.gate.answered(old, 1)
        second = await pause()
        third = await pause()

        assert 1.0 <= second <= 2.0
        assert 2.0 <= third <= 4.0

        replica.gate.answered(await replica.enter(), 1)
        await pause()
        assert await pause() <= 1.0, "an answer to a request from after the last pause does"

    in_virtual_time(main())
