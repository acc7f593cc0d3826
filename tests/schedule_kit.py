"""What tests of schedules share: a desk in memory that can be killed at any step, and a schedule to put on it."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from schemas.commands import FetchEtelecomFollowers
from schemas.types import Provider
from tests.fakes import Clock, make_world
from worker.core.schedules.decision import Outcome, Run, Schedule, ScheduleState, definition_of
from worker.core.schedules.ports import NoScheduleBucketError, ScheduleUnavailableError, Stored
from worker.core.schedules.scheduler import Scheduler
from worker.core.schedules.timing import Cron, Timing

VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")
WEEK = 7 * 86_400.0
WINDOW = 120.0
"""Seconds in which the command stream knows an id again."""


class KilledError(BaseException):
    """The process is gone: nobody catches this."""


def schedule(name: str = "nightly", timing: Timing | str | None = "0 3 * * *", **command: Any) -> Schedule:
    """A schedule of one Official Account; a text is a cron expression in Vietnam."""
    when = Cron(timing, VIETNAM) if isinstance(timing, str) else timing
    what = FetchEtelecomFollowers(**{"oa_id": "1", "account": "shop"} | command)
    return Schedule(name=name, timing=when, command=what, definition=definition_of(repr(when), what))


def vietnam(text: str) -> datetime:
    """A local time in Vietnam, as UTC."""
    return at(text, VIETNAM)


def at(text: str, zone: tzinfo) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@dataclass
class FakeServer:
    """The bucket and the command stream that all replicas share."""

    clock: Clock
    keys: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    published: list[tuple[str, bytes]] = field(default_factory=list)
    """Id and body of each command that the stream has stored."""
    queue: dict[int, str] = field(default_factory=dict)
    """Sequence and id of the commands that nobody has acknowledged."""
    attempts: int = 0
    """Times that somebody published, duplicates included."""
    is_there: bool = True
    is_up: bool = True
    _ids: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    _revision: int = 0

    @property
    def ids(self) -> list[str]:
        """The ids of the commands, in order."""
        return [job_id for job_id, _ in self.published]

    def put(self, name: str, value: bytes) -> int:
        self._revision += 1
        self.keys[name] = (self._revision, value)
        return self._revision

    def store(self, job_id: str, command: bytes) -> int:
        """As the command stream does: an id that it knows from the last two minutes is stored once."""
        self.attempts += 1
        known = self._ids.get(job_id)
        if known is not None and self.clock.time - known[1] < timedelta(seconds=WINDOW):
            return known[0]
        self.published.append((job_id, command))
        self._ids[job_id] = (len(self.published), self.clock.time)
        self.queue[len(self.published)] = job_id
        return len(self.published)

    def state(self, name: str = "nightly") -> ScheduleState:
        return msgspec.json.decode(self.keys[name][1], type=ScheduleState)


class FakeScheduleDesk:
    """`ScheduleDesk` of one replica. Each call is two steps; it is killed at its `dies_at`-th."""

    def __init__(self, server: FakeServer, *, skew: float = 0.0, dies_at: int | None = None) -> None:
        self.server = server
        self.skew = timedelta(seconds=skew)
        self.dies_at = dies_at
        self.steps = 0

    async def now(self) -> datetime:
        """See `ScheduleDesk.now`."""
        await self._step()
        if not self.server.is_there:
            raise NoScheduleBucketError("the bucket is missing: run `followers setup`")
        now = self.server.clock.time + self.skew
        await self._step()
        return now

    async def read(self, name: str) -> Stored:
        """See `ScheduleDesk.read`."""
        await self._step()
        revision, value = self.server.keys.get(name, (0, b""))
        state = msgspec.json.decode(value, type=ScheduleState) if value else None
        await self._step()
        return Stored(state, revision)

    async def write(self, name: str, state: ScheduleState, revision: int) -> int | None:
        """See `ScheduleDesk.write`."""
        await self._step()
        is_ours = self.server.keys.get(name, (0, b""))[0] == revision
        new = self.server.put(name, msgspec.json.encode(state)) if is_ours else None
        await self._step()
        return new

    async def publish(self, provider: Provider, command: bytes, job_id: str) -> int:
        """See `ScheduleDesk.publish`."""
        await self._step()
        sequence = self.server.store(job_id, command)
        await self._step()
        return sequence

    async def is_queued(self, run: Run) -> bool:
        """See `ScheduleDesk.is_queued`."""
        await self._step()
        found = self.server.queue.get(run.sequence) == run.job_id
        await self._step()
        return found

    async def _step(self) -> None:
        await asyncio.sleep(0)
        if not self.server.is_up:
            raise ScheduleUnavailableError("NATS did not answer")
        self.steps += 1
        if self.steps == self.dies_at:
            raise KilledError


class FakeScheduleMeter:
    """`ScheduleMeter` that counts in plain sight."""

    def __init__(self) -> None:
        self.decided: list[tuple[str, Outcome]] = []
        self.next: dict[str, float] = {}

    def schedule_decided(self, schedule: str, outcome: Outcome) -> None:
        """See `ScheduleMeter`."""
        self.decided.append((schedule, outcome))

    def schedule_next(self, schedule: str, due: float) -> None:
        """See `ScheduleMeter`."""
        self.next[schedule] = due


class Replica:
    """A scheduler, and when it wants to look next."""

    def __init__(self, desk: Any, clock: Clock, *schedules: Schedule, name: str = "a", **world: Any) -> None:
        self.desk, self.clock = desk, clock
        self.meter = FakeScheduleMeter()
        self.world = make_world(clock=clock, worker=name, **world)
        self.scheduler = Scheduler(schedules, desk, self.world, self.meter, lost_after=WEEK)
        self.looks_at: datetime | None = clock.time

    async def round(self) -> float | None:
        pause = await self.scheduler.round()
        self.looks_at = None if pause is None else self.clock.time + timedelta(seconds=max(pause, 0.001))
        return pause


async def live(until: datetime, *replicas: Replica) -> None:
    """Let the replicas look when they want to, one after the other, until the clock shows `until`."""
    clock = replicas[0].clock
    while True:
        waiting = [replica for replica in replicas if replica.looks_at is not None]
        first = min(waiting, key=lambda replica: replica.looks_at or until, default=None)
        if first is None or first.looks_at is None or first.looks_at >= until:
            clock.time = max(clock.time, until)
            return
        clock.time = max(clock.time, first.looks_at)
        await first.round()
