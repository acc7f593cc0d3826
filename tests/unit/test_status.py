"""Writing a job's status where the bucket refuses it, doesn't answer, or shows what another replica wrote."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import PubAck

from schemas.jobs import JobStatus
from schemas.types import JobState
from schemas.wire import decode, encode
from tests.jetstream_kit import FakeStream, answer, stored
from worker.core.ports.job_store import BoardUnavailableError
from worker.jetstream.client.writes import Writes
from worker.jetstream.kv import job_status as module
from worker.jetstream.kv.job_status import JetStreamStatusBoard

replace = msgspec.structs.replace
KEY = "$KV.FOLLOWERS_JOBS.j1"
NO_BUCKET = nats.js.errors.NotFoundError(code=404, err_code=10059, description="stream not found")


def refused(code: int) -> nats.js.errors.APIError:
    return nats.js.errors.BadRequestError(code=400, err_code=code, description="refused")


WRONG = refused(10071)


class Bucket(FakeStream):
    """A bucket whose refusals are given; `request` shows what is stored, as any replica would."""

    def __init__(self, *refusals: Exception) -> None:
        super().__init__()
        self.refusals: list[Exception] = list(refusals)
        self.writes: list[tuple[str, JobStatus, dict[str, str] | None]] = []

    async def publish(  # type: ignore[override]
        self, subject: str, body: bytes, headers: dict[str, str] | None = None
    ) -> PubAck:
        self.writes.append((subject, decode(body, JobStatus), headers))
        if self.refusals:
            raise self.refusals.pop(0)
        self.put(self._newest + 1, subject, body)
        return PubAck(stream="KV_FOLLOWERS_JOBS", seq=self._newest)

    async def request(self, subject: str, body: bytes, *, timeout: float) -> Msg:
        self.timeouts.append(timeout)
        if self.errors:
            raise self.errors.pop(0)
        key = subject.removeprefix("$JS.API.DIRECT.GET.KV_FOLLOWERS_JOBS.")
        found = [message for message in self.messages.values() if message.subject == key]
        return stored(found[-1].seq or 0, key, found[-1].data or b"") if found else answer({"Status": "404"})

    @property
    def expected(self) -> list[str | None]:
        """The revision on condition of which each write was made."""
        return [(headers or {}).get("Nats-Expected-Last-Subject-Sequence") for _, _, headers in self.writes]

    def board(self) -> JetStreamStatusBoard:
        return JetStreamStatusBoard(self.client, timeout=1.5)

    def newest(self) -> JobStatus:
        return decode(self.messages[self._newest].data or b"", JobStatus)


def status(state: JobState = "running", *, job_id: str = "j1", page: int = 0, worker: str = "a") -> JobStatus:
    return JobStatus(
        job_id=job_id,
        provider="esms",
        account="shop",
        oa_id="1",
        state=state,
        page=page,
        worker=worker,
        updated_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


async def test_a_first_write_is_conditional_on_what_the_leader_has_and_the_next_one_on_the_first() -> None:
    bucket = Bucket()
    bucket.put(4, "$KV.FOLLOWERS_JOBS.other", b"x")
    board = bucket.board()

    await board.settle(status("queued"))
    board.drop("j1")
    await board.get("j1")
    await board.settle(status("completed"))

    assert [subject for subject, _, _ in bucket.writes] == [KEY, KEY]
    assert bucket.expected == ["0", "5"]
    assert bucket.asked == [{"stream": "KV_FOLLOWERS_JOBS", "seq": None, "subject": KEY, "next": False}]
    assert bucket.timeouts == [1.5, 1.5], "of the context, and of a direct get"


@pytest.mark.parametrize("code", [10071, 10164, 10158])
@pytest.mark.parametrize(
    ("there", "mine", "written"),
    [
        (None, "completed", True), (None, "running", True),
        *(((state, worker), "failed", True) for state in ("running", "waiting", "queued") for worker in "ab"),
        *(((end, worker), mine, False) for end in ("completed", "failed", "cancelled") for worker in "ab"
          for mine in ("completed", "queued", "running")),
        (("running", "a"), "queued", True), (("running", "b"), "queued", False), (("waiting", "b"), "running", False),
    ],
)  # fmt: skip
async def test_what_is_there_decides_whether_a_refused_write_is_made_again(
    code: int, there: tuple[JobState, str] | None, mine: JobState, written: bool
) -> None:
    bucket = Bucket(refused(code))
    board = bucket.board()
    await board.get("j1")
    if there:
        bucket.put(9, KEY, encode(status(there[0], worker=there[1], page=7)))

    await board.settle(status(mine))

    assert bucket.expected == (["0", "9" if there else "0"] if written else ["0"])
    if written:
        assert bucket.newest() == status(mine)
    elif there:
        assert bucket.newest() == status(there[0], worker=there[1], page=7)
    assert bucket.asked == [{"stream": "KV_FOLLOWERS_JOBS", "seq": None, "subject": KEY, "next": False}]


@pytest.mark.parametrize("trouble", [nats.errors.TimeoutError(), OSError(), NO_BUCKET])
async def test_where_what_is_there_cannot_be_read_the_write_is_tried_again(trouble: Exception) -> None:
    bucket = Bucket(WRONG, WRONG)
    board = bucket.board()
    await board.get("j1")
    bucket.put(9, KEY, encode(status(page=7)))
    bucket.errors = [trouble]

    await board.settle(status("queued"))

    assert bucket.expected == ["0", "0", "9"]
    assert bucket.newest() == status("queued")


@pytest.mark.parametrize("trouble", [refused(10077), refused(10023), nats.errors.TimeoutError(), OSError()])
async def test_settling_tries_three_times(trouble: Exception) -> None:
    bucket = Bucket(*[trouble] * 3)

    await bucket.board().settle(status("completed"))

    assert bucket.expected == ["0"] * 3
    assert len(bucket.asked) == 1, "before the first one"
    assert bucket.messages == {}


@pytest.mark.parametrize("trouble", [nats.errors.TimeoutError(), refused(10077)])
async def test_a_write_that_failed_is_made_again_on_the_same_condition(trouble: Exception) -> None:
    bucket = Bucket(trouble, trouble)
    bucket.put(9, KEY, encode(status(page=7)))
    board = bucket.board()

    assert await board.get("j1") == status(page=7)
    await board.settle(status("completed"))

    assert bucket.expected == ["9", "9", "9"]


async def test_what_is_seen_of_a_job_in_hand_is_no_condition_for_its_next_write() -> None:
    bucket = Bucket(nats.errors.TimeoutError())
    board = bucket.board()
    board.post(status())
    await board._write_due()
    bucket.put(9, KEY, encode(status(worker="b")))

    assert await board.get("j1") == status(worker="b")
    await board.settle(status("completed"))

    assert bucket.expected == ["0", "0"]


async def test_one_that_is_dropped_while_another_is_written_holds_up_no_third() -> None:
    bucket = Bucket()
    board, write = bucket.board(), bucket.publish

    async def publish(*arguments: Any, **options: Any) -> Any:
        board.drop("j2")
        return await write(*arguments, **options)

    bucket.publish = publish  # type: ignore[method-assign]
    for job_id in ("j1", "j2", "j3"):
        board.post(status(job_id=job_id))
    await board._write_due()

    assert [one.job_id for _, one, _ in bucket.writes] == ["j1", "j3"]


async def test_what_was_posted_before_the_end_or_after_it_is_not_written_until_the_job_comes_again() -> None:
    bucket = Bucket()
    board = bucket.board()
    board.post(status(page=1))
    await board.settle(status("queued", page=2))
    board.post(status(page=3))
    await board._write_due()
    assert [one.page for _, one, _ in bucket.writes] == [2]

    board.drop("j1")
    board.post(status(page=4))
    await board._write_due()

    assert [one.page for _, one, _ in bucket.writes] == [2, 4]
    assert bucket.expected == ["0", "1"]


async def test_a_status_posted_later_is_made_once_and_only_when_it_is_written_or_looked_at() -> None:
    bucket, made = Bucket(), list[int]()
    board = bucket.board()

    def make(page: int) -> Callable[[], JobStatus]:
        def one() -> JobStatus:
            made.append(page)
            return status(page=page)

        return one

    for page in (1, 2):
        board.post_later("j1", "running", make(page))
    assert made == []
    await board._write_due()
    assert board.in_hand("j1") == status(page=2)
    for page in (3, 4):
        board.post_later("j1", "running", make(page))
    await board._write_due()  # its second isn't over
    assert [one.page for _, one, _ in bucket.writes] == made == [2]
    assert [board.in_hand("j1"), board.in_hand("j1")] == [status(page=4), status(page=4)]
    assert made == [2, 4]
    board.post_later("j1", "running", make(5))
    await board.settle(status("completed", page=6))
    board.post_later("j1", "running", make(7))
    await board._write_due()

    assert [one.page for _, one, _ in bucket.writes] == [2, 6]
    assert made == [2, 4]


async def test_a_job_that_is_dropped_while_its_refusal_is_looked_into_is_settled() -> None:
    bucket = Bucket(WRONG)
    board = bucket.board()
    await board.get("j1")
    bucket.put(9, KEY, encode(status()))

    async def get_msg(*_: object, **__: object) -> Any:
        board.drop("j1")
        return bucket.messages[9]

    bucket.get_msg = get_msg  # type: ignore[method-assign]
    await board.settle(status("completed"))

    assert len(bucket.writes) == 1


async def test_a_job_that_is_dropped_while_it_is_written_leaves_nothing_behind() -> None:
    bucket = Bucket()
    board, write = bucket.board(), bucket.publish

    async def publish(*arguments: Any, **options: Any) -> Any:
        ack = await write(*arguments, **options)
        board.drop("j1")
        return ack

    bucket.publish = publish  # type: ignore[method-assign]
    await board.settle(status("queued"))
    await board.settle(status("queued"))

    assert bucket.expected == ["0", "1"]
    assert board.in_hand("j1") is None


async def test_a_job_lost_to_another_replica_is_not_written_until_its_end() -> None:
    bucket = Bucket(WRONG)
    board = bucket.board()
    await board.get("j1")
    bucket.put(9, KEY, encode(status(worker="b")))
    board.post(status("running"))
    assert await board._write_due() is None
    board.post(status("waiting", page=2))
    assert await board._write_due() is None
    assert len(bucket.writes) == 1
    assert board.in_hand("j1") is None, "what this replica thinks of it isn't true"

    await board.settle(status("cancelled", page=3))

    assert bucket.newest() == status("cancelled", page=3)


class Clock:
    """A monotonic clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


async def test_what_changes_no_state_is_written_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, bucket = Clock(), Bucket()
    monkeypatch.setattr(module, "time", clock)
    board = bucket.board()
    board.post(status(page=1))
    assert await board._write_due() is None
    board.post(status(page=2))
    clock.now += 0.25
    assert await board._write_due() == 0.75
    board.post(status(page=1, job_id="j2"))
    clock.now += 0.25
    assert await board._write_due() == 0.5, "until the next one of all"
    board.post(status(page=2, job_id="j2"))
    assert await board._write_due() == 0.5
    clock.now += 0.5

    assert await board._write_due() == 0.5

    assert [(one.job_id, one.page) for _, one, _ in bucket.writes] == [("j1", 1), ("j2", 1), ("j1", 2)]


@pytest.mark.parametrize("trouble", [nats.errors.TimeoutError(), refused(10077)])
async def test_what_was_not_written_is_tried_again_in_a_second_unless_there_is_something_newer(
    monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    clock, bucket = Clock(), Bucket(trouble, trouble)
    monkeypatch.setattr(module, "time", clock)
    board, write = bucket.board(), bucket.publish
    board.post(status(page=1))
    assert await board._write_due() == 1.0

    async def publish(*arguments: Any, **options: Any) -> Any:
        board.post(status(page=2))
        return await write(*arguments, **options)

    bucket.publish = publish  # type: ignore[method-assign]
    clock.now += 1.0
    assert await board._write_due() == 1.0
    bucket.publish = write  # type: ignore[method-assign]
    clock.now += 1.0
    assert await board._write_due() is None

    assert [one.page for _, one, _ in bucket.writes] == [1, 1, 2]


async def test_what_was_dropped_while_it_failed_is_not_tried_again() -> None:
    bucket = Bucket()
    board = bucket.board()

    async def publish(*_: Any, **__: Any) -> Any:
        board.drop("j1")
        raise nats.errors.TimeoutError

    bucket.publish = publish  # type: ignore[method-assign]
    board.post(status())

    assert await board._write_due() is None
    assert await board._write_due() is None


async def test_what_is_posted_after_the_end_is_not_even_looked_up_for_the_last_1024_jobs() -> None:
    bucket = Bucket()
    board = bucket.board()
    for number in [*range(1025), 1, 1025]:
        await board.settle(status("failed", job_id=f"j{number}"))
    asked = len(bucket.asked)

    board.post(status(job_id="j1"))
    await board._write_due()
    assert len(bucket.asked) == asked, "told again, it is the newest"
    board.post(status(job_id="j0"))
    await board._write_due()
    assert len(bucket.asked) == asked + 1
    assert len(bucket.writes) == 1026, "the end is still there"


ENDS: tuple[JobState, ...] = ("completed", "failed", "cancelled")
GOES_ON: tuple[JobState, ...] = ("queued", "running", "waiting")


@pytest.mark.parametrize("known", ["looked up", "not looked up", "changed since"])
@pytest.mark.parametrize("end", ENDS)
async def test_an_end_gives_way_to_nothing_but_a_newer_event(
    monkeypatch: pytest.MonkeyPatch, end: JobState, known: str
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.0)
    there = replace(status(end, page=7), event_sequence=40)
    for state in (*ENDS, *GOES_ON):
        for sequence, generation, written in ((39, 1, False), (40, 1, False), (41, 1, True), (40, 2, True)):
            bucket = Bucket(*[WRONG] * (known == "changed since"))
            board = bucket.board()
            if known == "changed since":
                await board.get("j1")
            bucket.put(9, KEY, encode(there))
            if known == "looked up":
                assert await board.get("j1") == there
            mine = replace(status(state), event_sequence=sequence, generation=generation)
            board.post(mine)
            if state in GOES_ON:
                await board._write_due()
                await board._write_due()
            else:
                await board.settle(mine)

            assert bucket.newest() == (mine if written else there), (state, sequence, generation)


async def test_an_end_that_comes_late_does_not_hide_the_retry() -> None:
    bucket = Bucket()
    retry = replace(status(worker="b"), event_sequence=41, generation=2)
    bucket.put(9, KEY, encode(retry))

    await bucket.board().settle(replace(status("failed"), event_sequence=40))

    assert bucket.newest() == retry
    assert bucket.writes == []


async def test_an_end_that_could_not_be_written_is_written_when_the_bucket_takes_it() -> None:
    bucket = Bucket(*[refused(10077)] * 7)
    board = bucket.board()
    await board.settle(status("completed"))
    board.drop("j1")
    await board.settle(status("queued", job_id="j2"))
    assert board.in_hand("j1") == status("completed")
    assert board.in_hand("j2") is None

    await board.write_owed()
    assert bucket.messages == {}
    await board.write_owed()

    assert bucket.newest() == status("completed")
    assert board.in_hand("j1") is None
    await board.write_owed()
    assert len(bucket.writes) == 8


async def test_what_is_owed_waits_while_the_job_is_in_hand_again_and_gives_way_to_what_is_newer() -> None:
    bucket = Bucket(*[refused(10077)] * 3)
    board = bucket.board()
    await board.settle(replace(status("failed"), event_sequence=40))
    board.drop("j1")
    retry = replace(status(), event_sequence=41, generation=2)
    board.post(retry)
    assert board.in_hand("j1") == retry
    await board.write_owed()
    await board._write_due()
    await board.write_owed()

    assert [one for _, one, _ in bucket.writes[3:]] == [retry]


async def test_in_hand_is_what_was_told_last_until_the_job_is_dropped() -> None:
    bucket = Bucket(refused(10077))
    board = bucket.board()
    assert board.in_hand("j1") is None
    board.post(status(page=1))
    await board._write_due()
    board.post(status(page=2))
    assert board.in_hand("j1") == status(page=2)
    board.drop("j1")
    assert board.in_hand("j1") is None


@pytest.mark.parametrize("trouble", [refused(10077), nats.errors.TimeoutError()])
async def test_whoever_watches_the_writes_hears_of_each_that_failed_and_of_each_that_went_well(
    trouble: Exception,
) -> None:
    bucket, writes = Bucket(trouble), Writes(clock=lambda: 0.0)
    board = JetStreamStatusBoard(bucket.client, timeout=1.5, writes=writes)
    board.post(status())
    await board._write_due()
    assert list(writes._failing) == ["KV_FOLLOWERS_JOBS"]
    await board.settle(status("queued"))
    assert writes._failing == {}


async def test_a_look_that_finds_nothing_is_told_apart_from_one_that_cannot_be_had() -> None:
    bucket = Bucket()
    board = bucket.board()
    assert await board.look("j1") is None
    bucket.put(1, KEY, b"")
    assert await board.look("j1") is None
    bucket.put(2, KEY, b"no JSON")
    assert await board.look("j1") is None
    bucket.put(3, KEY, encode(status(page=5)))
    assert await board.look("j1") == status(page=5)
    await board.settle(status("completed"))
    assert bucket.expected == ["3"]
    assert len(bucket.asked) == 1, "a look gives no revision to write upon, and asks any replica"

    trouble: list[Callable[[], Exception]] = [nats.errors.TimeoutError, OSError, nats.errors.NoRespondersError]
    for one in trouble:
        bucket.errors = [one()]
        with pytest.raises(BoardUnavailableError):
            await board.look("j1")


async def test_running_writes_what_is_posted_until_it_is_cancelled() -> None:
    bucket = Bucket()
    board = bucket.board()
    running = asyncio.create_task(board.run())

    async def until(page: int) -> None:
        async with asyncio.timeout(0.5):
            while not bucket.messages or bucket.newest().page != page:
                await asyncio.sleep(0)

    board.post(status(page=1))
    await until(1)
    board.post(status("waiting", page=2))
    await until(2)
    board.post(status("waiting", page=3))
    await asyncio.sleep(0.01)
    board.post(status("waiting", page=4))
    board.post(status("running", page=5))
    await until(5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bucket.expected == ["0", "1", "2"]
