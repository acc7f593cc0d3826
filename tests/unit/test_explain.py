"""What somebody is told who asks about a job, beside what its worker wrote."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas import JobStatus
from schemas.wait import Wait
from tests.fakes import EPOCH, FakeCancellations
from tests.simulation.loop import run
from worker.cli.jobs import _age
from worker.core.ports.job_store import QueuedCommand, QueueUnavailableError
from worker.core.ratelimit.admission import Outlook
from worker.core.status.view import explained
from worker.core.status.wait_reasons import _own_limit

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
STORED = NOW - timedelta(minutes=10)


class Queue:
    """`CommandQueue` with one answer."""

    def __init__(self, answer: QueuedCommand | QueueUnavailableError | None = None) -> None:
        self.answer = answer
        self.asked = 0

    async def find(self, job_id: str, *, anew: bool = False) -> QueuedCommand | None:
        self.asked += 1
        if isinstance(self.answer, QueueUnavailableError):
            raise self.answer
        return self.answer


def queued(**changes: Any) -> QueuedCommand:
    fields: dict[str, Any] = {
        "job_id": "j", "provider": "esms", "account": "main", "oa_id": "1", "labels": {"a": "b"}, "sequence": 9,
        "stored_at": STORED, "ahead": 3, "in_hand": 64, "asking": 0,
    } | changes  # fmt: skip
    return QueuedCommand(**fields)


def status(state: Any, age: float = 1, **fields: Any) -> JobStatus:
    common: dict[str, Any] = {"provider": "esms", "account": "main", "oa_id": "1", "worker": "w1", "page": 7}
    heard = NOW - timedelta(seconds=age)
    return JobStatus(job_id="j", state=state, updated_at=heard, started_at=STORED, **common, **fields)


async def explain(
    known: JobStatus | None,
    queue: Queue,
    marks: FakeCancellations | None = None,
    *,
    by_then: JobStatus | None = None,
) -> JobStatus | None:
    async def look_again() -> JobStatus | None:
        return by_then

    return await explained(
        "j",
        known,
        look_again=look_again,
        queue=queue,
        cancellations=marks or FakeCancellations(),
        now=NOW,
        silent_after=30,
    )


@pytest.mark.parametrize("known", [status("running"), status("waiting"), status("failed", age=9_999)])
async def test_a_job_that_moves_or_is_over_is_not_looked_for(known: JobStatus) -> None:
    queue = Queue(queued())

    assert await explain(known, queue) == known
    assert queue.asked == 0


async def test_a_job_is_silent_only_after_all_of_the_time_that_it_may_be() -> None:
    asked_for = FakeCancellations()
    asked_for.marks["j"] = int((NOW - timedelta(seconds=31)).timestamp() * 1_000_000)
    at_the_edge, behind_it = Queue(queued()), Queue(queued())

    assert await explain(status("running", age=30), at_the_edge, asked_for) == status("running", age=30)
    told = await explain(status("running", age=30.001), behind_it, asked_for)

    assert told is not None
    assert told.wait is not None
    assert (told.wait.owner, at_the_edge.asked, behind_it.asked) == ("cancelled", 0, 1)


async def test_a_job_that_is_nowhere_is_not_known() -> None:
    assert await explain(None, Queue()) is None


async def test_a_job_that_cannot_be_looked_for_is_not_said_to_be_unknown() -> None:
    with pytest.raises(QueueUnavailableError):
        await explain(None, Queue(QueueUnavailableError()))


async def test_a_queued_command_becomes_a_status_with_its_place() -> None:
    told = await explain(None, Queue(queued()))

    assert told is not None
    assert told.wait is not None
    assert (told.state, told.labels, told.command_sequence, told.updated_at) == ("queued", {"a": "b"}, 9, STORED)
    assert (told.wait.owner, told.wait.position, told.wait.ahead, told.wait.since) == ("queue", 4, 3, STORED)
    assert "its command is number 4 in the queue; workers have 64 commands in hand: none asks" in told.wait.text


async def test_a_job_that_was_handed_back_waits_since_then() -> None:
    told = await explain(status("queued"), Queue(queued(ahead=None, asking=2)))

    assert told is not None
    assert told.wait is not None
    assert (told.page, told.wait.owner, told.wait.position) == (7, "queue", None)
    assert told.wait.since == NOW - timedelta(seconds=1)
    assert told.wait.text.endswith("a worker asks for the next one")


@pytest.mark.parametrize(("asking", "owner"), [(0, "no_worker"), (3, "queue")])
async def test_a_job_whose_worker_fell_silent_waits_for_another(asking: int, owner: str) -> None:
    told = await explain(status("running", age=31), Queue(queued(ahead=None, asking=asking)))

    assert told is not None
    assert told.wait is not None
    assert (told.state, told.wait.owner, told.wait.since) == ("running", owner, NOW - timedelta(seconds=31))
    assert "its worker w1 was last heard of at 2026-11-23T11:59:29Z" in told.wait.text


@pytest.mark.parametrize("answer", [None, QueueUnavailableError()])
async def test_without_word_from_the_queue_a_status_stays_as_it_is(answer: QueueUnavailableError | None) -> None:
    known = status("running", age=31)

    assert await explain(known, Queue(answer)) == known


async def test_what_was_asked_to_end_says_so_unless_that_was_before_a_retry() -> None:
    asked, before = FakeCancellations(), FakeCancellations()
    asked.marks["j"] = int(NOW.timestamp() * 1_000_000)
    before.marks["j"] = int((STORED - timedelta(hours=1)).timestamp() * 1_000_000)

    told, retried = await explain(status("running"), Queue(), asked), await explain(status("running"), Queue(), before)

    assert told is not None
    assert told.wait is not None
    assert (told.state, told.wait.owner, told.wait.since) == ("running", "cancelled", NOW)
    assert retried == status("running")


@pytest.mark.parametrize(
    ("shared", "rate", "text"),
    [
        (True, None, "1,200 requests are in line before its own: raise the account's rate_limit if the provider allows"
         " more"),
        (True, 2.5, "1,200 requests are in line before its own, at the account's limit of 2.5 requests a second over"
         " all workers: raise the account's rate_limit if the provider allows more"),
        (False, None, "1,200 requests are in line before its own; the shared limit can't be reached, so that a fifth of"
         " it holds: see `followers doctor`"),
    ],
)  # fmt: skip
def test_our_own_limit_says_what_is_ahead_and_whether_it_is_shared(shared: bool, rate: float | None, text: str) -> None:
    outlook = Outlook(until=0.0, reason="rate_limited", ours=True, rate=rate, ahead=1_200, shared=shared)

    wait = _own_limit(outlook, EPOCH, None)

    assert (wait.owner, wait.reason, wait.rate, wait.ahead) == ("limit", "rate_limited", rate, 1_200)
    assert wait.text == text


class Stuck(Queue):
    """One that others keep busy."""

    async def find(self, job_id: str, *, anew: bool = False) -> QueuedCommand | None:
        await asyncio.sleep(60)
        return None


def test_a_known_job_is_told_of_without_its_place_where_the_queue_takes_its_time() -> None:
    async def scene() -> tuple[JobStatus | None, float]:
        return await explain(status("queued"), Stuck()), asyncio.get_running_loop().time()

    told, seconds = run(random.Random(1), scene())

    assert told == status("queued")
    assert seconds == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("state", "seconds", "text"),
    [
        ("running", 2, ""), ("running", 3, " (3 s ago)"), ("waiting", 119, " (119 s ago)"),
        ("queued", 120, " (2 min ago)"),
        ("running", 7_199, " (119 min ago)"), ("running", 7_200, " (2 h ago)"), ("running", 172_800, " (2 d ago)"),
        ("completed", 500, ""),
    ],
)  # fmt: skip
def test_the_age_of_news_is_told_of_a_job_that_goes_on(state: Any, seconds: int, text: str) -> None:
    at = datetime.now(UTC) - timedelta(seconds=seconds, milliseconds=100)
    told = JobStatus(job_id="j", provider="esms", account=None, oa_id="1", state=state, updated_at=at)

    assert _age(told) == text


async def test_a_wait_for_nats_is_told_also_of_a_job_that_was_asked_to_end() -> None:
    wait = Wait(owner="nats", reason="nats", since=NOW, text="full")
    held = JobStatus(
        job_id="j", provider="esms", account=None, oa_id="1", state="waiting", updated_at=NOW, started_at=NOW, wait=wait
    )
    marks = FakeCancellations()
    marks.marks["j"] = int(NOW.timestamp() * 1_000_000)

    assert await explain(held, Queue(None), marks) == held


@pytest.mark.parametrize("known", [status("completed"), status("running"), None])
async def test_a_job_that_was_taken_while_it_was_looked_for_is_found(known: JobStatus | None) -> None:
    assert await explain(None, Queue(None), by_then=known) == known
