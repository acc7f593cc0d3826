"""What is left of a command that can't be done: the dead letter, header by header, and its failed event."""

from typing import Any

import pytest

from schemas import deadletters
from schemas.events import JobFailed
from tests.fakes import FakeDelivery
from tests.replica import Replica, command
from worker.core.errors import UnauthorizedError
from worker.core.jobs.dead_letter import bury

STORED = {
    deadletters.JOB_ID: "j1",
    deadletters.ERROR_CODE: "unauthorized",
    deadletters.ERROR_MESSAGE: "the key is wrong: correct it",
    deadletters.ATTEMPTS: "2",
    deadletters.COMMAND_SEQUENCE: "9",
    deadletters.FAILED_AT: "2026-03-01T00:00:00Z",
}


async def buried(headers: dict[str, str], generation: int = 1) -> Any:
    replica = Replica()
    delivery = FakeDelivery(data=b"a body", headers=headers, sequence=9, timestamp_us=77)
    error = UnauthorizedError("the key\n is  wrong: correct it")
    await bury(replica.world, delivery, error, "j1", generation=generation, attempts=2)
    (letter,) = replica.letters.letters
    assert replica.meter.letters == {("etelecom", "unauthorized"): 1}
    assert (letter.provider, letter.body) == ("etelecom", b"a body")
    return letter


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({}, {}),
        ({"x-team": "crm", "Content-Type": "application/json"}, {"x-team": "crm", "Content-Type": "application/json"}),
        (
            {"Nats-Msg-Id": "order-9", "nats-expected-stream": "S"},
            {deadletters.MESSAGE_ID: "order-9"},
        ),
        ({deadletters.GENERATION.upper(): "4"}, {}),
        ({deadletters.RETRY: "3", "Nats-Msg-Id": "retry.3.17"}, {deadletters.RETRY: "3"}),
    ],
)
async def test_a_dead_letter_has_the_publishers_headers_and_says_what_happened(
    headers: dict[str, str], kept: dict[str, str]
) -> None:
    letter = await buried(headers)

    assert letter.headers == kept | STORED
    assert letter.key == "dead.9.77"


@pytest.mark.parametrize(
    ("generation", "key", "told"),
    [(1, "dead.9.77", {}), (2, "dead.9.77.2", {deadletters.GENERATION: "2"})],
)
async def test_the_failure_of_a_retry_is_another_letter_and_names_its_generation(
    generation: int, key: str, told: dict[str, str]
) -> None:
    letter = await buried({deadletters.GENERATION: "7"}, generation)

    assert letter.key == key
    assert letter.headers == told | STORED


async def test_a_refused_command_ends_its_job_and_its_status_says_so() -> None:
    replica = Replica()

    delivery = await replica.handle(command(page_size=999, account="shop", labels={"a": "b"}, sequence=9))

    (failed,) = replica.events
    assert isinstance(failed, JobFailed)
    assert (failed.account, failed.labels, failed.error.code, failed.error.attempts) == (
        "shop", {"a": "b"}, "invalid_command", 0,
    )  # fmt: skip
    (status,) = replica.board.settled
    assert (status.job_id, status.account, status.state, status.worker) == ("j1", "shop", "failed", "worker-1")
    assert (status.error, status.updated_at, status.finished_at) == (
        failed.error, failed.finished_at, failed.finished_at,
    )  # fmt: skip
    assert (status.command_sequence, status.generation) == (9, 1)
    assert status.event_sequence == replica.log.stored[-1].entry.sequence
    (letter,) = replica.letters.letters
    assert letter.headers[deadletters.ATTEMPTS] == "0"
    assert (delivery.acks, delivery.naks) == (1, [])


async def test_a_refused_command_says_nothing_of_a_job_whose_end_is_anothers() -> None:
    replica = Replica()
    await replica.handle(command())
    settled = len(replica.board.settled)

    await replica.handle(command(page_size=999, sequence=2))

    assert len(replica.events) == 2, "started and completed"
    assert len(replica.letters.letters) == 1
    assert len(replica.board.settled) == settled
