"""A command that NATS seems to have forgotten: whose job is at a stand is taken up, any other is left alone."""

from datetime import timedelta

import msgspec
import pytest

from schemas import JobStatus
from schemas.types import JobState
from tests.fakes import EPOCH, make_world
from tests.replica import Replica, command, kinds

ACK_WAIT = make_world().ack_wait


def known(state: JobState, *, seconds_ago: float) -> JobStatus:
    return JobStatus(
        job_id="j1",
        provider="etelecom",
        account="shop",
        oa_id="1",
        state=state,
        updated_at=EPOCH - timedelta(seconds=seconds_ago),
        command_sequence=1,
    )


async def test_a_forgotten_command_is_worked_on_and_settled():
    replica = Replica()
    delivery = command()

    await replica.handler.handle_stranded(delivery)

    assert kinds(replica.events) == ["started", "completed"]
    assert delivery.acks == 1


@pytest.mark.parametrize(
    ("state", "seconds_ago"),
    [
        ("running", ACK_WAIT),
        ("waiting", ACK_WAIT),
        ("running", 2 * ACK_WAIT - 0.001),
        ("completed", 20 * ACK_WAIT - 0.001),  # its changes may still be published
        ("failed", 0.0),
    ],
)
async def test_a_command_whose_job_another_replica_has_in_hand_is_left_to_it(state: JobState, seconds_ago: float):
    replica = Replica()
    replica.board.bucket.put("j1", msgspec.json.encode(known(state, seconds_ago=seconds_ago)))
    delivery = command()

    await replica.handler.handle_stranded(delivery)

    assert replica.events == []
    assert (delivery.acks, delivery.naks) == (0, [])


@pytest.mark.parametrize(
    ("state", "seconds_ago"),
    [("running", 2 * ACK_WAIT), ("waiting", 3 * ACK_WAIT), ("queued", 0.0), ("completed", 20 * ACK_WAIT)],
)
async def test_a_command_whose_job_is_at_a_stand_is_taken_up(state: JobState, seconds_ago: float):
    replica = Replica()
    replica.board.bucket.put("j1", msgspec.json.encode(known(state, seconds_ago=seconds_ago)))
    delivery = command()

    await replica.handler.handle_stranded(delivery)

    assert kinds(replica.events) == ["started", "completed"]
    assert delivery.acks == 1


async def test_a_forgotten_command_that_is_invalid_becomes_a_dead_letter():
    replica = Replica()
    delivery = command(page_size=0)

    await replica.handler.handle_stranded(delivery)

    assert len(replica.letters.letters) == 1
    assert delivery.acks == 1
