"""A real nats-server for every test that needs one."""

import asyncio
import logging
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
import structlog
import uvloop
from hypothesis import settings
from nats.aio.client import Client
from nats.js import JetStreamContext

from tests import ear
from tests.patience import pytest_timeout_set_timer  # noqa: F401
from worker.embedded import EmbeddedServer
from worker.jetstream.client.secure import GuardedClient

# Few examples while people wait, many where nobody does: `make test` sets the profile.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=200, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# These provoke errors on purpose: their log lines, with rendered tracebacks, would cost more than the tests.
QUIET = {"unit", "simulation"}
_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the loop that the worker runs on."""
    return {"uvloop": _new_loop}


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = uvloop.new_event_loop()
    _loops.add(loop)
    return loop


@pytest.fixture(autouse=True)
def _logs_as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    """Undo what a command line in this process set up: its stderr ends with it."""
    before = structlog.get_config()
    if request.path.parent.name in QUIET:
        quiet = structlog.make_filtering_bound_logger(logging.ERROR)
        structlog.configure(wrapper_class=quiet, processors=[ear.hear, ear.drop])
    else:
        structlog.configure(processors=[ear.hear, *before["processors"]])
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def faults() -> list[str]:
    """What our code logged as a `….fault` in this test. Only a test that takes this may provoke one."""
    return ear.heard


@pytest.fixture(autouse=True)
def _nothing_unforeseen(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which an exception that nobody foresaw was logged, survived and forgotten."""
    ear.heard.clear()
    yield
    unforeseen = [] if "faults" in request.fixturenames else list(ear.heard)
    assert not unforeseen, unforeseen


@pytest.fixture(autouse=True)
def _no_client_goes_on_connecting() -> Iterator[None]:
    """Fail a test whose NATS client looks for its server for ever: all tests share one event loop."""
    yield
    deadline = time.monotonic() + 10
    while (left := _connecting()) and time.monotonic() < deadline:
        for task, client in left.items():
            # Plain nats-py misses the cancellation when an attempt fails at the moment of `close`; ours must not.
            if client.is_closed and not isinstance(client, GuardedClient):
                task.cancel()
            task.get_loop().run_until_complete(asyncio.sleep(0.05))
    for task in left:
        task.cancel()
    assert not left, f"{len(left)} NATS clients still look for a server that is gone"


def _connecting() -> dict[asyncio.Task[Any], Client]:
    tasks = {task for loop in _loops if not loop.is_closed() for task in asyncio.all_tasks(loop)}
    frames = {task: getattr(task.get_coro(), "cr_frame", None) for task in tasks}
    trying = {task: frame for task, frame in frames.items() if frame and frame.f_code.co_name == "_attempt_reconnect"}
    return {task: frame.f_locals["self"] for task, frame in trying.items()}


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
