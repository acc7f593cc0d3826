"""Nobody makes the worker write for them: neither by a request's reply subject nor by a command's headers."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.jobs import ControlError
from schemas.subjects import EVENTS_STREAM, JOBS_BUCKET
from schemas.wire import decode, encode
from tests.integration import stage
from worker.app import Worker
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID

TARGETS = [
    f"$JS.API.STREAM.PURGE.{EVENTS_STREAM}",
    "followers.page.esms.oa.job",
    "followers.job.esms.oa.job",
    "followers.fetch.esms",
    "followers.dead.esms",
    f"$KV.{JOBS_BUCKET}.job",
    "orders.new",
]


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[EmbeddedServer]:
    async with stage.server() as server:
        yield server


@pytest.fixture(scope="module")
async def client(server: EmbeddedServer) -> AsyncIterator[Client]:
    client = await connect(NatsOptions(servers=(server.url,)))
    await reconcile(client, TopologyConfig(ack_wait=2))
    yield client
    await client.close()


@contextlib.asynccontextmanager
async def listening(client: Client) -> AsyncIterator[list[str]]:
    """The subjects, of those above, on which anything is published while the block runs."""
    heard: list[str] = []

    async def take(message: Msg) -> None:
        heard.append(message.subject)

    subscriptions = [await client.subscribe(subject, cb=take) for subject in TARGETS]
    await client.flush()
    yield heard
    await client.flush()
    for subscription in subscriptions:
        await subscription.unsubscribe()


async def test_a_header_of_a_command_makes_the_worker_write_nowhere(server: EmbeddedServer, client: Client) -> None:
    """FastStream takes a JetStream message's header `reply_to` for the place of an answer."""
    js = client.jetstream()
    async with (
        stage.providers(followers=3) as providers,
        Worker(stage.settings(server.url, providers.accounts)),
        listening(client) as heard,
    ):
        for body in (encode({"provider": "etelecom", "oa_id": OA_ID}), b"no command"):
            acks = [
                await js.publish("followers.fetch.etelecom", body, headers={"reply_to": target}) for target in TARGETS
            ]
            for ack in acks:
                await stage.command_settled(client, ack.seq)

    assert heard == []


async def test_a_reply_subject_that_is_no_inbox_gets_no_answer(server: EmbeddedServer, client: Client) -> None:
    async with Worker(stage.settings(server.url, {})), listening(client) as heard:
        heard.clear()
        for target in TARGETS:
            for act in ("cancel", "status"):
                await client.publish(f"followers.{act}.nobody", b"", reply=target)
        await client.flush()
        # The slowest answer comes last: whoever is asked to cancel what nobody knows waits for it a little.
        answer = await client.request("followers.cancel.nobody", b"", timeout=5)

    assert heard == []
    assert decode(answer.data, ControlError).error.code == "not_found"
