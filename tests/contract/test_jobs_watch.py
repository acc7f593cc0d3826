"""The bucket of job statuses as a page watches it, on a real server."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from worker.jetstream.kv import watch
from worker.jetstream.kv.watch import JobChanges, JobsWatch
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile


@pytest.fixture
async def bucket(js: JetStreamContext, nats_client: Client) -> KeyValue:
    await reconcile(nats_client, TopologyConfig())
    return await js.key_value("FOLLOWERS_JOBS")


@pytest.fixture(params=[True, False], ids=["batches", "before 2.11"])
async def jobs(bucket: KeyValue, nats_client: Client, request: pytest.FixtureRequest) -> AsyncIterator[JobsWatch]:
    watching = JobsWatch(nats_client, timeout=2)
    watching._batches = request.param
    async with watching.watching():
        yield watching


async def following(jobs: JobsWatch) -> JobChanges:
    changes = await jobs.next()
    assert changes is not None
    return changes


def told(changes: JobChanges) -> list[tuple[int, str, bytes | None]]:
    return [(change.revision, change.job_id, change.data) for change in changes.changes]


async def test_it_begins_with_what_is_there(jobs: JobsWatch, bucket: KeyValue) -> None:
    await bucket.put("a", b"1")
    await bucket.put("b", b"2")
    await bucket.put("a", b"3")
    await bucket.delete("b")

    first = await following(jobs)

    assert told(first) == [(3, "a", b"3"), (4, "b", None)]
    assert (first.more, first.first, first.anew) == (False, 3, False)


async def test_a_change_is_told_soon_and_alone(jobs: JobsWatch, bucket: KeyValue) -> None:
    await bucket.put("a", b"1")
    await following(jobs)
    began = time.monotonic()

    await bucket.put("b", b"2")
    second = await following(jobs)

    assert told(second) == [(2, "b", b"2")]
    assert second.first is None
    assert watch.GATHER <= time.monotonic() - began < 2.0


async def test_more_than_a_batch_comes_in_pieces_at_once(
    jobs: JobsWatch, bucket: KeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "BATCH", 3)
    for number in range(7):
        await bucket.put(f"j{number}", b"x")

    pieces = [await following(jobs)]
    began = time.monotonic()
    while pieces[-1].more:
        pieces.append(await following(jobs))

    assert [job for piece in pieces for _, job, _ in told(piece)] == [f"j{number}" for number in range(7)]
    assert [len(piece.changes) for piece in pieces] == [3, 3, 1]
    assert time.monotonic() - began < watch.GATHER + 1.0


async def test_without_a_change_it_looks_now_and_then(
    jobs: JobsWatch, bucket: KeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watch.LOOK_EVERY == 5.0
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.3)
    await bucket.put("a", b"1")
    await following(jobs)
    began = time.monotonic()

    while (later := await following(jobs)).first is None:  # it may hear late of what it has read
        assert told(later) == []

    assert (told(later), later.first) == ([], 1)
    assert 0.15 <= time.monotonic() - began < 2.0


async def test_a_bucket_that_was_made_anew_is_read_from_its_beginning(
    jobs: JobsWatch, bucket: KeyValue, js: JetStreamContext, nats_client: Client
) -> None:
    for _ in range(3):
        await bucket.put("a", b"1")
    await following(jobs)
    await js.delete_stream("KV_FOLLOWERS_JOBS")
    await reconcile(nats_client, TopologyConfig())
    await bucket.put("b", b"2")
    jobs._look_at = 0.0

    anew, rest = await following(jobs), await following(jobs)

    assert (told(anew), anew.more, anew.anew) == ([], True, True)
    assert told(rest) == [(1, "b", b"2")]


async def test_a_bucket_that_is_missing_is_asked_for_again_a_second_later(
    jobs: JobsWatch, bucket: KeyValue, js: JetStreamContext
) -> None:
    await js.delete_stream("KV_FOLLOWERS_JOBS")
    loop = asyncio.get_running_loop()

    assert await jobs.next() is None

    assert 0.5 < jobs._look_at - loop.time() <= 1.0
