"""Publishes the commands of schedules when they are due: a loop around `schedule.decide`, on ports."""

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from schemas.events import TERMINAL, JobEvent
from schemas.subjects import job_subject
from schemas.wire import content_type, decode
from worker.core.ports.event_log import LogUnavailableError
from worker.core.ports.job_store import BoardUnavailableError
from worker.core.schedules.decision import (
    GRACE,
    Begin,
    Publish,
    Run,
    Schedule,
    ScheduleState,
    Take,
    Wait,
    begun,
    decide,
    published,
    skipped,
    taken,
)
from worker.core.schedules.ports import (
    NoScheduleBucketError,
    ScheduleDesk,
    ScheduleMeter,
    ScheduleUnavailableError,
    Stored,
)
from worker.core.services import World

LONGEST_SLEEP = 300.0
"""Seconds: after so long the server's clock is asked again, since a machine that slept has lost time."""
RETRY = 5.0
"""Seconds until the next look when NATS did not answer."""
RETRY_FAULT = 60.0
"""Seconds until the next look after an error that nobody foresaw."""
AT_ONCE = 16
"""Schedules that are attended to at the same time."""

_log = structlog.get_logger(__name__)


class Scheduler:
    """One replica's part in all schedules. Its own wall clock has no part in it: what counts is the server's."""

    def __init__(
        self,
        schedules: Sequence[Schedule],
        desk: ScheduleDesk,
        world: World,
        meter: ScheduleMeter,
        *,
        lost_after: float,
    ) -> None:
        """Take what to publish, the ports, and the seconds after which no command is in the queue any more."""
        self._schedules, self._desk, self._world, self._meter = schedules, desk, world, meter
        self._lost_after = timedelta(seconds=lost_after)
        self._since: dict[str, datetime] = {}
        """From when on each schedule's definition is in force, as far as this replica has seen."""
        self._heard = 0.0
        """When the server's time was heard, by the loop's clock."""
        self._troubles: dict[str, str] = {}
        """What was logged and is not over yet, by schedule; under no name, of all of them."""
        self._room = asyncio.Semaphore(AT_ONCE)

    async def run(self, draining: asyncio.Event) -> None:
        """Publish what is due until `draining` is set; return early when nothing will ever be due."""
        pause: float | None = 0.0
        while pause is not None and not draining.is_set():
            try:
                pause = await self.round()
            except Exception:
                _log.exception("schedules.fault")
                pause = RETRY_FAULT
            if pause:
                await _sleep(pause, draining)

    async def round(self) -> float | None:
        """Do what is to be done now; return the seconds until the next look, None when there is nothing to wait for."""
        try:
            now = await self._desk.now()
        except ScheduleUnavailableError as error:
            self._tell("schedules.unavailable", reason=str(error))
            return RETRY
        except NoScheduleBucketError as error:
            self._tell("schedules.off", reason=str(error))
            return LONGEST_SLEEP
        self._tell("schedules.available")
        self._heard = asyncio.get_running_loop().time()
        looks = await asyncio.gather(*(self._attend_safely(schedule, now) for schedule in self._schedules))
        times = [look for look in looks if look is not None]
        if not times:
            return None
        left = (min(times) - now).total_seconds() - self._age()
        return min(max(left, 0.0), LONGEST_SLEEP)

    async def _attend_safely(self, schedule: Schedule, now: datetime) -> datetime | None:
        """Return when to look at `schedule` again, None when never. Raises nothing: others must not wait for it."""
        async with self._room:
            try:
                until = await self._attend(schedule, now)
            except (ScheduleUnavailableError, LogUnavailableError, BoardUnavailableError) as error:
                self._tell("schedule.unavailable", schedule.name, reason=str(error))
                return now + timedelta(seconds=RETRY)
            except Exception:
                _log.exception("schedule.fault", schedule=schedule.name)
                return now + timedelta(seconds=RETRY_FAULT)
        self._tell("schedule.available", schedule.name)
        self._meter.schedule_next(schedule.name, until.timestamp() if until else math.nan)
        return until

    async def _attend(self, schedule: Schedule, now: datetime) -> datetime | None:
        name, me = schedule.name, self._world.worker
        stored = await self._desk.read(name)
        while True:
            state = stored.state
            if state is not None and state.definition == schedule.definition:
                self._since.setdefault(name, state.since)
            since = self._since.get(name)
            act = decide(schedule, state, now, since=since, me=me, lost_after=self._lost_after)
            if isinstance(act, Wait):
                return act.until
            new = begun(schedule, state, now) if isinstance(act, Begin) else await self._next(schedule, state, act, now)
            if new is None:
                return now  # the time that we know is too old to go by
            revision = await self._desk.write(name, new, stored.revision)
            if revision is None:
                stored = await self._desk.read(name)
                continue
            stored = Stored(new, revision)
            if isinstance(act, Begin):
                self._since[name] = new.since
            elif new.outcome != "taken":
                self._note(name, new)

    async def _next(
        self, schedule: Schedule, state: ScheduleState | None, act: Take | Publish, now: datetime
    ) -> ScheduleState | None:
        assert state is not None
        since, me = self._since.get(schedule.name, state.since), self._world.worker
        if isinstance(act, Take):
            if state.run is not None and await self._is_going(state.run, now):
                return skipped(schedule, state.run, act.due, now, since=since, me=me)
            return taken(schedule, act.due, now, since=since, me=me)
        if self._age() > GRACE / 2:
            # Stopped or held up since: by now another replica may have published it, and the job may be over.
            return None
        assert state.run is not None
        sequence = await self._desk.publish(state.run.provider, state.command.encode(), state.run.job_id)
        return published(state, sequence, now)

    async def _is_going(self, run: Run, now: datetime) -> bool:
        """Say whether the job of `run` has not ended, nor vanished with its command and its events."""
        entry = await self._world.log.last(job_subject(run.provider, run.oa_id, run.job_id))
        if entry is not None:
            try:
                event: JobEvent | None = decode(entry.data, JobEvent, content_type(entry.headers))
            except ValueError:
                # The job itself finds it in its way; here the queue and the status say whether it goes on.
                _log.warning("schedule.event_unreadable", job_id=run.job_id, sequence=entry.sequence)
                event = None
            if isinstance(event, TERMINAL):
                return False
        if run.sequence and await self._desk.is_queued(run):
            return True
        if entry is None:
            return False
        # Its own command is gone, yet it has not ended: somebody retries it just now, or it was lost.
        status = await self._world.status.look(run.job_id)
        if status is None or status.state not in ("running", "waiting"):
            return False
        return now - status.updated_at < timedelta(seconds=2 * self._world.ack_wait)

    def _age(self) -> float:
        """Return how many seconds ago the server's time was heard."""
        return asyncio.get_running_loop().time() - self._heard

    def _note(self, name: str, state: ScheduleState) -> None:
        assert state.run is not None
        assert state.due is not None
        line = {"schedule": name, "due": f"{state.due:%Y-%m-%dT%H:%M:%SZ}", "job_id": state.run.job_id}
        if state.outcome == "published":
            self._meter.schedule_decided(name, "published")
            _log.info("schedule.published", **line)
        else:
            self._meter.schedule_decided(name, "skipped")
            _log.warning("schedule.skipped", reason="the job before goes on", **line)

    def _tell(self, event: str, name: str = "", **fields: str) -> None:
        """Log trouble when it begins, and when it is over."""
        over = event.endswith(".available")
        if over and self._troubles.pop(name, None) is not None:
            _log.info(event, **({"schedule": name} if name else {}))
        elif not over and self._troubles.get(name) != event:
            self._troubles[name] = event
            _log.warning(event, **({"schedule": name} if name else {}), **fields)


async def _sleep(seconds: float, draining: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(draining.wait(), seconds)
    except TimeoutError:
        return
