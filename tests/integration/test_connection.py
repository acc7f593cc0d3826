"""What a connection does when its server goes away."""

import asyncio
from urllib.parse import urlsplit

from tests.integration import stage
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, options
from worker.jetstream.client.secure import GuardedClient


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


async def test_a_client_closed_as_it_comes_back_looks_for_no_server_any_more(
    private_nats_server: EmbeddedServer,
) -> None:
    client = GuardedClient()

    async def close_at_once(timeout: float = 10) -> None:
        await client.close()
        raise OSError("closed in the middle of it")

    await client.connect(**options(NatsOptions(servers=(private_nats_server.url,))))
    client.flush = close_at_once  # type: ignore[method-assign]
    await private_nats_server.kill()
    await stage.until(lambda: client.is_reconnecting, 5)
    coming_back = client._reconnection_task
    assert coming_back is not None

    await private_nats_server.restart()
    async with asyncio.timeout(5):
        await asyncio.wait({coming_back})

    assert coming_back.done()


async def test_a_first_connection_that_is_cut_at_the_login_is_tried_again(private_nats_server: EmbeddedServer) -> None:
    cut = 0

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal cut
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", urlsplit(private_nats_server.url).port)
        if cut < 2:
            cut += 1
            writer.write(await to_reader.readline())  # the greeting, and no more
        else:
            await asyncio.gather(_pass_on(to_reader, writer), _pass_on(reader, to_writer))
        for end in (writer, to_writer):
            end.close()

    server = await asyncio.start_server(door, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        client = GuardedClient()
        async with asyncio.timeout(10):
            await client.connect(**options(NatsOptions(servers=(url,))))
            await client.flush()
            await client.close()

    assert cut == 2


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()
