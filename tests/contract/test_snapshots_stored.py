"""Snapshots as they lie in the object store: what every NATS client can read, and nothing left of what failed."""

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.changes import Feed
from worker.core.changes.ports import FeedsMissingError, FeedsUnavailableError
from worker.jetstream.changes.feeds import JetStreamFeeds
from worker.jetstream.changes.snapshots import CHUNK, JetStreamSnapshots
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

STREAM = "OBJ_FOLLOWERS_SNAPSHOTS"
KEY = "esms.shop.1.all"
META = f"$O.FOLLOWERS_SNAPSHOTS.M.{urlsafe_b64encode(f'{KEY}.j'.encode()).decode()}"
DATA = bytes(range(256)) * 1024 + b"rest"


@pytest.fixture
async def stored(js: JetStreamContext, nats_client: Client) -> JetStreamContext:
    await reconcile(nats_client, TopologyConfig())
    return js


@pytest.fixture
def snapshots(nats_client: Client) -> JetStreamSnapshots:
    return JetStreamSnapshots(nats_client, timeout=2)


async def subjects(js: JetStreamContext) -> dict[str, int]:
    return (await js.stream_info(STREAM, subjects_filter=">")).state.subjects or {}


async def test_a_snapshot_is_an_object_as_every_client_writes_it(
    stored: JetStreamContext, snapshots: JetStreamSnapshots
) -> None:
    await snapshots.put(KEY, "j", DATA)

    described = msgspec.json.decode((await stored.get_msg(STREAM, subject=META)).data or b"")
    mtime = datetime.fromisoformat(described.pop("mtime"))
    assert abs(datetime.now(UTC) - mtime) < timedelta(minutes=1)
    nuid = described.pop("nuid")
    assert described == {
        "name": f"{KEY}.j",
        "bucket": "FOLLOWERS_SNAPSHOTS",
        "size": len(DATA),
        "chunks": 3,
        "digest": f"SHA-256={urlsafe_b64encode(hashlib.sha256(DATA).digest()).decode()}",
    }
    assert await subjects(stored) == {META: 1, f"$O.FOLLOWERS_SNAPSHOTS.C.{nuid}": 3}
    assert CHUNK == 131_072
    read = await (await stored.object_store("FOLLOWERS_SNAPSHOTS")).get(f"{KEY}.j")
    assert read.data == DATA


async def test_the_same_again_stores_nothing_and_another_takes_its_place(
    stored: JetStreamContext, snapshots: JetStreamSnapshots
) -> None:
    await snapshots.put(KEY, "j", DATA)
    before = await subjects(stored)

    await snapshots.put(KEY, "j", DATA)
    assert await subjects(stored) == before
    await snapshots.put(KEY, "j", b"other")

    assert await snapshots.get(KEY, "j") == b"other"
    assert (await subjects(stored))[META] == 1, "its description is one message"


async def test_of_two_that_differ_one_is_stored_and_nothing_is_left_of_the_other(
    stored: JetStreamContext, snapshots: JetStreamSnapshots
) -> None:
    ends = await asyncio.gather(*(snapshots.put(KEY, "j", data) for data in (b"one", b"two")), return_exceptions=True)

    (failed,) = [end for end in ends if end is not None]
    assert isinstance(failed, FeedsUnavailableError)
    assert str(failed) == "another snapshot of the same job is being stored"
    assert await snapshots.get(KEY, "j") in (b"one", b"two")
    assert sorted((await subjects(stored)).values()) == [1, 1]


async def test_of_two_that_are_the_same_both_succeed_and_one_is_kept(
    stored: JetStreamContext, snapshots: JetStreamSnapshots
) -> None:
    await asyncio.gather(*(snapshots.put(KEY, "j", b"same") for _ in range(2)))

    assert await snapshots.get(KEY, "j") == b"same"
    assert sorted((await subjects(stored)).values()) == [1, 1]


async def test_a_deleted_snapshot_leaves_nothing(stored: JetStreamContext, snapshots: JetStreamSnapshots) -> None:
    await snapshots.put(KEY, "j", DATA)
    await snapshots.put(KEY, "k", b"kept")

    await snapshots.delete(KEY, "j")
    await snapshots.delete(KEY, "never")

    assert await snapshots.get(KEY, "j") is None
    assert await snapshots.get(KEY, "k") == b"kept"
    assert len(await subjects(stored)) == 2


async def test_what_another_client_deleted_is_gone(stored: JetStreamContext, snapshots: JetStreamSnapshots) -> None:
    await snapshots.put(KEY, "j", DATA)

    await (await stored.object_store("FOLLOWERS_SNAPSHOTS")).delete(f"{KEY}.j")

    assert await snapshots.get(KEY, "j") is None


async def test_a_damaged_snapshot_is_none(stored: JetStreamContext, snapshots: JetStreamSnapshots) -> None:
    await snapshots.put(KEY, "j", DATA)
    (chunks,) = [subject for subject in await subjects(stored) if ".C." in subject]

    await stored.publish(chunks, b"more")

    assert await snapshots.get(KEY, "j") is None


async def test_a_snapshot_that_cannot_be_stored_whole_leaves_no_chunks(
    stored: JetStreamContext, snapshots: JetStreamSnapshots
) -> None:
    config = (await stored.stream_info(STREAM)).config
    config.max_bytes = 200_000
    await stored.update_stream(config)

    with pytest.raises(FeedsUnavailableError):
        await snapshots.put(KEY, "j", DATA)

    assert await subjects(stored) == {}


async def test_feeds_say_which_bucket_is_missing_and_tell_a_missing_key_from_it(
    stored: JetStreamContext, nats_client: Client
) -> None:
    feeds, feed = JetStreamFeeds(nats_client, timeout=2), Feed(provider="esms", account="shop", oa_id="1")
    assert await feeds.get(KEY) == (None, 0)
    assert await feeds.put(KEY, feed, 0) == 1
    await feeds.put("esms.shop.2.all", feed, 0)
    await (await stored.key_value("FOLLOWERS_FEEDS")).delete("esms.shop.2.all")
    assert await feeds.get("esms.shop.2.all") == (None, 3)
    assert await feeds.all() == [(KEY, feed)]

    await stored.delete_stream("KV_FOLLOWERS_FEEDS")

    for attempt in (feeds.get(KEY), feeds.all()):
        with pytest.raises(FeedsMissingError, match=r"^FOLLOWERS_FEEDS$"):
            await attempt
    with pytest.raises(FeedsUnavailableError):
        await feeds.put(KEY, feed, 0)


async def test_a_bucket_that_refuses_for_another_reason_is_unavailable(
    stored: JetStreamContext, nats_client: Client
) -> None:
    config = (await stored.stream_info("KV_FOLLOWERS_FEEDS")).config
    config.max_msg_size = 10
    await stored.update_stream(config)

    with pytest.raises(FeedsUnavailableError, match=r"^BadRequestError$"):
        await JetStreamFeeds(nats_client, timeout=2).put(KEY, Feed(provider="esms", account="shop", oa_id="1"), 0)
