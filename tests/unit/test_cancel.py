"""A job that somebody wants to end: wherever it is, it ends once."""

import asyncio
import random

import msgspec
import pytest

from schemas import ControlError, JobCancelled, JobCompleted, JobStatus, deadletters
from tests.fakes import EPOCH, FakeClient, FakeDelivery
from tests.replica import PAGES, Replica, command, kinds
from tests.simulation.loop import run
from worker.core.errors import ProviderUnavailableError, RateLimitedError, UnauthorizedError
from worker.core.jobs import handler as consume


def status(state: str = "running", **fields: object) -> bytes:
    known = {"job_id": "j1", "provider": "etelecom", "account": "shop", "oa_id": "1", "state": state}
    return msgspec.json.encode(known | {"updated_at": EPOCH} | fields)


async def begin(replica: Replica, delivery: FakeDelivery) -> asyncio.Task[None]:
    """Start a job and return once its request is under way, which then hangs."""
    replica.client.gate.clear()
    task = asyncio.create_task(replica.handler.handle(delivery))
    while not replica.client.requests:
        await asyncio.sleep(0)
    return task


async def take_over(replica: Replica, *, worker: str = "worker-2") -> Replica:
    """Leave the job of `replica` after two pages as a crash would; return the next replica."""
    replica.client.fail_at("1009", asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await replica.handle(command())
    return Replica(
        FakeClient(12),
        log=replica.log,
        status=replica.board,
        cancellations=replica.cancellations,
        dead_letters=replica.letters,
        worker=worker,
    )


async def test_a_queued_job_ends_without_a_request_when_it_is_delivered():
    replica = Replica()
    await replica.cancellations.request("j1")

    delivery = await replica.handle(command())

    assert kinds(replica.events) == ["cancelled"]
    assert (replica.client.requests, delivery.acks, replica.letters.letters) == ([], 1, [])
    assert replica.board.settled[-1].state == "cancelled"


async def test_a_request_under_way_is_not_waited_for():
    replica = Replica()
    delivery = command()
    task = await begin(replica, delivery)

    replica.handler.cancel("j1")
    await asyncio.wait_for(task, 1)

    assert kinds(replica.events) == ["started", "cancelled"]
    assert (delivery.acks, replica.pages) == (1, [])


async def test_pages_read_ahead_are_not_waited_for_either():
    replica = Replica(FakeClient(40, paging="offset"), prefetch=8)

    async def hang_after_the_first(cursor: str | None) -> None:
        if cursor is not None:
            replica.handler.cancel("j1")
            await asyncio.Event().wait()

    replica.client.before_request = hang_after_the_first
    await asyncio.wait_for(replica.handle(command()), 1)

    assert kinds(replica.events) == ["started", "cancelled"]
    assert [page.page for page in replica.pages] == [1]


@pytest.mark.parametrize(
    "error", [RateLimitedError("slow", retry_after=3600), ProviderUnavailableError("down", retry_after=3600)]
)
async def test_a_wait_ends_at_once(error):
    replica = Replica()
    replica.client.fail_next(error)
    task = asyncio.create_task(replica.handle(command()))
    while kinds(replica.events)[-1:] != ["waiting"]:
        await asyncio.sleep(0.01)

    replica.handler.cancel("j1")
    delivery = await asyncio.wait_for(task, 1)

    assert kinds(replica.events) == ["started", "waiting", "cancelled"]
    assert delivery.acks == 1


async def test_a_worker_that_is_stopped_while_it_cancels_hands_the_command_back():
    replica = Replica()
    delivery = command()
    task = await begin(replica, delivery)

    replica.handler.cancel("j1")
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert (delivery.acks, delivery.naks) == (0, [1.0])
    assert "cancelled" not in kinds(replica.events)


async def test_a_job_that_has_published_its_last_page_completes():
    replica = Replica(FakeClient(3))

    async def cancel_once_published(subject: str) -> None:
        if replica.log.on(PAGES):
            replica.handler.cancel("j1")

    replica.log.before_publish = cancel_once_published
    await replica.handle(command())

    assert kinds(replica.events) == ["started", "completed"]


async def test_the_next_worker_finds_that_the_job_is_to_be_cancelled():
    second = await take_over(Replica())
    await second.cancellations.request("j1")

    delivery = await second.handle(command(deliveries=2))

    assert kinds(second.events) == ["started", "started", "cancelled"]
    assert (second.client.requests, delivery.acks) == ([], 1)
    end = second.events[-1]
    assert isinstance(end, JobCancelled)
    assert (end.attempt, end.generation) == (2, 1)


async def test_a_predecessor_that_wakes_up_publishes_nothing_after_the_end():
    first = Replica()
    mine = command()
    task = await begin(first, mine)
    second = Replica(FakeClient(12), log=first.log, status=first.board, cancellations=first.cancellations, worker="w2")
    await second.cancellations.request("j1")

    await second.handle(command(deliveries=2))
    first.client.gate.set()
    await task

    assert [(page.page, page.part, page.parts, page.followers, page.last) for page in second.pages] == [
        (1, 1, 2, [], False)
    ]
    assert kinds(second.events) == ["started", "started", "cancelled"]
    assert first.log.stored[-1].subject != PAGES
    assert (mine.acks, mine.naks) == (0, [])


async def test_a_failure_right_after_a_takeover_keeps_the_predecessor_out_too():
    first = Replica()
    task = await begin(first, command())
    second = Replica(FakeClient(12), log=first.log, status=first.board, dead_letters=first.letters, worker="w2")
    second.client.fail_next(UnauthorizedError("the key is wrong"))

    await second.handle(command(deliveries=2))
    first.client.gate.set()
    await task

    assert kinds(second.events) == ["started", "started", "failed"]
    assert first.log.stored[-1].subject != PAGES
    assert len(first.letters.letters) == 1


async def test_news_that_was_lost_is_found_by_looking_again(monkeypatch):
    monkeypatch.setattr(consume, "FIRST_LOOK", 0.01)
    replica = Replica()
    task = await begin(replica, command())

    await replica.cancellations.request("j1")
    await asyncio.wait_for(task, 1)

    assert kinds(replica.events) == ["started", "cancelled"]


async def test_a_job_of_which_nothing_can_be_looked_up_runs():
    replica = Replica()
    await replica.cancellations.request("j1")
    replica.cancellations.down = True

    await replica.handle(command())

    assert isinstance(replica.events[-1], JobCompleted)


async def test_a_cancelled_job_is_over_for_a_second_command_too():
    replica = Replica()
    await replica.cancellations.request("j1")
    await replica.handle(command())

    again = await replica.handle(command(sequence=2))

    assert kinds(replica.events) == ["cancelled"]
    assert (again.acks, replica.client.requests) == (1, [])


async def test_the_answer_is_the_status_after_the_jobs_end():
    replica = Replica()
    task = await begin(replica, command())
    asking = asyncio.create_task(replica.control.cancel("j1"))

    replica.handler.cancel("j1")
    await task

    answer = await asking
    assert isinstance(answer, JobStatus)
    assert answer.state == "cancelled"
    assert "j1" in replica.cancellations.early


async def test_a_job_that_takes_longer_to_end_is_answered_as_it_is(monkeypatch):
    monkeypatch.setattr("worker.core.status.control.ENDS_WITHIN", 0.2)
    replica = Replica()
    replica.board.bucket.put("j1", status("running"))

    answer = await replica.control.cancel("j1")

    assert isinstance(answer, JobStatus)
    assert answer.state == "running"


@pytest.mark.parametrize(("state", "marks"), [("completed", 0), ("cancelled", 0), ("failed", 1)])
async def test_a_job_that_is_over_is_left_alone_but_a_retry_that_is_queued_is_not_run(state, marks):
    replica = Replica()
    replica.board.bucket.put("j1", status(state))

    answer = await replica.control.cancel("j1")

    assert isinstance(answer, JobStatus)
    assert answer.state == state
    assert len(replica.cancellations.marks) == marks


def test_a_job_that_nobody_knows_is_noted_and_said_to_be_unknown():
    replica = Replica()

    answer = run(random.Random(1), replica.control.cancel("j9"))

    assert isinstance(answer, ControlError)
    assert (answer.job_id, answer.error.code) == ("j9", "not_found")
    assert "if its command is queued, it ends as cancelled" in answer.error.message
    assert "j9" in replica.cancellations.early


@pytest.mark.parametrize("job_id", ["", "a b", "x" * 65, "ü"])
async def test_what_can_not_be_a_job_id_is_refused(job_id):
    replica = Replica()

    answers = [await replica.control.cancel(job_id), await replica.control.status(job_id)]

    assert [answer.error.code for answer in answers if isinstance(answer, ControlError)] == ["invalid_command"] * 2
    assert replica.cancellations.marks == {}


async def test_a_bucket_that_does_not_answer_is_said_to_be_the_reason():
    replica = Replica()
    replica.board.bucket.down = True

    answers = [await replica.control.cancel("j1"), await replica.control.status("j1")]

    errors = [answer.error for answer in answers if isinstance(answer, ControlError)]
    assert [(error.code, error.retryable) for error in errors] == [("internal", True)] * 2


async def test_the_status_is_what_the_bucket_has():
    replica = Replica()
    replica.board.bucket.put("j1", status("waiting", reason="rate_limited"))

    known, unknown = await replica.control.status("j1"), await replica.control.status("j2")

    assert isinstance(known, JobStatus)
    assert (known.state, known.reason) == ("waiting", "rate_limited")
    assert isinstance(unknown, ControlError)
    assert unknown.error.code == "not_found"


async def test_an_event_that_is_under_way_is_waited_for_and_not_taken_for_anothers():
    replica = Replica()
    replica.client.fail_next(RateLimitedError("slow", retry_after=3600))
    reached, go = asyncio.Event(), asyncio.Event()

    async def hold_the_waiting_event(subject: str) -> None:
        if len(replica.log.on(subject)) == 1:
            reached.set()
            await go.wait()

    replica.log.before_publish = hold_the_waiting_event
    task = asyncio.create_task(replica.handle(command()))
    await reached.wait()

    replica.handler.cancel("j1")
    await asyncio.sleep(0)
    go.set()
    delivery = await asyncio.wait_for(task, 1)

    assert kinds(replica.events) == ["started", "waiting", "cancelled"]
    assert delivery.acks == 1


async def test_until_a_cancelled_job_has_ended_its_status_says_that_it_was_asked_to():
    replica = Replica()
    task = await begin(replica, command())
    fetch = replica.handler.running["j1"]

    fetch.signals.cancelled.set()
    fetch.post()

    told = replica.board.posted[-1]
    assert (told.state, told.wait and told.wait.owner) == ("running", "cancelled")
    replica.client.gate.set()
    await task
    assert (replica.board.settled[-1].state, replica.board.settled[-1].wait) == ("cancelled", None)


async def test_a_retry_after_a_cancellation_is_not_said_to_be_cancelled():
    replica = Replica(FakeClient(12))
    replica.client.fail_next(None, UnauthorizedError("another key"))
    replica.clock.advance(10)
    await replica.handle(command())
    replica.clock.advance(60)
    await replica.control.cancel("j1")
    replica.clock.advance(300)
    replica.client.gate.clear()
    retry = command(
        sequence=2,
        headers={deadletters.RETRY: "1"},
        timestamp_us=int(replica.clock.now().timestamp() * 1_000_000),
    )
    retrying = asyncio.create_task(replica.handle(retry))
    while "j1" not in replica.handler.running or len(replica.events) < 3:
        await asyncio.sleep(0)

    status = await replica.control.status("j1")
    replica.client.gate.set()
    await retrying

    assert isinstance(status, JobStatus)
    assert status.wait is None or status.wait.owner != "cancelled"
    assert kinds(replica.events)[-1] == "completed"
