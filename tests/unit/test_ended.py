"""A status is told with the end that the log has, whoever died or was stopped before writing it."""

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from schemas.events import FetchError, JobCancelled, JobCompleted, JobEvent, JobFailed, JobStarted, JobWaiting
from schemas.jobs import JobStatus
from schemas.subjects import job_subject
from tests.fakes import FakeLog, FakeStatusBoard, make_world
from tests.replica import Replica, command, kinds
from tests.simulation.loop import run
from tests.unit.test_retry_of_dead_letters import failed_after_a_page, retry
from worker.core.ports.event_log import Entry
from worker.core.status.control import Control
from worker.core.status.end_in_log import LOG_WITHIN, STOPPED_FOR, with_end
from worker.core.status.wait_reasons import unread

AT = datetime(2026, 3, 1, tzinfo=UTC)
SUBJECT = job_subject("esms", "1", "j")
WHOSE: Any = {"job_id": "j", "provider": "esms", "account": "shop", "oa_id": "1", "labels": {}}
RUNNING = JobStatus(
    **WHOSE, state="running", page=2, followers=4, total=9, percent=44.4, attempt=1, updated_at=AT, worker="a", eta=AT,
    reason="rate_limited", until=AT, event_sequence=1,
)  # fmt: skip
COMPLETED = JobCompleted(
    **WHOSE, attempt=3, generation=2, pages=4, followers=9, distinct=9, duplicates_dropped=0, total_first=9,
    total_last=8, requests=4, started_at=AT, finished_at=AT, verdict="truncated", reason="max_pages",
)  # fmt: skip
ERROR = FetchError(code="unauthorized", message="the key is wrong", retryable=False)
FAILED = JobFailed(**WHOSE, attempt=2, error=ERROR, finished_at=AT)
CANCELLED = JobCancelled(**WHOSE, attempt=2, finished_at=AT)
STARTED = JobStarted(**WHOSE, attempt=4, resumed_at_page=3, started_at=AT)
WAITING = JobWaiting(**WHOSE, attempt=2, reason="rate_limited", until=AT)


class Log(FakeLog):
    """A job's newest event, or none, after `takes` seconds."""

    def __init__(self, event: JobEvent | bytes | None, sequence: int = 7, takes: float = 0.0) -> None:
        super().__init__()
        self.event, self.sequence, self.takes, self.asked = event, sequence, takes, 0

    async def last(self, subject: str) -> Entry | None:
        self.asked += 1
        assert subject == SUBJECT
        await asyncio.sleep(self.takes)
        if self.event is None:
            return await super().last(subject)
        data = self.event if isinstance(self.event, bytes) else msgspec.json.encode(self.event)
        return Entry(self.sequence, data, {})


def told(log: Log, known: JobStatus = RUNNING) -> JobStatus:
    return run(random.Random(1), with_end(known, log, lambda: AT))


@pytest.mark.parametrize(
    ("event", "differs"),
    [
        (COMPLETED, {"state": "completed", "attempt": 3, "generation": 2, "page": 4, "followers": 9, "total": 8,
                     "percent": 100.0, "reason": "max_pages", "verdict": "truncated"}),
        (FAILED, {"state": "failed", "attempt": 2, "error": ERROR, "reason": None}),
        (CANCELLED, {"state": "cancelled", "attempt": 2, "reason": None}),
    ],
)  # fmt: skip
def test_a_job_that_goes_on_by_its_status_is_told_with_the_end_in_the_log(event: JobEvent, differs: Any) -> None:
    ended = {"until": None, "eta": None, "finished_at": AT, "event_sequence": 7}

    assert told(Log(event)) == msgspec.structs.replace(RUNNING, **ended, **differs)


@pytest.mark.parametrize(
    "log",
    [
        pytest.param(Log(None), id="no event"),
        pytest.param(Log(WAITING), id="it waits"),
        pytest.param(Log(FAILED, sequence=1), id="the failure before the retry that runs"),
        pytest.param(Log(b"{}"), id="somebody else's message"),
    ],
)
def test_what_the_log_does_not_contradict_is_told_as_it_is(log: Log) -> None:
    assert told(log) is RUNNING
    assert log.asked == 1


def away() -> Log:
    log = Log(None)
    log.down = True
    return log


@pytest.mark.parametrize("log", [away(), Log(FAILED, takes=LOG_WITHIN + 0.1)], ids=["away", "no answer in time"])
def test_a_log_that_says_nothing_leaves_open_what_the_job_does(log: Log) -> None:
    assert told(log) == msgspec.structs.replace(RUNNING, wait=unread(AT))
    assert log.asked == 1
    assert LOG_WITHIN == 0.5

    held = msgspec.structs.replace(RUNNING, wait=msgspec.structs.replace(unread(AT), nats_code=10077, text="no space"))
    assert told(log, held) is held


async def test_a_cancel_says_so_as_well() -> None:
    board = FakeStatusBoard()
    board.bucket.put("j", msgspec.json.encode(RUNNING))

    answer = await Control(make_world(status=board, log=away())).cancel("j")

    assert isinstance(answer, JobStatus)
    assert answer.wait is not None
    assert (answer.state, answer.wait.owner) == ("running", "nats")


FAILED_BEFORE = msgspec.structs.replace(
    RUNNING, state="failed", error=ERROR, finished_at=AT, reason=None, until=None, eta=None, generation=1
)


@pytest.mark.parametrize(
    ("event", "differs"),
    [
        (COMPLETED, {"state": "completed", "attempt": 3, "page": 4, "followers": 9, "total": 8, "percent": 100.0,
                     "reason": "max_pages", "verdict": "truncated"}),
        (msgspec.structs.replace(CANCELLED, generation=2), {"state": "cancelled", "attempt": 2}),
        (msgspec.structs.replace(STARTED, generation=2), {"state": "running", "attempt": 4, "finished_at": None,
                     "worker": None}),
        (msgspec.structs.replace(WAITING, generation=2), {"state": "waiting", "attempt": 2, "finished_at": None,
                     "worker": None, "reason": "rate_limited", "until": AT}),
    ],
)  # fmt: skip
def test_a_failure_is_told_with_the_retry_that_the_log_has(event: JobEvent, differs: Any) -> None:
    later = {"error": None, "generation": 2, "event_sequence": 7}

    assert told(Log(event), FAILED_BEFORE) == msgspec.structs.replace(FAILED_BEFORE, **later, **differs)


@pytest.mark.parametrize("event", [FAILED, STARTED, COMPLETED])
def test_a_failure_is_told_where_the_log_has_nothing_of_a_later_generation(event: JobEvent) -> None:
    assert told(Log(msgspec.structs.replace(event, generation=1)), FAILED_BEFORE) is FAILED_BEFORE
    assert told(away(), FAILED_BEFORE) is FAILED_BEFORE


@pytest.mark.parametrize("state", ["completed", "cancelled"])
def test_an_end_is_told_without_a_look(state: Any) -> None:
    log, over = Log(COMPLETED), msgspec.structs.replace(RUNNING, state=state)

    assert told(log, over) is over
    assert log.asked == 0


def test_an_answer_just_in_time_counts() -> None:
    assert told(Log(CANCELLED, takes=LOG_WITHIN - 0.1)).state == "cancelled"


class StoppedLog(Log):
    """The process is stopped while it waits for the first answer."""

    def __init__(self, event: JobEvent, seconds: float) -> None:
        super().__init__(event)
        self.seconds = seconds

    async def last(self, subject: str) -> Entry | None:
        if self.asked == 0:
            self.asked += 1
            time.sleep(self.seconds)  # noqa: ASYNC251 - so that the whole loop stands still
            await asyncio.sleep(0.01)
        return await super().last(subject)


@pytest.mark.parametrize(("seconds", "asked"), [(STOPPED_FOR + 0.1, 2), (LOG_WITHIN + 0.1, 1)])
async def test_who_was_stopped_while_he_looked_looks_again(seconds: float, asked: int) -> None:
    log = StoppedLog(CANCELLED, seconds)

    found = await with_end(RUNNING, log, lambda: AT)

    assert found.state == ("cancelled" if asked == 2 else "running")
    assert log.asked == asked


@pytest.mark.parametrize("act", ["status", "cancel"])
@pytest.mark.parametrize("where", ["in hand", "in the bucket"])
async def test_requests_are_answered_with_the_end_in_the_log(act: str, where: str) -> None:
    board = FakeStatusBoard()
    if where == "in hand":
        board.post(RUNNING)
    else:
        board.bucket.put("j", msgspec.json.encode(RUNNING))

    answer = await getattr(Control(make_world(status=board, log=Log(CANCELLED))), act)("j")

    assert isinstance(answer, JobStatus)
    assert (answer.state, answer.wait) == ("cancelled", None)


# Whoever ended the job may have died before its status: the redelivered command writes it.


async def test_a_rejected_command_that_comes_again_writes_the_status_that_is_missing() -> None:
    replica = Replica()
    await replica.handle(command(sequence=3, page_sise=5))
    (written,) = replica.board.settled
    replica.board.bucket.values.clear()

    await replica.handle(command(sequence=3, page_sise=5, deliveries=2))

    assert kinds(replica.events) == ["failed"]
    again = replica.board.settled[1]
    assert (again.state, again.error, again.event_sequence) == ("failed", written.error, written.event_sequence)
    assert replica.board.bucket.values.keys() == {"j1"}


async def test_a_rejected_command_leaves_alone_the_end_of_another_one() -> None:
    replica = Replica()
    await replica.handle(command(sequence=3, page_sise=5))
    replica.board.bucket.values.clear()

    await replica.handle(command(sequence=4, page_sise=5))

    assert len(replica.board.settled) == 1


@pytest.mark.parametrize("retried", [True, False])
async def test_a_status_of_the_failure_before_is_not_taken_for_the_end_of_the_retry(retried: bool) -> None:
    replica = await failed_after_a_page()
    failure = replica.board.bucket.values["j1"]
    if retried:
        await replica.handle(retry(3, sequence=4))
        replica.board.bucket.values["j1"] = failure

    await replica.handle(retry(3, sequence=4, deliveries=2) if retried else command(sequence=3, deliveries=2))

    assert [status.state for status in replica.board.settled] == ["failed", *(["completed"] * 2 * retried)]
    assert [status.generation for status in replica.board.settled] == [1, *([2] * 2 * retried)]


async def test_a_status_of_events_that_are_gone_is_not_taken_for_the_new_end() -> None:
    replica = Replica()
    await replica.handle(command())
    old = msgspec.structs.replace(replica.board.settled[0], state="cancelled", event_sequence=1)
    replica.board.bucket.put("j1", msgspec.json.encode(old))

    await replica.handle(command(deliveries=2))

    assert [status.state for status in replica.board.settled] == ["completed", "completed"]


@pytest.mark.parametrize("sequence", [0, None], ids=["of an older version", "the same"])
async def test_an_end_that_is_told_is_not_told_again(sequence: int | None) -> None:
    replica = Replica()
    await replica.handle(command())
    if sequence is not None:
        old = msgspec.structs.replace(replica.board.settled[0], event_sequence=sequence)
        replica.board.bucket.put("j1", msgspec.json.encode(old))

    await replica.handle(command(deliveries=2))

    assert len(replica.board.settled) == 1
