"""What a connection does when its server goes away."""

import asyncio

from tests.integration import stage
from worker.embedded import EmbeddedServer
from worker.jetstream.connection import NatsOptions, options
from worker.jetstream.guarded import GuardedClient


async def test_a_client_closed_in_the_middle_of_an_attempt_makes_no_further_one(
    private_nats_server: EmbeddedServer,
) -> None:
    attempts = 0

    class Watched(GuardedClient):
        async def _select_next_server(self) -> None:
            nonlocal attempts
            attempts += 1
            await super()._select_next_server()

    client = Watched()
    await client.connect(**options(NatsOptions(servers=(private_nats_server.url,))))
    await private_nats_server.kill()
    await stage.until(lambda: client.is_reconnecting and attempts > 1, 5, lambda: f"{attempts} attempts")
    going_on = client._reconnection_task
    assert going_on is not None

    # As Python 3.11 leaves it when an attempt fails at the moment of `close`: closed, and not cancelled.
    client._status = GuardedClient.CLOSED
    async with asyncio.timeout(5):
        await asyncio.wait({going_on})

    assert going_on.done()
