"""A nats-server with the streams and buckets that the worker expects, and connections to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, options
from worker.jetstream.client.secure import GuardedClient
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile


class Reachable(Protocol):
    """A server, or something on the way to it."""

    @property
    def url(self) -> str:
        """Where clients connect."""
        ...


Connect = Callable[[Reachable], Awaitable[Client]]

ACK_WAIT = 1.0
"""Seconds: short, so that a redelivery can be waited for."""


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections as the worker does, and closes them after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_one(server: Reachable) -> Client:
            client = GuardedClient()
            await client.connect(**options(NatsOptions(servers=(server.url,))))
            stack.push_async_callback(_close, client)
            return client

        yield open_one


@pytest.fixture
async def server(nats_server: EmbeddedServer, js: JetStreamContext, connect: Connect) -> EmbeddedServer:
    """The shared server, set up and empty."""
    await reconcile(await connect(nats_server), TopologyConfig(ack_wait=ACK_WAIT))
    return nats_server


@pytest.fixture
async def mortal_server(private_nats_server: EmbeddedServer, connect: Connect) -> EmbeddedServer:
    """A server of the test's own, set up, to kill and restart."""
    await reconcile(await connect(private_nats_server), TopologyConfig(ack_wait=ACK_WAIT))
    return private_nats_server


async def _close(client: Client) -> None:
    # Closed in the middle of a reconnection, nats-py leaves a socket open.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while client.is_reconnecting:
                await asyncio.sleep(0.02)
    await client.close()
