"""What replicas make of schedules: published once, whatever crashes, differs or is late."""

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from schemas import FetchError, JobCompleted, JobEvent, JobFailed, JobStarted, JobStatus, encode
from schemas.commands import FetchEtelecomFollowers
from schemas.subjects import is_token, job_subject
from tests.fakes import Clock, FakeLog, FakeStatusBoard
from tests.schedule_kit import (
    VIETNAM,
    WEEK,
    FakeScheduleDesk,
    FakeServer,
    KilledError,
    Replica,
    live,
    schedule,
    vietnam,
)
from worker.core.schedules import scheduler
from worker.core.schedules.decision import (
    GRACE,
    LONGEST_NAME,
    Act,
    Schedule,
    ScheduleState,
    Take,
    Wait,
    decide,
    job_id_at,
    published,
    skipped,
    taken,
)
from worker.core.schedules.ports import ScheduleUnavailableError
from worker.core.schedules.scheduler import RETRY, RETRY_FAULT
from worker.core.schedules.timing import Every

EVENING = vietnam("2026-11-27T22:00")
THREE = vietnam("2026-11-28T03:00")
FIRST, SECOND = "nightly-20261127T200000Z", "nightly-20261128T200000Z"
OTHERS = schedule(oa_id="2")
"""As the nightly one, with another command."""


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(Clock(EVENING))


@pytest.fixture(autouse=True)
def _fewer_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of looking at the clock every five minutes shows nothing more than one of every four hours."""
    monkeypatch.setattr(scheduler, "LONGEST_SLEEP", 4 * 3600.0)


def replica(server: FakeServer, *schedules: Schedule, name: str = "a", skew: float = 0.0, **world: Any) -> Replica:
    desk = FakeScheduleDesk(server, skew=skew)
    return Replica(desk, server.clock, *(schedules or (schedule(),)), name=name, **world)


async def begun(server: FakeServer, *schedules: Schedule, **world: Any) -> Replica:
    """A replica that has seen its schedules on the evening before the first night."""
    one = replica(server, *schedules, **world)
    await one.round()
    return one


def common(job_id: str) -> dict[str, Any]:
    return {"job_id": job_id, "provider": "etelecom", "account": "shop", "oa_id": "1"}


async def tell(log: FakeLog, event: JobEvent) -> None:
    subject = job_subject("etelecom", "1", event.job_id)
    last = await log.last(subject)
    await log.publish(subject, encode(event), {}, last.sequence if last else 0)


def started(job_id: str = FIRST) -> JobStarted:
    return JobStarted(**common(job_id), resumed_at_page=1, started_at=THREE)


def failed(job_id: str = FIRST) -> JobFailed:
    error = FetchError(code="unauthorized", message="eTelecom refuses the key", retryable=False)
    return JobFailed(**common(job_id), error=error, finished_at=THREE)


def completed(job_id: str = FIRST) -> JobCompleted:
    counts = dict.fromkeys(("pages", "followers", "distinct", "duplicates_dropped", "requests"), 0)
    times = {"started_at": THREE, "finished_at": THREE, "total_first": None, "total_last": None}
    return JobCompleted(**common(job_id), **counts, **times, verdict="complete")  # type: ignore[arg-type]


async def test_a_new_schedule_begins_with_its_next_due_time(server: FakeServer) -> None:
    one = replica(server)

    pause = await one.round()
    await live(THREE, one)

    assert pause == scheduler.LONGEST_SLEEP
    assert server.ids == []
    assert server.state().since == EVENING
    await live(THREE + timedelta(seconds=1), one)
    assert server.ids == [FIRST]


async def test_what_is_published_is_the_command_with_the_due_time_in_its_id(server: FakeServer) -> None:
    one = await begun(server, schedule(max_pages=3, labels={"list": "full"}))

    await live(vietnam("2026-11-28T04:00"), one)

    command = msgspec.json.decode(server.published[0][1], type=FetchEtelecomFollowers)
    assert command == FetchEtelecomFollowers(id=FIRST, oa_id="1", account="shop", max_pages=3, labels={"list": "full"})
    state = server.state()
    assert (state.due, state.outcome, state.command) == (THREE, "published", "")
    assert one.meter.decided == [("nightly", "published")]
    assert datetime.fromtimestamp(one.meter.next["nightly"], UTC) == vietnam("2026-11-29T03:00")


def test_the_longest_name_makes_an_id_that_may_be_one() -> None:
    job_id = job_id_at("n" * LONGEST_NAME, THREE)

    assert (len(job_id), is_token(job_id)) == (64, True)


async def test_replicas_whose_clocks_differ_publish_each_time_of_a_week_once(server: FakeServer) -> None:
    plan = schedule(), schedule("often", Every(3600, VIETNAM)), schedule("odd", "17 */5 * * *")
    replicas = [
        replica(server, *plan, name=name, skew=skew) for name, skew in (("a", 170.0), ("b", 0.0), ("c", -200.0))
    ]
    for one in replicas:
        await one.round()

    server.queue = NothingGoesOn()
    await live(EVENING + timedelta(days=7, minutes=10), *replicas)

    expected = [job_id_at(one.name, due) for one in plan for due in dues(one, EVENING + timedelta(days=7))]
    assert sorted(server.ids) == sorted(expected)
    assert server.attempts == len(expected), "nobody published what another had taken"
    assert len([outcome for one in replicas for outcome in one.meter.decided]) == len(expected)


class NothingGoesOn(dict[int, str]):
    """A queue whose commands are done at once."""

    def get(self, key: int, default: Any = None) -> Any:
        return None


def dues(one: Schedule, until: datetime) -> list[datetime]:
    assert one.timing is not None
    found, due = [], one.timing.next_after(EVENING + timedelta(minutes=5))
    while due is not None and due <= until:
        found.append(due)
        due = one.timing.next_after(due)
    return found


@pytest.mark.parametrize("pause", [1.0, 3600.0], ids=["at once", "an hour later"])
@pytest.mark.parametrize("another", [False, True], ids=["as configured before", "configured otherwise"])
@pytest.mark.parametrize("earlier", [0, 1], ids=["its first night", "another night"])
@pytest.mark.parametrize("step", range(1, 15))
async def test_a_crash_at_any_step_loses_nothing_and_repeats_nothing(
    server: FakeServer, step: int, earlier: int, pause: float, another: bool
) -> None:
    """The replica dies at `step` of a due time, and one that starts `pause` seconds later goes on."""
    first = await begun(server)
    due = THREE + timedelta(days=earlier)
    await live(due - timedelta(minutes=1), first)
    server.queue.clear()
    before, due_id = list(server.ids), job_id_at("nightly", due)
    server.clock.time = due
    first.desk.dies_at = first.desk.steps + step
    with contextlib.suppress(KilledError):
        await first.round()
    was_taken = server.state().due == due

    server.clock.advance(pause)
    second = replica(server, OTHERS if another else schedule(), name="b")
    await live(due + timedelta(hours=23), second)

    # What nobody had taken is the past of a definition that came later.
    expected = {due_id} if was_taken or not another else set()
    assert set(server.ids[earlier:]) == expected
    assert len(set(server.published[earlier:])) <= 1, "what is published again is the same, byte for byte"
    assert server.state().outcome != "taken"
    server.queue.clear()
    await live(due + timedelta(hours=25), second)
    assert set(server.ids) == {*before, *expected, job_id_at("nightly", due + timedelta(days=1))}


async def test_a_crash_while_it_begins_is_no_reason_to_fire(server: FakeServer) -> None:
    for step in range(1, 7):
        one = replica(server, name=f"a{step}")
        one.desk.dies_at = step
        with contextlib.suppress(KilledError):
            await one.round()

    assert server.ids == []
    await live(THREE + timedelta(hours=1), replica(server, name="b"))
    assert server.ids == [FIRST]


async def test_another_replica_publishes_in_time_what_a_dead_one_took(server: FakeServer) -> None:
    dying, other = await begun(server), await begun(server, name="b")
    server.clock.time = THREE
    dying.desk.dies_at = dying.desk.steps + 7  # before the command is in the stream
    with pytest.raises(KilledError):
        await dying.round()
    assert server.state().outcome == "taken"

    await live(THREE + timedelta(seconds=GRACE / 2), other)
    assert server.ids == [], "whoever took it may be about to publish"
    await live(THREE + timedelta(seconds=GRACE + 1), other)

    assert server.ids == [FIRST]


async def test_another_replica_does_not_sleep_through_the_due_times_behind_one_that_is_just_taken(
    server: FakeServer,
) -> None:
    often = schedule("often", Every(1, VIETNAM))
    dying, other = await begun(server, often), await begun(server, often, name="b")
    server.clock.advance(1)
    dying.desk.dies_at = dying.desk.steps + 9  # published, and not noted yet
    with pytest.raises(KilledError):
        await dying.round()
    await other.round()
    server.put("often", msgspec.json.encode(published(server.state("often"), 1, server.clock.time)))
    server.queue.clear()

    await live(server.clock.time + timedelta(seconds=1.1), other)

    assert len(server.ids) == 2


async def test_whoever_lost_the_answer_to_its_write_goes_on_without_waiting(server: FakeServer) -> None:
    one = await begun(server)
    server.clock.time = THREE
    write = one.desk.write

    async def unheard(name: str, state: Any, revision: int) -> int | None:
        await write(name, state, revision)
        one.desk.write = write
        raise ScheduleUnavailableError("no answer")

    one.desk.write = unheard

    assert await one.round() == pytest.approx(RETRY, abs=0.5)
    server.clock.advance(RETRY)
    await one.round()

    assert server.ids == [FIRST]


async def test_whoever_was_held_up_looks_again_before_it_publishes(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await begun(server), await begun(server, name="b")
    server.clock.time = THREE
    write = one.desk.write
    ages = [0.0]

    async def slow(name: str, state: Any, revision: int) -> int | None:
        written: int | None = await write(name, state, revision)
        one.desk.write = write
        ages.append(3600.0)
        server.clock.advance(3600)
        await live(server.clock.time + timedelta(seconds=1), other)
        server.queue.clear()
        return written

    one.desk.write = slow
    monkeypatch.setattr(one.scheduler, "_age", lambda: ages[-1])

    await one.round()

    assert (server.ids, server.attempts) == ([FIRST], 1)
    assert (one.meter.decided, other.meter.decided) == ([], [("nightly", "published")])


async def test_a_missed_week_becomes_one_command_for_its_newest_time(server: FakeServer) -> None:
    await begun(server, schedule(), schedule("often", Every(3600, VIETNAM)))
    server.clock.time = vietnam("2026-12-05T12:34")

    returned = replica(server, schedule(), schedule("often", Every(3600, VIETNAM)), name="b")
    await returned.round()
    await returned.round()

    assert sorted(server.ids) == ["nightly-20261204T200000Z", "often-20261205T050000Z"]


async def test_a_time_is_skipped_while_the_last_command_is_in_the_queue(server: FakeServer) -> None:
    one, other = await begun(server), await begun(server, name="b")
    await live(vietnam("2026-11-28T12:00"), one, other)
    assert server.ids == [FIRST]

    await live(vietnam("2026-11-29T12:00"), one, other)
    assert server.ids == [FIRST]
    server.queue.clear()
    await live(vietnam("2026-11-30T12:00"), one, other)

    assert server.ids == [FIRST, "nightly-20261129T200000Z"]
    assert sorted(one.meter.decided + other.meter.decided) == [
        ("nightly", "published"),
        ("nightly", "published"),
        ("nightly", "skipped"),
    ]


@pytest.mark.parametrize("end", [completed(), failed()])
async def test_a_job_that_has_ended_is_over_though_its_command_is_not_acknowledged_yet(
    server: FakeServer, end: JobEvent
) -> None:
    log = FakeLog()
    one = await begun(server, log=log)
    await live(vietnam("2026-11-28T12:00"), one)

    await tell(log, started())
    await tell(log, end)
    await live(vietnam("2026-11-29T12:00"), one)

    assert server.ids == [FIRST, SECOND]


async def test_a_job_that_has_left_no_trace_does_not_block_for_ever(server: FakeServer) -> None:
    one = await begun(server)
    await live(vietnam("2026-11-28T12:00"), one)

    server.queue.clear()  # its events have aged out, too
    await live(vietnam("2026-11-29T12:00"), one)

    assert server.ids == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("state", "ago", "goes_on"),
    [("running", 20, True), ("waiting", 20, True), ("running", 90, False), ("failed", 1, False)],
)
async def test_a_job_without_its_command_goes_on_as_long_as_somebody_retries_it(
    server: FakeServer, state: Any, ago: float, goes_on: bool
) -> None:
    log, board = FakeLog(), FakeStatusBoard()
    one = await begun(server, log=log, status=board)
    await live(vietnam("2026-11-28T12:00"), one)
    await tell(log, started())
    server.queue.clear()

    at = vietnam("2026-11-29T03:00") - timedelta(seconds=ago)
    board.bucket.put(FIRST, encode(JobStatus(**common(FIRST), state=state, updated_at=at)))
    await live(vietnam("2026-11-29T12:00"), one)

    assert (server.ids == [FIRST]) is goes_on


async def test_a_changed_schedule_takes_effect_at_once_and_does_not_fire_the_past(server: FakeServer) -> None:
    await live(vietnam("2026-11-28T12:00"), await begun(server))
    server.queue.clear()

    changed = replica(server, schedule(timing="0 11,13 * * *"), name="b")
    await live(vietnam("2026-11-28T12:59"), changed)
    assert server.ids == [FIRST]
    await live(vietnam("2026-11-28T13:01"), changed)

    assert server.ids == [FIRST, "nightly-20261128T060000Z"]


async def test_while_a_rollout_lasts_each_definition_is_followed_and_no_time_is_doubled_or_lost(
    server: FakeServer,
) -> None:
    old, new = await begun(server), await begun(server, OTHERS, name="b")

    await live(vietnam("2026-11-28T12:00"), old, new)
    server.queue.clear()
    await live(vietnam("2026-11-29T12:00"), new, old)

    assert (server.ids, server.attempts) == ([FIRST, SECOND], 2)


async def test_a_due_time_that_comes_as_another_definition_begins_is_not_lost(server: FakeServer) -> None:
    old = await begun(server)
    server.clock.time = THREE + timedelta(seconds=2)
    await begun(server, OTHERS, name="b")
    assert server.state().since == THREE + timedelta(seconds=2)

    server.clock.time = THREE + timedelta(seconds=5)
    await old.round()

    assert server.ids == [FIRST]
    state = server.state()
    assert (state.definition, state.since) == (schedule().definition, EVENING), "its own definition's, not the other's"


async def test_a_replica_that_only_joined_follows_its_definition_and_does_not_begin_it_anew(server: FakeServer) -> None:
    await begun(server)
    joined = await begun(server, name="b")
    server.clock.time = vietnam("2026-11-28T01:00")
    await begun(server, OTHERS, name="c")
    began = server.state()

    await live(vietnam("2026-11-28T02:00"), joined)
    assert server.state() == began
    await live(THREE + timedelta(seconds=1), joined)

    assert (server.ids, server.state().since) == ([FIRST], EVENING)


async def test_a_definition_that_comes_back_begins_anew_only_for_who_was_not_there(server: FakeServer) -> None:
    throughout = await begun(server)
    for hour, plan, name in ((1, OTHERS, "b"), (4, schedule(), "c")):
        server.clock.time = vietnam(f"2026-11-28T0{hour}:00")
        newcomer = await begun(server, plan, name=name)
    await newcomer.round()
    assert server.ids == [], "what was due before it began is the past"

    await throughout.round()

    assert server.ids == [FIRST]


def test_before_its_definition_is_known_to_be_in_force_the_stored_time_counts() -> None:
    plan = schedule()
    state = ScheduleState(definition=plan.definition, since=EVENING)

    def act(now: datetime) -> Act:
        return decide(plan, state, now, since=None, me="a", lost_after=timedelta(days=7))

    assert act(THREE) == Take(THREE)
    assert act(THREE - timedelta(seconds=1)) == Wait(THREE)


def test_what_was_decided_keeps_since_when_its_definition_is_in_force() -> None:
    plan, now = schedule(), THREE + timedelta(seconds=3)
    took = taken(plan, THREE, now, since=EVENING, me="a")
    assert took.run is not None

    assert (took.since, took.due, took.at) == (EVENING, THREE, now)
    let_go = skipped(plan, took.run, THREE, now, since=EVENING, me="a")
    assert (let_go.since, let_go.due, let_go.at) == (EVENING, THREE, now)
    assert published(took, 7, now).since == EVENING


async def test_a_schedule_that_is_turned_off_and_on_again_does_not_fire_what_was_due_meanwhile(
    server: FakeServer,
) -> None:
    await begun(server)
    off = replica(server, schedule(timing=None), name="b")
    assert await off.round() is None

    server.clock.time = vietnam("2026-11-30T12:00")
    on = replica(server, name="c")
    await live(vietnam("2026-12-01T02:59"), on)
    assert server.ids == []
    await live(vietnam("2026-12-01T03:01"), on)

    assert server.ids == ["nightly-20261130T200000Z"]


async def test_a_schedule_whose_key_was_deleted_goes_on_with_its_next_time(server: FakeServer) -> None:
    one = await begun(server)
    await live(THREE + timedelta(seconds=1), one)

    server.put("nightly", b"")
    await live(vietnam("2026-11-28T12:00"), one)
    server.queue.clear()
    await live(vietnam("2026-11-29T12:00"), one)

    assert server.ids == [FIRST, SECOND]


async def test_what_was_taken_too_long_ago_to_be_in_the_queue_gives_way_to_the_newest_time(server: FakeServer) -> None:
    dying = await begun(server)
    server.clock.time = THREE
    dying.desk.dies_at = dying.desk.steps + 7
    with pytest.raises(KilledError):
        await dying.round()

    server.clock.advance(WEEK + 3600)
    await replica(server, name="b").round()

    assert server.ids == ["nightly-20261204T200000Z"]


async def test_without_the_bucket_schedules_are_off_with_one_line_until_it_is_there(server: FakeServer) -> None:
    server.is_there = False
    one = replica(server)

    with heard() as lines:
        assert [await one.round(), await one.round()] == [scheduler.LONGEST_SLEEP] * 2
        server.is_there = True
        await one.round()

    assert [line["event"] for line in lines] == ["schedules.off", "schedules.available"]
    assert "followers setup" in lines[0]["reason"]


async def test_while_nats_is_away_it_is_asked_now_and_then_and_nothing_is_lost(server: FakeServer) -> None:
    one = await begun(server)
    server.clock.time, server.is_up = THREE, False

    with heard() as lines:
        assert [await one.round(), await one.round()] == [RETRY] * 2
        server.is_up = True
        server.clock.advance(600)
        await one.round()

    assert [line["event"] for line in lines] == ["schedules.unavailable", "schedules.available", "schedule.published"]
    assert server.ids == [FIRST]


async def test_an_event_that_nobody_can_read_holds_up_no_schedule(server: FakeServer) -> None:
    log = FakeLog()
    one = await begun(server, schedule(), schedule("often", Every(3600, VIETNAM)), log=log)
    await live(vietnam("2026-11-28T02:30"), one)
    server.queue.clear()
    await live(vietnam("2026-11-28T03:30"), one)
    server.queue.clear()
    await log.publish(job_subject("etelecom", "1", FIRST), b'{"type":"melted"}', {}, 0)
    server.clock.time = vietnam("2026-11-29T03:00")

    with heard() as lines:
        pause = await one.round()

    assert [line["event"] for line in lines if line["log_level"] == "error"] == []
    (said,) = [line for line in lines if line["event"] == "schedule.event_unreadable"]
    assert (said["job_id"], said["sequence"]) == (FIRST, 1)
    assert sorted(server.ids[-2:]) == ["nightly-20261128T200000Z", "often-20261128T200000Z"]
    assert pause is not None
    assert pause > RETRY_FAULT


async def test_a_worker_that_is_told_to_stop_takes_nothing_more(server: FakeServer) -> None:
    one, draining = await begun(server), asyncio.Event()
    task = asyncio.create_task(one.scheduler.run(draining))
    await asyncio.sleep(0)

    draining.set()
    await asyncio.wait_for(task, 5)
    server.clock.time = THREE
    await asyncio.wait_for(one.scheduler.run(draining), 5)

    assert server.ids == []


async def test_a_loop_in_which_nothing_is_ever_due_ends(server: FakeServer) -> None:
    one = replica(server, replace(schedule(), timing=None))

    await asyncio.wait_for(one.scheduler.run(asyncio.Event()), 5)

    assert one.meter.next["nightly"] != one.meter.next["nightly"], "no number"


@contextlib.contextmanager
def heard() -> Any:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    with capture_logs() as lines:
        yield lines
