"""Answers about jobs at their boundaries: which state, how long, which words."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from schemas.jobs import ControlError, JobStatus
from tests.fakes import EPOCH, FakeCancellations, FakeStatusBoard, make_world
from tests.simulation.loop import run
from worker.core.ports.job_store import BoardUnavailableError, QueuedCommand, QueueUnavailableError
from worker.core.status.control import (
    APPEARS_WITHIN,
    ENDS_WITHIN,
    GIVES_WAY,
    LOOK_EVERY,
    OLD,
    ON_ITS_WAY,
    UNSEARCHED,
    Control,
)
from worker.core.status.searches import QueueBusyError

AT = datetime(2026, 3, 1, tzinfo=UTC)


def status(state: Any, job_id: str = "j") -> JobStatus:
    return JobStatus(job_id=job_id, provider="esms", account="shop", oa_id="1", state=state, updated_at=AT)


class Board(FakeStatusBoard):
    """One status, which changes with the time."""

    def __init__(self, *known: tuple[float, JobStatus | None]) -> None:
        super().__init__()
        self.known = known
        self.looks: list[float] = []

    async def look(self, job_id: str) -> JobStatus | None:
        now = asyncio.get_running_loop().time()
        self.looks.append(now)
        return [status for since, status in self.known if since <= now + 1e-9][-1]


class Queue:
    """A queue that holds one command, or can't be searched."""

    def __init__(self, found: QueuedCommand | None = None, *, fails: bool = False) -> None:
        self.found, self.fails = found, fails
        self.asked: list[bool] = []

    async def find(self, job_id: str, *, anew: bool = False) -> QueuedCommand | None:
        self.asked.append(anew)
        if self.fails:
            raise QueueUnavailableError("too long")
        return self.found


QUEUED = QueuedCommand(
    job_id="j", provider="esms", account=None, oa_id="1", labels={}, sequence=1, stored_at=AT,
    ahead=0, in_hand=0, asking=1,
)  # fmt: skip


def answer(
    act: str, board: FakeStatusBoard, queue: Any = None, job_id: str = "j"
) -> tuple[Any, float, dict[str, float]]:
    """The answer, the seconds that it took, and the cancellations that were noted; of unknown ids for how long."""
    cancellations = FakeCancellations()

    async def main() -> tuple[Any, float]:
        world = make_world(status=board, cancellations=cancellations, queue=queue)
        found = await getattr(Control(world), act)(job_id)
        return found, asyncio.get_running_loop().time()

    found = run(random.Random(1), main())
    early = {job: until - at / 1_000_000 for job, (at, until) in cancellations.early.items()}
    return *found, early | cancellations.marks


@pytest.mark.parametrize("state", ["completed", "cancelled"])
def test_a_job_that_ended_well_is_left_alone(state: str) -> None:
    ended = status(state)

    assert answer("cancel", Board((0, ended))) == (ended, 0.0, {})


def test_a_failed_job_is_noted_because_a_retry_of_it_may_be_queued() -> None:
    failed = status("failed")
    found, seconds, noted = answer("cancel", Board((0, failed)))

    assert (found, seconds) == (failed, 0.0)
    assert set(noted) == {"j"}


def test_the_end_of_a_running_job_is_waited_for() -> None:
    ended = status("cancelled")
    found, seconds, noted = answer("cancel", Board((0, status("running")), (0.95, ended)))

    assert found == ended
    assert seconds == pytest.approx(1.0)
    assert set(noted) == {"j"}


def test_a_job_that_does_not_end_soon_says_that_it_is_being_cancelled() -> None:
    board = Board((0, status("running")))
    found, seconds, _ = answer("cancel", board)

    assert seconds == pytest.approx(ENDS_WITHIN)
    assert (ENDS_WITHIN, APPEARS_WITHIN, LOOK_EVERY) == (2.0, 0.5, 0.1)
    assert len(board.looks) == 21
    assert found.state == "running"
    assert found.wait is not None
    assert found.wait.owner == "cancelled"


def test_a_job_that_nobody_has_heard_of_may_appear_within_half_a_second() -> None:
    found, seconds, noted = answer("cancel", Board((0, None), (0.45, status("completed"))))
    assert found == status("completed")
    assert seconds == pytest.approx(0.5)

    found, seconds, noted = answer("cancel", Board((0, None)), Queue())
    assert seconds == pytest.approx(APPEARS_WITHIN)
    assert noted == {"j": pytest.approx(ON_ITS_WAY)}
    assert isinstance(found, ControlError)
    assert (found.job_id, found.error.code, found.error.retryable) == ("j", "not_found", False)
    assert found.error.message == (
        "no worker has seen job j: its command isn't queued; if it comes within 2 minutes, it ends as cancelled"
    )


def test_a_command_that_is_queued_is_told_as_being_cancelled() -> None:
    queue = Queue(QUEUED)
    found, _, noted = answer("cancel", Board((0, None)), queue)

    assert queue.asked == [True]  # what was found for somebody who asked before may be too old
    assert noted["j"] > 1_000_000  # by a mark of its own
    assert (found.job_id, found.state) == ("j", "queued")
    assert found.wait is not None


@pytest.mark.parametrize("queue", [Queue(fails=True), None])
def test_where_the_queue_can_not_be_searched_an_unknown_job_is_noted_for_as_long_as_it_may_be_there(queue: Any) -> None:
    found, _, noted = answer("cancel", Board((0, None)), queue)

    assert isinstance(found, ControlError)
    assert found.error.code == "not_found"
    assert found.error.message.endswith("if its command is queued, it ends as cancelled when it is delivered")
    assert noted == {"j": pytest.approx(UNSEARCHED, abs=1)}


def test_where_others_keep_the_queue_busy_an_unknown_job_is_noted_for_a_while_and_asked_for_again() -> None:
    found, _, noted = answer("cancel", Board((0, None)), BusyQueue())

    assert (found.error.code, found.error.retryable) == ("rate_limited", True)
    assert noted == {"j": pytest.approx(ON_ITS_WAY)}


def test_a_job_that_appears_while_it_is_looked_for_has_a_mark_of_its_own() -> None:
    found, _, noted = answer("cancel", Board((0, None), (0.25, status("running"))))

    assert found.state == "running"
    assert noted["j"] > 1_000_000


@pytest.mark.parametrize("act", ["cancel", "status"])
def test_what_is_no_id_is_said_to_be_none(act: str) -> None:
    found, seconds, noted = answer(act, Board((0, None)), job_id="ü" * 100)

    assert (seconds, noted) == (0.0, {})
    assert (found.job_id, found.error.code, found.error.retryable) == ("ü" * 64, "invalid_command", False)
    assert found.error.message.startswith("this can't be a job's id")


@pytest.mark.parametrize("act", ["cancel", "status"])
def test_without_an_answer_of_the_bucket_nothing_is_certain(act: str) -> None:
    class Away(FakeStatusBoard):
        async def look(self, job_id: str) -> JobStatus | None:
            raise BoardUnavailableError

    found, _, noted = answer(act, Away())

    assert noted == {}
    assert (found.job_id, found.error.code, found.error.retryable) == ("j", "internal", True)
    assert found.error.message == (
        "the bucket of job status doesn't answer, so nothing is certain about job j: ask again"
    )


@pytest.mark.parametrize(
    ("queue", "meaning"),
    [
        (Queue(fails=True), "its command may be queued, but the queue can't be searched now: ask again"),
        (Queue(), "its command isn't in the queue: it was never published, or is too long ago"),
        (None, "its command isn't in the queue: it was never published, or is too long ago"),
    ],
)
def test_a_status_that_nobody_knows_says_where_it_was_looked_for(queue: Any, meaning: str) -> None:
    found, _, _ = answer("status", Board((0, None)), queue)

    assert isinstance(found, ControlError)
    assert found.error.code == "not_found"
    assert found.error.message == f"no worker has seen job j: {meaning}"


class SlowQueue(Queue):
    """It is searched for a second, and has nothing."""

    async def find(self, job_id: str, *, anew: bool = False) -> QueuedCommand | None:
        await asyncio.sleep(1)
        return await super().find(job_id, anew=anew)


@pytest.mark.parametrize("act", ["status", "cancel"])
def test_a_job_that_is_taken_and_finished_while_it_is_looked_for_in_the_queue_is_found(act: str) -> None:
    found, _, _ = answer(act, Board((0, None), (1, status("completed"))), SlowQueue())

    assert found == status("completed")


def test_a_job_that_is_taken_while_it_is_looked_for_in_the_queue_is_cancelled() -> None:
    found, _, noted = answer("cancel", Board((0, None), (1, status("running"))), SlowQueue())

    assert (found.state, found.wait is not None) == ("running", True)
    assert noted["j"] > 1_000_000


def test_a_status_that_is_known_is_told() -> None:
    assert answer("status", Board((0, status("completed")))) == (status("completed"), 0.0, {})


class BusyQueue:
    """Where so many are looked for already."""

    async def find(self, job_id: str, *, anew: bool = False) -> QueuedCommand | None:
        raise QueueBusyError("many")


def test_a_job_that_is_not_looked_for_says_so_and_one_that_is_known_needs_no_search() -> None:
    refused, _, _ = answer("status", Board((0, None)), BusyQueue())
    known, _, _ = answer("status", Board((0, status("completed"))), BusyQueue())

    assert (refused.error.code, refused.error.retryable) == ("rate_limited", True)
    assert refused.error.message == (
        "no worker has seen job j, and its command isn't looked for in the queue, where too many others"
        " are being looked for: ask again in a second, and for fewer jobs at a time"
    )
    assert known == status("completed")


def test_a_job_in_hand_is_answered_for_from_memory_whatever_the_bucket_has():
    board, mine = Board((0, status("running"))), status("waiting")
    board._newest["j"] = mine

    found, seconds, _ = answer("status", board)

    assert (found, seconds, board.looks) == (mine, 0.0, [])


@pytest.mark.parametrize(
    ("state", "age", "waited"),
    [("running", OLD, 0.0), ("running", OLD + 0.001, GIVES_WAY), ("waiting", OLD + 0.001, GIVES_WAY),
     ("completed", 60, 0.0), ("queued", 60, 0.0)],
)  # fmt: skip
def test_old_news_of_a_job_that_goes_on_gives_way_to_the_worker_that_has_it(
    state: str, age: float, waited: float
) -> None:
    told = msgspec.structs.replace(status(state), updated_at=EPOCH - timedelta(seconds=age))
    found, seconds, _ = answer("status", Board((0, told)))

    assert found == told
    assert seconds == pytest.approx(waited)
    assert (OLD, GIVES_WAY) == (2.0, 0.25)


def test_that_the_bucket_is_away_gives_way_too() -> None:
    class Away(FakeStatusBoard):
        async def look(self, job_id: str) -> JobStatus | None:
            raise BoardUnavailableError

    found, seconds, _ = answer("status", Away())

    assert isinstance(found, ControlError)
    assert seconds == pytest.approx(GIVES_WAY)
