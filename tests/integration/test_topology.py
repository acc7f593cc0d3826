"""`check` and `reconcile` on a real nats-server."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from schemas.subjects import COMMANDS_STREAM, DEAD_STREAM, EVENTS_STREAM
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import ConnectError, NatsOptions, connect
from worker.jetstream.topology.assets import DAY, expected
from worker.jetstream.topology.reconcile import (
    Change,
    TopologyConfig,
    check,
    check_server,
    missing,
    missing_for_changes,
    reconcile,
)

CONFIG = TopologyConfig()
ALL = len(expected(CONFIG))


def outcomes(changes: list[Change]) -> dict[str, int]:
    return dict(Counter(change.outcome for change in changes))


async def test_an_empty_server_gets_what_the_contract_says(js: JetStreamContext, nats_client: Client) -> None:
    changes = await reconcile(nats_client, CONFIG)

    assert outcomes(changes) == {"created": ALL}
    commands = (await js.stream_info(COMMANDS_STREAM)).config
    assert commands.retention == RetentionPolicy.WORK_QUEUE
    assert commands.subjects == ["followers.fetch.etelecom", "followers.fetch.esms"]
    assert (commands.max_age, commands.duplicate_window) == (7 * DAY, 120)
    events = (await js.stream_info(EVENTS_STREAM)).config
    assert events.subjects == ["followers.page.>", "followers.job.>", "followers.change.>", "followers.id.*"]
    assert (events.retention, events.storage, events.allow_direct) == (RetentionPolicy.LIMITS, StorageType.FILE, True)
    assert (events.max_age, (await js.stream_info(DEAD_STREAM)).config.max_age) == (7 * DAY, 30 * DAY)
    for provider in ("etelecom", "esms"):
        consumer = (await js.consumer_info(COMMANDS_STREAM, f"worker-{provider}")).config
        assert (consumer.filter_subjects, consumer.deliver_subject) == ([f"followers.fetch.{provider}"], None)
        assert (consumer.ack_wait, consumer.max_deliver, consumer.max_ack_pending) == (30, -1, 10_000)


async def test_the_buckets_work_as_buckets(js: JetStreamContext, nats_client: Client) -> None:
    await reconcile(nats_client, CONFIG)

    jobs, limits = await js.key_value("FOLLOWERS_JOBS"), await js.key_value("FOLLOWERS_LIMITS")
    await jobs.put("job", b"1")
    revision = await jobs.put("job", b"2")
    await limits.create("account", b"3")

    assert ((await jobs.get("job")).value, (await jobs.get("job")).revision) == (b"2", revision)
    assert ((await jobs.status()).ttl, (await jobs.status()).history) == (7 * DAY, 1)
    assert ((await limits.status()).ttl, (await limits.get("account")).value) == (0, b"3")
    feeds, snapshots = await js.key_value("FOLLOWERS_FEEDS"), await js.object_store("FOLLOWERS_SNAPSHOTS")
    assert (await feeds.status()).ttl == 90 * DAY
    await snapshots.put("name", b"4")
    assert (await snapshots.get("name")).data == b"4"


async def test_the_second_time_changes_nothing(js: JetStreamContext, nats_client: Client) -> None:
    await reconcile(nats_client, CONFIG)

    assert outcomes(await reconcile(nats_client, CONFIG)) == {"unchanged": ALL}
    assert await check(nats_client, CONFIG) == []
    assert await missing(nats_client) is None


async def test_several_at_once_agree(js: JetStreamContext, nats_client: Client) -> None:
    results = await asyncio.gather(*(reconcile(nats_client, CONFIG) for _ in range(5)))

    assert {change.outcome for changes in results for change in changes} <= {"created", "unchanged"}
    assert await check(nats_client, CONFIG) == []


async def test_checking_tells_what_is_missing_and_makes_nothing(js: JetStreamContext, nats_client: Client) -> None:
    differences = await check(nats_client, CONFIG)

    assert {difference.state for difference in differences} == {"missing"}
    assert len(differences) == ALL
    assert await js.streams_info() == []


async def test_what_a_worker_misses_is_one_line_with_what_to_run(js: JetStreamContext, nats_client: Client) -> None:
    await reconcile(nats_client, CONFIG)
    await js.delete_stream(EVENTS_STREAM)

    assert await missing(nats_client) == "stream FOLLOWERS_EVENTS is missing: run `followers setup`"


async def test_what_only_the_change_feed_misses_stops_no_worker_but_is_checked_and_made(
    js: JetStreamContext, nats_client: Client
) -> None:
    await reconcile(nats_client, CONFIG)
    for stream in ("KV_FOLLOWERS_FEEDS", "OBJ_FOLLOWERS_SNAPSHOTS"):
        await js.delete_stream(stream)

    assert await missing(nats_client) is None
    line = "bucket FOLLOWERS_FEEDS, bucket FOLLOWERS_SNAPSHOTS are missing: run `followers setup`"
    assert await missing_for_changes(nats_client) == line
    assert [one.name for one in await check(nats_client, CONFIG)] == ["FOLLOWERS_FEEDS", "FOLLOWERS_SNAPSHOTS"]
    assert outcomes(await reconcile(nats_client, CONFIG)) == {"created": 2, "unchanged": ALL - 2}
    assert await missing_for_changes(nats_client) is None


async def test_what_an_operator_set_survives_an_update(js: JetStreamContext, nats_client: Client) -> None:
    await reconcile(nats_client, CONFIG)
    config = (await js.stream_info(EVENTS_STREAM)).config
    metadata = {"owner": "crm"}
    await js.update_stream(config.evolve(description="ours", max_msgs=10_000, max_bytes=1 << 30, metadata=metadata))

    changes = await reconcile(nats_client, replace(CONFIG, events_max_age=8 * DAY))

    assert [change.detail for change in changes if change.outcome == "updated"] == ["max_age 7 d → 8 d"]
    after = (await js.stream_info(EVENTS_STREAM)).config
    assert (after.description, after.max_msgs, after.max_bytes, after.max_age) == ("ours", 10_000, 1 << 30, 8 * DAY)
    assert after.metadata is not None
    assert after.metadata["owner"] == "crm"


async def test_stored_messages_survive_an_update(js: JetStreamContext, nats_client: Client) -> None:
    await reconcile(nats_client, CONFIG)
    await js.publish("followers.fetch.esms", b"{}")

    await reconcile(nats_client, replace(CONFIG, commands_max_age=8 * DAY, events_max_age=8 * DAY, ack_wait=10))

    assert (await js.stream_info(COMMANDS_STREAM)).state.messages == 1
    assert (await js.consumer_info(COMMANDS_STREAM, "worker-esms")).num_pending == 1


async def test_shrinking_is_refused_item_by_item(js: JetStreamContext, nats_client: Client) -> None:
    await reconcile(nats_client, CONFIG)

    changes = await reconcile(nats_client, replace(CONFIG, dead_max_age=DAY, jobs_ttl=DAY, ack_wait=5))

    refused = {change.name: change.detail for change in changes if change.outcome == "refused"}
    assert set(refused) == {"FOLLOWERS_DEAD", "FOLLOWERS_JOBS"}
    assert refused["FOLLOWERS_DEAD"].startswith("max_age is 30 d, wanted 1 d: shrinking it could lose messages")
    assert (await js.stream_info(DEAD_STREAM)).config.max_age == 30 * DAY
    assert (await js.consumer_info(COMMANDS_STREAM, "worker-esms")).config.ack_wait == 5


async def test_a_stream_of_another_kind_is_left_as_it_is(js: JetStreamContext, nats_client: Client) -> None:
    await js.add_stream(
        StreamConfig(
            name=EVENTS_STREAM,
            subjects=["followers.page.>", "other.>"],
            storage=StorageType.MEMORY,
            max_age=7 * DAY,
        )
    )

    changes = [change for change in await reconcile(nats_client, CONFIG) if change.name == EVENTS_STREAM]

    assert [change.outcome for change in changes] == ["updated", "refused", "refused"]
    assert "storage is memory, wanted file" in "".join(change.detail for change in changes)
    config = (await js.stream_info(EVENTS_STREAM)).config
    assert config.storage == StorageType.MEMORY
    assert config.subjects == ["followers.page.>", "other.>", "followers.job.>", "followers.change.>", "followers.id.*"]


async def test_a_consumer_that_somebody_changed_is_put_right(js: JetStreamContext, nats_client: Client) -> None:
    await reconcile(nats_client, CONFIG)
    await js.delete_consumer(COMMANDS_STREAM, "worker-esms")
    drifted = ConsumerConfig(durable_name="worker-esms", ack_wait=1, max_deliver=3, backoff=[1, 2])
    await js.add_consumer(COMMANDS_STREAM, drifted.evolve(filter_subject="followers.fetch.esms"))

    changes = await reconcile(nats_client, CONFIG)

    assert outcomes(changes) == {"unchanged": ALL - 1, "updated": 1}
    config = (await js.consumer_info(COMMANDS_STREAM, "worker-esms")).config
    assert (config.ack_wait, config.max_deliver, config.backoff) == (30, -1, None)


async def test_a_stream_in_the_way_is_named(js: JetStreamContext, nats_client: Client) -> None:
    await js.add_stream(name="LEGACY", subjects=["followers.dead.>"])

    changes = {change.name: change for change in await reconcile(nats_client, CONFIG)}

    assert changes[DEAD_STREAM].outcome == "failed"
    assert "another stream takes these subjects" in changes[DEAD_STREAM].detail
    assert changes[EVENTS_STREAM].outcome == "created"


async def test_more_replicas_than_servers_say_what_to_set(js: JetStreamContext, nats_client: Client) -> None:
    changes = await reconcile(nats_client, replace(CONFIG, replicas=3))

    streams = [change for change in changes if change.kind != "consumer"]
    assert {change.outcome for change in streams} == {"failed"}
    assert all("set nats.replicas = 1" in change.detail for change in streams)


async def test_commands_that_would_outlive_their_events_are_pointed_out(
    js: JetStreamContext, nats_client: Client
) -> None:
    longer = replace(CONFIG, commands_max_age=30 * DAY, events_max_age=30 * DAY)
    await reconcile(nats_client, longer)
    await js.update_stream((await js.stream_info(EVENTS_STREAM)).config.evolve(max_age=7 * DAY))

    details = [item.detail for item in await check(nats_client, CONFIG) if item.name == EVENTS_STREAM]

    assert len(details) == 1
    assert details[0].startswith("events live 7 d, commands 30 d")


async def test_the_server_in_use_is_new_enough(nats_client: Client) -> None:
    check_server(str(nats_client.connected_server_version))


async def test_wrong_credentials_are_reported_at_once_and_without_them() -> None:
    async with EmbeddedServer(extra_config="authorization { token: right }") as server:
        with pytest.raises(ConnectError) as caught:
            await connect(NatsOptions(servers=(server.url,), token="wr0ng"), wait=5)

    assert "refuses the credentials" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


async def test_the_right_credentials_let_us_in() -> None:
    async with EmbeddedServer(extra_config="authorization { user: ann, password: right }") as server:
        client = await connect(NatsOptions(servers=(server.url,), user="ann", password="right"))
        changes = await reconcile(client, CONFIG)
        await client.close()

    assert outcomes(changes) == {"created": ALL}


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(ConnectError) as caught:
        await connect(NatsOptions(servers=("nats://ann:s3cret@127.0.0.1:1",)), wait=0.3)

    assert "NATS at nats://127.0.0.1:1 can't be reached within 0.3 s" in str(caught.value)
    assert "s3cret" not in str(caught.value)
