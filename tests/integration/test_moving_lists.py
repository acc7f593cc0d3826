"""Workers that are killed in the middle of a list that is read by days, while people come and go."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas import FollowerPage, JobCompleted, JobEvent, decode
from schemas.subjects import EVENTS_STREAM, job_subject, page_subject
from schemas.wire import encode
from tests.integration import stage
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile
from worker.providers.simulators import API_KEY, OA_ID, SECRET_KEY, EsmsConfig, EsmsSimulator, ListChange

PEOPLE = EsmsConfig(followers={OA_ID: 10_800}, per_day={OA_ID: [900] * 12}, latency=0.01)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with stage.server() as server:
        yield server


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[Client]:
    client = await connect(NatsOptions(servers=(server.url,)))
    await reconcile(client, TopologyConfig(ack_wait=2))
    yield client
    await client.close()


async def read(client: Client, subject: str) -> list[bytes]:
    """All messages on `subject`, in order."""
    subscription = await client.jetstream().subscribe(subject, ordered_consumer=True)
    found: list[Msg] = []
    while not found or (await last_sequence(client, subject)) != found[-1].metadata.sequence.stream:
        found.append(await subscription.next_msg(timeout=10))
    await subscription.unsubscribe()
    return [message.data for message in found]


async def last_sequence(client: Client, subject: str) -> int:
    sequence = (await client.jetstream().get_last_msg(EVENTS_STREAM, subject)).seq
    assert sequence is not None
    return sequence


async def published(client: Client) -> int:
    info = await client.jetstream().stream_info(EVENTS_STREAM, subjects_filter=page_subject("esms", OA_ID, "j"))
    return sum((info.state.subjects or {}).values())


async def test_a_list_read_by_days_is_whole_and_proven_although_two_workers_were_killed_and_people_came_and_went(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    async with EsmsSimulator(PEOPLE) as simulator:
        account = {
            "provider": "esms", "base_url": simulator.url, "api_key": API_KEY, "secret_key": SECRET_KEY,
            "endpoint": "QueryListUID", "rate_limit": 0.0,
        }  # fmt: skip
        sections = stage.sections_for(server.url, {"esms": account})
        served = simulator.ids(OA_ID)
        gone = served[3_000:3_020]
        command = encode({"provider": "esms", "oa_id": OA_ID, "id": "j"})
        sequence = (await client.jetstream().publish("followers.fetch.esms", command)).seq

        for pages in (40, 130):
            async with stage.replica(sections, tmp_path) as doomed:

                async def far_enough(least: int = pages) -> bool:
                    return await published(client) >= least

                await stage.until(far_enough, 20)
                doomed.process.send_signal(signal.SIGKILL)
                await doomed.ended()
            simulator.change(ListChange(oa_id=OA_ID, unfollow=gone[:10] if pages == 40 else gone[10:], follow=3))
        async with stage.replica(sections, tmp_path):
            await stage.command_settled(client, sequence)

    pages_ = [decode(data, FollowerPage) for data in await read(client, page_subject("esms", OA_ID, "j"))]
    end: JobEvent = decode((await read(client, job_subject("esms", OA_ID, "j")))[-1], JobEvent)
    ids = [follower.user_id for page in pages_ for follower in page.followers]
    assert [page.page for page in pages_] == list(range(1, len(pages_) + 1))
    assert [page.cursor for page in pages_[1:]] == [page.next_cursor for page in pages_[:-1]]
    assert set(served) - set(gone) <= set(ids)
    assert len(set(ids)) == len(ids)
    assert isinstance(end, JobCompleted)
    assert (end.verdict, end.missed_at_most, end.window, end.attempt) == ("drifted", 0, None, 3)
