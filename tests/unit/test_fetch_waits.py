"""When people are told that a job stands still: which waits, how often, and until when. In virtual time."""

import asyncio
import random
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas import JobEvent, JobWaiting, decode
from schemas.commands import FetchEtelecomFollowers
from schemas.types import WaitReason
from schemas.wait import Wait
from tests.fakes import EPOCH, FakeClient, FakeLog, FakeStatusBoard, make_world
from tests.replica import EVENTS
from tests.simulation.loop import run
from worker.core.commands import Address, Job
from worker.core.fetch import TELL_WAITS_FROM, Fetch
from worker.core.gate import open_gate
from worker.core.trace import Untraced
from worker.core.world import Signals

JOB = Job(command=FetchEtelecomFollowers(oa_id="1"), address=Address(provider="etelecom", oa_id="1", job_id="j1"),
          sequence=1)  # fmt: skip


def in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    run(random.Random(1), main)


def now() -> float:
    return asyncio.get_running_loop().time()


class Told:
    """One job that stands still, and what people are told of it."""

    def __init__(self) -> None:
        self.log, self.board = FakeLog(), FakeStatusBoard()
        self.world = make_world(log=self.log, status=self.board, now=lambda: EPOCH + timedelta(seconds=now()))
        gate = open_gate("shop", "etelecom", self.world, None)
        signals = Signals(asyncio.Event())
        self.fetch = Fetch(JOB, "shop", FakeClient(5), gate, self.world, signals, Untraced())
        self.stood_still = 0
        self.fetch.on_waiting = self._count

    def _count(self) -> None:
        self.stood_still += 1

    async def wait(self, seconds: float, *, firm: bool, reason: WaitReason = "provider_unavailable") -> None:
        def describe(since: datetime, until: datetime | None) -> Wait:
            return Wait(owner="provider", reason=reason, since=since, until=until, text=f"{seconds:g} s")

        await self.fetch._tell_waiting(reason, seconds, firm, describe)

    @property
    def events(self) -> list[tuple[float, str]]:
        """Until when, in seconds, and why."""
        found = [decode(entry.data, JobEvent) for entry in self.log.on(EVENTS)]
        return [
            (seconds(event.until), event.wait.text) for event in found if isinstance(event, JobWaiting) and event.wait
        ]


def seconds(moment: datetime | None) -> float:
    assert moment is not None
    return round((moment - EPOCH).total_seconds(), 3)


@pytest.mark.parametrize(
    ("wait", "firm", "reason", "told"),
    [
        (0.999, True, "provider_unavailable", False),
        (1.0, True, "provider_unavailable", True),
        (0.999, False, "rate_limited", False),
        (1.0, False, "rate_limited", True),
        (0.1, True, "rate_limited", True),  # the provider asked for it
        (0.999, False, "circuit_open", False),
        (0.999, True, "circuit_open", False),
    ],
)
def test_waits_of_a_second_or_more_are_told_and_what_a_provider_asks_for_in_any_case(
    wait: float, firm: bool, reason: WaitReason, told: bool
) -> None:
    async def main() -> None:
        job = Told()

        await job.wait(wait, firm=firm, reason=reason)

        assert job.events == ([(wait, f"{wait:g} s")] if told else [])
        assert (job.fetch.waiting, job.stood_still) == (told, int(told))
        assert [status.state for status in job.board.posted] == ["waiting"] * 2 * told

    assert TELL_WAITS_FROM == 1.0
    in_virtual_time(main())


def test_the_status_says_what_the_event_says() -> None:
    async def main() -> None:
        job = Told()

        await job.wait(30, firm=True)

        status = job.board.posted[-1]
        assert (status.reason, seconds(status.until)) == ("provider_unavailable", 30)
        assert status.wait is not None
        assert (status.wait.text, seconds(status.wait.since), seconds(status.wait.until)) == ("30 s", 0, 30)
        first = job.board.posted[0]
        assert (first.reason, seconds(first.until), first.wait) == ("provider_unavailable", 30, status.wait)

    in_virtual_time(main())


@pytest.mark.parametrize(
    ("after", "firm", "again", "told"),
    [
        (0, True, 10, False),  # the same end
        (4, True, 6, False),
        (4, True, 6.001, True),
        (4, True, 5, False),  # earlier than was told
        (4, False, 6.001, False),  # an estimate waits until what was told is over
        (9.999, False, 50, False),
        (10, False, 50, True),
        (11, False, 50, True),
    ],
)
def test_a_wait_that_lasts_longer_is_told_anew(after: float, firm: bool, again: float, told: bool) -> None:
    async def main() -> None:
        job = Told()
        await job.wait(10, firm=True)
        await asyncio.sleep(after)

        await job.wait(again, firm=firm)

        ends = [10, round(after + again, 3)] if told else [10]
        assert [until for until, _ in job.events] == ends
        assert job.stood_still == 1
        status = job.board.posted[-1]
        assert seconds(status.until) == ends[-1]
        assert status.wait is not None
        assert (seconds(status.wait.since), status.wait.text) == (0, f"{again:g} s" if told else "10 s")

    in_virtual_time(main())


def test_a_wait_for_another_reason_is_told_with_that_reason() -> None:
    async def main() -> None:
        job = Told()
        await job.wait(10, firm=True)
        await job.wait(20, firm=True, reason="rate_limited")

        assert job.events == [(10, "10 s"), (20, "20 s")]
        assert job.board.posted[-1].reason == "rate_limited"

    in_virtual_time(main())


@pytest.mark.parametrize(("starts_for", "left"), [(2.0, 3.0), (4.0, 1.0), (4.001, None)])
def test_what_is_left_of_a_wait_once_the_start_is_told_counts(starts_for: float, left: float | None) -> None:
    async def main() -> None:
        job = Told()

        async def slow(subject: str) -> None:
            job.log.before_publish = None
            await asyncio.sleep(starts_for)

        job.log.before_publish = slow
        job.fetch._starting = asyncio.create_task(job.fetch._start())
        await job.wait(5, firm=False)

        assert [until for until, _ in job.events] == ([5] if left is not None else [])
        assert job.fetch._starting.done()

    in_virtual_time(main())
