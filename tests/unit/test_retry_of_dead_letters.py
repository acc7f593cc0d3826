"""A retried dead letter: the failed job goes on, once."""

import msgspec
import pytest

from schemas import JobCompleted, JobFailed, JobStarted, deadletters, decode
from schemas.events import TERMINAL
from tests.fakes import EPOCH, FakeClient, FakeDelivery
from tests.replica import EVENTS, Replica, command, kinds
from worker.core.errors import InternalError, UnauthorizedError
from worker.core.jobs.handler import OpenAccount

LATER_US = int(EPOCH.timestamp() * 1_000_000) + 1


def retry(of: int, sequence: int, generation: int = 1, **fields: object) -> FakeDelivery:
    headers = {deadletters.RETRY: str(of), deadletters.JOB_ID: "j1", "Nats-Msg-Id": f"retry.{of}"}
    if generation > 1:
        headers[deadletters.GENERATION] = str(generation)
    return command(headers=headers, sequence=sequence, timestamp_us=LATER_US, **fields)


async def failed_after_a_page() -> Replica:
    """Return a replica whose job failed, by command 3, after its first page; what was wrong is repaired."""
    replica = Replica()
    replica.client.fail_at("1004", UnauthorizedError("the key is wrong"))
    await replica.handle(command(sequence=3))
    assert kinds(replica.events) == ["started", "failed"]
    return replica


async def test_a_retry_goes_on_behind_the_last_published_page_and_ends_the_job_anew():
    replica = await failed_after_a_page()

    delivery = await replica.handle(retry(3, sequence=4))

    assert kinds(replica.events) == ["started", "failed", "started", "completed"]
    started, end = replica.events[2:]
    assert isinstance(started, JobStarted)
    assert (started.attempt, started.generation, started.resumed_at_page) == (2, 2, 2)
    assert isinstance(end, JobCompleted)
    assert (end.generation, end.pages, end.followers, end.verdict) == (2, 3, 12, "complete")
    assert replica.ids == replica.client.users
    assert replica.client.requests == [None, "1004", "1004", "1009"]
    assert delivery.acks == 1
    assert replica.board.settled[-1].state == "completed"
    ids = [entry.headers["Nats-Msg-Id"] for entry in replica.log.on(EVENTS)]
    assert len(set(ids)) == 4


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(retry(3, sequence=4), id="delivered again"),
        pytest.param(retry(3, sequence=5), id="repeated"),
        pytest.param(command(sequence=5), id="an unmarked duplicate"),
    ],
)
async def test_the_same_retry_does_nothing_twice(second):
    replica = await failed_after_a_page()
    replica.client.fail_at("1004", UnauthorizedError("the key is still wrong"))
    await replica.handle(retry(3, sequence=4))
    asked = len(replica.client.requests)

    await replica.handle(second)

    assert kinds(replica.events) == ["started", "failed", "started", "failed"]
    assert (second.acks, len(replica.client.requests)) == (1, asked)


async def test_the_letter_of_the_second_failure_can_be_retried_in_its_turn():
    replica = await failed_after_a_page()
    replica.client.fail_at("1004", UnauthorizedError("the key is still wrong"))
    await replica.handle(retry(3, sequence=4))
    headers = replica.letters.letters[-1].headers

    await replica.handle(retry(4, generation=2, sequence=5))

    assert (headers[deadletters.COMMAND_SEQUENCE], headers[deadletters.GENERATION]) == ("4", "2")

    ends = [event for event in replica.events if isinstance(event, TERMINAL)]
    assert [(type(end), end.generation) for end in ends] == [(JobFailed, 1), (JobFailed, 2), (JobCompleted, 3)]


async def test_a_failure_in_the_hands_of_a_duplicate_is_not_what_the_first_retry_was_for(faults):
    replica = await failed_after_a_page()
    replica.client.fail_at("1004", ZeroDivisionError("a bug"), UnauthorizedError("the key is wrong again"))
    await replica.handle(retry(3, sequence=4))
    replica.clock.advance(60)
    await replica.handle(command(sequence=3, deliveries=2))

    repeated = await replica.handle(retry(3, sequence=5))

    ends = [event for event in replica.events if isinstance(event, TERMINAL)]
    assert [(type(end), end.generation) for end in ends] == [(JobFailed, 1), (JobFailed, 2)]
    assert repeated.acks == 1
    headers = [letter.headers for letter in replica.letters.letters]
    assert [one.get(deadletters.GENERATION, "1") for one in headers] == ["1", "2"]
    assert {one[deadletters.COMMAND_SEQUENCE] for one in headers} == {"3"}
    assert len(faults) == 1


async def test_an_unmarked_duplicate_does_not_reopen_a_failed_job():
    replica = await failed_after_a_page()

    duplicate = await replica.handle(command(sequence=4))

    assert kinds(replica.events) == ["started", "failed"]
    assert duplicate.acks == 1


async def test_a_completed_job_stays_completed():
    replica = Replica()
    await replica.handle(command(sequence=3))
    asked = len(replica.client.requests)

    await replica.handle(retry(3, sequence=4))

    assert kinds(replica.events) == ["started", "completed"]
    assert len(replica.client.requests) == asked


async def test_a_cancelled_job_stays_cancelled():
    replica = Replica()
    await replica.cancellations.request("j1")
    await replica.handle(command(sequence=3))

    await replica.handle(retry(3, sequence=4))

    assert kinds(replica.events) == ["cancelled"]


async def test_a_cancellation_from_before_the_retry_does_not_stop_it():
    replica = await failed_after_a_page()
    await replica.cancellations.request("j1")

    await replica.handle(retry(3, sequence=4))

    assert kinds(replica.events)[-1] == "completed"


async def test_a_retry_that_is_cancelled_while_it_is_queued_leaves_the_job_as_it_was():
    replica = await failed_after_a_page()
    replica.clock.advance(60)
    await replica.cancellations.request("j1")

    delivery = await replica.handle(retry(3, sequence=4))

    assert kinds(replica.events) == ["started", "failed"]
    assert delivery.acks == 1


async def test_a_refused_command_is_a_job_once_what_was_wrong_is_repaired():
    replica = Replica()
    await replica.handle(command(account="later", sequence=3))
    assert kinds(replica.events) == ["failed"]
    replica.handler._accounts = {"later": OpenAccount("later", "etelecom", replica.client)}
    replica.handler._gates["later"] = replica.handler._gates["shop"]

    await replica.handle(retry(3, sequence=4, account="later"))

    assert kinds(replica.events) == ["failed", "started", "completed"]
    assert replica.ids == replica.client.users


async def test_a_refused_command_that_is_refused_again_can_still_be_retried():
    replica = Replica()
    await replica.handle(command(account="later", sequence=3))
    await replica.handle(retry(3, sequence=4, account="later"))
    replica.handler._accounts = {"later": OpenAccount("later", "etelecom", replica.client)}
    replica.handler._gates["later"] = replica.handler._gates["shop"]

    await replica.handle(retry(4, sequence=5, account="later"))

    assert kinds(replica.events) == ["failed", "started", "completed"]


@pytest.mark.parametrize(
    ("headers", "job_id"),
    [
        ({deadletters.JOB_ID: "t17-3"}, "t17-3"),
        ({deadletters.MESSAGE_ID: "order-9"}, "order-9"),
    ],
)
async def test_a_command_without_an_id_keeps_the_one_that_its_job_had(headers, job_id):
    replica = Replica()
    body = {"provider": "etelecom", "oa_id": "1"}
    retried = FakeDelivery(
        data=msgspec.json.encode(body),
        headers=headers | {deadletters.RETRY: "3", "Nats-Msg-Id": "retry.3.17"},
        sequence=4,
    )

    await replica.handle(retried)

    assert {decode(stored.entry.data, dict)["job_id"] for stored in replica.log.stored} == {job_id}


async def test_a_letter_of_a_retry_bears_the_names_of_the_first_publish():
    replica = Replica()
    replica.client.fail_next(UnauthorizedError("the key is wrong"))
    headers = {deadletters.RETRY: "3", deadletters.MESSAGE_ID: "order-9", "Nats-Msg-Id": "retry.3.17", "x": "y"}

    await replica.handle(command(headers=headers, sequence=4))

    (letter,) = replica.letters.letters
    assert letter.headers[deadletters.MESSAGE_ID] == "order-9"
    assert letter.headers[deadletters.COMMAND_SEQUENCE] == "4"
    assert letter.headers["x"] == "y"


async def test_a_first_page_that_a_cancelled_takeover_sealed_is_still_told_of_as_it_was(faults):
    first = Replica(FakeClient(12))
    first.client.fail_next(ZeroDivisionError("a bug"))
    await first.handle(command(sequence=3))
    second = Replica(FakeClient(12), log=first.log, status=first.board, dead_letters=first.letters, worker="w2")
    second.client.fail_next(UnauthorizedError("the key is wrong"))
    await second.handle(command(sequence=3, deliveries=2))

    await second.handle(retry(3, sequence=4))

    parts = [(page.page, page.part, page.parts, len(page.followers)) for page in second.pages]
    assert parts == [(1, 1, 2, 0), (1, 2, 2, 5), (2, 1, 1, 5), (3, 1, 1, 2)]
    end = second.events[-1]
    assert isinstance(end, JobCompleted)
    assert (end.verdict, end.pages, end.total_first) == ("complete", 3, 12)
    assert second.ids == second.client.users
    assert len(faults) == 1


async def test_a_command_that_nats_gave_up_on_is_a_dead_letter_that_says_what_to_do():
    replica = Replica()

    delivery = await replica.handle_exhausted(command(sequence=3))

    (letter,) = replica.letters.letters
    assert letter.headers[deadletters.ERROR_CODE] == InternalError.code
    assert "run `followers setup`" in letter.headers[deadletters.ERROR_MESSAGE]
    assert kinds(replica.events) == ["failed"]
    assert (delivery.acks, replica.client.requests) == (1, [])


async def test_a_job_that_ended_before_nats_gave_up_is_over():
    replica = Replica()
    await replica.handle(command(sequence=3))

    delivery = await replica.handle_exhausted(command(sequence=3))

    assert kinds(replica.events) == ["started", "completed"]
    assert (delivery.acks, replica.letters.letters) == (1, [])
