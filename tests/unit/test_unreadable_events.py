"""A message on a job's own subjects that can't be read: the job fails, and says which message is in the way."""

from dataclasses import replace
from typing import Any

import pytest

from schemas import JobCancelled, JobCompleted, JobFailed, JobStarted, deadletters, decode, encode
from schemas.events import JobWaiting
from schemas.jobs import JobStatus
from tests.fakes import EPOCH, FakeClient, FakeDelivery, FakeLog
from tests.replica import EVENTS, PAGES, Replica, command, kinds
from worker.core.errors import UnauthorizedError
from worker.core.eventlog.job_log import FIRST_PART_HEADER
from worker.core.jobs.handler import FAULTS_ALLOWED
from worker.core.ports.event_log import COMMAND_HEADER

pytestmark = pytest.mark.usefixtures("faults")
SECRET = "Nguyen Thi Bi Mat"
STRANGER = {"job_id": "j2", "provider": "etelecom", "account": None, "oa_id": "1"}
GARBAGE = {
    "plain": b"\x00\xff garbage " + SECRET.encode(),
    "empty": b"",
    "another type": b'["' + SECRET.encode() + b'"]',
    "no object": b"null",
    "no text": b'{"job_id":"\xff"}',
    "nested": b'{"x":' + b"[" * 100_000,
    "a wrong value": b'{"type":"' + SECRET.encode() + b'","job_id":"j1","provider":"' + SECRET.encode() + b'"}',
}


async def put(log: FakeLog, subject: str, data: bytes, **headers: str) -> int:
    tail = await log.last(subject)
    return await log.publish(subject, data, headers, tail.sequence if tail else 0)


async def one_page_then_dead(**world: Any) -> Replica:
    """A replica that published page 1, and then lost its provider; its command comes again."""
    replica = Replica(**world)
    replica.client.fail_at("1004", ZeroDivisionError())
    await replica.handle(command())
    assert kinds(replica.events) == ["started"]
    return replica


async def deliver(replica: Replica, *, first: int = 1) -> list[FakeDelivery]:
    """Deliver the command until it is settled for good; `first`: how often it was delivered, with this time."""
    deliveries: list[FakeDelivery] = []
    while not (deliveries and deliveries[-1].acks):
        assert len(deliveries) < 10, "it goes on for ever"
        deliveries.append(await replica.handle(command(deliveries=first + len(deliveries))))
    return deliveries


def failure(replica: Replica) -> JobFailed:
    """The last job event."""
    event = replica.log.on(EVENTS)[-1]
    return decode(event.data, JobFailed)


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("subject", [PAGES, EVENTS])
async def test_after_three_faults_the_command_is_a_dead_letter_that_names_the_message(kind: str, subject: str):
    replica = Replica()
    sequence = await put(replica.log, subject, GARBAGE[kind])

    deliveries = await deliver(replica)

    assert [delivery.naks for delivery in deliveries] == [*[[5.0]] * FAULTS_ALLOWED, []]
    (letter,) = replica.letters.letters
    text = letter.headers[deadletters.ERROR_MESSAGE]
    assert f"message {sequence} of stream FOLLOWERS_EVENTS on {subject} is in the way of this job" in text
    assert f"nats stream rmm FOLLOWERS_EVENTS {sequence}" in text
    assert SECRET not in text
    assert letter.headers[deadletters.ERROR_CODE] == "internal"
    assert failure(replica).error.message == text
    status = replica.board.settled[-1]
    assert (status.state, status.error) == ("failed", failure(replica).error)
    assert replica.client.requests == []
    assert replica.meter.jobs == {("etelecom", "failed"): 1}


@pytest.mark.parametrize("subject", [PAGES, EVENTS])
async def test_an_unknown_content_type_is_in_the_way_too_and_is_not_quoted(subject: str):
    replica = Replica()
    await put(replica.log, subject, b"{}", **{"Content-Type": f"application/{SECRET}"})

    await deliver(replica)

    assert "it can't be decoded (Content-Type (value) is not supported" in failure(replica).error.message
    assert SECRET.lower() not in failure(replica).error.message.lower()


@pytest.mark.parametrize("whose", [{"job_id": "j2"}, {"oa_id": "2"}, {"provider": "esms"}])
async def test_an_event_of_another_job_is_in_the_way(whose: dict[str, str]):
    replica = Replica()
    fields: dict[str, Any] = {**STRANGER, "job_id": "j1"} | whose
    await put(replica.log, EVENTS, encode(JobCancelled(**fields, finished_at=EPOCH)))

    await deliver(replica)

    assert "it is an event of another job" in failure(replica).error.message


@pytest.mark.parametrize("number", ["", "1x", "-1", "9" * 20, "١"])
@pytest.mark.parametrize(("subject", "header"), [(PAGES, FIRST_PART_HEADER), (EVENTS, COMMAND_HEADER)])
async def test_a_header_of_ours_that_is_no_number_is_in_the_way(subject: str, header: str, number: str):
    replica = await one_page_then_dead()
    await put(replica.log, subject, replica.log.on(subject)[-1].data, **{header: number})

    await deliver(replica, first=2)

    assert f"its header {header} is no number" in failure(replica).error.message


async def test_pages_that_are_there_stay_the_jobs_and_once_the_message_is_deleted_a_retry_goes_on_behind_them():
    replica = await one_page_then_dead()
    garbage = await put(replica.log, PAGES, b"garbage")
    await deliver(replica, first=2)
    assert len(replica.log.on(PAGES)) == 2, "nothing was appended behind what can't be read"
    assert (replica.board.settled[-1].page, replica.board.settled[-1].followers) == (1, 5)

    replica.log.stored = [one for one in replica.log.stored if one.entry.sequence != garbage]
    retry = {deadletters.RETRY: "1", deadletters.JOB_ID: "j1", "Nats-Msg-Id": "retry.1"}
    await replica.handle(command(sequence=2, headers=retry))

    assert kinds(replica.events) == ["started", "failed", "started", "completed"]
    assert [page.page for page in replica.pages] == [1, 2, 3]
    assert replica.ids == replica.client.users


async def test_a_retry_while_the_message_is_still_there_fails_again_as_another_generation():
    replica = await one_page_then_dead()
    await put(replica.log, PAGES, b"garbage")
    await deliver(replica, first=2)

    retry = {deadletters.RETRY: "1", deadletters.JOB_ID: "j1", "Nats-Msg-Id": "retry.1"}
    for deliveries in range(1, FAULTS_ALLOWED + 2):
        last = await replica.handle(command(sequence=2, headers=retry, deliveries=deliveries))

    assert last.acks == 1
    assert kinds(replica.events) == ["started", "failed", "started", "failed"]
    assert [event.generation for event in replica.events] == [1, 1, 2, 2]
    assert len(replica.letters.letters) == 2


async def test_attempts_are_counted_over_a_change_of_worker():
    replicas = [await one_page_then_dead()]
    log, board, letters = replicas[0].log, replicas[0].board, replicas[0].letters
    await put(log, PAGES, b"garbage")

    # The first fault was another one, of the same command.
    for number in range(2, FAULTS_ALLOWED + 2):
        assert letters.letters == []
        replicas.append(Replica(log=log, status=board, dead_letters=letters, worker=f"worker-{number}"))
        last = await replicas[-1].handle(command(deliveries=number))
        if number <= FAULTS_ALLOWED:
            status = board.settled[-1]
            assert (status.state, status.faults, status.worker) == ("queued", number, f"worker-{number}")
            assert (status.page, status.followers) == (1, 5)
            assert status.wait is not None
            assert f"({number} of {FAULTS_ALLOWED} times" in status.wait.text
            assert "command.fault" in status.wait.text

    assert (last.acks, len(letters.letters)) == (1, 1)


async def test_what_the_status_says_of_faults_counts_for_that_command_and_up_to_its_deliveries_only():
    replica = Replica()
    await put(replica.log, PAGES, b"garbage")
    told: dict[str, Any] = {**STRANGER, "job_id": "j1", "state": "queued", "updated_at": EPOCH, "faults": 99}
    replica.board.bucket.put("j1", encode(JobStatus(**told, command_sequence=7)))

    assert (await replica.handle(command(sequence=1, deliveries=50))).naks == [5.0]
    replica.board.bucket.put("j1", encode(JobStatus(**told, command_sequence=1)))
    assert (await replica.handle(command(sequence=1, deliveries=FAULTS_ALLOWED))).naks == [5.0]
    replica.board.bucket.put("j1", encode(JobStatus(**told, command_sequence=1)))
    assert (await replica.handle(command(sequence=1, deliveries=FAULTS_ALLOWED + 1))).acks == 1


async def test_a_message_among_earlier_pages_is_named_as_well():
    replica = Replica(FakeClient(23, paging="offset"))
    replica.client.before_request = die_at_the_third
    await replica.handle(command())
    first, *others = replica.log.on(PAGES)
    assert others
    spoilt = replace(first, data=b"garbage")
    replica.log.stored = [replace(one, entry=spoilt) if one.entry is first else one for one in replica.log.stored]

    await deliver(replica, first=2)

    assert f"message {first.sequence} of stream FOLLOWERS_EVENTS on {PAGES}" in failure(replica).error.message


async def die_at_the_third(cursor: str | None) -> None:
    if cursor is not None and int(cursor) >= 12:
        raise ZeroDivisionError


@pytest.mark.parametrize("subject", [PAGES, EVENTS])
async def test_behind_the_end_of_a_job_nothing_is_in_the_way(subject: str):
    replica = Replica()
    await replica.handle(command())
    await put(replica.log, subject, b"garbage")

    again = await replica.handle(command(sequence=2))

    assert (again.acks, again.naks) == (1, [])
    assert replica.letters.letters == []
    assert len(replica.log.on(EVENTS)) == 2 + (subject == EVENTS)


async def test_a_failed_job_with_a_message_behind_its_end_is_reopened_by_its_retry():
    replica = Replica()
    replica.client.fail_at("1004", UnauthorizedError("the key is wrong"))
    await replica.handle(command())
    await put(replica.log, EVENTS, b"garbage")

    retry = {deadletters.RETRY: "1", deadletters.JOB_ID: "j1", "Nats-Msg-Id": "retry.1"}
    await replica.handle(command(sequence=2, headers=retry))

    last = replica.log.on(EVENTS)[-1]
    assert decode(last.data, JobCompleted).generation == 2
    assert replica.ids == replica.client.users


async def test_a_waiting_event_before_the_message_says_which_attempt_it_was():
    replica = Replica()
    common: dict[str, Any] = {**STRANGER, "job_id": "j1"}
    waiting = JobWaiting(**common, attempt=4, generation=2, reason="rate_limited", until=EPOCH)
    await put(replica.log, EVENTS, encode(JobStarted(**common, resumed_at_page=1, started_at=EPOCH)))
    await put(replica.log, EVENTS, encode(waiting))
    await put(replica.log, EVENTS, b"garbage")

    await deliver(replica)

    assert (failure(replica).attempt, failure(replica).generation) == (5, 2)


async def test_a_job_that_somebody_cancelled_ends_as_cancelled_whatever_is_in_the_way():
    replica = Replica()
    await put(replica.log, PAGES, b"garbage")
    await replica.cancellations.request("j1")

    delivery = await replica.handle(command())

    assert delivery.acks == 1
    assert kinds(replica.events) == ["cancelled"]
    assert replica.letters.letters == []


async def test_a_refused_command_of_an_id_with_a_message_in_its_way_is_a_dead_letter_at_once():
    replica = Replica()
    await put(replica.log, EVENTS, b"garbage")

    delivery = await replica.handle(command(unknown=1))

    assert delivery.acks == 1
    assert len(replica.letters.letters) == 1
    assert len(replica.log.on(EVENTS)) == 1
