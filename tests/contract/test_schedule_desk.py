"""`ScheduleDesk`: the one in memory and the one on NATS keep the same promises."""

from datetime import UTC, datetime
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.subjects import COMMANDS_STREAM, SCHEDULES_BUCKET
from tests.fakes import Clock
from tests.schedule_kit import FakeScheduleDesk, FakeServer
from worker.core.schedules.decision import Run, ScheduleState
from worker.core.schedules.ports import NoScheduleBucketError, ScheduleDesk, ScheduleUnavailableError, Stored
from worker.embedded import EmbeddedServer
from worker.jetstream.kv.schedules import JetStreamScheduleDesk
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile

NOW = datetime(2026, 11, 28, 3, tzinfo=UTC)
STATE = ScheduleState(definition="d", since=NOW)
TAKEN = ScheduleState(
    definition="d",
    since=NOW,
    due=NOW,
    outcome="taken",
    at=NOW,
    by="a",
    run=Run(job_id="nightly-1", provider="esms", oa_id="1", sequence=7),
    command='{"provider":"esms"}',
)


@pytest.fixture(params=["memory", "nats"])
async def desk(request: pytest.FixtureRequest, js: JetStreamContext, nats_client: Client) -> ScheduleDesk:
    if request.param == "memory":
        return FakeScheduleDesk(FakeServer(Clock()))
    await reconcile(nats_client, TopologyConfig())
    return JetStreamScheduleDesk(nats_client, timeout=2)


async def acknowledged(desk: Any, sequence: int) -> None:
    """Let the command leave the queue."""
    if isinstance(desk, FakeScheduleDesk):
        del desk.server.queue[sequence]
    else:
        await desk._js.delete_msg(COMMANDS_STREAM, sequence)


async def gone(desk: Any) -> None:
    """Let there be no bucket."""
    if isinstance(desk, FakeScheduleDesk):
        desk.server.is_there = False
    else:
        await desk._js.delete_stream(f"KV_{SCHEDULES_BUCKET}")


async def test_of_an_unknown_schedule_nothing_is_stored(desk: ScheduleDesk) -> None:
    assert await desk.read("nightly") == Stored(None, 0)


async def test_what_is_written_is_read_again_whole(desk: ScheduleDesk) -> None:
    revision = await desk.write("nightly", TAKEN, 0)

    assert revision
    assert await desk.read("nightly") == Stored(TAKEN, revision)
    assert await desk.read("other") == Stored(None, 0)


async def test_only_the_first_of_two_writes_at_the_same_revision_counts(desk: ScheduleDesk) -> None:
    first = await desk.write("nightly", STATE, 0)
    assert first

    assert await desk.write("nightly", TAKEN, 0) is None
    second = await desk.write("nightly", TAKEN, first)
    assert second
    assert await desk.write("nightly", STATE, first) is None

    assert await desk.read("nightly") == Stored(TAKEN, second)


async def test_a_command_under_the_same_id_is_stored_once(desk: ScheduleDesk) -> None:
    first = await desk.publish("esms", b'{"provider":"esms"}', "nightly-1")

    assert await desk.publish("esms", b'{"provider":"esms"}', "nightly-1") == first
    assert await desk.publish("etelecom", b"{}", "nightly-2") == first + 1


async def test_a_command_is_queued_until_it_is_acknowledged(desk: ScheduleDesk) -> None:
    sequence = await desk.publish("esms", b"{}", "nightly-1")
    run = Run(job_id="nightly-1", provider="esms", oa_id="1", sequence=sequence)

    assert await desk.is_queued(run)
    assert not await desk.is_queued(Run(job_id="another", provider="esms", oa_id="1", sequence=sequence))
    await acknowledged(desk, sequence)

    assert not await desk.is_queued(run)


async def test_without_the_bucket_it_says_what_to_run(desk: ScheduleDesk) -> None:
    assert (await desk.now()).utcoffset() is not None
    await gone(desk)

    with pytest.raises(NoScheduleBucketError, match="followers setup"):
        await desk.now()


async def test_the_time_is_the_servers_and_never_ahead_of_it(nats_client: Client, js: JetStreamContext) -> None:
    await reconcile(nats_client, TopologyConfig())
    desk = JetStreamScheduleDesk(nats_client, timeout=2)

    told = await desk.now()
    ack = await js.publish("followers.fetch.esms", b"{}")
    stamp = (await js.get_msg(COMMANDS_STREAM, ack.seq)).time

    assert stamp is not None
    assert told <= stamp.astimezone(UTC)
    assert (stamp.astimezone(UTC) - told).total_seconds() < 5


@pytest.mark.parametrize("value", [b"", b"not ours", b'{"definition":3}'])
async def test_a_key_that_was_deleted_or_holds_something_else_begins_anew(
    nats_client: Client, js: JetStreamContext, value: bytes
) -> None:
    await reconcile(nats_client, TopologyConfig())
    desk = JetStreamScheduleDesk(nats_client, timeout=2)
    ack = await js.publish(f"$KV.{SCHEDULES_BUCKET}.nightly", value)

    stored = await desk.read("nightly")

    assert stored == Stored(None, ack.seq)
    assert await desk.write("nightly", STATE, stored.revision)


async def test_a_server_that_does_not_answer_is_told_by_one_kind_of_error(nats_server: EmbeddedServer) -> None:
    client = await nats.connect(nats_server.url, allow_reconnect=False)
    desk = JetStreamScheduleDesk(client, timeout=2)
    run = Run(job_id="nightly-1", provider="esms", oa_id="1", sequence=7)
    await client.close()

    for call in (
        desk.now(),
        desk.read("nightly"),
        desk.write("nightly", STATE, 0),
        desk.publish("esms", b"{}", "nightly-1"),
        desk.is_queued(run),
    ):
        with pytest.raises(ScheduleUnavailableError):
            await call
