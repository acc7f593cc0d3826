"""The unmodified core in virtual time: thousands of worlds with kills, freezes and a lying network."""

import pytest

from schemas import FollowerPage
from schemas.digest import START
from tests.simulation import some
from tests.simulation.world import Breakage, Ledger, Simulation
from worker.core.eventlog.appender import FencedError
from worker.core.eventlog.job_log import JobLog
from worker.core.jobs.handler import CommandHandler
from worker.core.ports.delivery import Delivery

SEEDS = some(300)


def test_every_job_is_complete_in_order_and_once_whatever_dies():
    total = Ledger()

    for seed in range(SEEDS):
        ledger = Simulation(seed).run()
        assert not ledger.problems, f"seed {seed}: {ledger.problems}"
        assert not ledger.unforeseen, f"seed {seed}: {ledger.unforeseen}"
        for name in ("jobs", "pages", "kills", "pauses", "drains", "duplicates", "cancelled", "failed", "reopened"):
            setattr(total, name, getattr(total, name) + getattr(ledger, name))

    assert total.kills > SEEDS / 2
    assert total.pauses > SEEDS / 2
    assert total.cancelled > SEEDS / 10
    assert total.reopened > SEEDS / 30


def _caught(breakage: Breakage, seeds: int) -> bool:
    return any(Simulation(seed, breakage).run().problems for seed in range(seeds))


def test_a_log_without_the_expected_sequence_is_caught():
    assert _caught(Breakage(fence=False, window=0.01), 20)


def test_taking_a_duplicate_for_success_is_caught():
    assert _caught(Breakage(trust_duplicates=True), 300)


def test_acknowledging_before_the_work_is_caught():
    async def ack_first(handler: CommandHandler, delivery: Delivery) -> None:
        await delivery.ack()
        await handler.handle(delivery)

    assert _caught(Breakage(handle=ack_first), 20)


def test_a_successor_that_begins_the_digest_anew_is_caught(monkeypatch: pytest.MonkeyPatch):
    original = JobLog.last_page

    async def forgetful(log: JobLog) -> FollowerPage | None:
        page = await original(log)
        log.digest = START
        return page

    monkeypatch.setattr(JobLog, "last_page", forgetful)

    assert _caught(Breakage(), 60)


def test_settling_a_delivery_that_is_another_workers_is_caught():
    async def ack_when_fenced(handler: CommandHandler, delivery: Delivery) -> None:
        original = handler._handle

        async def settle(*arguments: object) -> None:
            try:
                await original(*arguments)  # type: ignore[arg-type]
            except FencedError:
                await delivery.ack()

        handler._handle = settle  # type: ignore[method-assign,assignment]
        try:
            await handler.handle(delivery)
        finally:
            handler._handle = original  # type: ignore[method-assign]

    assert _caught(Breakage(handle=ack_when_fenced), 1500)
