"""Background tasks: whose failure is seen, and which go on after one."""

import asyncio
import itertools
import random
from typing import Any

import structlog
from structlog.testing import capture_logs

from tests.simulation.loop import run
from worker.core.tasks import AGAIN_AFTER, AGAIN_AT_MOST, begin, begin_lasting


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
