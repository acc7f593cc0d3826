"""Reserved starts of one account: which may be used, how many are asked for, and when again."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tests.simulation.loop import run
from worker.core.ports.limiter import Taken
from worker.core.ratelimit.gcra import Limit
from worker.core.ratelimit.reservations import Starts


class Share:
    """A share that gives what it is told to, and notes what it was asked."""

    def __init__(self, rate: float) -> None:
        self.limit = Limit(rate)
        self.gives: list[Taken | Exception] = []
        self.asked: list[int] = []
        self.pushed: list[float] = []
        self.open = asyncio.Event()
        self.open.set()

    async def take(self, count: int) -> Taken:
        self.asked.append(count)
        await self.open.wait()
        given = self.gives.pop(0) if self.gives else Taken(times=(), free_at=0.0)
        if isinstance(given, Exception):
            raise given
        return given

    async def push(self, until: float) -> None:
        self.pushed.append(until)


class Rig:
    """The starts of an account, and how often it was told that something came."""

    def __init__(self, rate: float = 100.0, dice: float = 0.0) -> None:
        self.share, self.told = Share(rate), 0
        self.starts = Starts("shop", self.share, lambda: dice, self._tell)  # type: ignore[arg-type]

    def _tell(self) -> None:
        self.told += 1

    async def holds(self, *times: float, free_at: float = 0.0, now: float = 0.0) -> None:
        """Let it have these starts."""
        self.share.gives.append(Taken(times=times, free_at=free_at))
        self.starts.want(now, 10)
        await asyncio.sleep(0.001)

    async def wants(self, now: float, waiting: int) -> list[int]:
        """What that makes it ask for."""
        before = len(self.share.asked)
        self.starts.want(now, waiting)
        await asyncio.sleep(0.001)
        return self.share.asked[before:]


def in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    run(random.Random(1), main)


def test_a_start_is_used_when_it_is_due_or_a_millisecond_before_and_only_once() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.holds(10.0, 20.0)

        assert rig.starts.take(9.998) is None
        assert rig.starts.take(9.9995) == 10.0
        assert rig.starts.take(10.0) is None
        assert (rig.starts.look_at, rig.starts.expected_at(10.0)) == (20.0, 20.0)

    in_virtual_time(main())


def test_a_start_that_is_late_is_lost_and_the_next_one_used() -> None:
    async def main() -> None:
        rig = Rig()  # half a burst late: 50 ms, and what timers are exact to
        await rig.holds(10.0, 20.0, 30.0)

        assert [rig.starts.is_late(10.0, now) for now in (10.0505, 10.0515)] == [False, True]
        assert rig.starts.take(10.0505) == 10.0
        assert rig.starts.take(30.0) == 30.0
        assert rig.starts.look_at == 0.0

    in_virtual_time(main())


def test_requests_that_were_made_without_a_start_are_paid_with_the_next_ones() -> None:
    async def main() -> None:
        rig = Rig()
        rig.starts.owe(1)
        rig.starts.owe(1)
        await rig.holds(10.0, 10.01, 10.02, 10.03)

        assert rig.starts.take(10.03) == 10.02
        assert rig.starts.take(10.03) == 10.03

    in_virtual_time(main())


def test_a_start_that_was_not_used_is_the_next_one_again() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.holds(10.0, 10.01)

        rig.starts.give_back(rig.starts.take(10.0) or 0.0)

        assert [rig.starts.take(10.01), rig.starts.take(10.01)] == [10.0, 10.01]

    in_virtual_time(main())


def test_after_a_push_nothing_starts_before_its_end() -> None:
    async def main() -> None:
        rig = Rig()
        await rig.holds(1.0, 2.0)

        rig.starts.push(5.0)
        rig.starts.push(3.0)
        await asyncio.sleep(0.001)

        assert sorted(rig.share.pushed) == [3.0, 5.0]
        assert rig.starts.take(2.0) is None
        await rig.holds(4.0, 4.999, 5.0, 6.0)
        assert [rig.starts.take(5.0), rig.starts.take(6.0), rig.starts.take(6.0)] == [5.0, 6.0, None]

    in_virtual_time(main())


@pytest.mark.parametrize(
    ("held", "waiting", "asked"),
    [
        (0, 0, []),
        (0, 1, [1]),
        (0, 3, [3]),
        (0, 10, [10]),
        (0, 99, [10]),  # a burst at most
        (1, 2, [1]),
        (2, 3, []),  # more than half of what is wanted is there
        (3, 8, [5]),
        (4, 8, [4]),
        (5, 8, []),
        (4, 10, [6]),
        (5, 10, [5]),
        (6, 99, []),
    ],
)
def test_so_many_are_asked_for_as_wait_up_to_a_burst_once_half_of_them_is_used(
    held: int, waiting: int, asked: list[int]
) -> None:
    async def main() -> None:
        rig = Rig()
        if held:
            await rig.holds(*(100.0 + number for number in range(held)))

        assert await rig.wants(0.0, waiting) == asked

    in_virtual_time(main())


def test_what_is_owed_and_what_is_to_be_expected_is_asked_for_too() -> None:
    async def main() -> None:
        rig = Rig()
        for _ in range(3):
            rig.starts.used(10.0)
        rig.starts.owe(2)
        assert await rig.wants(10.01, 1) == [6]

        busy = Rig()
        for at in (10.0, 10.01, 10.02, 10.06):  # the last one begins another 50 ms
            busy.starts.used(at)
        assert await busy.wants(10.07, 0) == [3], "as many as in the window before"

        quiet = Rig()
        for at in (10.0, 10.01, 10.02, 10.2):
            quiet.starts.used(at)
        assert await quiet.wants(10.21, 0) == [1], "nobody came in the window before"
        assert await Rig().wants(10.3, 0) == []

        late = Rig()
        for at in (10.0, 10.01):
            late.starts.used(at)
        assert await late.wants(10.0 + 0.0999, 0) == [2]
        later = Rig()
        later.starts.used(10.0)
        assert await later.wants(10.1001, 0) == []

    in_virtual_time(main())


@pytest.mark.parametrize(
    ("used", "now", "asked"),
    [
        ([0.0, 0.049], 0.049, [2]),
        ([0.0, 0.0, 0.0, 0.05], 0.05, [3]),  # another window, behind the one with three
        ([0.0, 0.05, 0.05], 0.05, [2]),
        ([0.0, 0.0, 0.1], 0.1, [1]),  # nobody came in the window between
        ([0.0, 0.0], 0.1, []),
    ],
)
def test_requests_are_counted_in_windows_of_fifty_milliseconds(used: list[float], now: float, asked: list[int]) -> None:
    async def main() -> None:
        rig = Rig()
        for at in used:
            rig.starts.used(at)
        assert await rig.wants(now, 0) == asked

    in_virtual_time(main())


def test_where_one_request_is_a_burst_nothing_is_asked_for_before_it_is_needed() -> None:
    async def main() -> None:
        rig = Rig(rate=5.0)
        for _ in range(3):
            rig.starts.used(10.0)

        assert await rig.wants(10.0, 0) == []
        assert await rig.wants(10.0, 7) == [1]

    in_virtual_time(main())


def test_one_question_at_a_time_is_asked_and_its_answer_told() -> None:
    async def main() -> None:
        rig = Rig()
        rig.share.open.clear()
        rig.share.gives.append(Taken(times=(7.0,), free_at=7.5))

        assert await rig.wants(0.0, 3) == [3]
        assert (rig.starts.look_at, rig.told) == (None, 0)
        assert await rig.wants(0.0, 9) == []
        rig.share.open.set()
        await asyncio.sleep(0.001)

        assert (rig.starts.look_at, rig.told) == (7.0, 1)
        assert rig.starts.take(7.0) == 7.0
        assert [rig.starts.expected_at(now) for now in (7.0, 8.0)] == [7.5, 8.0]

    in_virtual_time(main())


@pytest.mark.parametrize(
    ("free_at", "dice", "pause"),
    [(0.0, 0.0, 0.025), (0.0, 1.0, 0.05), (1.0, 0.0, 0.5), (1.0, 1.0, 1.0), (99.0, 0.0, 2.5), (99.0, 1.0, 5.0)],
)
def test_where_none_is_given_it_is_asked_again_when_there_may_be_some_within_five_seconds(
    free_at: float, dice: float, pause: float
) -> None:
    async def main() -> None:
        rig = Rig(dice=dice)
        await rig.holds(free_at=free_at)

        assert rig.told == 1
        assert rig.starts.look_at == pytest.approx(pause)
        at = rig.starts.look_at
        assert at is not None
        assert await rig.wants(at - 0.001, 3) == []
        assert await rig.wants(at, 3) == [3]

    in_virtual_time(main())


def test_a_fault_of_ours_holds_nobody_up_for_longer_than_a_second() -> None:
    async def main() -> None:
        rig = Rig()
        rig.share.gives.append(ZeroDivisionError("a bug"))

        await asyncio.sleep(3)
        assert await rig.wants(3.0, 2) == [2]

        assert (rig.starts.look_at, rig.told) == (4.0, 1)
        await rig.holds(9.0, now=4.0)
        assert rig.starts.take(9.0) == 9.0

    structlog.reset_defaults()
    with capture_logs() as lines:
        in_virtual_time(main())
    assert [(line["event"], line["account"]) for line in lines] == [("limit.fault", "shop")]


def test_a_gate_that_closes_asks_no_more() -> None:
    async def main() -> None:
        rig = Rig()
        rig.share.open.clear()
        assert await rig.wants(0.0, 3) == [3]
        (asking,) = [task for task in asyncio.all_tasks() if task.get_name() == "limit.ask"]

        rig.starts.close()
        await asyncio.sleep(0.001)

        assert asking.cancelled()

    in_virtual_time(main())
