"""The consumers that `followers setup` makes, read with plain nats-py: the server must pass over no command."""

import asyncio
import random

import nats
import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from schemas.subjects import COMMANDS_STREAM, PROVIDERS, command_subject, consumer_name
from schemas.types import Provider
from tests.simulation.loop import stop
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

COMMANDS = 300
READERS = 3


async def test_every_command_is_delivered_while_both_consumers_read_the_stream(
    nats_server: EmbeddedServer, js: JetStreamContext
) -> None:
    """nats-server 2.10.25 passes over one in twenty where a consumer's filter stands in `filter_subject`."""
    async with await nats.connect(nats_server.url) as client:
        await reconcile(client, TopologyConfig(ack_wait=1))
    seen: set[int] = set()
    all_seen, dice = asyncio.Event(), random.Random(1)
    readers = [asyncio.create_task(read(nats_server, name, seen, all_seen)) for name in PROVIDERS * READERS]

    for number in range(COMMANDS):
        await js.publish(command_subject(PROVIDERS[number % 3 % 2]), b"{}")
        if number % 10 == 0:
            await asyncio.sleep(dice.uniform(0, 0.1))  # so that the readers catch up, and wait
    try:
        await asyncio.wait_for(all_seen.wait(), 10)
    except TimeoutError:
        pass  # the assertion says which are missing
    finally:
        await stop(readers)

    assert sorted(set(range(1, COMMANDS + 1)) - seen) == []


async def read(server: EmbeddedServer, provider: Provider, seen: set[int], all_seen: asyncio.Event) -> None:
    """Take what `provider`'s consumer gives, one message at a time, and acknowledge it a while later."""
    dice = random.Random(1)
    async with await nats.connect(server.url) as client, asyncio.TaskGroup() as tasks:
        context = client.jetstream()
        commands = await context.pull_subscribe_bind(consumer_name(provider), stream=COMMANDS_STREAM)
        while True:
            try:
                (message,) = await commands.fetch(1, timeout=1)
            except nats.errors.TimeoutError:
                continue
            tasks.create_task(acknowledge(message, dice.uniform(0, 0.3)))
            seen.add(message.metadata.sequence.stream)
            if len(seen) == COMMANDS:
                all_seen.set()


async def acknowledge(message: Msg, delay: float) -> None:
    await asyncio.sleep(delay)
    await message.ack()
