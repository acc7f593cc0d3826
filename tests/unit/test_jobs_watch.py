"""Following the bucket of jobs by revision: what is asked for next, whatever the answers say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from tests.jetstream_kit import FakeStream, answer, end, stored
from worker.jetstream.kv import watch
from worker.jetstream.kv.watch import JobChange, JobChanges, JobsWatch

PREFIX = "$KV.FOLLOWERS_JOBS."


class Bucket(FakeStream):
    """Answers batches as they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = 1, 10**6
        self.told: Any = None
        self._queue: asyncio.Queue[Msg] = asyncio.Queue()

    async def stream_info(self, stream: str) -> Any:
        assert stream == "KV_FOLLOWERS_JOBS"
        return SimpleNamespace(state=SimpleNamespace(first_seq=self.first, last_seq=self.last))

    async def subscribe(self, inbox: str, cb: Any = None) -> Any:
        if cb is not None:
            self.told = cb
            return await super().subscribe(inbox, cb)
        self._queue = asyncio.Queue()

        async def take(message: Msg) -> None:
            self._queue.put_nowait(message)

        subscription = await super().subscribe(inbox, take)

        async def next_msg(timeout: float) -> Msg:
            if self._queue.empty():
                raise nats.errors.TimeoutError
            return self._queue.get_nowait()

        subscription.next_msg = next_msg
        return subscription

    @property
    def revisions(self) -> list[int]:
        return [query["seq"] for _, query in self.queries]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "GATHER", 0.001)
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.03)


def entry(revision: int, job: str = "j", data: bytes = b"{}", *, pending: int | None = 0) -> Msg:
    return stored(revision, PREFIX + job, data, pending=pending)


@contextlib.asynccontextmanager
async def watching(bucket: Bucket) -> AsyncIterator[JobsWatch]:
    async with JobsWatch(bucket.client, timeout=0.1).watching() as jobs:
        yield jobs


async def following(bucket: Bucket, count: int) -> list[JobChanges | None]:
    async with watching(bucket) as jobs:
        return [await jobs.next() for _ in range(count)]


async def test_each_read_goes_on_behind_the_last_one() -> None:
    bucket = Bucket()
    bucket.batches = [[entry(4, "a"), entry(7, "b"), end(2)], [entry(9, "c"), end(0)], [end(0)]]

    found = await following(bucket, 3)

    assert found == [
        JobChanges([JobChange(4, "a", b"{}"), JobChange(7, "b", b"{}")], more=True, first=1),
        JobChanges([JobChange(9, "c", b"{}")]),
        JobChanges([], first=1),
    ]
    assert bucket.queries[0] == (
        "$JS.API.DIRECT.GET.KV_FOLLOWERS_JOBS",
        {"seq": 1, "batch": 256, "next_by_subj": "$KV.FOLLOWERS_JOBS.*"},
    )
    assert bucket.revisions == [1, 8, 10]


async def test_a_server_before_batches_gives_one_at_a_time() -> None:
    bucket = Bucket()
    bucket.batches = [[entry(4, pending=None)]]
    bucket.single = answer({"Status": "404"})

    found = await following(bucket, 2)

    assert found == [JobChanges([JobChange(4, "j", b"{}")], more=True, first=1), JobChanges([])]
    assert bucket.revisions == [1, 5]


@pytest.mark.parametrize("operation", ["DEL", "PURGE", "PUT", None])
async def test_a_deleted_key_has_no_status(operation: str | None) -> None:
    bucket, message = Bucket(), entry(4)
    message.headers = (message.headers or {}) | ({"KV-Operation": operation} if operation else {})
    bucket.batches = [[message, entry(5, data=b""), end(0)]]

    (found,) = await following(bucket, 1)

    gone = operation in ("DEL", "PURGE")
    assert found == JobChanges([JobChange(4, "j", None if gone else b"{}"), JobChange(5, "j", None)], first=1)


@pytest.mark.parametrize(("last", "anew"), [(6, True), (7, False), (8, False)])
async def test_a_bucket_whose_newest_is_older_than_what_was_read_is_another(last: int, anew: bool) -> None:
    bucket = Bucket()
    bucket.batches = [[entry(7), end(0)], [end(0)]]
    async with watching(bucket) as jobs:
        await jobs.next()
        bucket.last, bucket.first = last, 3

        found = await jobs.next()
        await jobs.next()

    assert found == (JobChanges([], more=True, anew=True) if anew else JobChanges([], first=3))
    assert bucket.revisions[:2] == ([1, 1] if anew else [1, 8])


async def test_while_the_server_is_silent_there_is_nothing_and_nothing_is_missed_after_it() -> None:
    bucket = Bucket()
    bucket.batches = [[entry(7), end(0)], [], [entry(8), end(0)]]
    async with watching(bucket) as jobs:
        await jobs.next()
        assert await jobs.next() is None
        await bucket.told(answer({}))

        assert await jobs.next() == JobChanges([JobChange(8, "j", b"{}")])
    assert bucket.revisions == [1, 8, 8]


def test_how_much_and_how_often_is_read() -> None:
    assert (watch.BATCH, watch.BREATH) == (256, 0.005)
