"""A provider that names absurd times: how long a job, and its account, are left standing. In virtual time."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from schemas import FetchError, JobWaiting
from tests.fakes import EPOCH, FakeClient
from tests.limits_kit import SharedState
from tests.simulation.test_requests import Replica, in_virtual_time, now
from worker.core.errors import FetchFailure, ProviderUnavailableError, RateLimitedError
from worker.core.status.wait_reasons import between_tries

YEAR = 31_536_000.0


def absurd(kind: type[RateLimitedError] | type[ProviderUnavailableError]) -> FetchFailure:
    return kind("as the provider puts it", retry_after=YEAR)


def failing(error: FetchFailure, times: int = 1000) -> FakeClient:
    client = FakeClient(5)
    client.fail_next(*(error for _ in range(times)))
    return client


def failure(replica: Replica, job: str = "j1") -> FetchError:
    return msgspec.convert(msgspec.to_builtins(replica.events(job)[-1])["error"], FetchError)


def seconds(wait: JobWaiting) -> float:
    return (wait.until - EPOCH).total_seconds()


@pytest.mark.parametrize(
    ("kind", "code", "setting"),
    [
        (RateLimitedError, "rate_limited", "rate_limited_for"),
        (ProviderUnavailableError, "provider_unavailable", "retry_for"),
    ],
)
@pytest.mark.parametrize("rate", [0.0, 5.0])
def test_a_year_of_patience_is_asked_for_and_the_job_waits_as_long_as_it_has(
    kind: type[RateLimitedError] | type[ProviderUnavailableError], code: str, setting: str, rate: float
):
    async def main() -> None:
        replica = Replica(failing(absurd(kind)), rate=rate, **{setting: 600.0})

        await replica.handle()

        assert now() == pytest.approx(600, abs=0.5)
        assert len(replica.client.requests) == 2, "once more at the end: nobody knows what a provider means"
        first = replica.waits()[0]
        assert seconds(first) == pytest.approx(600, abs=0.5)
        assert first.wait is not None
        assert f"it asked for 31,536,000 s, more than worker.{setting} leaves" in first.wait.text
        error = failure(replica)
        assert (error.code, error.attempts) == (code, 2)
        assert error.message == (
            f"as the provider puts it; given up after 600 s: worker.{setting} is 600 s, and the provider asked to wait "
            "31536000 s more"
        )

    in_virtual_time(main())


def test_an_absurd_wait_that_was_not_meant_costs_one_patience():
    async def main() -> None:
        replica = Replica(failing(absurd(RateLimitedError), 1), rate=5, rate_limited_for=600)

        await replica.handle()

        assert replica.end() == "completed"
        assert now() == pytest.approx(600, abs=2)

    in_virtual_time(main())


def test_jobs_in_line_behind_an_absurd_wait_are_told_of_it_and_given_up_in_time_too():
    async def main() -> None:
        replica = Replica(failing(absurd(RateLimitedError)), rate=1, rate_limited_for=600)
        jobs = [f"j{number}" for number in range(1, 41)]

        await asyncio.gather(*(replica.handle(job, number) for number, job in enumerate(jobs, 1)))

        assert now() <= 700
        assert {failure(replica, job).code for job in jobs} == {"rate_limited"}
        behind = next(wait for wait in replica.waits("j40") if wait.wait and wait.wait.blocked_until)
        assert behind.wait is not None
        assert 595 <= seconds(behind) <= 605
        assert "(it asked for 31,536,000 s, more than worker.rate_limited_for leaves)" in behind.wait.text
        last = failure(replica, "j40").message
        assert "held up for 600 s (worker.rate_limited_for)" in last
        assert "last: as the provider puts it" in last

    in_virtual_time(main())


def test_a_wait_that_fits_is_told_as_it_is_also_by_those_in_line():
    async def main() -> None:
        replica = Replica(failing(RateLimitedError("slow down", retry_after=600.0), 1), rate=5, rate_limited_for=600)

        await asyncio.gather(replica.handle(), replica.handle("j2", 2))

        for job in ("j1", "j2"):
            [first, *_] = [wait.wait for wait in replica.waits(job) if wait.wait and wait.wait.blocked_until]
            assert "it asked for" not in first.text

    in_virtual_time(main())


@pytest.mark.parametrize(("asked", "told"), [(700.0, "700 s"), (700.2, "701 s"), (86_400.5, "86,401 s")])
def test_what_was_asked_for_is_told_in_whole_seconds_and_not_too_short(asked: float, told: str):
    for error, setting in (
        (RateLimitedError("slow"), "rate_limited_for"),
        (ProviderUnavailableError("down"), "retry_for"),
    ):
        text = between_tries(error, 1, asked)(EPOCH, EPOCH + timedelta(seconds=9)).text

        assert f"at 2026-03-01T00:00:09Z (it asked for {told}, more than worker.{setting} leaves)" in text


def test_a_job_that_has_less_patience_left_than_its_account_waits_only_for_that():
    async def main() -> None:
        client = failing(RateLimitedError("soon", retry_after=30.0), 1)
        client.fail_next(absurd(RateLimitedError))
        replica = Replica(client, rate=0, rate_limited_for=100)
        ended: list[float] = []

        async def first() -> None:
            await replica.handle()
            ended.append(now())

        async def second() -> None:
            await asyncio.sleep(90)
            await replica.handle("j2", 2)

        await asyncio.gather(first(), second())

        assert ended == [pytest.approx(100, abs=1)]
        assert failure(replica).code == "rate_limited"
        assert replica.end("j2") == "completed"
        assert now() == pytest.approx(130, abs=2), "so long the account was left alone"

    in_virtual_time(main())


def test_another_replica_that_was_told_is_the_providers_wait_here_too():
    async def main() -> None:
        state = SharedState()
        told = Replica(failing(RateLimitedError("slow down", retry_after=400.0)), 5, state, rate_limited_for=600)
        other = Replica(FakeClient(5), 5, state, rate_limited_for=600)

        async def later() -> None:
            await asyncio.sleep(5)
            await other.handle("j2", 2)

        await asyncio.gather(told.handle(), later())

        wait = other.waits("j2")[0]
        assert wait.wait is not None
        assert "the provider answered that there are too many requests" in wait.wait.text
        assert 395 <= seconds(wait) <= 405
        assert other.end("j2") in ("completed", "failed")
        assert failure(told).code == "rate_limited"

    in_virtual_time(main())


def test_whoever_only_hears_of_it_from_another_replica_has_patience_as_well():
    async def main() -> None:
        state = SharedState(arrival=10**10)
        replica = Replica(FakeClient(5), 5, state, rate_limited_for=600)

        await replica.handle()

        assert now() == pytest.approx(600, abs=10)
        assert failure(replica).code == "rate_limited"
        assert "last: told to another worker" in failure(replica).message
        assert replica.client.requests == []

    in_virtual_time(main())


def test_a_wait_of_half_a_second_is_kept_and_told_at_the_next_whole_second():
    async def main() -> None:
        replica = Replica(failing(RateLimitedError("slow down", retry_after=0.5), 1), rate=0)

        await replica.handle()

        wait = replica.waits()[0]
        assert 0.5 <= seconds(wait) <= 1.0
        assert wait.wait is not None
        told = EPOCH + timedelta(seconds=1)
        assert f"go on at {told:%Y-%m-%dT%H:%M:%SZ};" in wait.wait.text
        assert now() >= 0.5

    in_virtual_time(main())
