"""A real nats-server for every test that needs one."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import nats
import pytest
import uvloop
from hypothesis import settings
from nats.aio.client import Client
from nats.js import JetStreamContext

from worker.embedded import EmbeddedServer

# Few examples while people wait, many where nobody does: `make test` sets the profile.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the loop that the worker runs on."""
    return {"uvloop": uvloop.new_event_loop}


def _server() -> EmbeddedServer:
    """The pinned nats-server, or another version that the variable names."""
    named = os.environ.get("NATS_SERVER_BIN")
    return EmbeddedServer(binary=Path(named) if named else None)


@pytest.fixture(scope="session")
async def nats_server() -> AsyncIterator[EmbeddedServer]:
    """One server for all tests; take ``js`` to find it empty."""
    async with _server() as server:
        yield server


@pytest.fixture
async def private_nats_server() -> AsyncIterator[EmbeddedServer]:
    """A server of the test's own, to kill and restart."""
    async with _server() as server:
        yield server


@pytest.fixture
async def nats_client(nats_server: EmbeddedServer) -> AsyncIterator[Client]:
    """A plain nats-py connection to the shared server."""
    client = await nats.connect(nats_server.url, allow_reconnect=False)
    yield client
    await client.close()


@pytest.fixture
async def js(nats_client: Client) -> AsyncIterator[JetStreamContext]:
    """JetStream of the shared server, without streams before and after the test."""
    context = nats_client.jetstream()
    await _delete_streams(context)
    yield context
    await _delete_streams(context)


async def _delete_streams(context: JetStreamContext) -> None:
    for stream in await context.streams_info():
        assert stream.config.name
        await context.delete_stream(stream.config.name)
