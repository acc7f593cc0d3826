"""`streams.commands_max`: the queue takes so many commands of a provider, and whoever is refused is told what to do."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError

from schemas.subjects import COMMANDS_STREAM
from tests.integration.control_stage import Stage, stage
from tests.integration.test_dead import put
from worker.core.cures import QUOTA
from worker.core.schedules.ports import ScheduleUnavailableError
from worker.embedded import EmbeddedServer
from worker.jetstream.dead_letters.store import LetterBox
from worker.jetstream.kv.schedules import JetStreamScheduleDesk
from worker.jetstream.topology.reconcile import Change, TopologyConfig, check, reconcile
from worker.providers.simulators import OA_ID

QUEUE = TopologyConfig(commands_max=10)
CURE = "raise streams.commands_max and run `followers setup`"


@pytest.fixture
async def place(
    nats_server: EmbeddedServer, nats_client: Client, js: JetStreamContext, tmp_path: Path
) -> AsyncIterator[Stage]:
    """Streams with a quota, and a provider; no worker."""
    async with stage(nats_client, nats_server.url, tmp_path) as made:
        await reconcile(nats_client, QUEUE)
        yield made


async def fill(js: JetStreamContext, count: int, provider: str = "etelecom") -> None:
    for number in range(count):
        await js.publish(f"followers.fetch.{provider}", b'{"number":%d}' % number)


async def oldest(js: JetStreamContext) -> tuple[int, int]:
    """How many commands there are, and the number of the first."""
    state = (await js.stream_info(COMMANDS_STREAM)).state
    return state.messages, state.first_seq


def of_queue(changes: list[Change]) -> tuple[str, str]:
    [change] = [change for change in changes if change.name == COMMANDS_STREAM]
    return change.outcome, change.detail


async def test_a_full_queue_refuses_the_newest_and_only_of_its_provider(place: Stage, js: JetStreamContext) -> None:
    await fill(js, 10)

    with pytest.raises(APIError, match=QUOTA) as refused:
        await fill(js, 1)
    await fill(js, 1, "esms")

    assert refused.value.err_code == 10077
    assert await oldest(js) == (11, 1)


async def test_without_the_setting_nothing_is_changed(nats_client: Client, js: JetStreamContext) -> None:
    await reconcile(nats_client, TopologyConfig())
    await fill(js, 30)

    config = (await js.stream_info(COMMANDS_STREAM)).config
    assert (config.max_msgs_per_subject, config.discard_new_per_subject) == (-1, False)

    await reconcile(nats_client, QUEUE)
    await js.purge_stream(COMMANDS_STREAM)
    await reconcile(nats_client, QUEUE)
    assert of_queue(await reconcile(nats_client, TopologyConfig()))[0] == "unchanged"
    assert (await js.stream_info(COMMANDS_STREAM)).config.max_msgs_per_subject == 10


async def test_a_queue_that_is_there_gets_its_quota_and_a_higher_one(nats_client: Client, js: JetStreamContext) -> None:
    await reconcile(nats_client, TopologyConfig())
    await fill(js, 5)

    differences = await check(nats_client, QUEUE)
    first = of_queue(await reconcile(nats_client, QUEUE))
    await fill(js, 5)
    second = of_queue(await reconcile(nats_client, replace(QUEUE, commands_max=12)))
    await fill(js, 2)

    assert [one.state for one in differences] == ["different"] * 2
    assert first == ("updated", "max_msgs_per_subject -1 → 10; discard_new_per_subject unset → true")
    assert second == ("updated", "max_msgs_per_subject 10 → 12")
    assert await oldest(js) == (12, 1)


@pytest.mark.parametrize("before", [TopologyConfig(), TopologyConfig(commands_max=100)])
async def test_a_quota_that_could_drop_commands_is_refused_and_drops_none(
    nats_client: Client, js: JetStreamContext, before: TopologyConfig
) -> None:
    await reconcile(nats_client, before)
    await fill(js, 6)

    differences = await check(nats_client, QUEUE)
    outcome, detail = of_queue(await reconcile(nats_client, QUEUE))

    assert [one.state for one in differences] == ["refused"]
    assert outcome == "refused"
    assert detail == differences[0].detail
    assert "a subject holds 6 messages, and above 5 that could drop the oldest: let them become fewer" in detail
    assert await oldest(js) == (6, 1)


async def test_the_command_line_says_what_to_do_and_the_doctor_sees_it_come(place: Stage, js: JetStreamContext) -> None:
    await fill(js, 9)
    settings = {"FOLLOWERS_STREAMS__COMMANDS_MAX": "10"}
    near = await place.run("doctor", "--json", "--no-accounts", **settings)
    await fill(js, 1)

    fetched = await place.run("fetch", "etelecom", OA_ID, "--account", "shop", "--no-wait")
    full = await place.run("doctor", "--json", "--no-accounts", **settings)

    assert fetched.exit_code == 1, fetched.stderr
    assert f"refuses the command: {QUOTA}; as many commands of this provider are queued as may be" in fetched.stderr
    assert CURE in fetched.stderr
    for told, state, count in ((near, "warn", 9), (full, "fail", 10)):
        found = {(one["check"], one["subject"]): one for one in json.loads(told.stdout)}
        assert found["nats.quota", "etelecom"]["state"] == state
        assert found["nats.quota", "etelecom"]["detail"] == f"{count} commands are queued of 10 that may be"
        assert CURE in found["nats.quota", "etelecom"]["advice"]
        assert found["nats.quota", "esms"]["state"] == "ok"
    assert full.exit_code == 1


async def test_a_retry_that_the_queue_does_not_take_leaves_its_letter(place: Stage, js: JetStreamContext) -> None:
    number = await put(place, "failed")
    await fill(js, 10)

    refused = await place.run("dead", "retry", str(number))
    kept = [letter.sequence async for letter in LetterBox(place.client).read()]
    await js.purge_stream(COMMANDS_STREAM)
    retried = await place.run("dead", "retry", str(number))

    assert refused.exit_code == 1
    assert QUOTA in refused.stderr
    assert CURE in refused.stderr
    assert kept == [number]
    assert retried.exit_code == 0, retried.stderr


async def test_a_schedule_that_the_queue_does_not_take_says_why_and_goes_on_when_it_does(
    place: Stage, js: JetStreamContext
) -> None:
    desk = JetStreamScheduleDesk(place.client, timeout=2)
    await fill(js, 10)

    with pytest.raises(ScheduleUnavailableError) as refused:
        await desk.publish("etelecom", b"{}", "nightly-1")
    await js.purge_stream(COMMANDS_STREAM)
    sequence = await desk.publish("etelecom", b"{}", "nightly-1")

    assert QUOTA in str(refused.value)
    assert CURE in str(refused.value)
    assert sequence == 11
