"""Background tasks: whose failure is seen, and which go on after one."""

import asyncio
import itertools
import random
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tests.simulation.loop import run
from worker.core.tasks import AGAIN_AFTER, AGAIN_AT_MOST, CANCEL_EVERY, begin, begin_lasting, end


def in_virtual_time(main: Any) -> list[Any]:
    """Run `main` and return what it logged."""
    structlog.reset_defaults()
    with capture_logs() as lines:
        run(random.Random(1), main, unforeseen=[])
    return lines


def test_a_failure_that_nobody_awaits_is_logged_with_the_tasks_name_and_its_error():
    async def main() -> None:
        async def work() -> None:
            raise ZeroDivisionError("a bug")

        task = begin(work(), "limit.push")
        await asyncio.sleep(1)
        assert (task.done(), task.get_name()) == (True, "limit.push")

    (line,) = in_virtual_time(main())

    assert (line["event"], line["task"], line["log_level"]) == ("task.failed", "limit.push", "error")
    assert isinstance(line["exc_info"], ZeroDivisionError)


def test_of_a_task_that_ends_or_is_cancelled_nothing_is_said():
    async def main() -> None:
        async def work() -> int:
            return 7

        assert await begin(work(), "a") == 7
        cancelled = begin(asyncio.sleep(60), "b")
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(1)
        assert cancelled.cancelled()

    assert in_virtual_time(main()) == []


def test_lasting_work_is_begun_anew_after_pauses_that_grow_up_to_a_bound():
    began: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def work() -> None:
            began.append(loop.time())
            if len(began) < 9:
                raise ZeroDivisionError

        await begin_lasting(work, "status.write")

    lines = in_virtual_time(main())

    pauses = [round(after - before, 3) for before, after in itertools.pairwise(began)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert (AGAIN_AFTER, AGAIN_AT_MOST) == (1.0, 60.0)
    assert [line["again_in"] for line in lines] == pauses
    assert {(line["event"], line["task"]) for line in lines} == {("task.failed", "status.write")}


def test_what_went_well_for_long_begins_anew_as_after_its_first_failure():
    began: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def work() -> None:
            began.append(loop.time())
            if len(began) in (1, 2, 4):
                raise ZeroDivisionError
            if len(began) == 3:
                await asyncio.sleep(AGAIN_AT_MOST + 1)
                raise ZeroDivisionError

        await begin_lasting(work, "worker.watch")

    lines = in_virtual_time(main())

    assert [line["again_in"] for line in lines] == [1.0, 2.0, 1.0, 2.0]


def test_lasting_work_ends_when_it_is_cancelled_or_done():
    async def main() -> None:
        async def work() -> None:
            await asyncio.sleep(3600)

        task = begin_lasting(work, "a")
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(1)
        assert task.cancelled()

    assert in_virtual_time(main()) == []


def stubborn(times: int) -> Any:
    """A task that swallows so many cancellations, as `wait_for` may, and tells when each one came."""
    came: list[float] = []

    async def work() -> None:
        while len(came) < times:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                came.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1000)

    return came, work


@pytest.mark.parametrize(("swallowed", "seconds"), [(0, 0.0), (1, CANCEL_EVERY), (3, 3 * CANCEL_EVERY)])
def test_a_task_that_swallows_a_cancellation_is_cancelled_again_until_it_ends(swallowed: int, seconds: float):
    async def main() -> None:
        came, work = stubborn(swallowed)
        loop = asyncio.get_running_loop()
        task, done = asyncio.create_task(work()), asyncio.create_task(asyncio.sleep(0))
        await asyncio.sleep(1)
        began = loop.time()

        left = await end([task, done], within=10.0)

        assert (left, task.cancelled(), done.cancelled()) == (set(), True, False)
        assert loop.time() - began == pytest.approx(seconds, abs=0.01)
        assert [at - began for at in came] == pytest.approx([n * CANCEL_EVERY for n in range(swallowed)], abs=0.01)

    in_virtual_time(main())


def test_tasks_that_never_end_are_given_up_when_the_time_is_over():
    async def main() -> None:
        came, work = stubborn(1000)
        loop = asyncio.get_running_loop()
        task, other = asyncio.create_task(work()), asyncio.create_task(asyncio.sleep(1000))
        await asyncio.sleep(1)
        began = loop.time()

        left = await end([task, other], within=1.75)

        assert (left, other.cancelled()) == ({task}, True)
        assert loop.time() - began == pytest.approx(1.75, abs=0.01)
        assert len(came) == 4
        came.extend([0.0] * 1000)
        assert await end([task], within=1.0) == set()

    in_virtual_time(main())


def test_of_no_tasks_none_is_waited_for():
    async def main() -> None:
        before = asyncio.get_running_loop().time()

        assert await end([], within=5.0) == set()
        assert asyncio.get_running_loop().time() == before

    in_virtual_time(main())
