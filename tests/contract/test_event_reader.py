"""Reading a stream in order: what is asked of the server, and what becomes of it when something is lost."""

import asyncio
import time

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from worker.jetstream import reader
from worker.jetstream.reader import EventReader

SUBJECT = "followers.job.>"


@pytest.fixture
async def events(js: JetStreamContext) -> JetStreamContext:
    await js.add_stream(StreamConfig(name="FOLLOWERS_EVENTS", subjects=[SUBJECT], allow_direct=True))
    return js


async def put(js: JetStreamContext, count: int, size: int = 1) -> None:
    for number in range(count):
        await js.publish(f"followers.job.esms.1.j{number}", b"x" * size)


async def taken(events: EventReader, count: int) -> list[int]:
    messages = [await events.next(5) for _ in range(count)]
    return [message.metadata.sequence.stream for message in messages if message is not None]


async def test_the_consumer_is_nameless_in_memory_and_goes_by_itself(
    events: JetStreamContext, nats_client: Client
) -> None:
    await put(events, 3)

    async with EventReader(nats_client, SUBJECT) as reading:
        assert await taken(reading, 3) == [1, 2, 3]
        (info,) = await events.consumers_info("FOLLOWERS_EVENTS")
        assert info.name.startswith("read-")
        config = info.config
        assert (config.durable_name, config.filter_subject, config.mem_storage) == (None, SUBJECT, True)
        assert (config.deliver_policy, config.opt_start_seq, config.ack_policy) == ("by_start_sequence", 1, "none")
        assert (config.num_replicas, config.inactive_threshold) == (1, 60.0)
        assert info.num_waiting == 1

    assert await events.consumers_info("FOLLOWERS_EVENTS") == []


async def test_a_reader_that_read_nothing_leaves_nothing(events: JetStreamContext, nats_client: Client) -> None:
    async with EventReader(nats_client, SUBJECT):
        assert await events.consumers_info("FOLLOWERS_EVENTS") == []


async def test_more_than_a_batch_is_read_in_order_each_once(events: JetStreamContext, nats_client: Client) -> None:
    await put(events, 150)

    async with EventReader(nats_client, SUBJECT) as reading:
        assert await taken(reading, 150) == list(range(1, 151))
        last = await reading.next(0.1)
        assert last is None


async def test_the_wait_for_an_event_has_its_end(events: JetStreamContext, nats_client: Client) -> None:
    async with EventReader(nats_client, SUBJECT) as reading:
        assert await reading.next(0.1) is None
        began = time.monotonic()

        assert await reading.next(0.3) is None

    assert 0.3 <= time.monotonic() - began < 1.5


async def test_a_consumer_that_is_taken_away_is_made_again_behind_the_last_event(
    events: JetStreamContext, nats_client: Client
) -> None:
    await put(events, 4)
    async with EventReader(nats_client, SUBJECT) as reading:
        assert await taken(reading, 2) == [1, 2]
        (info,) = await events.consumers_info("FOLLOWERS_EVENTS")
        await events.delete_consumer("FOLLOWERS_EVENTS", info.name)
        await put(events, 1)

        assert await taken(reading, 3) == [3, 4, 5]


async def test_what_is_lost_on_the_way_is_read_again(events: JetStreamContext, nats_client: Client) -> None:
    await put(events, 5)
    async with EventReader(nats_client, SUBJECT) as reading:
        assert await taken(reading, 1) == [1]
        lost = await reading._arrivals.next_msg(1)
        assert lost.metadata.sequence.stream == 2

        assert await taken(reading, 4) == [2, 3, 4, 5]


async def test_silence_for_three_signs_of_life_makes_the_consumer_anew(
    events: JetStreamContext, nats_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(events, 1)
    async with EventReader(nats_client, SUBJECT) as reading:
        assert await taken(reading, 1) == [1]
        name = reading._name
        assert (reader._HEARTBEAT, reader._PATIENCE) == (2.0, 6.0)

        reading._heard -= 5.9
        assert not reading._is_silent()
        reading._heard -= 0.2
        assert reading._is_silent()
        assert await reading.next(0.1) is None
        assert reading._name != name


async def test_large_messages_wait_within_a_bound(
    events: JetStreamContext, nats_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(events, 20, size=1_000_000)
    async with EventReader(nats_client, SUBJECT) as reading:
        assert await taken(reading, 1) == [1]
        await asyncio.sleep(0.2)

        assert reading._arrivals.pending_bytes <= 8 * 1024 * 1024

        assert await taken(reading, 19) == list(range(2, 21))


async def test_a_stream_that_is_missing_says_what_to_run(js: JetStreamContext, nats_client: Client) -> None:
    async with EventReader(nats_client, SUBJECT) as reading:
        with pytest.raises(LookupError, match=r"^stream FOLLOWERS_EVENTS is missing: run `followers setup`$"):
            await reading.next(1)


async def test_another_stream_is_read_where_it_is_named(js: JetStreamContext, nats_client: Client) -> None:
    await js.add_stream(StreamConfig(name="OTHER", subjects=["other.*"]))
    await js.publish("other.a", b"1")

    async with EventReader(nats_client, "other.*", stream="OTHER") as reading:
        assert await taken(reading, 1) == [1]
