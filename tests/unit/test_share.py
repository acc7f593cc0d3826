"""A replica's share of a limit at its boundaries, in virtual time."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.simulation.loop import run
from worker.core.ports.limiter import LimitUnavailableError, Taken
from worker.core.ratelimit.gcra import Limit
from worker.core.ratelimit.shared import FALLBACK, SETTLE, TRY_EVERY, Share

RATE = 4.0
ALONE = 1 / RATE / FALLBACK


class Shared:
    """The shared limit, which may be away; it answers with the time at which it was asked."""

    def __init__(self) -> None:
        self.up = True
        self.asked: list[tuple[float, int]] = []
        self.pushed: list[tuple[float, float]] = []

    async def take(self, count: int) -> Taken:
        self._check()
        self.asked.append((now(), count))
        return Taken(times=(now(),), free_at=now() + count / RATE)

    async def push(self, until: float) -> None:
        self._check()
        self.pushed.append((now(), until))

    def _check(self) -> None:
        if not self.up:
            raise LimitUnavailableError("down")


def now() -> float:
    return asyncio.get_running_loop().time()


def at_work(main: Callable[[Share, Shared], Awaitable[None]], dice: float = 0.0) -> None:
    async def begin() -> None:
        await asyncio.sleep(100)
        shared = Shared()
        await main(Share("shop", Limit(RATE), shared, lambda: dice), shared)

    run(random.Random(1), begin())


def test_what_the_shared_limit_gives_is_passed_on() -> None:
    async def main(share: Share, shared: Shared) -> None:
        taken = await share.take(3)

        assert (list(taken.times), taken.free_at) == ([100.0], 100.75)
        assert shared.asked == [(100.0, 3)]
        assert shared.pushed == []
        assert share.alone is False

    at_work(main)


def test_once_it_is_lost_nothing_starts_for_a_while_and_then_a_fifth_of_the_rate() -> None:
    async def main(share: Share, shared: Shared) -> None:
        shared.up = False

        first, second = await share.take(5), await share.take(5)

        assert share.alone
        assert list(first.times) == [100.0 + SETTLE]
        assert first.free_at == 100.0 + SETTLE + ALONE
        assert list(second.times) == [100.0 + SETTLE + ALONE]
        assert (FALLBACK, SETTLE, TRY_EVERY, ALONE) == (0.2, 2.0, 1.0, 1.25)

    at_work(main)


def test_the_dice_keep_replicas_apart_by_less_than_one_start() -> None:
    async def main(share: Share, shared: Shared) -> None:
        shared.up = False

        assert list((await share.take(1)).times) == [100.0 + SETTLE + 0.5 * ALONE]

    at_work(main, dice=0.5)


def test_what_was_reserved_before_the_loss_comes_first() -> None:
    async def main(share: Share, shared: Shared) -> None:
        await share.take(40)
        shared.up = False

        assert list((await share.take(1)).times) == [110.0]

    at_work(main)


def test_a_start_that_was_not_used_is_not_made_up_for() -> None:
    async def main(share: Share, shared: Shared) -> None:
        shared.up = False
        await share.take(1)
        await asyncio.sleep(60)

        taken = await share.take(1)

        assert (list(taken.times), taken.free_at) == ([160.0], 160.0 + ALONE)

    at_work(main)


def test_it_is_tried_again_after_a_second_and_not_before() -> None:
    async def main(share: Share, shared: Shared) -> None:
        shared.up = False
        await share.take(1)
        shared.up = True

        await asyncio.sleep(TRY_EVERY - 0.01)
        await share.take(1)
        assert share.alone
        await asyncio.sleep(0.01)
        await share.take(1)
        assert share.alone is False

    at_work(main)


def test_back_again_nobody_starts_until_all_have_noticed() -> None:
    async def main(share: Share, shared: Shared) -> None:
        shared.up = False
        await share.take(1)
        shared.up = True
        await asyncio.sleep(20)

        await share.take(1)

        assert shared.pushed == [(120.0, 120.0 + SETTLE)]
        await share.take(1)
        assert len(shared.pushed) == 1, "it is said once"

    at_work(main)


def test_back_again_what_was_started_alone_is_told() -> None:
    async def main(share: Share, shared: Shared) -> None:
        shared.up = False
        for _ in range(5):
            await share.take(1)
        shared.up = True
        await asyncio.sleep(TRY_EVERY)

        await share.take(1)

        assert shared.pushed == [(101.0, 100.0 + SETTLE + 5 * ALONE)]

    at_work(main)


def test_a_push_reaches_all_at_once_or_as_soon_as_it_can() -> None:
    async def main(share: Share, shared: Shared) -> None:
        await share.push(130.0)
        assert shared.pushed == [(100.0, 130.0)]
        shared.up = False
        await share.push(140.0)
        await share.push(120.0)
        assert share.alone
        assert list((await share.take(1)).times) == [140.0]
        shared.up = True
        await asyncio.sleep(TRY_EVERY)

        await share.take(1)

        assert shared.pushed[1:] == [(101.0, 140.0 + ALONE)]

    at_work(main)


def test_a_push_into_the_past_is_not_worth_a_word() -> None:
    async def main(share: Share, shared: Shared) -> None:
        await share.push(100.0)
        await share.push(99.0)

        assert shared.pushed == []

    at_work(main)


def test_failing_again_moves_neither_the_first_start_nor_counts_as_a_new_loss() -> None:
    async def main(share: Share, shared: Shared) -> None:
        shared.up = False
        await share.take(1)
        await asyncio.sleep(TRY_EVERY)

        again = await share.take(1)

        assert list(again.times) == [100.0 + SETTLE + ALONE]
        await asyncio.sleep(TRY_EVERY - 0.01)
        shared.up = True
        await share.take(1)
        assert share.alone, "the next try is a second after the last one"

    at_work(main)
