"""The requests for one page: what is counted and told, when they give up, and what the deadline ends."""

import asyncio
import random
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

from schemas.commands import FetchEtelecomFollowers
from schemas.wait import Wait
from tests.fakes import EPOCH, FakeClient, FakeMeter, make_world
from tests.simulation.loop import run
from worker.core.cancellation import CancelledJobError, DrainingError, Signals
from worker.core.errors import DeadlineExceededError, FetchFailure, ProviderUnavailableError, RateLimitedError
from worker.core.job import Address, Job
from worker.core.jobs.checkpoint import Standing
from worker.core.jobs.fetcher import EARLY, LOOK_EVERY, STEP, PageRequests, _Trial
from worker.core.ports.provider import ProviderPage
from worker.core.ports.tracing import Untraced
from worker.core.ratelimit.admission import Outlook, open_gate
from worker.core.retry import RetryPolicy


def in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    run(random.Random(1), main)


def now() -> float:
    return asyncio.get_running_loop().time()


class Page:
    """The requests of one job at one client; `not_after` in seconds from the start."""

    def __init__(self, client: FakeClient | None = None, not_after: float | None = None, **policy: float) -> None:
        self.client = client or FakeClient(5)
        self.meter = FakeMeter()
        self.signals = Signals(asyncio.Event())
        self.set_by = 0.0
        """Seconds by which somebody has set the wall clock."""
        self.told: list[tuple[str, float, bool, str]] = []
        """Reason, seconds, whether that is firm, and the text."""
        self.world = make_world(
            meter=self.meter,
            now=lambda: EPOCH + timedelta(seconds=now() + self.set_by),
            policy=RetryPolicy(**({"base": 0.0} | policy)),
        )
        deadline = None if not_after is None else EPOCH + timedelta(seconds=not_after)
        job = Job(
            command=FetchEtelecomFollowers(oa_id="1", page_size=5, not_after=deadline),
            address=Address(provider="etelecom", oa_id="1", job_id="j1"),
            sequence=1,
        )
        self.standing = Standing(started_at=EPOCH, worker="w", page=3)
        self.gate = open_gate("shop", "etelecom", self.world, None)
        self.requests = PageRequests(
            job,
            "shop",
            self.client,
            self.gate,
            self.world,
            self.signals,
            self.standing,
            Untraced(),
            tell_waiting=self._tell,
        )

    async def _tell(self, reason: Any, seconds: float, firm: bool, describe: Any) -> None:
        wait: Wait = describe(EPOCH, EPOCH + timedelta(seconds=seconds))
        self.told.append((reason, round(seconds, 3), firm, wait.text))

    async def fetch(self) -> ProviderPage:
        return await self.requests.fetch(None)

    async def failure(self) -> FetchFailure:
        with pytest.raises(FetchFailure) as raised:
            await self.fetch()
        return raised.value


def down(retry_after: float | None = None) -> ProviderUnavailableError:
    return ProviderUnavailableError("down", http_status=503, provider_code="x1", retry_after=retry_after)


class Slow(FakeClient):
    """Answers after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(5)
        self.seconds = seconds

    async def fetch(self, command: Any, cursor: str | None) -> ProviderPage:
        await asyncio.sleep(self.seconds)
        return await super().fetch(command, cursor)


def test_an_answer_is_counted_with_the_seconds_that_it_took() -> None:
    async def main() -> None:
        page = Page(Slow(0.75))

        answer = await page.fetch()

        assert len(answer.followers) == 5
        assert page.meter.requests == {("etelecom", "ok"): 1}
        assert page.meter.seconds == [0.75]
        assert (page.standing.requests, page.requests.attempts, page.requests.waiting, page.told) == (1, 0, 0, [])

    in_virtual_time(main())


def test_each_failure_is_counted_and_waited_for_as_the_provider_asks() -> None:
    async def main() -> None:
        page = Page()
        page.client.fail_next(down(4), down(6))

        await page.fetch()

        assert now() == 10
        assert page.meter.requests == {("etelecom", "provider_unavailable"): 2, ("etelecom", "ok"): 1}
        assert (page.standing.requests, page.requests.attempts, page.requests.waiting) == (3, 2, 0)
        text = (
            "request {} for its next page failed (provider_unavailable, HTTP 503): it is tried again at "
            "2026-03-01T00:00:0{}Z"
        )
        assert page.told == [
            ("provider_unavailable", 4, True, text.format(1, 4)),
            ("provider_unavailable", 6, True, text.format(2, 6)),
        ]

    in_virtual_time(main())


def test_a_request_that_is_ended_is_counted_as_cancelled_and_leaves_the_gate() -> None:
    async def main() -> None:
        page = Page(Slow(9))
        task = asyncio.ensure_future(page.fetch())
        await asyncio.sleep(2)

        task.cancel()
        await asyncio.wait([task])

        assert page.meter.requests == {("etelecom", "cancelled"): 1}
        assert page.meter.seconds == [2]
        assert page.standing.requests == 0

    in_virtual_time(main())


def test_a_failure_that_was_no_request_counts_as_none() -> None:
    async def main() -> None:
        page = Page()
        page.client.fail_next(ProviderUnavailableError("no connection", requests=0))

        await page.fetch()

        assert page.meter.requests == {("etelecom", "ok"): 1}
        assert page.standing.requests == 1

    in_virtual_time(main())


def test_a_page_waits_while_it_is_tried_again() -> None:
    async def main() -> None:
        page = Page()
        page.client.fail_next(down(4))
        task = asyncio.ensure_future(page.fetch())
        await asyncio.sleep(2)

        assert page.requests.waiting == 1
        await task
        assert page.requests.waiting == 0

    in_virtual_time(main())


@pytest.mark.parametrize(("signal", "error"), [("drain", DrainingError), ("cancel", CancelledJobError)])
def test_a_signal_ends_the_wait_between_two_tries(signal: str, error: type[Exception]) -> None:
    async def main() -> None:
        page = Page()
        page.client.fail_next(down(40))
        task = asyncio.ensure_future(page.fetch())
        await asyncio.sleep(2)

        page.signals.draining.set() if signal == "drain" else page.signals.cancel()
        with pytest.raises(error):
            await task

        assert (now(), page.requests.waiting, len(page.client.requests)) == (2, 0, 1)

    in_virtual_time(main())


# The deadline.

PASSED = (
    "the command's `not_after` (2026-03-01T00:00:0{}Z) passed after page 3: publish it again under a new id with "
    "a later deadline, or without one"
)


@pytest.mark.parametrize("not_after", [0, -1])
def test_after_the_deadline_nothing_is_asked(not_after: float) -> None:
    async def main() -> None:
        page = Page(not_after=not_after)

        error = await page.failure()

        assert isinstance(error, DeadlineExceededError)
        assert (error.requests, page.client.requests, page.standing.requests) == (0, [], 0)
        assert not_after or error.message == PASSED.format(0)

    in_virtual_time(main())


def test_the_deadline_ends_a_request_under_way_which_counts() -> None:
    async def main() -> None:
        page = Page(Slow(9), not_after=5)

        error = await page.failure()

        assert (now(), error.message) == (5, PASSED.format(5))
        assert page.meter.requests == {("etelecom", "deadline_exceeded"): 1}
        assert page.meter.seconds == [5]
        assert page.standing.requests == 1
        assert page.gate.enter() is not None

    in_virtual_time(main())


@pytest.mark.parametrize(("not_after", "answered"), [(9.1, True), (8.9, False)])
def test_a_request_that_is_answered_before_the_deadline_is_taken(not_after: float, answered: bool) -> None:
    async def main() -> None:
        page = Page(Slow(9), not_after=not_after)

        if answered:
            assert len((await page.fetch()).followers) == 5
        else:
            assert isinstance(await page.failure(), DeadlineExceededError)

    in_virtual_time(main())


@pytest.mark.parametrize(("not_after", "asked"), [(4, 1), (4.5, 2), (3, 1)])
def test_the_deadline_ends_a_wait_between_two_tries(not_after: float, asked: int) -> None:
    async def main() -> None:
        page = Page(not_after=not_after)
        page.client.fail_next(down(4))
        if asked > 1:
            await page.fetch()
            assert now() == 4
        else:
            assert isinstance(await page.failure(), DeadlineExceededError)
            assert now() == not_after
        assert len(page.client.requests) == asked

    in_virtual_time(main())


@pytest.mark.parametrize(
    ("set_by", "ends"),
    [(-60, 65), (-0.9, 5), (-1.1, 6.1), (0.9, 5), (30, 5)],
)
def test_a_wall_clock_that_is_set_while_a_page_waits_moves_the_deadline_by_more_than_a_second(
    set_by: float, ends: float
) -> None:
    async def main() -> None:
        page = Page(not_after=5)
        page.client.fail_next(down(600))
        task = asyncio.ensure_future(page.failure())
        await asyncio.sleep(2)
        page.set_by = set_by

        assert isinstance(await task, DeadlineExceededError)

        assert now() == pytest.approx(ends)
        assert len(page.client.requests) == 1
        assert STEP == 1.0
        assert EARLY == 0.001

    in_virtual_time(main())


# Patience.


def outlook(**fields: Any) -> Outlook:
    return Outlook(until=now() + 5, ours=False, **fields)


@pytest.mark.parametrize(("waited", "gives_up"), [(9.9, False), (10, True)])
def test_an_open_circuit_is_waited_for_as_long_as_a_provider_that_is_away(waited: float, gives_up: bool) -> None:
    async def main() -> None:
        page = Page(retry_for=10, rate_limited_for=1)
        message = "no page for 10 s (worker.retry_for), and only a probe now and then is tried; last: down"
        await _wait_and_check(
            page,
            waited,
            {"reason": "circuit_open", "failure": down()},
            message if gives_up else None,
            ("provider_unavailable", "x1", 503),
        )

    in_virtual_time(main())


def test_an_open_circuit_that_nobody_failed_at_is_waited_for() -> None:
    async def main() -> None:
        await _wait_and_check(Page(retry_for=10), 99, {"reason": "circuit_open"}, None, None)

    in_virtual_time(main())


@pytest.mark.parametrize("failure", [RateLimitedError("slow", http_status=429, provider_code="x2"), None])
@pytest.mark.parametrize(("waited", "gives_up"), [(9.9, False), (10, True)])
def test_a_provider_that_wants_patience_gets_as_much_as_is_set(
    failure: RateLimitedError | None, waited: float, gives_up: bool
) -> None:
    async def main() -> None:
        last = "slow" if failure else "told to another worker"
        message = (
            "the account's requests were held up for 10 s (worker.rate_limited_for), as the provider asked for; "
            f"last: {last}"
        )
        await _wait_and_check(
            Page(retry_for=1, rate_limited_for=10),
            waited,
            {"reason": "rate_limited", "failure": failure},
            message if gives_up else None,
            ("rate_limited", "x2" if failure else None, 429 if failure else None),
        )

    in_virtual_time(main())


async def _wait_and_check(
    page: Page, waited: float, fields: dict[str, Any], message: str | None, error: tuple[Any, ...] | None
) -> None:
    trial = _Trial()
    page.requests._check_patience(trial, outlook(**fields))
    await asyncio.sleep(waited)
    if message is None:
        page.requests._check_patience(trial, outlook(**fields))
        return
    with pytest.raises(FetchFailure) as raised:
        page.requests._check_patience(trial, outlook(**fields))
    found = raised.value
    assert (found.code, found.provider_code, found.http_status) == error
    assert (found.message, found.requests) == (message, 0)


def test_seconds_that_are_our_own_choice_are_not_the_providers_failure() -> None:
    async def main() -> None:
        page, trial = Page(), _Trial(ours=3.0)
        await asyncio.sleep(100)

        assert page.requests._failing_for(trial) == 0
        await asyncio.sleep(10)
        trial.ours += 4.0
        assert page.requests._failing_for(trial) == 6

    in_virtual_time(main())


def test_why_a_request_is_in_line_is_looked_at_each_second() -> None:
    async def main() -> None:
        page = Page()
        page.gate.failed(page.gate.enter(), RateLimitedError("slow", retry_after=3.5))  # type: ignore[arg-type]
        task = asyncio.ensure_future(page.fetch())
        await asyncio.sleep(0.5)
        assert page.requests.waiting == 1

        await task

        assert LOOK_EVERY == 1.0
        assert [(reason, seconds, firm) for reason, seconds, firm, _ in page.told] == [
            ("rate_limited", seconds, True) for seconds in (3.5, 2.5, 1.5, 0.5)
        ]
        assert page.meter.waits == {("etelecom", "rate_limited"): pytest.approx(3.5)}
        assert now() == pytest.approx(3.5)
        assert page.requests.waiting == 0

    in_virtual_time(main())


def test_who_waits_for_our_own_limit_for_longer_than_was_expected_is_told_of_it_from_the_first_second_on() -> None:
    async def main() -> None:
        page = Page()
        gate = page.gate
        # The provider lets nobody through, and the estimate is of a replica that knows nothing of the others.
        gate.failed(gate.enter(), RateLimitedError("slow", retry_after=3.5))  # type: ignore[arg-type]
        outlook = lambda place: Outlook(now() + 0.3, "rate_limited", True)  # noqa: E731
        gate.outlook = outlook  # type: ignore[method-assign]

        await page.fetch()

        assert [(seconds, firm) for _, seconds, firm, _ in page.told] == [(0.3, False)] + [(1.0, False)] * 3

    in_virtual_time(main())
