"""Why a job doesn't move, as its events and its status say it: who owns the wait, in numbers and in a sentence."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from schemas import JobStatus, encode
from schemas.wait import Wait
from tests.fakes import EPOCH, FakeClient
from tests.simulation.test_requests import Replica, down, in_virtual_time
from worker.core.errors import FetchFailure, ProviderUnavailableError, RateLimitedError, UnknownRefusalError
from worker.core.ratelimit.circuit_breaker import FAILURES
from worker.core.status.wait_reasons import between_tries

CANARY = "canary-0900000000"


def first_wait(client: FakeClient, rate: float = 0, **policy: float) -> tuple[Wait, JobStatus]:
    """The wait of the job's first `waiting` event, and the status that was posted with it."""
    found: list[tuple[Wait, JobStatus]] = []

    async def main() -> None:
        replica = Replica(client, rate, **policy)
        job = asyncio.ensure_future(replica.handle())
        while not replica.waits():
            assert not job.done(), "it didn't wait"
            await asyncio.sleep(0.05)
        await asyncio.sleep(0)
        wait = replica.waits()[0].wait
        assert wait is not None
        posted = [one for one in replica.world.status.posted if one.state == "waiting"]  # type: ignore[attr-defined]
        found.append((wait, posted[-1]))
        replica.draining.set()
        await job

    in_virtual_time(main())
    return found[0]


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def failing(*errors: FetchFailure) -> FakeClient:
    client = FakeClient(20)
    client.fail_next(*errors)
    return client


def test_a_failed_request_is_owned_by_the_provider_until_the_next_try() -> None:
    wait, status = first_wait(failing(ProviderUnavailableError("down", http_status=503, retry_after=30.0)))

    assert (wait.owner, wait.reason, wait.code, wait.http_status) == (
        "provider", "provider_unavailable", "provider_unavailable", 503,
    )  # fmt: skip
    assert wait.attempt == 1
    assert wait.until is not None
    assert at(30) <= wait.until <= at(31)
    assert "request 1 for its next page failed (provider_unavailable, HTTP 503): it is tried again at" in wait.text
    assert status.wait == wait
    assert (status.reason, status.until) == (wait.reason, wait.until)


def test_a_refusal_that_nobody_documented_is_owned_by_the_provider_too() -> None:
    wait = between_tries(UnknownRefusalError("code 777"), 3)(at(0), at(5))

    assert (wait.owner, wait.code, wait.http_status, wait.attempt) == ("provider", "bad_response", None, 3)
    assert "request 3 for its next page failed (bad_response)" in wait.text


def test_a_retry_after_is_a_limit_with_its_end() -> None:
    wait, status = first_wait(failing(RateLimitedError("slow down", retry_after=600.0, http_status=429)), rate=5)

    assert (wait.owner, wait.reason) == ("limit", "rate_limited")
    assert wait.blocked_until == wait.until == status.until
    assert wait.blocked_until is not None
    assert at(600) <= wait.blocked_until <= at(602)
    assert "the provider answered that there are too many requests" in wait.text


def test_our_own_limit_says_its_rate_and_what_is_ahead() -> None:
    wait, status = first_wait(FakeClient(40), rate=0.1)

    assert (wait.owner, wait.reason, wait.rate, wait.ahead) == ("limit", "rate_limited", 0.1, 0)
    assert wait.blocked_until is None
    assert "at the account's limit of 0.1 requests a second over all workers" in wait.text
    assert status.wait == wait


def test_the_estimated_end_of_a_job_that_waits_is_behind_its_wait() -> None:
    async def main() -> None:
        replica = Replica(FakeClient(40), rate=0.1)
        job = asyncio.ensure_future(replica.handle())
        await asyncio.sleep(35)

        board: Any = replica.world.status
        waiting = [one for one in board.posted if one.state == "waiting"][-1]
        assert waiting.eta > waiting.until > waiting.updated_at
        replica.draining.set()
        await job

    in_virtual_time(main())


def test_what_is_in_line_before_a_request_is_counted() -> None:
    async def main() -> None:
        replica = Replica(FakeClient(5), rate=0.01)
        jobs = [asyncio.ensure_future(replica.handle(f"j{number}", number)) for number in range(1, 5)]
        await asyncio.sleep(10)

        ahead = [wait.wait.ahead for number in range(2, 5) for wait in replica.waits(f"j{number}")[:1] if wait.wait]
        assert ahead[-2:] == [2, 3]  # in the order in which they came
        replica.draining.set()
        await asyncio.gather(*jobs)

    in_virtual_time(main())


def test_an_open_circuit_says_how_many_requests_failed_and_how_the_last_one_did() -> None:
    async def main() -> None:
        client = FakeClient(5)
        client.fail_next(*(down() for _ in range(FAILURES + 3)))
        replica = Replica(client, rate=0, base=1.0)

        await asyncio.gather(*(replica.handle(f"j{number}", number) for number in range(1, FAILURES + 1)))

        waits = [wait.wait for number in range(1, FAILURES + 1) for wait in replica.waits(f"j{number}")]
        wait = next(one for one in waits if one is not None and one.owner == "breaker")
        assert wait.failures is not None
        assert wait.failures >= FAILURES
        assert (wait.reason, wait.code, wait.http_status) == ("circuit_open", "provider_unavailable", 503)
        assert "one request finds out whether it is back" in wait.text

    in_virtual_time(main())


def test_nothing_that_a_provider_said_is_in_a_wait() -> None:
    for error in (
        ProviderUnavailableError(CANARY, provider_code=CANARY, http_status=503, retry_after=30.0),
        RateLimitedError(CANARY, provider_code=CANARY, http_status=429, retry_after=30.0),
    ):
        wait, status = first_wait(failing(error), rate=5)

        assert CANARY not in encode(wait).decode()
        assert CANARY not in encode(status).decode()


def test_a_job_that_moves_again_waits_for_nothing() -> None:
    async def main() -> None:
        replica = Replica(failing(ProviderUnavailableError("down", retry_after=30.0)), rate=0)

        await replica.handle()

        board: Any = replica.world.status
        with_wait = {one.state for one in board.posted if one.wait is not None}
        without = {one.state for one in board.posted if one.wait is None}
        assert (with_wait, without) == ({"waiting"}, {"running"})
        assert board.settled[-1].wait is None

    in_virtual_time(main())


def test_a_job_that_is_handed_back_waits_in_the_queue() -> None:
    async def main() -> None:
        replica = Replica(FakeClient(20), rate=0.1)
        job = asyncio.ensure_future(replica.handle())
        await asyncio.sleep(3)
        replica.draining.set()
        await job

        (status,) = replica.world.status.settled  # type: ignore[attr-defined]
        assert status.state == "queued"
        assert status.wait is not None
        assert (status.wait.owner, status.wait.reason) == ("queue", "queued")

    in_virtual_time(main())
