"""Jobs at a gate: what they are told, what ends their waiting, and when they give up. In virtual time."""

import asyncio
import itertools
import random
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import msgspec

from schemas import FollowerPage, JobEvent, JobWaiting, decode
from schemas.subjects import job_subject, page_subject
from schemas.wire import rfc3339
from tests.fakes import EPOCH, FakeClient, FakeDelivery, FakeMeter, make_world
from tests.limits_kit import FakeSharedLimit, SharedState
from tests.simulation.loop import run
from worker.core.errors import ProviderUnavailableError, RateLimitedError
from worker.core.jobs.handler import CommandHandler, OpenAccount
from worker.core.ratelimit.admission import open_gate
from worker.core.ratelimit.circuit_breaker import FAILURES
from worker.core.ratelimit.gcra import Limit
from worker.core.ratelimit.shared import Share
from worker.core.retry import RetryPolicy


def in_virtual_time(main: Coroutine[Any, Any, None], seed: int = 1) -> None:
    run(random.Random(seed), main)


def now() -> float:
    return asyncio.get_running_loop().time()


class Replica:
    """A handler with one limited account; replicas that are given the same state share its limit."""

    def __init__(self, client: FakeClient, rate: float, *shared: SharedState, **policy: float) -> None:
        self.client = client
        self.meter = FakeMeter()
        self.set_by = 0.0
        """Seconds by which somebody has set the wall clock."""
        self.world = make_world(
            meter=self.meter,
            now=lambda: EPOCH + timedelta(seconds=now() + self.set_by),
            policy=RetryPolicy(**policy),
        )
        self.log: Any = self.world.log
        self.draining = asyncio.Event()
        share = None
        if rate:
            limit, (state, *_) = Limit(rate), (*shared, SharedState())
            share = Share("shop", limit, FakeSharedLimit(limit, state), self.world.dice)
        gate = open_gate("shop", "etelecom", self.world, share)
        account = OpenAccount("shop", "etelecom", client, gate)
        self.handler = CommandHandler({"shop": account}, self.world, self.draining)

    async def handle(self, job: str = "j1", sequence: int = 1, **fields: Any) -> FakeDelivery:
        body = {"provider": "etelecom", "oa_id": "1", "id": job, "page_size": 5} | fields
        delivery = FakeDelivery(data=msgspec.json.encode(body), sequence=sequence)
        await self.handler.handle(delivery)
        return delivery

    def events(self, job: str = "j1") -> list[JobEvent]:
        return [decode(entry.data, JobEvent) for entry in self.log.on(job_subject("etelecom", "1", job))]

    def pages(self, job: str = "j1") -> list[FollowerPage]:
        return [decode(entry.data, FollowerPage) for entry in self.log.on(page_subject("etelecom", "1", job))]

    def waits(self, job: str = "j1") -> list[JobWaiting]:
        return [event for event in self.events(job) if isinstance(event, JobWaiting)]

    def end(self, job: str = "j1") -> str:
        return str(msgspec.to_builtins(self.events(job)[-1])["type"])


def down() -> ProviderUnavailableError:
    return ProviderUnavailableError("down", http_status=503)


def test_jobs_of_a_limited_account_tell_their_wait_once_and_do_not_jump_from_page_to_page():
    async def main() -> None:
        replica = Replica(FakeClient(5 * 30), rate=1)
        jobs = [f"j{number}" for number in range(1, 4)]

        await asyncio.gather(*(replica.handle(job, number) for number, job in enumerate(jobs, 1)))

        board: Any = replica.world.status
        for job in jobs:
            assert len(replica.pages(job)) >= 30
            assert len(replica.waits(job)) == 1
            states = [state for state, _ in itertools.groupby(one.state for one in board.posted if one.job_id == job)]
            assert states in (["running", "waiting"], ["waiting"])
            assert replica.end(job) == "completed"

    in_virtual_time(main())


def test_a_wait_of_a_second_or_more_for_our_own_limit_is_told_with_reason_and_end():
    async def main() -> None:
        replica = Replica(FakeClient(20), rate=0.5)

        await replica.handle()

        waits = replica.waits()
        assert [(wait.reason, round((wait.until - EPOCH).total_seconds())) for wait in waits] == [("rate_limited", 2)]
        assert replica.meter.waits["etelecom", "rate_limited"] > 5.5
        assert replica.end() == "completed"

    in_virtual_time(main())


def test_shorter_waits_for_our_own_limit_are_not_worth_an_event():
    async def main() -> None:
        replica = Replica(FakeClient(50), rate=2)

        await replica.handle()

        assert now() >= 4.4
        assert replica.waits() == []

    in_virtual_time(main())


def test_a_wait_that_turns_out_longer_is_told_again_only_when_the_time_told_is_over():
    async def main() -> None:
        replica = Replica(FakeClient(5), rate=1)

        await asyncio.gather(*(replica.handle(f"j{number}", number) for number in range(1, 31)))

        assert max(len(replica.waits(f"j{number}")) for number in range(1, 31)) <= 3

    in_virtual_time(main())


def test_the_deadline_ends_a_wait_in_line():
    async def main() -> None:
        replica = Replica(FakeClient(20), rate=0.01)

        await replica.handle(not_after=rfc3339(EPOCH + timedelta(seconds=3)))

        assert 3.0 <= now() <= 3.1
        assert msgspec.to_builtins(replica.events()[-1])["error"]["code"] == "deadline_exceeded"

    in_virtual_time(main())


def test_a_signal_ends_a_wait_in_line_at_once():
    async def main() -> None:
        for signal in ("drain", "cancel"):
            began = now()
            replica = Replica(FakeClient(20), rate=0.01)
            job = asyncio.ensure_future(replica.handle())
            await asyncio.sleep(3.3)
            if signal == "drain":
                replica.draining.set()
            else:
                replica.handler.running["j1"].signals.cancelled.set()
            delivery = await job

            assert now() - began <= 3.31
            assert (len(delivery.naks), delivery.acks) == ((1, 0) if signal == "drain" else (0, 1))
            assert len(replica.pages()) == 1

    in_virtual_time(main())


def test_waiting_for_our_own_limit_is_not_counted_as_the_providers_failure():
    async def main() -> None:
        client = FakeClient(5)
        client.fail_next(down(), down(), down(), down())
        replica = Replica(client, rate=0.1, base=0.01, retry_for=5)

        await replica.handle()

        assert now() >= 40
        assert replica.end() == "completed"

    in_virtual_time(main())


def test_an_open_circuit_is_told_and_over_with_the_first_answer():
    async def main() -> None:
        client = FakeClient(5)
        client.fail_next(*(down() for _ in range(FAILURES + 3)))
        replica = Replica(client, rate=0, base=1.0)

        await asyncio.gather(*(replica.handle(f"j{number}", number) for number in range(1, FAILURES + 1)))

        waits = [wait for number in range(1, FAILURES + 1) for wait in replica.waits(f"j{number}")]
        assert "circuit_open" in {wait.reason for wait in waits}
        assert {replica.end(f"j{number}") for number in range(1, FAILURES + 1)} == {"completed"}
        assert replica.meter.circuits[0] == ("shop", "open")
        assert replica.meter.circuits[-1] == ("shop", "closed")

    in_virtual_time(main())


def test_every_job_of_a_provider_that_stays_away_gives_up_also_one_that_was_never_the_probe():
    async def main() -> None:
        client = FakeClient(5)
        client.fail_next(*(down() for _ in range(10_000)))
        replica = Replica(client, rate=0, retry_for=300)

        await asyncio.gather(*(replica.handle(f"j{number}", number) for number in range(1, 41)))

        assert {replica.end(f"j{number}") for number in range(1, 41)} == {"failed"}
        assert 300 <= now() <= 480
        assert len(client.requests) <= 80
        error = msgspec.to_builtins(replica.events("j40")[-1])["error"]
        assert (error["code"], error["http_status"]) == ("provider_unavailable", 503)

    in_virtual_time(main())


def test_a_rate_limited_answer_to_one_job_is_told_by_the_others_too():
    async def main() -> None:
        client = FakeClient(50)
        client.fail_next(RateLimitedError("slow down", retry_after=30.0))
        replica = Replica(client, rate=5)

        await asyncio.gather(replica.handle("j1", 1), replica.handle("j2", 2))

        for job in ("j1", "j2"):
            first = replica.waits(job)[0]
            assert first.reason == "rate_limited"
            assert 29 <= (first.until - EPOCH).total_seconds() <= 32
            assert replica.end(job) == "completed"
        assert replica.handler.waiting("etelecom") == 0

    in_virtual_time(main())


def test_a_job_that_stands_still_says_so_to_whoever_hands_out_slots():
    async def main() -> None:
        replica = Replica(FakeClient(20), rate=0.1)
        told = asyncio.Event()
        replica.handler.on_waiting = lambda provider: told.set()
        job = asyncio.ensure_future(replica.handle())
        while not replica.handler.waiting("etelecom"):  # the page before may be published right after it was told
            await told.wait()
            told.clear()

        assert replica.handler.waiting("etelecom") == 1
        assert replica.handler.waiting("esms") == 0
        replica.draining.set()
        await job

    in_virtual_time(main())
