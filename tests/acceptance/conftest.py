"""What acceptance tests share: one set of simulators, one nats-server and one worker for tests that harm nobody."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.acceptance import providers as simulated
from tests.acceptance import world as worlds
from tests.acceptance.product import Worker
from tests.acceptance.providers import Providers
from tests.acceptance.world import World


@pytest.fixture(scope="session")
async def providers() -> AsyncIterator[Providers]:
    """Both providers, simulated over real HTTP."""
    async with simulated.providers() as started:
        yield started


@pytest.fixture(scope="session")
async def world(providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A nats-server with one running worker, shared; each test takes Official Accounts of its own."""
    async with worlds.world(tmp_path_factory.mktemp("shared"), providers) as made, made.worker() as worker:
        made.shared_worker = worker
        yield made


@pytest.fixture
async def shared_worker(world: World) -> Worker:
    """The worker that every test of `world` uses: it has to outlive them all."""
    assert world.shared_worker is not None
    return world.shared_worker


@pytest.fixture
async def private_world(providers: Providers, tmp_path: Path) -> AsyncIterator[World]:
    """A nats-server for one test alone, without a worker; a dead worker's jobs are free again after 2 s."""
    async with worlds.world(tmp_path, providers, ack_wait=2) as made:
        yield made
