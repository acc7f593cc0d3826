"""The wall clock is set in the middle of an outage: durations don't notice, deadlines do. In virtual time."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from schemas import FetchError
from schemas.wire import rfc3339
from tests.fakes import EPOCH, FakeClient
from tests.simulation.test_requests import Replica, down, in_virtual_time, now
from worker.core.errors import FetchFailure, ProviderUnavailableError, RateLimitedError
from worker.core.ratelimit.circuit_breaker import FAILURES

HOUR = 3600.0
STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])


class AwayClient(FakeClient):
    """A provider that answers with `error` until `seconds` of the event loop's clock."""

    def __init__(self, error: FetchFailure, seconds: float) -> None:
        super().__init__(5)
        self.before_request = self._fail
        self._error, self._seconds = error, seconds

    async def _fail(self, cursor: str | None) -> None:
        if now() < self._seconds:
            raise self._error


async def set_clock(replica: Replica, after: float, step: float) -> None:
    await asyncio.sleep(after)
    replica.set_by += step


def failure(replica: Replica, job: str = "j1") -> FetchError:
    end = replica.events(job)[-1]
    return msgspec.convert(msgspec.to_builtins(end)["error"], FetchError)


@STEPS
@pytest.mark.parametrize("error", [down(), RateLimitedError("slow down")], ids=["away", "limited"])
def test_an_outage_shorter_than_the_patience_is_outlived_whatever_the_wall_clock_does(error: FetchFailure, step: float):
    async def main() -> None:
        replica = Replica(AwayClient(error, 60.0), rate=0, retry_for=900, rate_limited_for=900)

        await asyncio.gather(replica.handle(), set_clock(replica, 20.0, step))

        assert replica.end() == "completed"
        assert 60 <= now() <= 200

    in_virtual_time(main())


@STEPS
@pytest.mark.parametrize(
    ("error", "code"), [(down(), "provider_unavailable"), (RateLimitedError("slow down"), "rate_limited")]
)
def test_a_provider_that_stays_away_is_given_up_in_time_whatever_the_wall_clock_does(
    error: FetchFailure, code: str, step: float
):
    async def main() -> None:
        replica = Replica(AwayClient(error, 10 * HOUR), rate=0, retry_for=300, rate_limited_for=300)

        await asyncio.gather(replica.handle(), set_clock(replica, 100.0, step))

        assert failure(replica).code == code
        assert 299 <= now() <= 370

    in_virtual_time(main())


@STEPS
def test_jobs_before_an_open_circuit_are_given_up_in_time_whatever_the_wall_clock_does(step: float):
    async def main() -> None:
        replica = Replica(AwayClient(down(), 10 * HOUR), rate=0, retry_for=300)
        jobs = [f"j{number}" for number in range(1, 2 * FAILURES)]

        await asyncio.gather(
            *(replica.handle(job, number) for number, job in enumerate(jobs, 1)), set_clock(replica, 100.0, step)
        )

        assert {failure(replica, job).code for job in jobs} == {"provider_unavailable"}
        assert 300 <= now() <= 480

    in_virtual_time(main())


@STEPS
def test_a_named_wait_takes_its_seconds_whatever_the_wall_clock_does(step: float):
    async def main() -> None:
        client = FakeClient(5)
        client.fail_next(ProviderUnavailableError("down", retry_after=120.0))
        replica = Replica(client, rate=0)

        await asyncio.gather(replica.handle(), set_clock(replica, 20.0, step))

        assert replica.end() == "completed"
        assert 120 <= now() <= 122

    in_virtual_time(main())


def test_a_wait_that_begins_after_the_clock_was_set_back_is_told_with_its_end():
    async def main() -> None:
        client = FakeClient(5)
        client.fail_next(*(ProviderUnavailableError("down", retry_after=120.0) for _ in range(2)))
        replica = Replica(client, rate=0)

        await asyncio.gather(replica.handle(), set_clock(replica, 20.0, -HOUR))

        ends = [(wait.until - EPOCH).total_seconds() for wait in replica.waits()]
        assert len(ends) == 2
        assert 120 <= ends[0] <= 121
        assert 240 - HOUR <= ends[1] <= 243 - HOUR

    in_virtual_time(main())


def test_a_deadline_goes_by_the_wall_clock_that_was_set_forward():
    async def main() -> None:
        replica = Replica(AwayClient(down(), 60.0), rate=0)
        not_after = rfc3339(EPOCH + timedelta(seconds=HOUR))

        await asyncio.gather(replica.handle(not_after=not_after), set_clock(replica, 20.0, HOUR))

        assert failure(replica).code == "deadline_exceeded"
        assert 20 <= now() < 60

    in_virtual_time(main())


def test_a_deadline_that_the_wall_clock_was_set_back_from_is_not_over():
    async def main() -> None:
        client = FakeClient(5)
        client.fail_next(ProviderUnavailableError("down", retry_after=120.0))
        replica = Replica(client, rate=0)
        not_after = rfc3339(EPOCH + timedelta(seconds=60))

        await asyncio.gather(replica.handle(not_after=not_after), set_clock(replica, 20.0, -HOUR))

        assert replica.end() == "completed"
        assert 120 <= now() <= 122

    in_virtual_time(main())


def test_a_wall_clock_that_is_only_slow_gives_no_time_beyond_the_deadline():
    async def main() -> None:
        client = FakeClient(5)
        client.fail_next(ProviderUnavailableError("down", retry_after=120.0))
        replica = Replica(client, rate=0)
        not_after = rfc3339(EPOCH + timedelta(seconds=60))

        await asyncio.gather(replica.handle(not_after=not_after), set_clock(replica, 20.0, -0.5))

        assert failure(replica).code == "deadline_exceeded"
        assert now() == pytest.approx(60, abs=0.01)
        assert len(client.requests) == 1

    in_virtual_time(main())


@pytest.mark.parametrize("retry_after", [None, 120.0])
def test_a_deadline_in_the_middle_of_a_wait_ends_the_job_at_it_and_without_another_request(retry_after: float | None):
    async def main() -> None:
        client = AwayClient(ProviderUnavailableError("down", retry_after=retry_after), HOUR)
        replica = Replica(client, rate=0, base=64.0)

        await replica.handle(not_after=rfc3339(EPOCH + timedelta(seconds=60.5)))

        assert failure(replica).code == "deadline_exceeded"
        assert now() == pytest.approx(60.5, abs=0.01)

    in_virtual_time(main())
