"""Commands that the server keeps and delivers to nobody, as nats-server 2.10.25 may after a crash."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from schemas import JobCompleted
from schemas.subjects import COMMANDS_STREAM, consumer_name
from tests.integration.control_stage import ACK_WAIT, PATIENCE, Stage, stage
from worker.embedded import EmbeddedServer
from worker.jetstream.commands.stranded import StrandedCommands


@pytest.fixture
async def place(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> AsyncIterator[Stage]:
    """Streams and a provider, without a worker."""
    async with stage(nats_client, nats_server.url, tmp_path) as made:
        yield made


async def test_a_command_that_is_never_delivered_again_is_fetched_all_the_same(
    place: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.app.STRANDED_LOOK", 0.2)
    await place.publish("forgotten")
    withheld = await take(place)
    heart = asyncio.create_task(beat(withheld))

    async with place.worker():
        story = await place.story("forgotten")
        async with asyncio.timeout(PATIENCE):
            while await place.commands_left():
                await asyncio.sleep(0.05)
    heart.cancel()

    assert isinstance(story[-1], JobCompleted)
    assert story[-1].followers == 100


async def test_only_a_command_that_was_passed_at_two_looks_while_somebody_waits_is_found(place: Stage) -> None:
    js = place.client.jetstream()
    first = await place.publish("first")
    withheld = await take(place)
    heart = asyncio.create_task(beat(withheld))
    commands = StrandedCommands(place.client, "etelecom", timeout=2)
    assert await commands.look() == []
    assert await commands.look() == [], "nobody pulls: it is no wonder that nothing is delivered"

    pulling = await js.pull_subscribe_bind(consumer_name("etelecom"), COMMANDS_STREAM)
    waiting = asyncio.create_task(pulling.fetch(1, timeout=PATIENCE))
    while not (await js.consumer_info(COMMANDS_STREAM, consumer_name("etelecom"))).num_waiting:
        await asyncio.sleep(0.02)
    looks = [[found.sequence for found in await commands.look()] for _ in range(2)]
    await withheld.ack_sync()
    looks.append([found.sequence for found in await commands.look()])
    for task in (waiting, heart):
        task.cancel()
    await asyncio.gather(waiting, heart, return_exceptions=True)

    assert looks == [[], [first], []]


async def take(place: Stage) -> Msg:
    """Take the only command, as a worker would that nobody knows of."""
    pulled = await place.client.jetstream().pull_subscribe_bind(consumer_name("etelecom"), COMMANDS_STREAM)
    (message,) = await pulled.fetch(1)
    await pulled.unsubscribe()
    return message


async def beat(message: Msg) -> None:
    """Keep the server from delivering it again."""
    while True:
        await message.in_progress()
        await asyncio.sleep(ACK_WAIT / 4)
