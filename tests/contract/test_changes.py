"""`Feeds`, `Snapshots` and `PageStore`: what the change feed relies on, for the fakes and for JetStream."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from nats.js.errors import NotFoundError

from schemas.changes import Feed, FeedJob
from schemas.subjects import EVENTS_STREAM, FEEDS_BUCKET, SNAPSHOTS_BUCKET
from tests.changes_kit import FakeFeeds, FakeSnapshots, PlainPages
from tests.contract.conftest import Connect
from tests.fakes import FakeLog
from worker.core.changes.ports import Feeds, FeedsMissingError, FeedsUnavailableError, PageStore, Snapshots
from worker.core.ports.event_log import EventLog, LogUnavailableError, WrongSequenceError
from worker.embedded import EmbeddedServer
from worker.jetstream.changes.feeds import JetStreamFeeds
from worker.jetstream.changes.snapshots import CHUNK, JetStreamSnapshots
from worker.jetstream.events import bulk_reader as bulk
from worker.jetstream.events.bulk_reader import BulkReader
from worker.jetstream.events.log import JetStreamLog

FEED = Feed(provider="esms", account="shop", oa_id="1", filter={"tag": "VIP"})
OTHER = Feed(
    provider="esms",
    account="shop",
    oa_id="1",
    current=FeedJob(job_id="j", started_at=datetime(2026, 1, 1, tzinfo=UTC), followers=3),
)
KEY = "esms.shop.1.all"
PAGES = "followers.page.esms.1.j"


@dataclass(frozen=True, kw_only=True)
class Rig:
    """The ports, and what can happen to what is behind them."""

    feeds: Feeds
    snapshots: Snapshots
    rival: Snapshots
    pages: PageStore
    log: EventLog
    remove_feeds: Callable[[], Awaitable[None]]


@pytest.fixture
def fake() -> Rig:
    """In memory."""
    feeds, snapshots, log = FakeFeeds(), FakeSnapshots(), FakeLog()

    async def remove_feeds() -> None:
        feeds.missing = True

    pages = PlainPages(log)
    return Rig(feeds=feeds, snapshots=snapshots, rival=snapshots, pages=pages, log=log, remove_feeds=remove_feeds)


@pytest.fixture
async def real(server: EmbeddedServer, connect: Connect) -> Rig:
    """JetStream on the shared server."""
    client, other = await connect(server), await connect(server)

    async def remove_feeds() -> None:
        await client.jetstream().delete_stream(f"KV_{FEEDS_BUCKET}")

    return Rig(
        feeds=JetStreamFeeds(client, timeout=2),
        snapshots=JetStreamSnapshots(client, timeout=2),
        rival=JetStreamSnapshots(other, timeout=2),
        pages=BulkReader(client, timeout=2),
        log=JetStreamLog(client, timeout=2),
        remove_feeds=remove_feeds,
    )


@pytest.fixture(params=["fake", "real"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """Each in turn."""
    found: Rig = request.getfixturevalue(request.param)
    return found


async def test_a_feed_is_written_by_whoever_knows_its_revision(rig: Rig):
    assert await rig.feeds.get(KEY) == (None, 0)

    first = await rig.feeds.put(KEY, FEED, 0)
    with pytest.raises(WrongSequenceError):
        await rig.feeds.put(KEY, OTHER, 0)
    second = await rig.feeds.put(KEY, OTHER, first)

    assert await rig.feeds.get(KEY) == (OTHER, second)


async def test_all_feeds_are_found_by_their_keys(rig: Rig):
    assert await rig.feeds.all() == []

    await rig.feeds.put(KEY, FEED, 0)
    await rig.feeds.put("esms.shop.2.all", OTHER, 0)

    assert dict(await rig.feeds.all()) == {KEY: FEED, "esms.shop.2.all": OTHER}


async def test_a_missing_bucket_of_feeds_is_told_apart_from_an_empty_one(rig: Rig):
    await rig.remove_feeds()

    with pytest.raises(FeedsMissingError):
        await rig.feeds.get(KEY)
    with pytest.raises(FeedsMissingError):
        await rig.feeds.all()


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 5 * CHUNK - 7])
async def test_a_snapshot_comes_back_as_it_was_stored(rig: Rig, size: int):
    data = bytes(range(256)) * (size // 256 + 1)

    await rig.snapshots.put(KEY, "j", data[:size])
    await rig.snapshots.put(KEY, "other", b"else")

    assert await rig.rival.get(KEY, "j") == data[:size]
    assert await rig.rival.get(KEY, "nobody") is None


async def test_a_deleted_snapshot_is_gone_and_can_be_stored_again(rig: Rig):
    await rig.snapshots.put(KEY, "j", b"data")
    await rig.snapshots.delete(KEY, "j")
    await rig.snapshots.delete(KEY, "nobody")
    gone = await rig.snapshots.get(KEY, "j")

    await rig.rival.put(KEY, "j", b"data")

    assert gone is None
    assert await rig.snapshots.get(KEY, "j") == b"data"


async def test_two_who_store_the_same_snapshot_leave_one(rig: Rig):
    await rig.snapshots.put(KEY, "j", b"data")
    await rig.rival.put(KEY, "j", b"data")

    assert await rig.snapshots.get(KEY, "j") == b"data"


@pytest.mark.parametrize("sure", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 128])
async def test_the_messages_of_a_subject_are_read_in_order_up_to_a_sequence(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, batch: int, sure: bool
):
    monkeypatch.setattr(bulk, "BATCH", batch)
    sequences, other = [0], 0
    for number in range(10):
        other = await rig.log.publish("followers.page.esms.1.other", b"{}", {}, other)
        sequences.append(await rig.log.publish(PAGES, b"%d" % number, {"Followers-Test": str(number)}, sequences[-1]))

    found = [entry async for batch in rig.pages.read(PAGES, sequences[8], sure=sure) for entry in batch]

    assert [entry.data for entry in found] == [b"%d" % number for number in range(8)]
    assert [entry.sequence for entry in found] == sequences[1:9]
    assert [entry.headers["Followers-Test"] for entry in found] == [str(number) for number in range(8)]


async def test_a_subject_without_messages_gives_nothing(rig: Rig):
    assert [batch async for batch in rig.pages.read(PAGES, 100)] == []


async def test_a_message_is_found_by_its_sequence_as_long_as_it_is_there(rig: Rig):
    sequence = await rig.log.publish(PAGES, b"page", {}, 0)

    entry = await rig.pages.at(sequence)

    assert entry is not None
    assert (entry.sequence, entry.data) == (sequence, b"page")
    assert await rig.pages.at(sequence + 1) is None


# On a real server alone


async def test_a_snapshot_is_an_object_for_every_nats_client(real: Rig, server: EmbeddedServer, connect: Connect):
    data = b"x" * (2 * CHUNK + 5)
    await real.snapshots.put(KEY, "j", data)

    store = await (await connect(server)).jetstream().object_store(SNAPSHOTS_BUCKET)
    found = await store.get(f"{KEY}.j")

    assert found.data == data
    await real.snapshots.delete(KEY, "j")
    with pytest.raises(NotFoundError):
        await store.list(ignore_deletes=True)


async def test_a_broken_snapshot_counts_as_none(real: Rig, server: EmbeddedServer, connect: Connect):
    await real.snapshots.put(KEY, "j", b"x" * (3 * CHUNK))
    js = (await connect(server)).jetstream()

    await js.delete_msg(f"OBJ_{SNAPSHOTS_BUCKET}", 2)

    assert await real.snapshots.get(KEY, "j") is None


async def test_two_at_once_store_one_snapshot_and_leave_no_chunks_of_another(
    real: Rig, server: EmbeddedServer, connect: Connect
):
    data = b"x" * CHUNK
    original = real.rival._publish  # type: ignore[attr-defined]

    async def late(subject: str, chunk: bytes) -> None:
        await original(subject, chunk)
        await real.snapshots.put(KEY, "j", data)

    real.rival._publish = late  # type: ignore[attr-defined]
    await real.rival.put(KEY, "j", data)

    assert await real.snapshots.get(KEY, "j") == data
    state = (await (await connect(server)).jetstream().stream_info(f"OBJ_{SNAPSHOTS_BUCKET}")).state
    assert state.messages == 2


async def test_deleted_snapshots_leave_nothing_on_the_server(real: Rig, server: EmbeddedServer, connect: Connect):
    for number in range(3):
        await real.snapshots.put(KEY, f"j{number}", b"x" * (2 * CHUNK))
        await real.snapshots.delete(KEY, f"j{number}")

    assert (await (await connect(server)).jetstream().stream_info(f"OBJ_{SNAPSHOTS_BUCKET}")).state.messages == 0


async def test_a_missing_bucket_of_snapshots_is_told(real: Rig, server: EmbeddedServer, connect: Connect):
    await (await connect(server)).jetstream().delete_stream(f"OBJ_{SNAPSHOTS_BUCKET}")

    for attempt in (real.snapshots.put(KEY, "j", b""), real.snapshots.get(KEY, "j"), real.snapshots.delete(KEY, "j")):
        with pytest.raises(FeedsMissingError):
            await attempt


async def test_a_stream_without_direct_get_is_read_from_its_leader(real: Rig, server: EmbeddedServer, connect: Connect):
    js = (await connect(server)).jetstream()
    config = (await js.stream_info(EVENTS_STREAM)).config
    config.allow_direct = False
    await js.update_stream(config)
    sequence = await real.log.publish(PAGES, b"page", {}, 0)

    entry = await real.pages.at(sequence)
    found = [one async for batch in real.pages.read(PAGES, 100) for one in batch]

    assert entry is not None
    assert [one.data for one in found] == [b"page"]


async def test_without_a_server_everything_is_unavailable(mortal_server: EmbeddedServer, connect: Connect):
    client = await connect(mortal_server)
    feeds, snapshots = JetStreamFeeds(client, timeout=0.3), JetStreamSnapshots(client, timeout=0.3)
    await mortal_server.kill()

    for attempt in (feeds.get(KEY), feeds.put(KEY, FEED, 0), snapshots.put(KEY, "j", b""), snapshots.get(KEY, "j")):
        with pytest.raises(FeedsUnavailableError):
            await attempt
    with pytest.raises(LogUnavailableError):
        await BulkReader(client, timeout=0.3).at(1)
    with pytest.raises(LogUnavailableError):
        async for _ in BulkReader(client, timeout=0.3).read(PAGES, 100):
            pass
    await mortal_server.restart()
