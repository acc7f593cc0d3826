"""Reading a stream in order: what is asked of the server, and what becomes of it when something is lost."""

import asyncio
import time

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from tests.integration import stage
from worker.jetstream.events import reader
from worker.jetstream.events.reader import EventReader

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


@pytest.mark.parametrize(("count", "size"), [(40, 1_000_000), (400, 100)])
async def test_no_more_than_a_batch_waits_however_long_the_list_is(
    events: JetStreamContext, nats_client: Client, count: int, size: int
) -> None:
    await put(events, count, size)
    found, most, most_bytes, enough = list[int](), 0, 0, 5 if size > 100 else 50

    async with EventReader(nats_client, SUBJECT) as reading:
        while len(found) < count:
            found += await taken(reading, 1)
            if len(found) == 1:
                async with asyncio.timeout(10):
                    while waiting(reading) <= enough:
                        await asyncio.sleep(0.01)
            if len(found) % 7 == 1:  # the server has time for all that it was asked for
                await nats_client.flush()
                await asyncio.sleep(0.01)
            most, most_bytes = max(most, waiting(reading)), max(most_bytes, reading._arrivals.pending_bytes)
        consumers = await events.consumers_info("FOLLOWERS_EVENTS")

    assert found == list(range(1, count + 1))
    assert len(consumers) == 1
    assert most <= 64  # the word that a batch is over among them
    assert most_bytes <= 8 * 2**20
    assert most > enough


async def test_a_message_that_is_larger_than_a_batch_comes_alone() -> None:
    """The server refuses it to a pull with `max_bytes`, whatever else that pull would take."""
    sizes = [10, 9_000_000, 10_000_000, 10, 8 * 2**20, 10]
    async with stage.server(max_payload=12_000_000) as server, await nats.connect(server.url) as client:
        js = client.jetstream()
        await js.add_stream(StreamConfig(name="FOLLOWERS_EVENTS", subjects=[SUBJECT]))
        for size in sizes:
            await put(js, 1, size)
        async with EventReader(client, SUBJECT) as reading:
            messages = [await reading.next(5) for _ in sizes]
            consumers = await js.consumers_info("FOLLOWERS_EVENTS")

    assert [len(message.data) for message in messages if message is not None] == sizes
    assert len(consumers) == 1


async def test_a_reader_that_takes_its_time_goes_on_with_what_waits(
    events: JetStreamContext, nats_client: Client
) -> None:
    await put(events, 70)
    async with EventReader(nats_client, SUBJECT) as reading:
        assert await taken(reading, 1) == [1]
        name = reading._name
        reading._heard -= 60
        await asyncio.sleep(0.1)
        assert await taken(reading, 63) == list(range(2, 65))  # and now no pull is open
        reading._heard -= 60

        assert await taken(reading, 6) == list(range(65, 71))
        assert reading._name == name


@pytest.mark.parametrize("status", ["100", "404", "408", "409", "503", "anything"])
async def test_a_stored_header_named_status_is_data(events: JetStreamContext, nats_client: Client, status: str) -> None:
    await put(events, 1)
    await events.publish(
        "followers.job.esms.1.forged", b"2", headers={"Status": status, "Description": "Consumer Deleted"}
    )
    await put(events, 1)

    async with EventReader(nats_client, SUBJECT) as reading:
        assert await taken(reading, 3) == [1, 2, 3]
        assert len(await events.consumers_info("FOLLOWERS_EVENTS")) == 1


async def test_what_is_said_of_a_pull_ends_no_other(events: JetStreamContext, nats_client: Client) -> None:
    async with EventReader(nats_client, SUBJECT) as reading:
        assert await reading.next(0.1) is None
        (info,) = await events.consumers_info("FOLLOWERS_EVENTS")
        for about in ("0", "2"):
            await nats_client.publish(
                f"{reading._inbox}.{about}", headers={"Status": "409", "Description": "Batch Completed"}
            )
        assert await reading.next(0.1) is None

        assert (reading._pulls, reading._name) == (1, info.name)
        assert (await events.consumer_info("FOLLOWERS_EVENTS", info.name)).num_waiting == 1

        await nats_client.publish(f"{reading._inbox}.1", headers={"Status": "409", "Description": "Leadership Change"})
        assert await reading.next(0.1) is None
        assert (reading._pulls, reading._name) == (2, info.name)


async def test_a_consumer_that_nobody_answers_for_is_made_anew(events: JetStreamContext, nats_client: Client) -> None:
    """As where its server went while ours stayed: each pull has no responders, or no answer before nats-server 2.11."""
    await put(events, 65)
    async with EventReader(nats_client, SUBJECT) as reading:
        assert await taken(reading, 64) == list(range(1, 65))  # no pull is open that could be told
        await events.delete_consumer("FOLLOWERS_EVENTS", reading._name)

        last = await reading.next(20)
        assert last is not None
        assert last.metadata.sequence.stream == 65
        assert reading._pulls >= 3


def waiting(reading: EventReader) -> int:
    """How many messages of the stream are here and not taken."""
    return reading._arrivals.pending_msgs


async def test_a_stream_that_is_missing_says_what_to_run(js: JetStreamContext, nats_client: Client) -> None:
    async with EventReader(nats_client, SUBJECT) as reading:
        with pytest.raises(LookupError, match=r"^stream FOLLOWERS_EVENTS is missing: run `followers setup`$"):
            await reading.next(1)


async def test_another_stream_is_read_where_it_is_named(js: JetStreamContext, nats_client: Client) -> None:
    await js.add_stream(StreamConfig(name="OTHER", subjects=["other.*"]))
    await js.publish("other.a", b"1")

    async with EventReader(nats_client, "other.*", stream="OTHER") as reading:
        assert await taken(reading, 1) == [1]
