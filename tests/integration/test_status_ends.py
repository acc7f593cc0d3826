"""Once a job is over its status says so for good, however late and however often its command is settled."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.events import TERMINAL, JobCompleted, JobEvent
from schemas.jobs import JobStatus
from schemas.subjects import COMMANDS_STREAM, EVENTS_STREAM, JOBS_BUCKET, command_subject
from schemas.wire import decode
from tests.integration import stage
from tests.integration.stalling import stalling
from worker.app import Worker
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import OA_ID

ACK_WAIT = 1.0


@pytest.fixture
async def client(private_nats_server: EmbeddedServer) -> AsyncIterator[Client]:
    client = await connect(NatsOptions(servers=(private_nats_server.url,)))
    yield client
    await client.close()


@pytest.mark.parametrize("jobs", [200, pytest.param(2000, marks=stage.in_the_long_run)])
async def test_no_status_differs_from_the_terminal_event_when_acknowledgements_stall(
    private_nats_server: EmbeddedServer, client: Client, jobs: int
) -> None:
    server = private_nats_server
    js = client.jetstream()
    await reconcile(client, TopologyConfig(ack_wait=ACK_WAIT))
    async with (
        stage.providers(followers=3) as providers,
        # Longer than a heartbeat, in part longer than ack_wait: then the command comes again, when its job is over.
        stalling(server.url, seconds=(0.3, 1.6)) as way,
        Worker(stage.settings(way.url, providers.accounts, worker={"ack_wait": ACK_WAIT})),
        Worker(stage.settings(way.url, providers.accounts, worker={"ack_wait": ACK_WAIT})),
    ):
        for number in range(jobs):
            await publish(js, f"short-{number}")

        await stage.until(lambda: is_empty(js), jobs / 10 + 60, lambda: "commands are left in the queue")
        # A late beat of the heart: two of them would have come by now.
        await stage.until(lambda: way.stalled >= jobs, 5)
        await stage.until(lambda: is_empty(js), 5)
        ends, told = await all_ends(client), await all_statuses(js)

    assert len(ends) == jobs
    assert {job_id: status for job_id, status in told.items() if status != ends[job_id]} == {}
    assert Counter(told.values()) == {"completed": jobs}


async def publish(js: JetStreamContext, job_id: str) -> None:
    body = {"provider": "esms", "oa_id": OA_ID, "id": job_id, "account": "esms"}
    await js.publish(command_subject("esms"), json.dumps(body).encode())


async def is_empty(js: JetStreamContext) -> bool:
    return (await js.stream_info(COMMANDS_STREAM)).state.messages == 0


async def all_ends(client: Client) -> dict[str, str]:
    """The state that each job's last terminal event stands for."""
    ends: dict[str, str] = {}
    async for data in messages(client, EVENTS_STREAM, "followers.job.>"):
        event = decode(data, JobEvent)
        if isinstance(event, TERMINAL):
            ends[event.job_id] = "completed" if isinstance(event, JobCompleted) else type(event).__name__
    return ends


async def all_statuses(js: JetStreamContext) -> dict[str, str]:
    bucket: Any = await js.key_value(JOBS_BUCKET)
    watcher = await bucket.watch("*", ignore_deletes=True)
    found: dict[str, str] = {}
    while (entry := await watcher.updates(timeout=10)) is not None:
        found[entry.key] = decode(entry.value, JobStatus).state
    await watcher.stop()
    return found


async def messages(client: Client, stream: str, subject: str) -> Any:
    """Each message's body on `subject`."""
    js = client.jetstream()
    subscription = await js.subscribe(subject, stream=stream, ordered_consumer=True)
    info = await js.stream_info(stream, subjects_filter=subject)
    for _ in range(sum((info.state.subjects or {}).values())):
        yield (await subscription.next_msg(timeout=10)).data
    await subscription.unsubscribe()
