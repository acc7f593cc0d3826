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
from worker.core.cancellation import Signals
from worker.core.job import Address, Job
from worker.core.jobs.run import TELL_WAITS_FROM, Fetch
from worker.core.ports.tracing import Untraced
from worker.core.ratelimit.admission import open_gate

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
    ("firm", "after", "again", "shown", "told"),
    [
        (True, 0, 10, 10, False),  # the same end
        (True, 4, 6, 10, False),
        (True, 4, 5, 10, False),  # earlier than was told
        (True, 4, 6.001, 10.001, False),
        (True, 4, 65.999, 69.999, False),
        (True, 4, 66, 70, True),
        (False, 4, 6.001, 10, False),  # an estimate waits until what was told is over
        (False, 9.999, 50, 10, False),
        (False, 10, 50, 60, False),
        (False, 10, 600, 610, False),  # and is no news however long it is
    ],
)
def test_a_wait_that_lasts_longer_is_shown_and_told_once_unless_it_is_put_off_by_a_minute(
    firm: bool, after: float, again: float, shown: float, told: bool
) -> None:
    async def main() -> None:
        job = Told()
        await job.wait(10, firm=firm)
        await asyncio.sleep(after)

        await job.wait(again, firm=firm)

        assert [until for until, _ in job.events] == ([10, shown] if told else [10])
        assert job.stood_still == 1
        status = job.board.posted[-1]
        assert seconds(status.until) == shown
        assert status.wait is not None
        assert (seconds(status.wait.since), status.wait.text) == (0, "10 s" if shown == 10 else f"{again:g} s")

    in_virtual_time(main())


def test_what_is_put_off_again_and_again_is_told_each_minute() -> None:
    async def main() -> None:
        job = Told()
        for number in range(13):
            await job.wait(10 + 10 * number, firm=True)

        assert [until for until, _ in job.events] == [10, 70, 130]

    in_virtual_time(main())


def test_reasons_that_take_turns_are_told_each_time_they_change() -> None:
    async def main() -> None:
        job = Told()
        reasons: list[WaitReason] = ["rate_limited", "rate_limited", "circuit_open", "rate_limited"]
        for reason in reasons:
            await job.wait(10, firm=True, reason=reason)
            await asyncio.sleep(11)

        assert [until for until, _ in job.events] == [10, 32, 43]
        assert job.board.posted[-1].reason == "rate_limited"

    in_virtual_time(main())


def test_our_own_limit_is_another_reason_than_the_providers() -> None:
    async def main() -> None:
        job = Told()
        await job.wait(10, firm=True, reason="rate_limited")
        await job.wait(10, firm=False, reason="rate_limited")

        assert len(job.events) == 2

    in_virtual_time(main())


@pytest.mark.parametrize(
    ("firm", "moving_for", "state", "events"),
    [
        (False, 0.0, "waiting", 1),  # the account's own limit: it waits again soon
        (False, 9.99, "waiting", 1),
        (False, 10.0, "running", 2),
        (True, 0.0, "running", 1),  # over with the page, and no news when it comes again
        (True, 9.99, "running", 1),
        (True, 10.0, "running", 2),
    ],
)
def test_a_job_moves_again_once_it_has_gone_on_for_ten_seconds(
    firm: bool, moving_for: float, state: str, events: int
) -> None:
    async def main() -> None:
        job = Told()
        await job.wait(2, firm=firm)
        # A firm wait stands until its end; an estimate is looked at each second.
        await asyncio.sleep((2 if firm else 1) + moving_for)

        job.fetch._note_move()
        job.fetch.post()

        assert job.board.posted[-1].state == state
        assert (job.board.posted[-1].wait is None) == (state == "running")
        assert not job.fetch.waiting, "its slot is in use again"
        await job.wait(5, firm=firm)
        assert (len(job.events), job.stood_still) == (events, 2)
        assert job.board.posted[-1].state == "waiting"

    in_virtual_time(main())


def test_waits_of_less_than_a_second_do_not_keep_a_job_waiting() -> None:
    async def main() -> None:
        job = Told()
        await job.wait(2, firm=False, reason="rate_limited")
        for _ in range(11):
            await asyncio.sleep(1)
            await job.wait(0.9, firm=False, reason="rate_limited")
            job.fetch._note_move()
        job.fetch.post()

        assert job.board.posted[-1].state == "running"

    in_virtual_time(main())


def test_a_job_that_finds_no_room_says_so_once_and_since_when() -> None:
    async def main() -> None:
        job = Told()
        await asyncio.sleep(3)
        job.fetch._tell_no_room()
        await asyncio.sleep(2)
        job.fetch._tell_no_room()
        job.fetch.post()

        told, last = job.board.posted
        assert told.wait is not None
        assert (told.state, told.reason, told.until, told.wait.until) == ("waiting", None, None, None)
        assert (told.wait.owner, told.wait.reason, seconds(told.wait.since)) == ("memory", "memory", 3)
        assert told.wait.text == (
            "its worker holds as many bytes of answers as it may; 0 requests wait until pages are published: raise"
            " worker.max_bytes_in_flight if the worker has more memory, or lower worker.max_jobs"
        )
        assert last.wait == told.wait
        assert job.events == [], "it goes on when a page is published: no news for the log"

    in_virtual_time(main())


def test_a_job_that_waits_for_its_account_says_that_and_nothing_of_room() -> None:
    async def main() -> None:
        job = Told()
        await job.wait(30, firm=True)
        posted = len(job.board.posted)

        job.fetch._tell_no_room()

        assert len(job.board.posted) == posted

    in_virtual_time(main())


def test_a_job_that_is_asked_to_end_says_since_when_however_long_it_takes() -> None:
    async def main() -> None:
        job = Told()
        await asyncio.sleep(5)
        job.fetch.signals.cancel()
        for _ in range(3):
            job.fetch.post()
            await asyncio.sleep(4)

        waits = [status.wait for status in job.board.posted]
        assert [(wait.owner, seconds(wait.since)) for wait in waits if wait] == [("cancelled", 5)] * 3

    in_virtual_time(main())


def test_a_job_whose_next_page_waits_already_does_not_move_by_those_read_ahead() -> None:
    async def main() -> None:
        job = Told()
        await job.wait(600, firm=True)
        job.fetch._requests.waiting = 1

        job.fetch._note_move()
        job.fetch.post()

        assert job.board.posted[-1].state == "waiting"

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
