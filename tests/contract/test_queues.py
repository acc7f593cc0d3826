"""What is told of the work queue and the dead letters, on a real server."""

import asyncio
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from schemas.subjects import COMMANDS_STREAM, DEAD_STREAM, PROVIDERS, command_subject, consumer_name
from worker.core.ports.job_store import QueueUnavailableError
from worker.embedded import EmbeddedServer
from worker.jetstream.client.connect import NatsOptions, connect
from worker.jetstream.commands.lag import queued
from worker.jetstream.commands.queue import JetStreamCommandQueue
from worker.jetstream.dead_letters.backlog import Backlog, BacklogError
from worker.jetstream.topology.assets import expected
from worker.jetstream.topology.doctor import examine
from worker.jetstream.topology.permissions import STREAMS
from worker.jetstream.topology.reconcile import TopologyConfig, reconcile


@pytest.fixture
async def streams(js: JetStreamContext, nats_client: Client) -> JetStreamContext:
    await reconcile(nats_client, TopologyConfig())
    return js


async def put(js: JetStreamContext, *jobs: str, provider: Any = "esms") -> None:
    for job in jobs:
        body = msgspec.json.encode({"provider": provider, "oa_id": "1", "id": job, "labels": {"job": job}})
        await js.publish(command_subject(provider), body)


async def take(js: JetStreamContext, count: int) -> list[Any]:
    name = consumer_name("esms")
    return list(await (await js.pull_subscribe_bind(name, stream=COMMANDS_STREAM)).fetch(count, timeout=5))


async def test_commands_that_wait_and_those_in_hand_are_counted_apart(
    streams: JetStreamContext, nats_client: Client
) -> None:
    assert await queued(nats_client, "esms", timeout=2) == (0, 0)
    await put(streams, "a", "b", "c", "d", "e")
    held = await take(streams, 2)

    assert await queued(nats_client, "esms", timeout=2) == (3, 2)
    assert await queued(nats_client, "etelecom", timeout=2) == (0, 0)
    await held[0].ack_sync()
    assert await queued(nats_client, "esms", timeout=2) == (3, 1)
    assert await Backlog(nats_client, timeout=2).queued() == dict.fromkeys(PROVIDERS, 0) | {"esms": 3}


async def test_without_a_stream_or_an_answer_nothing_is_claimed(js: JetStreamContext, nats_client: Client) -> None:
    backlog = Backlog(nats_client, timeout=2)

    assert await queued(nats_client, "esms", timeout=2) is None
    for call in (backlog.queued, backlog.letters, lambda: backlog.letter_of("j")):
        with pytest.raises(BacklogError, match=r"^NATS didn't answer \(NotFoundError\): try again$"):
            await call()
    with pytest.raises(QueueUnavailableError, match=r"^NATS didn't answer \(NotFoundError\)$"):
        await JetStreamCommandQueue(nats_client, timeout=2).find("j")


async def bury(js: JetStreamContext, *jobs: str) -> None:
    for job in jobs:
        await js.publish("followers.dead.esms", b"{}", headers={"Followers-Job-Id": job, "Followers-Attempts": "2"})


async def test_the_newest_letters_come_first_without_their_bodies(
    streams: JetStreamContext, nats_client: Client
) -> None:
    backlog = Backlog(nats_client, timeout=2)
    assert await backlog.letters() == (0, [])
    await bury(streams, *(f"j{number}" for number in range(1, 31)))

    count, letters = await backlog.letters()

    assert count == 30
    assert [letter.job_id for letter in letters] == [f"j{number}" for number in range(30, 10, -1)]
    first = letters[0]
    assert (first.sequence, first.provider, first.body) == (30, "esms", b"")
    assert first.headers["Followers-Attempts"] == "2"
    stored = (await streams.get_msg(DEAD_STREAM, seq=30)).time
    assert first.stored_at == stored


async def test_letters_are_found_beyond_a_gap(streams: JetStreamContext, nats_client: Client) -> None:
    await bury(streams, "old", "older", *("gone" for _ in range(60)), "new")
    for sequence in range(3, 63):
        await streams.delete_msg(DEAD_STREAM, sequence)

    count, letters = await Backlog(nats_client, timeout=2).letters()

    assert count == 3
    assert [(letter.sequence, letter.job_id) for letter in letters] == [(63, "new"), (2, "older"), (1, "old")]


async def test_a_jobs_newest_letter_is_found_or_there_is_none(streams: JetStreamContext, nats_client: Client) -> None:
    backlog = Backlog(nats_client, timeout=2)
    assert await backlog.letter_of("a") is None
    await bury(streams, "a", *("b" for _ in range(120)), "a", "c")

    found = [await backlog.letter_of(job) for job in ("a", "b", "c", "d")]

    assert [letter and letter.sequence for letter in found] == [122, 121, 123, None]
    await backlog.letters()
    await bury(streams, "c")
    found = [await backlog.letter_of("c")]
    assert [letter and letter.sequence for letter in found] == [124], "what was seen before hides nothing newer"


async def test_a_letter_at_the_very_beginning_is_found_and_a_long_search_is_given_up(
    streams: JetStreamContext, nats_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog = Backlog(nats_client, timeout=2)
    await bury(streams, "first", *("b" for _ in range(199)))
    found = await backlog.letter_of("first")
    assert found is not None
    assert found.sequence == 1

    monkeypatch.setattr("worker.jetstream.dead_letters.backlog.SEARCHED", 200)
    assert await backlog.letter_of("first") is not None, "the last of the newest 200"
    await bury(streams, "b")
    with pytest.raises(BacklogError, match=r"^no letter among the newest: use `followers dead retry --job first`$"):
        await backlog.letter_of("first")


async def test_a_command_is_found_with_its_place(streams: JetStreamContext, nats_client: Client) -> None:
    await put(streams, "x", provider="etelecom")
    await put(streams, "a", "b", "c", "d")
    await take(streams, 2)
    queue = JetStreamCommandQueue(nats_client, timeout=2)

    found = [await queue.find(job) for job in ("a", "b", "c", "d", "x", "nobody")]

    assert [one and one.ahead for one in found] == [None, None, 0, 1, 0, None]
    assert found[5] is None
    command = found[3]
    assert command is not None
    assert (command.job_id, command.provider, command.oa_id, command.account) == ("d", "esms", "1", None)
    assert (command.labels, command.sequence, command.in_hand, command.asking) == ({"job": "d"}, 5, 2, 0)
    assert command.stored_at == (await streams.get_msg(COMMANDS_STREAM, seq=5)).time


async def test_what_was_found_is_told_again_for_a_moment(streams: JetStreamContext, nats_client: Client) -> None:
    queue = JetStreamCommandQueue(nats_client, timeout=2)
    assert await queue.find("a") is None
    await put(streams, "a")

    assert await queue.find("a") is None
    queue._known["a"] = (queue._known["a"][0] - 2.1, None)
    assert await queue.find("a") is not None


async def test_what_is_missing_is_told_once_and_not_looked_at(js: JetStreamContext, nats_client: Client) -> None:
    bare = await examine(nats_client, TopologyConfig())
    await reconcile(nats_client, TopologyConfig())
    whole = await examine(nats_client, TopologyConfig())

    count = len(expected(TopologyConfig()))
    assert [one.detail for one in bare if one.check == "nats.assets"] == ["is missing"] * count
    assert {one.check for one in bare} == {
        "nats.storage",
        "nats.version",
        "nats.transport",
        "nats.max_payload",
        "nats.permissions",
        "nats.accounts",
        "nats.assets",
    }
    assert [(one.subject, one.state) for one in whole if one.check == "nats.assets"] == [(f"{count} of {count}", "ok")]
    assert [one.subject for one in whole if one.check == "nats.replicas"] == list(STREAMS)
    assert [one.subject for one in whole if one.check == "workers"] == [consumer_name(one) for one in PROVIDERS]
    assert [one.state for one in whole if one.check == "clock"] == ["ok"]


async def test_a_server_that_is_gone_is_said_to_be(private_nats_server: EmbeddedServer) -> None:
    client = await connect(NatsOptions(servers=(private_nats_server.url,)))
    await private_nats_server.kill()

    assert await queued(client, "esms", timeout=0.1) is None
    with pytest.raises(BacklogError, match="NATS didn't answer"):
        await Backlog(client, timeout=0.1).queued()

    await private_nats_server.restart()
    while await queued(client, "esms", timeout=1) is None and not client.is_connected:
        await asyncio.sleep(0.05)
    await client.close()
