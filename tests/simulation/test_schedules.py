"""Replicas that are killed, stopped and cut off at random share schedules for two days of virtual time."""

import asyncio
import contextlib
import random
from datetime import datetime, timedelta

import pytest

from tests.fakes import EPOCH, Clock
from tests.schedule_kit import (
    VIETNAM,
    WINDOW,
    FakeScheduleDesk,
    FakeServer,
    KilledError,
    Replica,
    schedule,
)
from tests.simulation.loop import run, stop
from worker.core.schedules.decision import job_id_at
from worker.core.schedules.ports import ScheduleUnavailableError
from worker.core.schedules.timing import Every

LENGTH = timedelta(hours=30)
LONGEST_JOB = 120.0
PLAN = schedule("hourly", "7 * * * *"), schedule("odd", Every(4000, VIETNAM))


class LoopClock(Clock):
    """The virtual loop's time."""

    def __init__(self) -> None:
        """Nothing is set: the time passes by itself."""

    @property
    def time(self) -> datetime:  # type: ignore[override]
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


class HostileDesk(FakeScheduleDesk):
    """Loses answers, is slow, is killed, and is stopped for longer than anybody waits."""

    def __init__(self, server: FakeServer, rng: random.Random, *, stops: bool) -> None:
        super().__init__(server, skew=rng.uniform(-60, 0))
        self._rng, self._stops = rng, stops

    async def _step(self) -> None:
        drawn = self._rng.random()
        if drawn < 0.01:
            raise KilledError
        if drawn < 0.03:
            raise ScheduleUnavailableError("no answer")
        if self._stops and drawn < 0.035:
            await asyncio.sleep(self._rng.uniform(10, 2 * WINDOW))
        await asyncio.sleep(self._rng.uniform(0, 0.05))


class BusyServer(FakeServer):
    """A server whose commands are worked off in a while."""

    def store(self, job_id: str, command: bytes) -> int:
        sequence = super().store(job_id, command)
        if sequence in self.queue:
            rng = random.Random(sequence)
            asyncio.get_running_loop().call_later(rng.uniform(0, LONGEST_JOB), self.queue.pop, sequence, None)
        return sequence


async def lives(server: FakeServer, rng: random.Random, name: str, *, stops: bool) -> None:
    """A pod: whatever dies in it is started again, under another name."""
    for number in range(1_000_000):
        replica = Replica(HostileDesk(server, rng, stops=stops), server.clock, *PLAN, name=f"{name}{number}")
        with contextlib.suppress(KilledError):
            await replica.scheduler.run(asyncio.Event())
        await asyncio.sleep(rng.uniform(0, 30))


async def days(rng: random.Random, *, stops: bool) -> FakeServer:
    server = BusyServer(LoopClock())
    pods = [asyncio.create_task(lives(server, rng, name, stops=stops)) for name in ("a", "b", "c")]
    await asyncio.sleep(LENGTH.total_seconds())
    await stop(pods)
    return server


def dues(until: timedelta) -> set[str]:
    """The ids of all jobs that are due until then."""
    found = set()
    for one in PLAN:
        assert one.timing is not None
        due = one.timing.next_after(EPOCH + timedelta(seconds=60))
        while due is not None and due < EPOCH + until:
            found.add(job_id_at(one.name, due))
            due = one.timing.next_after(due)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_each_due_time_is_published_once_whoever_dies(seed: int) -> None:
    server = run(random.Random(seed), days(random.Random(seed + 1000), stops=False))

    # Of the last minutes' due times one may be under way.
    assert dues(LENGTH - timedelta(minutes=10)) <= set(server.ids) <= dues(LENGTH)
    assert len(server.ids) == len(set(server.ids))
    assert server.attempts > len(server.ids), "some of them were published by two"


@pytest.mark.parametrize("seed", range(6))
def test_each_due_time_is_one_job_also_where_processes_stop_and_go_on(seed: int) -> None:
    server = run(random.Random(seed), days(random.Random(seed + 1000), stops=True))

    assert dues(LENGTH - timedelta(minutes=10)) <= set(server.ids) <= dues(LENGTH)
    # Stopped between its last look and its publish, a process publishes what another has published since: the same
    # command under the same id, which is the same job.
    assert len(set(server.published)) == len(set(server.ids))
