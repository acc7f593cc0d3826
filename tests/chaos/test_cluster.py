"""Three replicas on three nodes: the job survives the node that leads its stream, and then the next one."""

import asyncio
import contextlib
import os
import time
from pathlib import Path

import msgspec
import nats.errors
import pytest
from nats.aio.client import Client

from tests.chaos.check import check
from tests.chaos.cluster import Cluster
from tests.chaos.journal import Journal
from tests.chaos.load import Command
from tests.chaos.options import Options
from tests.chaos.provider import Provider, oa_id
from tests.chaos.records import DEAD, EVENTS, read_all, until_quiet
from tests.chaos.run import connected, prepare, settings
from tests.chaos.workers import Workers

pytestmark = pytest.mark.timeout(300)

GOES_ON_WITHIN = 10.0
"""Seconds from the moment when the events have a leader again."""
FOLLOWERS = 120
PATIENCE = 60.0


@pytest.fixture
async def options() -> Options:
    named = os.environ.get("NATS_SERVER_BIN")
    return Options(ack_wait=3.0, duplicate_window=1, nats_server=Path(named) if named else None)


async def test_a_job_goes_on_when_the_leader_of_its_events_dies_and_then_another_node(
    options: Options, tmp_path: Path
) -> None:
    command, journal = long_job(), Journal()
    async with (
        Cluster(options.nats_server) as cluster,
        Provider(1, latency=(0.05, 0.1)) as provider,
        await connected(cluster.urls) as client,
    ):
        await prepare(client, options, replicas=3)
        config = tmp_path / "followers.toml"
        config.write_text(settings(cluster.urls, provider.urls, options, replicas=3))
        with (tmp_path / "workers.log").open("wb") as log:
            async with Workers(config, journal, log, program=True) as workers:
                for _ in range(2):
                    workers.spawn()
                await client.jetstream().publish(command.subject, command.body, headers={"Nats-Msg-Id": command.job_id})

                killed, delays = [], []
                for page in (15, 60):
                    await until_page(client, command, page)
                    killed.append(node := await leader(client))
                    await cluster.nodes[node].kill()
                    delays.append(await goes_on(client, command, without=node))
                    await cluster.nodes[node].restart()
                    await until_all_replicas_are_current(client)

                left = await until_quiet(client, limit=PATIENCE, settle=options.ack_wait * 1.5)
                drains = await asyncio.gather(*(workers.drain(worker) for worker in workers.running))
        lists = {(command.provider, command.oa_id): await provider.ids(command.provider, command.oa_id)}
        findings = check([command], lists, await read_all(client, EVENTS), await read_all(client, DEAD))

    assert findings.violations == []
    assert journal.problems == []
    assert left.empty
    assert len(drains) == 2
    assert len(set(killed)) == 2
    assert max(delays) < GOES_ON_WITHIN


def long_job() -> Command:
    body = {"provider": "etelecom", "account": "shop", "oa_id": oa_id(FOLLOWERS), "page_size": 1, "id": "long"}
    return Command(
        job_id="long",
        provider="etelecom",
        oa_id=oa_id(FOLLOWERS),
        page_size=1,
        message_id="long",
        body=msgspec.json.encode(body),
        content_type="application/json",
        named=True,
    )


async def until_page(client: Client, command: Command, page: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while await newest_page(client, command) < page:
            await asyncio.sleep(0.05)


async def newest_page(client: Client, command: Command) -> int:
    """Return the number of the newest page, 0 while there is none or nobody answers."""
    subject = f"followers.page.{command.provider}.{command.oa_id}.{command.job_id}"
    with contextlib.suppress(nats.errors.Error, OSError):
        message = await client.jetstream(timeout=1).get_last_msg(EVENTS, subject)
        return int(msgspec.json.decode(message.data or b"")["page"])
    return 0


async def leader(client: Client) -> str:
    """Return the node that leads the events, as soon as there is one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(nats.errors.Error, OSError):
                cluster = (await client.jetstream(timeout=1).stream_info(EVENTS)).cluster
                if cluster is not None and cluster.leader:
                    return cluster.leader
            await asyncio.sleep(0.05)


async def goes_on(client: Client, command: Command, *, without: str) -> float:
    """Return the seconds from the election of another leader than `without` to the next page."""
    async with asyncio.timeout(PATIENCE):
        while await leader(client) == without:
            await asyncio.sleep(0.05)
        elected = time.monotonic()
        page = 0
        while page == 0:
            page = await newest_page(client, command)
        await until_page(client, command, page + 1)
    return time.monotonic() - elected


async def until_all_replicas_are_current(client: Client) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(nats.errors.Error, OSError):
                streams = await client.jetstream(timeout=1).streams_info()
                others = [node for stream in streams if stream.cluster for node in stream.cluster.replicas or []]
                if len(others) == 2 * len(streams) and all(node.current and not node.offline for node in others):
                    return
            await asyncio.sleep(0.1)
