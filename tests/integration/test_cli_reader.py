"""Reading the events in order, whatever happens to the consumer behind it."""

import asyncio

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.subjects import EVENTS_STREAM
from worker.embedded import EmbeddedServer
from worker.jetstream.events.reader import EventReader
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

SUBJECT = "followers.page.esms.1.job"


@pytest.fixture
async def events(nats_client: Client, js: JetStreamContext) -> JetStreamContext:
    await reconcile(nats_client, TopologyConfig())
    return js


async def store(js: JetStreamContext, first: int, last: int, *, size: int = 0) -> None:
    await asyncio.gather(*(js.publish(SUBJECT, b"%d" % number + b" " * size) for number in range(first, last + 1)))


async def take(reader: EventReader, count: int, timeout: float = 20) -> list[int]:
    """The sequences of the next `count` events."""
    found: list[int] = []
    for _ in range(count):
        message = await reader.next(timeout)
        assert message is not None, f"only {found} came"
        found.append(message.metadata.sequence.stream)
    return found


async def test_many_events_come_in_order_and_the_last_one_says_so(
    nats_client: Client, events: JetStreamContext
) -> None:
    await store(events, 1, 500)

    async with EventReader(nats_client, SUBJECT) as reader:
        found = await take(reader, 499)
        last = await reader.next(5)

    assert found == list(range(1, 500))
    assert last is not None
    assert last.metadata.num_pending == 0


async def test_events_larger_than_the_window_come_through(nats_client: Client, events: JetStreamContext) -> None:
    await store(events, 1, 40, size=900_000)

    async with EventReader(nats_client, SUBJECT) as reader:
        assert await take(reader, 40) == list(range(1, 41))


async def test_an_event_that_is_published_later_comes_at_once(nats_client: Client, events: JetStreamContext) -> None:
    async with EventReader(nats_client, SUBJECT) as reader:
        assert await reader.next(0.2) is None
        await store(events, 1, 1)

        async with asyncio.timeout(1):
            assert await take(reader, 1) == [1]


async def test_other_subjects_are_left_out(nats_client: Client, events: JetStreamContext) -> None:
    await events.publish("followers.page.esms.1.other", b"")
    await store(events, 1, 1)

    async with EventReader(nats_client, SUBJECT) as reader:
        assert await take(reader, 1) == [2]


async def test_a_lost_consumer_is_replaced_without_a_gap(nats_client: Client, events: JetStreamContext) -> None:
    await store(events, 1, 10)
    async with EventReader(nats_client, SUBJECT) as reader:
        before = await take(reader, 3)
        (consumer,) = await events.consumers_info(EVENTS_STREAM)
        await events.delete_consumer(EVENTS_STREAM, consumer.name)
        await store(events, 11, 20)

        after = await take(reader, 17)

    assert before + after == list(range(1, 21))


async def test_a_restarted_server_does_not_end_the_reading(private_nats_server: EmbeddedServer) -> None:
    client = await nats.connect(private_nats_server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    await reconcile(client, TopologyConfig())
    await store(client.jetstream(), 1, 10)
    async with EventReader(client, SUBJECT) as reader:
        before = await take(reader, 5)
        await private_nats_server.kill()
        await private_nats_server.restart()

        after = await take(reader, 5)
        other = await nats.connect(private_nats_server.url)
        await store(other.jetstream(), 11, 12)
        later = await take(reader, 2)
    await other.close()
    await client.close()

    assert before + after + later == list(range(1, 13))


async def test_nothing_is_left_on_the_server(nats_client: Client, events: JetStreamContext) -> None:
    await store(events, 1, 1)

    async with EventReader(nats_client, SUBJECT) as reader:
        await take(reader, 1)

    assert await events.consumers_info(EVENTS_STREAM) == []


async def test_a_missing_stream_is_named(nats_client: Client, js: JetStreamContext) -> None:
    async with EventReader(nats_client, SUBJECT) as reader:
        with pytest.raises(LookupError, match="stream FOLLOWERS_EVENTS is missing: run `followers setup`"):
            await reader.next(5)


async def test_a_reader_heeds_its_cancellation(nats_client: Client, events: JetStreamContext) -> None:
    async def read() -> None:
        async with EventReader(nats_client, SUBJECT) as reader:
            while True:
                await reader.next(60)

    for _ in range(50):
        reading = asyncio.create_task(read())
        await store(events, 1, 3)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(2):
                await reading
