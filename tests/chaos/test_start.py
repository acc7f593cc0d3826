"""A worker that starts while the server goes away: it waits, and says so."""

import asyncio
import os
import signal

import nats

from worker.app import Worker
from worker.embedded import EmbeddedServer
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.settings import NatsSettings, Settings, WorkerSettings

PATIENCE = 20.0


async def test_a_server_that_falls_silent_between_connecting_and_subscribing_is_waited_for(
    private_nats_server: EmbeddedServer,
) -> None:
    server = private_nats_server
    async with await nats.connect(server.url) as client:
        await reconcile(client, TopologyConfig())
    worker = Worker(Settings(nats=NatsSettings(servers=(server.url,)), worker=WorkerSettings(http_port=0)))
    await worker.broker.connect()

    os.kill(server.pid, signal.SIGSTOP)
    start = asyncio.create_task(worker.__aenter__())
    try:
        async with asyncio.timeout(PATIENCE):
            while worker.readiness.why != "NATS does not answer" and not start.done():
                await asyncio.sleep(0.05)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await asyncio.wait_for(start, PATIENCE)

    assert worker.readiness.ready
    await worker.__aexit__(None, None, None)
