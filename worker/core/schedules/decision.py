"""What to do about a schedule: from its definition, what is stored of it and the time, to one act.

Whatever the act is, it ends in a compare-and-set of the stored state, so that of all replicas one does it:

    begin ──▶ (waiting for a due time) ──▶ taken ──▶ published
                                      └──▶ skipped, while the last job goes on

`taken` is an intention: it is stored with the command, before that is published under an id that follows from the name
and the due time. A replica that dies in between is followed by one that publishes the same once more, and the server or
the job's own log makes one of two.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec
from msgspec import Struct

from schemas.commands import FetchFollowers
from schemas.subjects import is_token
from schemas.types import Provider, Timestamp
from worker.core.schedules.timing import Timing

LONGEST_NAME = 47
"""Characters: with the due time behind it the name makes a job id of 64."""
GRACE = 10.0
"""Seconds that whoever took a due time has for publishing, before another replica does it."""

Outcome = Literal["published", "skipped"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A command and when it is due, as an operator configured it."""

    name: str
    timing: Timing | None
    """None while it is turned off."""
    command: FetchFollowers
    """Without an id: each due time has its own."""
    definition: str
    """Changes with anything of the schedule."""


class Run(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last command: enough to see whether its job goes on."""

    job_id: str
    provider: Provider
    oa_id: str
    sequence: int = 0
    """In the command stream; 0 until it is known."""


class ScheduleState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the replicas have in common about a schedule: the value of its key."""

    definition: str
    since: Timestamp
    """By the definition only later times are due."""
    due: Timestamp | None = None
    """The newest due time that was decided on; none up to it will be again."""
    outcome: Literal["", "taken", "published", "skipped"] = ""
    at: Timestamp | None = None
    """When the outcome was decided on, by the server's clock."""
    by: str = ""
    """The replica that decided."""
    run: Run | None = None
    command: str = ""
    """While `taken`: what is to be published, as JSON. A successor may be configured otherwise."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Store that the definition is in force from now on: what was due before is not made up for."""


@dataclass(frozen=True, slots=True)
class Take:
    """A due time has come: take it, or skip it while the last job goes on."""

    due: datetime


@dataclass(frozen=True, slots=True)
class Publish:
    """The due time is taken, so its command must get into the stream."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing before `until`; None: never."""

    until: datetime | None


Act = Begin | Take | Publish | Wait


def decide(
    schedule: Schedule,
    state: ScheduleState | None,
    now: datetime,
    *,
    since: datetime | None,
    me: str,
    lost_after: timedelta,
) -> Act:
    """Return the next act.

    `since`: from when on this replica knows the definition to be in force, None at its first look. Two replicas with
    different definitions, as in a rollout, then each follow their own, and no due time is taken twice. `lost_after`:
    what was taken so long ago can't be in the queue any more, and is not made up for.
    """
    if state is None or (since is None and state.definition != schedule.definition):
        return Begin()
    if state.outcome == "taken" and state.at is not None and now - state.at < lost_after:
        patience = state.at + timedelta(seconds=GRACE)
        if state.by == me or now >= patience:
            return Publish()
        # Mostly it is published a moment later, and then the next due time may be ours.
        coming = schedule.timing.next_after(now) if schedule.timing is not None else None
        return Wait(min(patience, coming or patience))
    after = max(filter(None, (since or state.since, state.due)))
    if schedule.timing is None:
        return Wait(None)
    due = schedule.timing.newest(after, now)
    return Take(due) if due is not None else Wait(schedule.timing.next_after(max(now, after)))


def begun(schedule: Schedule, state: ScheduleState | None, now: datetime) -> ScheduleState:
    """Return the state once `schedule`'s definition has come into force; what is taken stays to be published."""
    if state is None:
        return ScheduleState(definition=schedule.definition, since=now)
    return msgspec.structs.replace(state, definition=schedule.definition, since=now)


def taken(schedule: Schedule, due: datetime, now: datetime, *, since: datetime, me: str) -> ScheduleState:
    """Return the state once `me` has taken `due`."""
    command = msgspec.structs.replace(schedule.command, id=job_id_at(schedule.name, due))
    return ScheduleState(
        definition=schedule.definition,
        since=since,
        due=due,
        outcome="taken",
        at=now,
        by=me,
        run=Run(job_id=command.id or "", provider=command.provider, oa_id=command.oa_id),
        command=msgspec.json.encode(command).decode(),
    )


def skipped(schedule: Schedule, run: Run, due: datetime, now: datetime, *, since: datetime, me: str) -> ScheduleState:
    """Return the state once `me` has let `due` go by; the job that goes on, `run`, stays the last one."""
    return ScheduleState(
        definition=schedule.definition, since=since, due=due, outcome="skipped", at=now, by=me, run=run
    )


def published(state: ScheduleState, sequence: int, now: datetime) -> ScheduleState:
    """Return the state once the command that was taken is in the command stream."""
    run = state.run and msgspec.structs.replace(state.run, sequence=sequence)
    return msgspec.structs.replace(state, outcome="published", at=now, run=run, command="")


def job_id_at(name: str, due: datetime) -> str:
    """Return the id of the job that the schedule `name` starts at `due`, which is in UTC."""
    job_id = f"{name}-{due:%Y%m%dT%H%M%SZ}"
    assert is_token(job_id)
    return job_id


def definition_of(*parts: object) -> str:
    """Return a short text that is another one whenever a part is."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()[:16]
